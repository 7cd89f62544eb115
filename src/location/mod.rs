//! Locations: pairs of container and envelope below a prefix of a store.
//!
//! What stands there under which name is decided here; the bytes are the store's, the rules are [`crate::pair`]'s.

pub mod argument;
pub mod customer;
pub mod drive;
pub mod listing;
pub mod read;

use std::sync::Arc;

use self::customer::Unlocking;
use crate::crypto::rsa::PrivateKey;
use crate::name::ObjectName;
use crate::store::Store;
use crate::store::throttled::Throttled;
use crate::{Error, Result};

/// The folder at the root of a location that is sidekey's own.
pub const RESERVED: &str = ".sidekey";

/// A prefix of a store below which pairs stand. Clones lead to the same place.
#[derive(Clone, Debug)]
pub struct Location {
    store: Arc<dyn Store>,
    /// Empty, or with a `/` at its end.
    prefix: String,
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
        Ok(Self { store, prefix })
    }

    /// The same with private keys, which open containers that the service keeps under a key of their own (SSE-C).
    ///
    /// # Errors
    /// What sharing a key fails with.
    pub fn unlocked(&self, identities: &[PrivateKey]) -> Result<Self> {
        let store = match identities {
            [] => Arc::clone(&self.store),
            _ => Arc::new(Unlocking::with_identities(Arc::clone(&self.store), identities)?),
        };
        Ok(Self { store, prefix: self.prefix.clone() })
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
        self.key(&name.container())
    }

    /// The stored name of a key: the key without the prefix; nothing for a key of somewhere else, and for what is
    /// sidekey's own.
    pub fn relative<'k>(&self, key: &'k str) -> Option<&'k str> {
        let stored = key.strip_prefix(&self.prefix)?;
        let reserved =
            stored.strip_prefix(RESERVED).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        (!reserved).then_some(stored)
    }

    /// How people write a stored name of it, for messages.
    pub fn show(&self, stored: &str) -> String {
        self.store.show(&self.key(stored))
    }
}
