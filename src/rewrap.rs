//! What an envelope becomes when it moves to new recipients: decided from its bytes alone.
//!
//! Labels are not authenticated: what an old key opens is found by trying, and what it opened is not kept. A key that is
//! not the one its container commits to was planted, and is never wrapped for anybody.

use std::collections::BTreeSet;
use std::time::SystemTime;

use crate::crypto::lanes::same;
use crate::crypto::rsa::{PrivateKey, PublicKey};
use crate::format::envelope::{Block, Content};
use crate::format::{Entry, Envelope, Header, Wrap};
use crate::open::commits_to;
use crate::pair::Finding;
use crate::secret::{FileKey, SecretBytes};
use crate::wrap::new_entry;
use crate::{DataId, Error, KeyId, Result};

/// Whom an archive leaves, and whom it moves to.
#[derive(Debug)]
pub struct Rotation {
    /// The keys to leave: their recipients are dropped.
    pub old: Vec<PrivateKey>,
    /// The recipients to move to.
    pub new: Vec<PublicKey>,
}

impl Rotation {
    /// From `old` keys to `new` recipients.
    ///
    /// # Errors
    /// `Usage` when one of them is missing, or a key is on both sides.
    pub fn new(old: Vec<PrivateKey>, new: Vec<PublicKey>) -> Result<Self> {
        if old.is_empty() {
            return Err(Error::usage("no old private key").hint("name it with --identity"));
        }
        if new.is_empty() {
            return Err(Error::usage("no new recipient").hint("name a public key with --to"));
        }
        if let Some(same) = new.iter().find(|new| old.iter().any(|old| old.id() == new.id())) {
            return Err(Error::usage(format!("key {} is both the old and the new one", same.id().short()))
                .hint("make a new pair with sidekey keygen; what moves to the same key has not moved"));
        }
        Ok(Self { old, new })
    }

    fn leaves(&self, id: &KeyId) -> bool {
        self.old.iter().any(|old| old.id() == *id)
    }

    fn enters(&self, id: &KeyId) -> bool {
        self.new.iter().any(|new| new.id() == *id)
    }

    /// What an old key opens of one entry.
    fn open(&self, entry: &Entry) -> Option<SecretBytes> {
        if matches!(entry.wrap, Wrap::Other(_)) {
            return None;
        }
        self.old.iter().find_map(|old| old.unwrap(&entry.body, &entry.data_id))
    }

    /// Whether an old key opens any entry, whatever its label and kind: the trial that proves that none does.
    pub fn still_opens(&self, envelope: &Envelope) -> bool {
        self.old.iter().any(|old| opens(old, envelope))
    }
}

/// Whether `key` opens any entry, whatever its label and kind.
pub fn opens(key: &PrivateKey, envelope: &Envelope) -> bool {
    envelope.entries().any(|entry| key.unwrap(&entry.body, &entry.data_id).is_some())
}

/// How the container of an entry judges the key that was found in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is the container's key.
    Right,
    /// It is not.
    Wrong,
    /// The container is not at hand.
    Absent,
}

/// An envelope examined.
#[derive(Debug)]
pub struct Examined {
    /// What was found.
    pub finding: Finding,
    /// The envelope as it should be, when there is something to rewrap.
    pub rewrapped: Option<Envelope>,
    /// What stays for an old key, or may.
    pub residue: Vec<String>,
    /// How many keys were compared with their container's commitment.
    pub checked: u64,
    /// How many were not, because the container is not at hand.
    pub unchecked: u64,
}

