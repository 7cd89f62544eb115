//! Judges all versions of one envelope together: what opens, what the new text is, and which versions it covers.

use std::time::SystemTime;

use bytes::Bytes;

use super::fetch::is_container;
use crate::format::envelope::{Block, Content};
use crate::format::{Entry, Envelope, Header, Wrap};
use crate::pair::Finding;
use crate::recipe::{KeyFile, PasswordBlock, detect_key_file};
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
    /// The new text of a key file of the OpenSSL recipe.
    key_file: Option<Bytes>,
    /// Versions that hold something which the new text does not.
    pub(super) keep: Vec<VersionId>,
    pub(super) residue: Vec<String>,
    pub(super) checked: u64,
    pub(super) unchecked: u64,
}

impl Judged {
    fn nothing() -> Self {
        Self {
            finding: Finding::NotOurs,
            new: None,
            key_file: None,
            keep: vec![],
            residue: vec![],
            checked: 0,
            unchecked: 0,
        }
    }

    /// What is to be written, if anything is.
    pub(super) fn text(&self) -> Result<Option<Bytes>> {
        match (&self.new, &self.key_file) {
            (Some(envelope), _) => Ok(Some(envelope.to_text()?.into())),
            (None, key_file) => Ok(key_file.clone()),
        }
    }
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
    if let Some(key_file) = versions.first().and_then(|newest| detect_key_file(&newest.bytes)) {
        return judge_key_file(&key_file, versions, rotation);
    }
    let mut judged = Judged::nothing();
    let mut parsed = Vec::new();
    for version in versions {
        match Envelope::parse(&version.bytes) {
            Ok(envelope) => parsed.push((&version.object.version, envelope)),
            // One that is called like an envelope: of a file whose own name ends in .key, written by a script.
            Err(_) if is_container(&version.bytes) => judged.keep.push(version.object.version.clone()),
            Err(error) => {
                judged.residue.push(match detect_key_file(&version.bytes) {
                    Some(_) => {
                        "an older version of it is a key file of the OpenSSL recipe; it was kept".into()
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
        if !judged.residue.is_empty() {
            judged.finding = Finding::Unproven;
        }
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
    if judged.finding == Finding::NotOurs && newest_holds_all(&parsed, versions, rotation) {
        judged.finding = Finding::Done;
        return Ok(judged);
    }
    let covering = examined.rewrapped.as_ref();
    // A label says little: where no container proved what was wrapped anew, it replaces nothing that did not open.
    let proven = examined.unchecked == 0;
    for (version, envelope) in &parsed {
        if versions.len() == 1 {
            break;
        }
        let covered = |block: &Block| {
            covering.is_some_and(|new| {
                (opens(block) && !rotation.keys_stay())
                    || leaves(block, rotation)
                    || new.blocks.iter().any(|other| match proven {
                        true => covers(other, block),
                        false => other.text() == block.text(),
                    })
            })
        };
        let missing: Vec<&Block> = envelope.blocks.iter().filter(|block| !covered(block)).collect();
        if missing.is_empty() {
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

/// The current version of a key file of the OpenSSL recipe stays what it is, for one new recipient. Each of its older
/// versions may hold another container's password.
fn judge_key_file(key_file: &KeyFile, versions: &[ReadVersion], rotation: &Rotation) -> Result<Judged> {
    let mut judged = Judged::nothing();
    let older = versions.get(1..).unwrap_or_default();
    let opens = |key_file: &KeyFile| {
        let blocks = key_file.open(&rotation.old).unwrap_or_default();
        blocks.into_iter().find(PasswordBlock::is_text)
    };
    let old_ones = older.iter().filter(|version| match detect_key_file(&version.bytes) {
        Some(key_file) => opens(&key_file).is_some(),
        None => true,
    });
    let old_ones = old_ones.count();
    if old_ones > 0 {
        judged.residue.push(format!(
            "{old_ones} older versions of this key file of the OpenSSL recipe may be the keys of older containers; they were kept"
        ));
    }
    judged.keep = older.iter().map(|version| version.object.version.clone()).collect();
    let Some(password) = opens(key_file) else {
        judged.finding = if old_ones > 0 { Finding::Unproven } else { Finding::NotOurs };
        return Ok(judged);
    };
    match rotation.new.as_slice() {
        [recipient] if !rotation.keys_stay() => {
            judged.finding = Finding::Opens;
            judged.unchecked = 1;
            judged.key_file = Some(KeyFile::wrap(&password, recipient, key_file.form())?.encode().into());
        }
        _ => {
            judged.finding = Finding::Unproven;
            judged.residue.push("is a key file of the OpenSSL recipe, which holds one recipient".into());
        }
    }
    Ok(judged)
}

/// Whether a block is an entry for a recipient that is dropped by its label.
fn leaves(block: &Block, rotation: &Rotation) -> bool {
    matches!(&block.content, Content::Entry(entry) if rotation.dropped().any(|id| *id == entry.recipient))
}

/// Whether the newest of all versions is done, and the older ones hold nothing that does not stand in it too.
fn newest_holds_all(
    parsed: &[(&VersionId, Envelope)],
    versions: &[ReadVersion],
    rotation: &Rotation,
) -> bool {
    let Some(((_, newest), older)) = parsed.split_first() else { return false };
    let stands = |block: &Block| newest.blocks.iter().any(|other| other.text() == block.text());
    parsed.len() == versions.len()
        && rotation.is_done_by_labels(newest)
        && older.iter().all(|(_, envelope)| envelope.blocks.iter().all(stands))
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
