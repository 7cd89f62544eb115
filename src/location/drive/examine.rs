//! Judges all versions of one envelope together: what opens, what the new text is, and which versions it covers.

use std::time::SystemTime;

use bytes::Bytes;

use crate::format::envelope::{Block, Content};
use crate::format::{Entry, Envelope, Header, Wrap};
use crate::pair::Finding;
use crate::recipe::detect_key_file;
use crate::rewrap::{Judgement, Rotation, examine, judge_by_header};
use crate::store::{Object, VersionId};
use crate::{KeyId, Result};

/// A version of an envelope and its text.
#[derive(Clone, Debug)]
pub(super) struct ReadVersion {
    pub(super) object: Object,
    pub(super) bytes: Bytes,
}

/// What they showed.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) finding: Finding,
    /// The text that covers all versions but those to keep, when something opens.
    pub(super) new: Option<Envelope>,
    /// Versions that hold something which the new text does not.
    pub(super) keep: Vec<VersionId>,
    pub(super) residue: Vec<String>,
    pub(super) checked: u64,
    pub(super) unchecked: u64,
}

/// Judges versions, newest first. What an old key opens in any of them is wrapped anew; besides, the new text holds what
/// the newest version that opens does. Labels alone decide only where there is one version, and not with `all`.
pub(super) fn judge(
    versions: &[ReadVersion],
    headers: &[Header],
    rotation: &Rotation,
    created: SystemTime,
    all: bool,
) -> Result<Judged> {
    let all = all || versions.len() > 1;
    let mut judged = Judged {
        finding: Finding::NotOurs,
        new: None,
        keep: vec![],
        residue: vec![],
        checked: 0,
        unchecked: 0,
    };
    let mut parsed = Vec::new();
    for version in versions {
        match Envelope::parse(&version.bytes) {
            Ok(envelope) => parsed.push((&version.object.version, envelope)),
            Err(error) => {
                judged.residue.push(match detect_key_file(&version.bytes) {
                    Some(_) => {
                        "is a key file of the OpenSSL recipe, which is rewrapped on this machine only".into()
                    }
                    None => format!("a version of it cannot be judged: {error}"),
                });
                judged.keep.push(version.object.version.clone());
            }
        }
    }
    let opens = |block: &Block| rotation.still_opens(&Envelope { blocks: vec![block.clone()] });
    let newest = parsed.iter().position(|(_, envelope)| all && rotation.still_opens(envelope)).unwrap_or(0);
    let Some((base_version, base)) = parsed.get(newest) else {
        judged.finding = Finding::Unproven;
        return Ok(judged);
    };
    let mut merged = base.clone();
    for (version, envelope) in &parsed {
        if version != base_version {
            merged.blocks.extend(envelope.blocks.iter().filter(|block| opens(block)).cloned());
        }
    }
    let examined =
        examine(&merged, rotation, |entry, secret| judge_entry(entry, secret, headers), created, all)?;
    judged.finding = examined.finding;
    judged.residue.extend(examined.residue);
    (judged.checked, judged.unchecked) = (examined.checked, examined.unchecked);
    let covering = examined.rewrapped.as_ref();
    // A label says little: where no container proved what was wrapped anew, it replaces nothing that did not open.
    let proven = examined.unchecked == 0;
    for (version, envelope) in &parsed {
        let covered = |block: &Block| {
            covering.is_some_and(|new| {
                opens(block)
                    || new.blocks.iter().any(|other| match proven {
                        true => covers(other, block),
                        false => other.text() == block.text(),
                    })
            })
        };
        let missing: Vec<&Block> = envelope.blocks.iter().filter(|block| !covered(block)).collect();
        if missing.is_empty() || (versions.len() == 1 && version == base_version) {
            continue;
        }
        judged.keep.push((*version).clone());
        if covering.is_some() {
            let names: Vec<String> = missing.iter().map(|block| name_of(block)).collect();
            judged.residue.push(format!("another version of it holds {}; it was kept", names.join(", ")));
        }
    }
    judged.new = examined.rewrapped;
    Ok(judged)
}

/// Whether a block serves whom another one does.
fn covers(new: &Block, old: &Block) -> bool {
    match (&new.content, &old.content) {
        (Content::Entry(new), Content::Entry(old)) => {
            let served = |entry: &Entry| (entry.data_id, entry.recipient, entry.wrap.clone());
            served(new) == served(old)
        }
        _ => new.text() == old.text(),
    }
}

fn name_of(block: &Block) -> String {
    match &block.content {
        Content::Entry(entry) => format!("an entry for key {}", KeyId::short(&entry.recipient)),
        Content::Info(_) => "another info record".into(),
        _ => "a block of an unknown kind".into(),
    }
}

fn judge_entry(entry: &Entry, secret: &[u8], headers: &[Header]) -> Judgement {
    match entry.wrap {
        Wrap::RsaOaepSha256 => {
            let header = headers.iter().find(|header| header.data_id() == entry.data_id);
            judge_by_header(header, &entry.data_id, secret)
        }
        _ => Judgement::Absent,
    }
}
