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
    /// The keys that open it. Unless they stay, their recipients are dropped.
    pub old: Vec<PrivateKey>,
    /// The recipients to move to.
    pub new: Vec<PublicKey>,
    /// Other recipients that are dropped, by their labels alone.
    dropped: BTreeSet<KeyId>,
    /// Whether the keys that open it stay recipients.
    stay: bool,
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
        Ok(Self { old, new, dropped: BTreeSet::new(), stay: false })
    }

    /// The same, with more recipients to drop. Nobody has their private keys, so their labels are believed.
    ///
    /// # Errors
    /// `Usage` when one of them is a new recipient.
    pub fn dropping(mut self, others: impl IntoIterator<Item = KeyId>) -> Result<Self> {
        self.dropped.extend(others);
        match self.new.iter().find(|new| self.dropped.contains(&new.id())) {
            None => Ok(self),
            Some(new) => Err(Error::usage(format!(
                "key {} is both to be dropped and a new recipient",
                new.id().short()
            ))
            .hint("name it once: with --drop or with --to")),
        }
    }

    /// A change of recipients among whom the `keys` that open the archive stay.
    ///
    /// # Errors
    /// `Usage` when there is nothing to change, or somebody is to come and to go, or nobody who stays can open it.
    pub fn among(keys: Vec<PrivateKey>, new: Vec<PublicKey>, dropped: &[KeyId]) -> Result<Self> {
        if keys.is_empty() {
            return Err(Error::usage("no private key that opens the archive").hint("name it with --identity"));
        }
        if new.is_empty() && dropped.is_empty() {
            return Err(Error::usage("no recipient to add or to remove"));
        }
        if let Some(key) = keys.iter().find(|key| dropped.contains(&key.id())) {
            let message = format!("key {} opens the archive and is to be removed from it", key.id().short());
            return Err(Error::usage(message)
                .hint("name the private key of a recipient who stays, or move to another one with rewrap"));
        }
        Self { old: keys, new, dropped: BTreeSet::new(), stay: true }.dropping(dropped.iter().copied())
    }

    /// Whether the keys that open it stay recipients.
    pub fn keys_stay(&self) -> bool {
        self.stay
    }

    /// The recipients that are dropped by their labels alone.
    pub fn dropped(&self) -> impl Iterator<Item = &KeyId> {
        self.dropped.iter()
    }

    fn is_old(&self, id: &KeyId) -> bool {
        self.old.iter().any(|old| old.id() == *id)
    }

    /// Whether an entry with this label is to go.
    pub fn leaves(&self, id: &KeyId) -> bool {
        self.dropped.contains(id) || (!self.stay && self.is_old(id))
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

    /// Whether an envelope needs no trial: nothing in it names a key to leave, and every new recipient has an entry.
    pub(crate) fn is_done_by_labels(&self, envelope: &Envelope) -> bool {
        let labels: BTreeSet<KeyId> = envelope.entries().map(|entry| entry.recipient).collect();
        self.new.iter().all(|new| labels.contains(&new.id()))
            && !labels.iter().any(|label| self.leaves(label))
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

impl Judgement {
    /// The same, where no other container may be the right one that could not be read.
    pub(crate) fn unless_unknown(self, unread: bool) -> Self {
        if unread && self == Self::Wrong { Self::Absent } else { self }
    }
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
    // Where the keys stay there is nothing to find out by trying.
    if (!all || rotation.stay) && rotation.is_done_by_labels(envelope) {
        examined.finding = Finding::Done;
        return Ok(examined);
    }
    let labels: BTreeSet<KeyId> = envelope.entries().map(|entry| entry.recipient).collect();

    let mut kept = Vec::new();
    let mut opened: Vec<(&Entry, SecretBytes)> = Vec::new();
    for block in &envelope.blocks {
        let Content::Entry(entry) = &block.content else {
            kept.push(block.clone());
            continue;
        };
        let Some(secret) = rotation.open(entry) else {
            if rotation.dropped.contains(&entry.recipient) && !is_unknown(&block.content) {
                continue;
            }
            if rotation.is_old(&entry.recipient) && !is_unknown(&block.content) {
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
        if rotation.stay && !rotation.leaves(&entry.recipient) {
            kept.push(block.clone());
        }
        let beside =
            |(other, _): &&(&Entry, SecretBytes)| other.data_id == entry.data_id && other.wrap == entry.wrap;
        let is_same = |(_, known): &(&Entry, SecretBytes)| same(known.expose(), secret.expose());
        // What else an entry says may be all that knows how its container is read (docs/format.md, "Entry").
        if opened.iter().filter(beside).any(|known| is_same(known) && known.0.extra == entry.extra) {
            continue;
        }
        // One of them was planted. Nothing tells which, so losing neither comes first.
        if opened.iter().filter(beside).any(|known| !is_same(known)) {
            examined.residue.push(
                "its entries carry different keys, and none can be told from a planted one: all were kept"
                    .into(),
            );
        }
        opened.push((entry, secret));
    }
    // What says more is read first.
    opened.sort_by_key(|(entry, _)| std::cmp::Reverse(entry.extra.len()));
    if opened.is_empty() {
        let to_drop = labels.iter().any(|label| rotation.dropped.contains(label));
        if to_drop {
            examined.residue.push("a recipient to drop stays, for no key that was given opens it".into());
        }
        let old_named = labels.iter().any(|label| rotation.is_old(label));
        let unproven = old_named || to_drop || examined.residue.len() > usize::from(unknown > 0);
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

/// Judges a file key by the headers of the containers that have the entry's data id. Who may write a container may write
/// another one with the same data id, so any of them will do.
pub fn judge_by_headers<'h>(
    headers: impl IntoIterator<Item = &'h Header>,
    data_id: &DataId,
    secret: &[u8],
) -> Judgement {
    let mut headers = headers.into_iter().filter(|header| header.data_id() == *data_id).peekable();
    if headers.peek().is_none() {
        return Judgement::Absent;
    }
    let Ok(secret) = <&[u8; 32]>::try_from(secret) else { return Judgement::Wrong };
    let key = FileKey::from_bytes(secret);
    match headers.any(|header| commits_to(header, &key)) {
        true => Judgement::Right,
        false => Judgement::Wrong,
    }
}
