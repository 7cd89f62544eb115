//! Judges all versions of one envelope together: what opens, what the new text is, and which versions it covers.

use std::time::SystemTime;

use bytes::Bytes;

use super::fetch::{Heads, is_container};
use super::rewrap::Proofs;
use crate::crypto::recipe::RecipeKey;
use crate::format::envelope::{Block, Content};
use crate::format::{Entry, Envelope, Wrap};
use crate::pair::Finding;
use crate::recipe::detect_key_file;
use crate::rewrap::{Judgement, Rotation, examine, judge_by_headers};
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

impl Judged {
    fn nothing() -> Self {
        Self { finding: Finding::NotOurs, new: None, keep: vec![], residue: vec![], checked: 0, unchecked: 0 }
    }

    /// What is to be written, if anything is.
    pub(super) fn text(&self) -> Result<Option<Bytes>> {
        self.new.as_ref().map(|envelope| Ok(envelope.to_text()?.into())).transpose()
    }
}

/// Judges versions, newest first. What an old key opens in any of them is wrapped anew; besides, the new text holds what
/// the newest version that opens does. Labels alone decide only where there is one version, and not with `all`.
///
/// With `ours` the newest version is a text that a run of the same change made of proven keys. Where it serves whom the new
/// text would, nothing is to be written: that run was stopped before it could delete the rest.
pub(super) fn judge(
    versions: &[ReadVersion],
    proofs: &Proofs,
    rotation: &Rotation,
    created: SystemTime,
    all: bool,
    ours: bool,
) -> Result<Judged> {
    let all = all || versions.len() > 1;
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
        examine(&merged, rotation, |entry, secret| judge_entry(entry, secret, proofs), created, all)?;
    judged.finding = examined.finding;
    judged.residue.extend(examined.residue);
    (judged.checked, judged.unchecked) = (examined.checked, examined.unchecked);
    if judged.finding == Finding::NotOurs && newest_holds_all(&parsed, versions, rotation, ours) {
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
    let is_first =
        |version: &VersionId| versions.first().is_some_and(|first| first.object.version == *version);
    if let (true, Some((version, text)), Some(new)) = (ours && newest > 0, parsed.first(), &judged.new)
        && is_first(version)
        && proven
        && judged.residue.is_empty()
        && serves_as(text, new, rotation)
    {
        (judged.finding, judged.new) = (Finding::Done, None);
    }
    Ok(judged)
}

/// Whether a text is the same as another one but for what wrapping anew changes.
fn serves_as(text: &Envelope, new: &Envelope, rotation: &Rotation) -> bool {
    text.blocks.len() == new.blocks.len()
        && new.blocks.iter().all(|block| text.blocks.iter().any(|other| stands_for(other, block, rotation)))
}

/// Whether a block of a text that runs of this change wrote stands for another one: it is the same, or was wrapped for the
/// same new recipient from a proven key.
fn stands_for(ours: &Block, other: &Block, rotation: &Rotation) -> bool {
    let is_new = match &ours.content {
        Content::Entry(entry) => rotation.new.iter().any(|new| new.id() == entry.recipient),
        _ => false,
    };
    ours.text() == other.text() || (is_new && covers(ours, other))
}

/// Whether a block is an entry for a recipient that is dropped by its label.
fn leaves(block: &Block, rotation: &Rotation) -> bool {
    matches!(&block.content, Content::Entry(entry) if rotation.dropped().any(|id| *id == entry.recipient))
}

/// Whether the newest of all versions is done, and the older ones hold nothing that does not stand in it too. Where it is
/// `ours`, another entry for a new recipient and the same container holds the same, or was planted.
fn newest_holds_all(
    parsed: &[(&VersionId, Envelope)],
    versions: &[ReadVersion],
    rotation: &Rotation,
    ours: bool,
) -> bool {
    let Some(((_, newest), older)) = parsed.split_first() else { return false };
    let stands = |block: &Block| {
        newest.blocks.iter().any(|other| match ours {
            true => stands_for(other, block, rotation),
            false => other.text() == block.text(),
        })
    };
    parsed.len() == versions.len()
        && rotation.is_done_by_labels(newest)
        && older.iter().all(|(_, envelope)| envelope.blocks.iter().all(stands))
}

/// Whether a block serves whom another one does.
fn covers(new: &Block, old: &Block) -> bool {
    match (&new.content, &old.content) {
        (Content::Entry(new), Content::Entry(old)) => {
            let served =
                |entry: &Entry| (entry.data_id, entry.recipient, entry.wrap.clone(), entry.extra.clone());
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

fn judge_entry(entry: &Entry, secret: &[u8], proofs: &Proofs) -> Judgement {
    match entry.wrap {
        Wrap::RsaOaepSha256 => {
            let Heads { headers, cleartext, unread } = &proofs.heads;
            let cleartext = cleartext.iter().filter(|cleartext| cleartext.data_id == entry.data_id);
            let by_cleartext = cleartext.map(|cleartext| cleartext.is_opened_by(secret));
            let by_header = judge_by_headers(headers, &entry.data_id, secret);
            match by_cleartext.reduce(|one, other| one || other) {
                Some(true) => Judgement::Right,
                Some(false) if by_header == Judgement::Absent => Judgement::Wrong,
                _ => by_header,
            }
            .unless_unknown(*unread)
        }
        Wrap::RecipeKey => {
            let Some(sample) = proofs.samples.iter().find(|sample| sample.data_id() == entry.data_id) else {
                return Judgement::Absent;
            };
            match RecipeKey::from_payload(secret).is_ok_and(|key| sample.padding(&key).is_some()) {
                true => Judgement::Right,
                false => Judgement::Wrong,
            }
        }
        Wrap::Other(_) => Judgement::Absent,
    }
}
