//! Downloads, as they come. Where the service knows the SHA-1 of a file it is compared when all of it has come.

use std::ops::Range;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use sha1::{Digest as _, Sha1};
use tokio::time::timeout;

use super::failure::{Failure, Refusal};
use super::http::{Causes, text as header};
use super::look::nothing;
use super::put::hex;
use super::session::{Path, Session};
use super::wire::{DOWNLOAD, PATIENCE, time};
use super::{sse, text};
use crate::store::{Body, Download, GetOptions, Object};
use crate::{Error, ErrorKind, Result};

const HIDE_MARKER: &str = "application/x-bz-hide-marker";

/// [`crate::store::Store::get`]. Of one version it is not asked whether it is the newest.
pub(super) async fn get(session: &Session, key: &str, options: &GetOptions) -> Result<Download> {
    let mut version = options.version.clone();
    if version.is_none() && !text::fits_in_path(key) {
        version = Some(session.current(key).await?.id().to_owned());
    }
    let path = version.as_deref().map_or(Path::Name(key), Path::Id);
    let latest = options.version.is_none();
    let headers = match &options.customer_key {
        Some(key) => sse::key_headers(key)?,
        None => HeaderMap::new(),
    };
    let range = options.range.clone().filter(|range| *range != (0..u64::MAX));
    if range.as_ref().is_some_and(Range::is_empty) {
        return Ok(without_bytes(head(session, key, &path, &headers, latest).await?));
    }
    let mut ranged = headers.clone();
    if let Some(range) = &range {
        ranged.insert(RANGE, range_header(range)?);
    }
    let response = session.download(&DOWNLOAD, &Method::GET, &path, &ranged).await;
    let response = response.map_err(|failure| refused(failure, options.customer_key.is_some()))?;
    if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
        drop(response);
        return Ok(without_bytes(head(session, key, &path, &headers, latest).await?));
    }
    let (object, sent) = described(key, &response, latest)?;
    let wanted = range.map_or(0..object.size, |range| range.start..range.end.min(object.size));
    if sent != wanted {
        let message = format!("bytes {sent:?} came where {wanted:?} were asked for");
        return Err(Error::integrity(message));
    }
    let whole = wanted == (0..object.size);
    let sha1 = header(response.headers(), "x-bz-content-sha1").filter(|sha1| whole && sha1.len() == 40);
    let body = Incoming {
        sha1: sha1.map(|sha1| (Sha1::new(), sha1.to_ascii_lowercase())),
        left: wanted.end - wanted.start,
        response: Some(response),
    };
    Ok(Download { object, body: Body::Stream(body.chunks()) })
}

/// What a download would be of.
async fn head(
    session: &Session,
    key: &str,
    path: &Path<'_>,
    headers: &HeaderMap,
    latest: bool,
) -> Result<Object> {
    let has_key = !headers.is_empty();
    let response = session.download(&DOWNLOAD, &Method::HEAD, path, headers).await;
    let response = response.map_err(|failure| refused(failure, has_key))?;
    Ok(described(key, &response, latest)?.0)
}

fn without_bytes(object: Object) -> Download {
    Download { object, body: Body::Stream(stream::empty().boxed()) }
}

fn range_header(range: &Range<u64>) -> Result<HeaderValue> {
    let text = match range.end {
        u64::MAX => format!("bytes={}-", range.start),
        end => format!("bytes={}-{}", range.start, end - 1),
    };
    HeaderValue::from_str(&text).map_err(|_| Error::input("the range is no header"))
}

/// Which file this is, and which of its bytes come.
fn described(key: &str, response: &Response, latest: bool) -> Result<(Object, Range<u64>)> {
    let headers = response.headers();
    let name = header(headers, "x-bz-file-name").and_then(text::decode);
    let marker = header(headers, "content-type") == Some(HIDE_MARKER);
    if name.as_deref() != Some(key) || marker {
        return Err(nothing());
    }
    let number = |name: &str| header(headers, name).and_then(|text| text.parse::<u64>().ok());
    let version = header(headers, "x-bz-file-id");
    let len = number(CONTENT_LENGTH.as_str());
    let ((Some(version), Some(len)), Some(modified)) = ((version, len), number("x-bz-upload-timestamp"))
    else {
        return Err(Error::new(ErrorKind::Refused, "the answer lacks the headers of a file of B2")
            .hint("is the endpoint right, and is there a proxy in between?"));
    };
    let (sent, size) = match header(headers, CONTENT_RANGE.as_str()) {
        Some(range) if response.status() == StatusCode::PARTIAL_CONTENT => content_range(range)
            .ok_or_else(|| Error::integrity(format!("the service sent the range {range:?}")))?,
        _ => (0..len, len),
    };
    let object = Object {
        key: key.to_owned(),
        version: version.to_owned(),
        latest,
        marker: false,
        size,
        modified: time(modified),
        info: Some(text::info_of(headers)),
    };
    Ok((object, sent))
}

