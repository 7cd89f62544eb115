//! Which containers have an envelope beside them, told by the listing as it comes.
//!
//! All that belongs to a pair begins with `NAME.`, so in the order of keys it stands together. A container is held back
//! until that is over: one that has its envelope is never read, however small it is.

use crate::format::envelope;
use crate::name::{ObjectName, containers_of, is_container_name};
use crate::store::{Listed, Object};
use crate::{Error, Result};

/// What was listed.
#[derive(Debug)]
pub(super) enum Seen {
    /// What has the name of a container, and an envelope beside it or a size that no envelope has.
    Container(Object),
    /// An envelope, what is called otherwise, and what has the name of a container and may be none.
    Other(Object),
    Failed(Error),
}

/// The names on the way to the key that was listed last, each of which the next one begins with.
#[derive(Debug, Default)]
pub(super) struct Beside {
    open: Vec<Name>,
}

#[derive(Debug)]
struct Name {
    /// `NAME.`
    prefix: String,
    has_envelope: bool,
    held: Vec<Object>,
}

impl Beside {
    /// What is known now that this was listed; nothing was, when the listing is over.
    pub(super) fn next(&mut self, listed: Option<Result<Listed>>) -> Vec<Seen> {
        let object = match listed {
            Some(Ok(Listed::Object(object))) if !object.marker => object,
            Some(Err(error)) => return vec![Seen::Failed(error)],
            Some(Ok(_)) => return vec![],
            None => return self.close(""),
        };
        let mut known = self.close(&object.key);
        // Only the likelier of two: a copy of `x.<id>.key.enc` may well be called `x.<id>.enc`.
        if let Some(container) = containers_of(&object.key).first() {
            self.name(container).has_envelope = true;
        }
        match is_container(&object.key) {
            true if object.size > envelope::MAX_BYTES as u64 => known.push(Seen::Container(object)),
            true => self.name(&object.key.clone()).held.push(object),
            false => known.push(Seen::Other(object)),
        }
        known
    }

    /// Lets go of what `key` is behind of.
    fn close(&mut self, key: &str) -> Vec<Seen> {
        let past = self.open.partition_point(|name| key.starts_with(&name.prefix));
        let past = self.open.split_off(past);
        past.into_iter()
            .flat_map(|name| {
                let seen = if name.has_envelope { Seen::Container } else { Seen::Other };
                name.held.into_iter().map(seen)
            })
            .collect()
    }

    /// The name of a container, which the key that was listed last begins with.
    fn name(&mut self, container: &str) -> &mut Name {
        let prefix = container.strip_suffix("enc").unwrap_or(container);
        let at = self.open.partition_point(|name| name.prefix.len() < prefix.len());
        if self.open.get(at).is_none_or(|name| name.prefix != prefix) {
            self.open.insert(at, Name { prefix: prefix.to_owned(), has_envelope: false, held: vec![] });
        }
        &mut self.open[at]
    }
}

/// Whether a key is one that a container of ours has.
pub(super) fn is_container(key: &str) -> bool {
    is_container_name(key) && ObjectName::parse(key.rsplit_once('/').map_or(key, |(_, last)| last)).is_some()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn object(key: &str, size: u64) -> Result<Listed> {
        let key = key.to_owned();
        let (version, modified) = ("1".into(), SystemTime::UNIX_EPOCH);
        Ok(Listed::Object(Object { key, version, latest: true, marker: false, size, modified, info: None }))
    }

    /// What is taken for a container, of these keys in their order.
    fn containers(keys: &[&str]) -> Vec<String> {
        assert!(keys.is_sorted(), "{keys:?}");
        let mut beside = Beside::default();
        let listed = keys.iter().map(|key| Some(object(key, 1000))).chain([None]);
        let seen: Vec<Seen> = listed.flat_map(|listed| beside.next(listed)).collect();
        assert_eq!((seen.len(), beside.open.len()), (keys.len(), 0));
        let container = |seen| match seen {
            Seen::Container(object) => Some(object.key),
            _ => None,
        };
        seen.into_iter().filter_map(container).collect()
    }

    #[test]
    fn a_container_is_known_by_the_envelope_beside_it() {
        let id = "0123456789abcdef";
        let late = "f123456789abcdef";
        for (keys, expected) in [
            (&["x.enc", "x.key.enc"][..], &["x.enc"][..]),
            (&[&format!("x.{id}.key.enc"), "x.enc"], &["x.enc"]),
            (&["x.enc", &format!("x.{late}.key.enc")], &["x.enc"]),
            (&["x.enc", "y.key.enc"], &[]),
            (&["x.enc"], &[]),
            (&["d/x.enc", "x.key.enc"], &[]),
            // Names that begin with another one, and come between its halves.
            (&[&format!("x.{id}.key.enc"), "x.b.enc", "x.b.key.enc", "x.enc"], &["x.b.enc", "x.enc"]),
            (&["x.b.c.enc", "x.b.enc", "x.b.key.enc", "x.enc", "x.key.enc"], &["x.b.enc", "x.enc"]),
            (&["x.b.enc", "x.enc", "x.g.enc", "x.g.key.enc", "x.key.enc"], &["x.enc", "x.g.enc"]),
            (&["x./a.enc", "x.enc", "x.key.enc"], &["x.enc"]),
            // A copy without its `.key`.
            (&[&format!("x.{id}.enc"), &format!("x.{id}.key.enc"), "x.enc"], &["x.enc"]),
        ] {
            let mut found = containers(keys);
            found.sort_unstable();
            assert_eq!(found, expected, "{keys:?}");
        }
    }

    #[test]
    fn what_is_larger_than_an_envelope_is_not_held_back() {
        let mut beside = Beside::default();
        let seen = beside.next(Some(object("x.enc", envelope::MAX_BYTES as u64 + 1)));
        assert!(matches!(&seen[..], [Seen::Container(_)]), "{seen:?}");
        assert!(beside.next(Some(object("y.enc", envelope::MAX_BYTES as u64))).is_empty());
        assert!(matches!(&beside.next(None)[..], [Seen::Other(_)]));
    }
}
