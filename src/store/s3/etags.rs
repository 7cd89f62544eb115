//! ETags of versions that were read. A condition names an ETag, and what reads before it writes has just been told it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::store::VersionId;

/// So many are kept: more than are read and not yet written at a time.
const KEPT: usize = 4096;
/// What is longer is no name that a service gives, and would let it fill our memory.
const LONGEST: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Etags(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_version: HashMap<VersionId, String>,
    /// The oldest first.
    order: VecDeque<VersionId>,
}

impl Etags {
    pub(super) fn note(&self, version: &VersionId, etag: &str) {
        if version.len().max(etag.len()) > LONGEST {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.by_version.insert(version.clone(), etag.to_owned()).is_none() {
            kept.order.push_back(version.clone());
        }
        if kept.order.len() > KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.by_version.remove(&oldest);
        }
    }

    pub(super) fn of(&self, version: &VersionId) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_version.get(version).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let etags = Etags::default();
        for number in 0..=KEPT {
            etags.note(&format!("v{number}"), &format!("e{number}"));
            etags.note(&format!("v{number}"), &format!("f{number}"));
        }
        assert_eq!(etags.of(&"v0".to_owned()), None);
        assert_eq!(etags.of(&"v1".to_owned()).as_deref(), Some("f1"));
        assert_eq!(etags.of(&format!("v{KEPT}")), Some(format!("f{KEPT}")));
        let kept = etags.0.into_inner().unwrap();
        assert_eq!((kept.by_version.len(), kept.order.len()), (KEPT, KEPT));
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        let (etags, long) = (Etags::default(), "x".repeat(LONGEST + 1));
        etags.note(&"v".to_owned(), &long);
        etags.note(&long, "e");
        assert_eq!((etags.of(&"v".to_owned()), etags.of(&long)), (None, None));
    }
}
