//! Locations: pairs of container and envelope below a prefix of a store.
//!
//! What stands there under which name is decided here; the bytes are the store's, the rules are [`crate::pair`]'s.

pub mod argument;
pub mod cleartext;
pub mod customer;
pub mod drive;
pub mod listing;
pub mod outside;
pub mod range;
pub mod read;
pub mod recipe;
pub mod vault;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use self::cleartext::Cleartext;
use self::customer::Unlocking;
use crate::crypto::rsa::PrivateKey;
use crate::name::{self, ObjectName, RecipeSuffix, containers_of, envelope_name};
use crate::store::throttled::Throttled;
use crate::store::{Object, Store};
use crate::vault::Vault;
use crate::{Error, Result};

/// The folder at the root of a location that is sidekey's own.
pub const RESERVED: &str = ".sidekey";

/// A prefix of a store below which pairs stand. Clones lead to the same place.
#[derive(Clone, Debug)]
pub struct Location {
    store: Arc<dyn Store>,
    /// What finds the keys of containers under SSE-C, where private keys are at hand.
    unlocking: Option<Arc<Unlocking>>,
    /// Empty, or with a `/` at its end.
    prefix: String,
    /// Whether the last name that a container was written under was taken: a guess about the next.
    taken: Arc<AtomicBool>,
    /// What its names and records are made with, where it is the root of a vault.
    vault: Option<Arc<Vault>>,
    /// How a script called what it put there, where it is not as the recipe does.
    recipe_suffix: Option<Arc<RecipeSuffix>>,
}