/// Tries the old keys on every entry and makes the new envelope. `judge` compares a file key with its container.
///
/// Unless `all` are to be tried, an envelope in which nothing names an old key and every new recipient has an entry is
/// taken as done without a trial; trials of such envelopes are the proof's.
///
/// # Errors
/// What wrapping fails with.
pub fn examine(
    envelope: &Envelope,
    rotation: &Rotation,
    judge: impl Fn(&Entry, &[u8]) -> Judgement,
    created: SystemTime,
    all: bool,
) -> Result<Examined> {
    let mut examined =
        Examined { finding: Finding::NotOurs, rewrapped: None, residue: vec![], checked: 0, unchecked: 0 };
    let unknown = envelope.blocks.iter().filter(|block| is_unknown(&block.content)).count();
    if unknown > 0 {
        examined
            .residue
            .push(format!("{unknown} of its blocks are of a kind that this version cannot judge"));
    }
    let labels: BTreeSet<KeyId> = envelope.entries().map(|entry| entry.recipient).collect();
    let has_new = rotation.new.iter().all(|new| labels.contains(&new.id()));
    if !all && has_new && !labels.iter().any(|label| rotation.leaves(label)) {
        examined.finding = Finding::Done;
        return Ok(examined);
    }

    let mut kept = Vec::new();
    let mut opened: Vec<(&Entry, SecretBytes)> = Vec::new();
    for block in &envelope.blocks {
        let Content::Entry(entry) = &block.content else {
            kept.push(block.clone());
            continue;
        };
        let Some(secret) = rotation.open(entry) else {
            if rotation.leaves(&entry.recipient) && !is_unknown(&block.content) {
                examined.residue.push(format!(
                    "an entry is labelled for the old key {} but does not open with it; it was kept",
                    entry.recipient.short()
                ));
            }
            kept.push(block.clone());
            continue;
        };
        match judge(entry, secret.expose()) {
            Judgement::Right => examined.checked += 1,
            Judgement::Absent => examined.unchecked += 1,
            Judgement::Wrong => {
                examined.residue.push(
                    "an entry that the old key opens carries another key than its container's: somebody planted it"
                        .into(),
                );
                continue;
            }
        }
        let of_one_container = |other: &Entry| other.data_id == entry.data_id && other.wrap == entry.wrap;
        if opened
            .iter()
            .any(|(other, known)| of_one_container(other) && same(known.expose(), secret.expose()))
        {
            continue;
        }
        // One of them was planted. Without the container nothing tells which, so losing neither comes first.
        if opened.iter().any(|(other, _)| of_one_container(other)) {
            examined.residue.push(
                "its entries carry different keys, and without its container none can be told from a planted one: \
                 all were kept"
                    .into(),
            );
        }
        opened.push((entry, secret));
    }
    if opened.is_empty() {
        let old_named = labels.iter().any(|label| rotation.leaves(label));
        let unproven = old_named || examined.residue.len() > usize::from(unknown > 0);
        examined.finding = if unproven { Finding::Unproven } else { Finding::NotOurs };
        return Ok(examined);
    }
    examined.finding = Finding::Opens;
    examined.rewrapped = Some(Envelope { blocks: rewrapped(rotation, &opened, kept, created)? });
    Ok(examined)
}

/// New entries for what opened, then all that is kept but older entries for the same recipients.
fn rewrapped(
    rotation: &Rotation,
    opened: &[(&Entry, SecretBytes)],
    kept: Vec<Block>,
    created: SystemTime,
) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    for (old, secret) in opened {
        for recipient in &rotation.new {
            let fresh = new_entry(recipient, secret.expose(), &old.data_id, old.wrap.clone(), created)?;
            blocks.push(Entry { extra: old.extra.clone(), ..fresh }.into());
        }
    }
    let superseded = |block: &Block| match &block.content {
        Content::Entry(entry) => {
            rotation.enters(&entry.recipient)
                && opened.iter().any(|(old, _)| old.data_id == entry.data_id && old.wrap == entry.wrap)
        }
        _ => false,
    };
    blocks.extend(kept.into_iter().filter(|block| !superseded(block)));
    Ok(blocks)
}

/// Whether a block is of a kind that this version cannot judge.
pub(crate) fn is_unknown(content: &Content) -> bool {
    match content {
        Content::Entry(entry) => matches!(entry.wrap, Wrap::Other(_)),
        Content::Info(_) => false,
        Content::Unknown(_) => true,
    }
}

/// Judges a file key by the header of the container that has the entry's data id, if it is at hand.
pub fn judge_by_header(header: Option<&Header>, data_id: &DataId, secret: &[u8]) -> Judgement {
    let Some(header) = header.filter(|header| header.data_id() == *data_id) else { return Judgement::Absent };
    match <&[u8; 32]>::try_from(secret) {
        Ok(secret) if commits_to(header, &FileKey::from_bytes(secret)) => Judgement::Right,
        _ => Judgement::Wrong,
    }
}
