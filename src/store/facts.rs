//! What a store tells of itself beyond what it can do: settings of a bucket, and of what a folder stands on.

use std::time::SystemTime;

/// What [`super::Store::facts`] found out, without writing anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What becomes of what is replaced.
    pub versions: Told<Versions>,
    /// The object lock of the bucket, where it has one.
    pub lock: Told<Option<Lock>>,
    /// What the service does by itself to objects, as time passes.
    pub lifecycle: Told<Vec<Rule>>,
    /// Whether the bucket refuses what comes with a key of the customer's (SSE-C).
    pub blocks_customer_keys: bool,
    /// What the service's clock said in its last answer.
    pub clock: Option<SystemTime>,
    /// Whether [`super::Store::require`] knows of every right: nothing has to be tried.
    pub tells_rights: bool,
    /// What a folder of this machine stands on.
    pub folder: Option<Folder>,
}

/// An answer to one question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Told<T> {
    /// This is it.
    Is(T),
    /// It may not be asked; this right is missing.
    Hidden(&'static str),
    /// The store has no such thing.
    #[default]
    NoSuch,
}

/// What a bucket does with what is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// It is gone.
    Off,
    /// It stays as an older version.
    On,
    /// It is gone, but for what was kept before.
    Suspended,
}

/// An object lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// What is written is locked without having been asked for: how (`governance`, `compliance`), and for how long.
    pub default: Option<(String, String)>,
}

/// A rule of a bucket, which is switched on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// What the bucket calls it; may be empty.
    pub name: String,
    /// Only names that begin so.
    pub prefix: String,
    /// Whether it is for some sizes only.
    pub by_size: bool,
    /// Whether it is for objects with certain tags only.
    pub by_tag: bool,
    /// When it hides or deletes what is current.
    pub removes: Option<String>,
    /// When it deletes what is hidden or replaced.
    pub removes_old: Option<String>,
    /// Whereto and when it moves objects that cannot be read from there.
    pub archives: Option<String>,
}

/// What a folder of this machine stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Whether nothing in it survives a power cut.
    pub in_memory: bool,
    /// Whether one call makes the disk catch up with many files.
    pub syncs_together: bool,
    /// Whether it may not be written at all.
    pub read_only: bool,
    /// Whether runs of sidekey can keep out of each other's way.
    pub locks: bool,
    /// Its permissions, as of `chmod`.
    pub mode: u32,
    /// Bytes that are free for us.
    pub free: u64,
    /// Bytes that the file system has.
    pub total: u64,
    /// The longest name, in bytes.
    pub longest_name: usize,
}
