//! Notices that what is read stands in a vault that this machine does not take part in, whose names it cannot read: a
//! store that looks for the vault's settings once, when a listing or a missing object gives reason to.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::OnceCell;

use super::{Location, RESERVED, vault};
use crate::store::layer::Layer;
use crate::store::{Download, GetOptions, ListOptions, Listed, Store};
use crate::vault::names::is_encrypted;
use crate::vault::settings::Settings;
use crate::{Error, ErrorKind, Result};

/// What is said of a vault that this machine does not take part in.
pub fn outside() -> Error {
    Error::usage("is a vault that this machine does not take part in").hint(
        "sidekey vault join LOCATION -i KEY takes part in it; sidekey restore needs only the private key or its passphrase",
    )
}

/// The root of a vault at or above a path of a store, by its prefix, as far as that can be told: one small read for each
/// folder on the way.
pub async fn vault_above(store: &Arc<dyn Store>, path: &str) -> Option<String> {
    let path = path.trim_end_matches('/');
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).filter(|end| *end > 0);
    for end in ends.chain([0]) {
        let prefix = path.get(..end).unwrap_or_default();
        let Ok(root) = Location::new(Arc::clone(store), prefix) else { continue };
        if let Ok(Some(file)) = vault::settings(&root).await
            && Settings::parse(&file).is_ok()
        {
            return Some(prefix.to_owned());
        }
    }
    None
}

/// A store, read at one path outside of all vaults that are known.
#[derive(Debug)]
pub struct Outside {
    inner: Arc<dyn Store>,
    path: String,
    root: OnceCell<Option<String>>,
}

impl Outside {
    /// The same store, of which `path` is read.
    pub fn over(inner: Arc<dyn Store>, path: &str) -> Arc<dyn Store> {
        Arc::new(Self { inner, path: path.to_owned(), root: OnceCell::new() })
    }

    /// There is reason to look.
    async fn look(&self) -> Result<()> {
        match self.root.get_or_init(|| vault_above(&self.inner, &self.path)).await {
            Some(root) => Err(outside().about(self.inner.show(root))),
            None => Ok(()),
        }
    }
}

/// Whether a key says that a vault may be here: it is sidekey's own, or encrypted.
fn tells(key: &str) -> bool {
    key.split('/').any(|segment| segment == RESERVED || is_encrypted(segment))
}

#[async_trait]
impl Layer for Outside {
    fn below(&self) -> &dyn Store {
        self.inner.as_ref()
    }

    async fn get(&self, key: &str, options: &GetOptions) -> Result<Download> {
        let got = self.inner.get(key, options).await;
        if got.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            self.look().await?;
        }
        got
    }

    fn list(&self, options: ListOptions) -> BoxStream<'_, Result<Listed>> {
        let is_folder = options.prefix.is_empty() || options.prefix.ends_with('/');
        let listed = self.inner.list(options);
        stream::unfold((Some(listed), true), move |(listed, is_first)| async move {
            let mut listed = listed?;
            let next = listed.next().await;
            let reason = match &next {
                Some(Ok(Listed::Object(object))) => tells(&object.key),
                Some(Ok(Listed::Folder(key))) => tells(key),
                Some(Err(_)) => false,
                // Nothing fits.
                None => is_first && is_folder,
            };
            if reason && let Err(error) = self.look().await {
                return Some((Err(error), (None, false)));
            }
            next.map(|next| (next, (Some(listed), false)))
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::secret::MasterKey;
    use crate::store::faulty::{Faulty, Operation};
    use crate::store::memory::{Features, MemoryStore};
    use crate::store::{Info, OnlyIf};
    use crate::vault::{NamesMode, Vault, VaultId};

    const ENCRYPTED: &str = "sOJId58IOTAXhh1cVWuOjpSs";

    fn store(keys: &[&str]) -> MemoryStore {
        let store = MemoryStore::new(Features { versions: false, conditions: true });
        let vault = Vault::new(&MasterKey::from_bytes(&[1; 32]), VaultId([2; 16]), 1, NamesMode::Encrypted);
        for key in keys {
            let body = if key.ends_with("vault.json") { vault.settings_file() } else { b"x".to_vec() };
            store.state().put(key, body.into(), &OnlyIf::Always, &Info::new()).unwrap();
        }
        store
    }

    /// The listing of a folder, read at `path`: names, and how it failed.
    fn listed(store: &MemoryStore, path: &str, prefix: &str, delimiter: bool) -> Vec<String> {
        let outside = Outside::over(Arc::new(store.clone()), path);
        let options = ListOptions { prefix: prefix.to_owned(), delimiter, ..ListOptions::default() };
        let all = outside.list(options).map(|listed| match listed {
            Ok(Listed::Object(object)) => object.key,
            Ok(Listed::Folder(key)) => key,
            Err(error) => format!("{:?}: {}", error.kind(), error.line()),
        });
        all.collect::<Vec<_>>().now_or_never().unwrap()
    }

    #[test]
    fn a_vault_at_or_above_what_is_listed_is_named() {
        let folder = format!("b/{ENCRYPTED}");
        let container = format!("{folder}/{ENCRYPTED}.enc");
        let store = store(&["b/.sidekey/vault.json", &container, "c/x.enc"]);
        let refused =
            |root: &str| format!("Usage: {}: is a vault that this machine does not", store.show(root));
        for (path, prefix, delimiter) in
            [("b", "b/", false), ("b", "b/", true), ("b/plain", "b/plain/", true), (&*folder, "b/", false)]
        {
            let found = listed(&store, path, prefix, delimiter);
            assert_eq!(found.len(), 1, "{path}: {found:?}");
            assert!(found[0].starts_with(&refused("b")), "{found:?}");
        }
        // What is only below, and what is elsewhere, is listed as it is.
        assert_eq!(listed(&store, "", "", false).len(), 3);
        assert_eq!(listed(&store, "c", "c/", false), ["c/x.enc"]);
        assert_eq!(listed(&store, "c/none", "c/none/", false), [""; 0]);
        let get = |path: &str, key: &str| {
            let outside = Outside::over(Arc::new(store.clone()), path);
            outside.get(key, &GetOptions::default()).now_or_never().unwrap().unwrap_err().kind()
        };
        assert_eq!(get("b/x", "b/x.enc"), ErrorKind::Usage);
        assert_eq!(get("c/y", "c/y.enc"), ErrorKind::NotFound);
    }

    #[test]
    fn plain_names_cost_nothing_and_doubtful_ones_one_look() {
        let keys: Vec<String> = (0..9).map(|at| format!("d/{ENCRYPTED}{at}.enc")).collect();
        let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        keys.extend(["p/sample.enc", "p/history-of-everything-that-was.enc", "p/h.0123456789abcdef.key.enc"]);
        let store = store(&keys);
        for (folder, gets) in [("p", 0), ("d", 2)] {
            let counted = Faulty::new(Arc::new(store.clone()));
            let outside = Outside::over(Arc::new(counted.clone()), folder);
            let options = ListOptions { prefix: format!("{folder}/"), ..ListOptions::default() };
            let found: Vec<_> = outside.list(options).collect().now_or_never().unwrap();
            assert!(found.iter().all(Result::is_ok));
            let log = counted.log();
            assert_eq!(log.iter().filter(|call| call.operation == Operation::Get).count(), gets, "{folder}");
        }
    }
}
