//! Small reads that the drivers share.

use std::io::Read as _;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;

use crate::format::header::MAGIC;
use crate::recipe::{DETECT_LEN, detect_container};
use crate::store::{Body, GetOptions, ListOptions, Listed, Object, Store, VersionId};
use crate::{Error, Result};

/// The first `len` bytes of a version, or of the current one.
pub(super) async fn start(
    store: &dyn Store,
    key: &str,
    version: Option<&VersionId>,
    len: usize,
) -> Result<(Object, Bytes)> {
    let options = GetOptions { version: version.cloned(), range: Some(0..len as u64) };
    let download = store.get(key, &options).await?;
    let bytes = match download.body {
        Body::File(file, left) => {
            let mut bytes = Vec::with_capacity(len.min(usize::try_from(left).unwrap_or(len)));
            file.take(left.min(len as u64))
                .read_to_end(&mut bytes)
                .map_err(|source| Error::io("cannot read", source).about(store.show(key)))?;
            bytes.into()
        }
        Body::Stream(mut stream) => {
            let mut bytes = BytesMut::new();
            while let Some(more) = stream.try_next().await? {
                bytes.extend_from_slice(&more[..more.len().min(len - bytes.len())]);
                if bytes.len() == len {
                    break;
                }
            }
            bytes.freeze()
        }
    };
    Ok((download.object, bytes))
}

/// As much of a container as tells whether it is one.
pub(super) const TELLING: usize = DETECT_LEN;

/// Whether an object that begins so is a container, of ours or of the OpenSSL recipe.
pub(super) fn is_container(start: &[u8]) -> bool {
    start.starts_with(MAGIC) || detect_container(start).is_some()
}

/// The versions of exactly this key, newest first, delete markers too.
pub(super) async fn versions(store: &dyn Store, key: &str) -> Result<Vec<Object>> {
    let mut found = Vec::new();
    let options = ListOptions { prefix: key.into(), versions: true, ..ListOptions::default() };
    let mut listed = store.list(options);
    while let Some(line) = listed.try_next().await? {
        match line {
            Listed::Object(object) if object.key == key => found.push(object),
            // The key itself is the first of all that begin with it.
            _ => break,
        }
    }
    Ok(found)
}
