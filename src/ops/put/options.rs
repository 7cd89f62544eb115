//! What `put` is asked to do.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use super::choose::Chooser;

use crate::crypto::rsa::PublicKey;
use crate::format::section::DigestKind;
use crate::location::Location;
use crate::location::customer::PairEncryption;
use crate::location::drive::IfExists;
use crate::ops::atomic::same_file;
use crate::ops::events::Observer;
use crate::ops::filter::Filter;
use crate::ops::{rights, walk};
use crate::store::{Capabilities, Right};
use crate::{Error, Result};

/// Which names the results get, as plain segments below the location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The source's names, below this folder.
    Below(Vec<Vec<u8>>),
    /// This name, for the one source that there is.
    Named(Vec<Vec<u8>>),
}

/// How to put.
#[derive(Debug)]
pub struct PutOptions {
    /// Where to.
    pub location: Location,
    /// Under which names.
    pub target: Target,
    /// The folder of this machine that the results go to, if it is one: nothing of it is put into itself.
    pub except: Option<PathBuf>,
    /// Who can open the results.
    pub recipients: Vec<PublicKey>,
    /// What to do where something has the name already.
    pub if_exists: IfExists,
    /// What to take.
    pub filter: Filter,
    /// Whether to leave out folders that are marked as caches (`CACHEDIR.TAG`).
    pub exclude_caches: bool,
    /// Whether to stay on the file system of each source.
    pub one_file_system: bool,
    /// Whether symlinks are followed instead of kept.
    pub follow: bool,
    /// Whether every folder gets a container of its own, not only empty ones.
    pub folder_metadata: bool,
    /// Which digest of the plaintext is kept.
    pub digest: DigestKind,
    /// How the service is asked to encrypt them, on top.
    pub encryption: PairEncryption,
    /// How many threads work.
    pub jobs: usize,
    /// Whether only to tell what would be put.
    pub dry_run: bool,
    /// The folder of this machine where large uploads are remembered with their one-time keys until both halves are there,
    /// so that another run can go on with them; nothing where they are not to be.
    pub journals: Option<PathBuf>,
    /// The time that envelopes say they were created.
    pub now: SystemTime,
}

impl PutOptions {
    /// What of the sources is put.
    pub(super) fn chooser<'a>(&'a self, observer: &'a dyn Observer) -> Chooser<'a> {
        let Self { filter, exclude_caches, one_file_system, .. } = self;
        let (exclude_caches, one_file_system) = (*exclude_caches, *one_file_system);
        Chooser {
            filter,
            exclude_caches,
            one_file_system,
            observer,
            device: AtomicU64::new(0),
            twins: Arc::default(),
        }
    }

    pub(in crate::ops) fn check(&self, inputs: &[PathBuf]) -> Result<()> {
        if self.recipients.is_empty() {
            return Err(Error::usage("no recipient: nobody could open this")
                .hint("name a public key with --recipient"));
        }
        match self.target {
            Target::Below(_) => {
                self.refuse_itself(inputs)?;
                walk::refuse_same_names(inputs)
            }
            Target::Named(_) if inputs.len() > 1 => {
                Err(Error::usage("one name is not enough for many files"))
            }
            Target::Named(_) => Ok(()),
        }
    }

    /// Whether the store can do what is asked for, and the credentials at hand may.
    pub(super) async fn require(&self, capabilities: &Capabilities) -> Result<()> {
        if self.encryption == PairEncryption::Cleartext && self.location.vault().is_some() {
            return Err(Error::usage("is a vault, and what is in a vault is encrypted before it is stored")
                .about(self.location.show(""))
                .hint("leave out --cleartext"));
        }
        if self.encryption.is_customers() && !capabilities.customer_keys {
            return Err(Error::usage("takes no keys of the customer's (SSE-C)")
                .about(self.location.show(""))
                .hint("leave out --sse c: what is put is encrypted before it is stored"));
        }
        let rights: &[Right] = match (self.dry_run, self.if_exists) {
            (true, _) => &[Right::List],
            (false, IfExists::Replace) => &[Right::Write],
            (false, IfExists::Skip | IfExists::Fail) => &[Right::Write, Right::List],
        };
        let (path, folder) = match &self.target {
            Target::Below(path) => (path, true),
            Target::Named(path) => (path, false),
        };
        rights::require_below(&self.location, path, folder, rights).await
    }

    /// Refuses a folder whose results would be put among its own files, to be found and put again.
    fn refuse_itself(&self, inputs: &[PathBuf]) -> Result<()> {
        let Some(folder) = &self.except else { return Ok(()) };
        for input in inputs.iter().filter(|input| input.is_dir()) {
            let segments = walk::root_segments(input);
            let result = folder.join(self.location.stored_folder(&segments));
            if same_file(folder, input)? || same_file(&result, input)? {
                return Err(Error::usage("would be put into itself")
                    .at(input)
                    .hint("choose a location that is another folder"));
            }
        }
        Ok(())
    }
}