impl Location {
    /// The location at `prefix`, as the store writes it: segments with `/` between, empty for the whole store.
    ///
    /// # Errors
    /// `Input` when a segment is empty, `.` or `..`.
    pub fn new(store: Arc<dyn Store>, prefix: &str) -> Result<Self> {
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if !prefix.is_empty() && prefix.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(Error::input("is not a prefix that a location can have").about(store.show(prefix)));
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { store, unlocking: None, prefix, taken: Arc::default(), vault: None, recipe_suffix: None })
    }

    /// The same as the root of a vault: `.sidekey/` of the vault lies here.
    #[must_use]
    pub fn in_vault(self, vault: Arc<Vault>) -> Self {
        Self { vault: Some(vault), ..self }
    }

    /// The same store at another prefix, as no vault.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn elsewhere(&self, prefix: &str) -> Result<Self> {
        Ok(Self { unlocking: self.unlocking.clone(), ..Self::new(self.shared_store(), prefix)? })
    }

    /// The vault that it is the root of.
    pub fn vault(&self) -> Option<&Arc<Vault>> {
        self.vault.as_ref()
    }

    /// The same with private keys, which open containers that the service keeps under a key of their own (SSE-C).
    ///
    /// # Errors
    /// What sharing a key fails with.
    pub fn unlocked(&self, identities: &[PrivateKey]) -> Result<Self> {
        if identities.is_empty() {
            return Ok(self.clone());
        }
        let unlocking = Unlocking::with_identities(Arc::clone(&self.store), identities)?;
        let unlocking = Arc::new(unlocking.within(self.unlocking.clone()));
        Ok(Self {
            store: Arc::clone(&unlocking) as Arc<dyn Store>,
            unlocking: Some(unlocking),
            ..self.clone()
        })
    }

    /// What is known of an object that was just read and that the service alone encrypts; nothing for every other one, and
    /// where no private key at hand opens it. A vault has none: there it is a container that is none.
    pub fn cleartext(&self, object: &Object) -> Option<Arc<Cleartext>> {
        self.unlocking.as_ref().filter(|_| self.vault.is_none())?.cleartext(object)
    }

    /// The same where a script gave the pairs of the OpenSSL recipe other names.
    #[must_use]
    pub fn with_recipe_suffix(self, suffix: Option<RecipeSuffix>) -> Self {
        Self { recipe_suffix: suffix.map(Arc::new), ..self }
    }

    /// How a script called the pairs of the OpenSSL recipe, where it is not as the recipe does.
    pub(crate) fn recipe_suffix(&self) -> Option<&RecipeSuffix> {
        self.recipe_suffix.as_deref()
    }

    /// The same, given and asked for no more than so many bytes a second.
    #[must_use]
    pub fn limited(&self, bytes_a_second: u64) -> Self {
        let store = Arc::new(Throttled::new(Arc::clone(&self.store), bytes_a_second));
        Self { store, ..self.clone() }
    }

    /// The store that it is in.
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// The same, to keep.
    pub fn shared_store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// What every key of it begins with: nothing, or segments with a `/` at the end.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key of a stored name, which is relative to the location.
    pub fn key(&self, stored: &str) -> String {
        format!("{}{stored}", self.prefix)
    }

    /// The key of the container of `name`.
    pub fn container_key(&self, name: &ObjectName) -> String {
        self.key(&self.stored(name))
    }

    /// The stored name of the container of `name`.
    pub fn stored(&self, name: &ObjectName) -> String {
        match &self.vault {
            Some(vault) => vault.stored(name),
            None => name.container(),
        }
    }

    /// What the stored names of everything below a folder begin with: nothing for the root, else a `/` at its end.
    pub fn stored_folder<S: AsRef<[u8]>>(&self, path: &[S]) -> String {
        match &self.vault {
            Some(vault) => vault.stored_folder(path),
            None => path.iter().map(|segment| name::stored_folder(segment.as_ref()) + "/").collect(),
        }
    }

    /// Reads the stored name of a container; nothing when it is none of this location.
    pub fn parse(&self, stored: &str) -> Option<ObjectName> {
        match &self.vault {
            Some(vault) => vault.parse(stored),
            None => ObjectName::parse(stored),
        }
    }

    /// The plain path of a stored folder, with or without the `/` at its end. What is not in our form stays as it is.
    pub fn plain_folder(&self, stored: &str) -> Vec<Vec<u8>> {
        let read = self.vault.as_ref().and_then(|vault| vault.plain_folder(stored));
        read.unwrap_or_else(|| {
            let segments = stored.split('/').filter(|segment| !segment.is_empty());
            segments.map(|segment| name::plain_folder(segment.as_bytes())).collect()
        })
    }

    /// The keys that the container of `name` may have: its own, and that which a script would have given it.
    pub(crate) fn container_keys(&self, name: &ObjectName) -> impl Iterator<Item = String> {
        let usual = self.container_key(name);
        let bare = usual.strip_suffix(".enc").unwrap_or(&usual);
        let other = self.recipe_suffix().map(|suffix| suffix.container(bare));
        let other = other.filter(|other| *other != usual);
        [usual].into_iter().chain(other)
    }

    /// The stored name of a key: the key without the prefix; nothing for a key of somewhere else, and for what is
    /// sidekey's own.
    pub fn relative<'k>(&self, key: &'k str) -> Option<&'k str> {
        let stored = key.strip_prefix(&self.prefix)?;
        let reserved =
            stored.strip_prefix(RESERVED).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        (!reserved).then_some(stored)
    }

    fn guesses_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    fn was_taken(&self, taken: bool) {
        self.taken.store(taken, Ordering::Relaxed);
    }

    /// How people write a stored name of it, for messages: in a vault as it would be called without encryption.
    pub fn show(&self, stored: &str) -> String {
        self.store.show(&self.key(&self.legible(stored)))
    }

    /// The same of a key of the store.
    pub fn show_key(&self, key: &str) -> String {
        match key.strip_prefix(&self.prefix) {
            Some(stored) => self.show(stored),
            None => self.store.show(key),
        }
    }

    fn legible(&self, stored: &str) -> String {
        let Some(vault) = &self.vault else { return stored.to_owned() };
        if let Some(name) = vault.parse(stored) {
            return name.container();
        }
        if let (Some(folder), true) = (vault.plain_folder(stored), stored.ends_with('/')) {
            return folder.iter().map(|segment| name::stored_folder(segment) + "/").collect();
        }
        for container in containers_of(stored) {
            if let Some(name) = vault.parse(&container) {
                let plain = name.container();
                let bare = container.strip_suffix(".enc").unwrap_or(&container);
                let short = stored.strip_prefix(bare).unwrap_or_default();
                let envelope = plain.strip_suffix(".enc").map(|plain| format!("{plain}{short}"));
                return envelope.or_else(|| envelope_name(&plain, None)).unwrap_or(plain);
            }
        }
        stored.to_owned()
    }
}