/// `bytes 0-99/1000`: which bytes, and of how many.
fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, size.parse().ok()?);
    (first <= last && last < size).then_some((first..last + 1, size))
}

/// How a download is refused, with what is wrong about the customer's key. The answer to `HEAD` brings no code.
fn refused(failure: Failure, has_key: bool) -> Error {
    let about_key = |refusal: &Refusal| match (refusal.status, &*refusal.code) {
        (400, "bad_request" | "") => refusal.code.is_empty() || refusal.is_about_encryption(),
        (403, "access_denied" | "") => has_key,
        _ => false,
    };
    if !failure.refusal().is_some_and(about_key) {
        return failure.into();
    }
    let wrong = failure.refusal().is_some_and(|refusal| refusal.status == 403);
    let (message, hint) = match (has_key, wrong) {
        (_, true) => (
            "the key for SSE-C is not the one that it was written with",
            "give the right key; its name may stand in the file info as sse_c_key_id",
        ),
        (true, false) => (
            "the service does not take the key for SSE-C",
            "perhaps it was not written with a key of the customer's: try without",
        ),
        (false, false) => (
            "it was written with a key of the customer's (SSE-C), and none is given",
            "give the key; its name may stand in the file info as sse_c_key_id",
        ),
    };
    Error::auth(message).hint(hint).because(Error::from(failure))
}

/// A body on its way in.
struct Incoming {
    response: Option<Response>,
    left: u64,
    /// The SHA-1 of what has come, and what it has to be.
    sha1: Option<(Sha1, String)>,
}

impl Incoming {
    fn chunks(self) -> BoxStream<'static, Result<Bytes>> {
        let chunks = stream::unfold(self, |mut incoming| async {
            match incoming.chunk().await {
                Ok(chunk) => chunk.map(|chunk| (Ok(chunk), incoming)),
                Err(error) => {
                    incoming.response = None;
                    Some((Err(error), incoming))
                }
            }
        });
        chunks.boxed()
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let Some(response) = &mut self.response else { return Ok(None) };
        let chunk = match timeout(PATIENCE, response.chunk()).await {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(error)) => return Err(broken("the download broke off").because(Causes::of(error))),
            Err(_) => return Err(broken("the download did not go on")),
        };
        let Some(chunk) = chunk else {
            self.response = None;
            return self.end().map(|()| None);
        };
        self.left = self
            .left
            .checked_sub(chunk.len() as u64)
            .ok_or_else(|| Error::integrity("more bytes came than were asked for"))?;
        if let Some((sha1, _)) = &mut self.sha1 {
            sha1.update(&chunk);
        }
        Ok(Some(chunk))
    }

    fn end(&mut self) -> Result<()> {
        if self.left > 0 {
            return Err(broken("the download ended early"));
        }
        match self.sha1.take().map(|(sha1, expected)| hex(&sha1.finalize()) == expected) {
            None | Some(true) => Ok(()),
            Some(false) => Err(Error::integrity("the SHA-1 of what came is not that of the file")
                .hint("it was damaged on its way: read it again")),
        }
    }
}

fn broken(message: &str) -> Error {
    Error::new(ErrorKind::Transient, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_what_headers_say() {
        assert_eq!(range_header(&(0..1)).unwrap(), "bytes=0-0");
        assert_eq!(range_header(&(5..u64::MAX)).unwrap(), "bytes=5-");
        assert_eq!(content_range("bytes 0-99/1000"), Some((0..100, 1000)));
        for bad in ["bytes 0-99/*", "bytes 5-4/10", "bytes 0-10/10", "0-9/10", "bytes */10", ""] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
