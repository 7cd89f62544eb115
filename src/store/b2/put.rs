//! Uploads of whole files, and what to do when no answer comes: look, before anything is sent again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use sha1::{Digest as _, Sha1};

use super::look::Expected;
use super::session::Session;
use super::urls::UploadUrls;
use super::wire::{File, GET_UPLOAD_URL, UPLOAD_FILE};
use super::{sse, text};
use crate::store::{Encryption, Info, PutOptions, Written};
use crate::{Error, ErrorKind, Result};

/// The largest file in one piece, and the largest part, by the service's rules.
pub(super) const MAX_PIECE: u64 = 5_000_000_000;
pub(super) const CONTENT_SHA1: HeaderName = HeaderName::from_static("x-bz-content-sha1");
/// What a backup is of is nobody's business.
pub(super) const ANY_BYTES: &str = "application/octet-stream";

/// Uploads whole files into a bucket.
pub(super) struct Puts {
    urls: UploadUrls,
    /// Uploads that got no answer and were not found: when they are asked for again they may have arrived. By key and
    /// SHA-1, with the service's time when they were begun.
    doubts: Mutex<HashMap<(String, String), Option<SystemTime>>>,
}

impl Puts {
    pub(super) fn new(session: &Session) -> Self {
        let urls = UploadUrls::new(&GET_UPLOAD_URL, session.http.connections());
        Self { urls, doubts: Mutex::new(HashMap::new()) }
    }

    /// [`crate::store::Store::put`], once.
    pub(super) async fn put(
        &self,
        session: &Session,
        key: &str,
        body: Bytes,
        options: &PutOptions,
    ) -> Result<Written> {
        text::check_key(key)?;
        let info = info(options);
        let sha1 = sha1(&body);
        let headers = headers(key, &info, &sha1, options.encryption.as_ref())?;
        if body.len() as u64 > MAX_PIECE {
            return Err(Error::input("is too long for one piece").hint("upload it in parts"));
        }
        let doubt = (key.to_owned(), sha1);
        let now = session.account().await?.now();
        let (since, doubted) = match self.doubts().get(&doubt) {
            Some(since) => (*since, true),
            None => (now, false),
        };
        let expected = Expected { key, size: body.len() as u64, sha1: Some(&doubt.1), info: &info, since };
        if doubted && let Some(written) = arrived(session, &expected).await? {
            self.doubts().remove(&doubt);
            return Ok(written);
        }
        let of = json!({"bucketId": session.bucket_id().await?});
        let sent = self.urls.upload::<File>(session, &of, &UPLOAD_FILE, &headers, &body).await;
        let written = match sent.map_err(Error::from) {
            Ok(file) => written(file, body.len(), &doubt.1),
            Err(error) if error.kind() == ErrorKind::Unsure => {
                self.doubts().insert(doubt.clone(), since);
                match session.arrived(&expected).await {
                    Ok(Some(written)) => Ok(written),
                    // Should it still arrive, the next call for it finds it.
                    Ok(None) => Err(error.of_kind(ErrorKind::Transient)),
                    Err(_) => Err(error),
                }
            }
            Err(error) => Err(error),
        };
        if written.is_ok() {
            self.doubts().remove(&doubt);
        }
        written
    }

    /// Nothing panics under this lock, so a poisoned one is as good as any.
    fn doubts(&self) -> MutexGuard<'_, HashMap<(String, String), Option<SystemTime>>> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Puts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Puts").finish_non_exhaustive()
    }
}

/// Whoever may not look sends again: the service keeps both.
async fn arrived(session: &Session, expected: &Expected<'_>) -> Result<Option<Written>> {
    match session.arrived(expected).await {
        Err(error) if error.kind() == ErrorKind::Permission => Ok(None),
        other => other,
    }
}

fn written(file: File, size: usize, sha1: &str) -> Result<Written> {
    let whole = file.content_length == Some(size as u64)
        && file.sha1().is_none_or(|theirs| theirs.eq_ignore_ascii_case(sha1));
    match file.file_id {
        Some(version) if whole => Ok(Written { version }),
        _ => Err(Error::integrity("the service says that it keeps something else than was sent")),
    }
}

fn headers(key: &str, info: &Info, sha1: &str, encryption: Option<&Encryption>) -> Result<HeaderMap> {
    let mut headers = sse::headers(encryption)?;
    headers.extend(text::info_headers(key, info, encryption.is_some())?);
    let name = HeaderValue::from_str(&text::encode(key));
    let name = name.map_err(|_| Error::input("the name is no header"))?;
    headers.insert(HeaderName::from_static("x-bz-file-name"), name);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(ANY_BYTES));
    headers.insert(CONTENT_SHA1, sha1_header(sha1)?);
    Ok(headers)
}

pub(super) fn sha1_header(sha1: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(sha1).map_err(|_| Error::input("the SHA-1 is no header"))
}

/// The SHA-1 of `bytes`, lower-case hex. It guards against chance, not against anybody.
pub(super) fn sha1(bytes: &[u8]) -> String {
    hex(&Sha1::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The info that is asked for, with the name of the customer's key.
pub(super) fn info(options: &PutOptions) -> Info {
    let mut info = options.info.clone();
    if let Some(Encryption::Customer(key)) = &options.encryption
        && let Some(id) = key.id()
    {
        info.insert(sse::KEY_ID_INFO.to_owned(), id.to_owned());
    }
    info
}
