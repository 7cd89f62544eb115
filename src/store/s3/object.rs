//! Single objects: writing, reading, looking, deleting and hiding.

use std::collections::HashMap;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use super::deletes::Unwanted;
use super::fault::{Doing, Fault, chain};
use super::sse::{content_md5, encrypted, with_key};
use super::versions::{Asked, NULL, Versioning, Which, bare, id, size, time};
use super::{MAX_PART, S3Store, WAIT, wait_for};
use crate::store::{
    Body, CustomerKey, Download, GetOptions, Info, ListOptions, Listed, Object, OnlyIf, PutOptions,
    VersionId, Written,
};
use crate::{Error, ErrorKind, Result};

/// The condition of a write, in its headers.
#[derive(Clone, Debug, Default)]
pub(super) struct Condition {
    pub(super) if_match: Option<String>,
    pub(super) if_none_match: Option<String>,
}

impl Condition {
    pub(super) fn is_some(&self) -> bool {
        self.if_match.is_some() || self.if_none_match.is_some()
    }

    pub(super) fn doing(&self) -> Doing {
        if self.is_some() { Doing::Once } else { Doing::Writing }
    }
}

/// What a look at an object tells.
pub(super) struct Head {
    pub(super) object: Object,
    pub(super) etag: String,
}

impl S3Store {
    pub(super) async fn put_object(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        self.may_send(options.encryption.as_ref()).await?;
        if body.len() as u64 > MAX_PART {
            return Err(Error::input("is larger than what S3 takes in one piece"));
        }
        let condition = self.condition(key, &options.only_if).await?;
        let (doing, conditional) = (condition.doing(), condition.is_some());
        let limit = wait_for(body.len());
        let request = self
            .client()
            .await?
            .put_object()
            .bucket(self.bucket_name())
            .key(key)
            .set_metadata(metadata(&options.info)?)
            .set_if_match(condition.if_match)
            .set_if_none_match(condition.if_none_match)
            .content_md5(content_md5(&body))
            .body(ByteStream::from(body));
        let request = encrypted!(request, options.encryption.as_ref());
        match self.answer(limit, request.send()).await {
            Ok(written) => Ok(Written { version: id(written.version_id(), written.e_tag()) }),
            Err(fault) if conditional && fault.is_not_found() => {
                Err(fault.says(ErrorKind::Conflict, "what was to be replaced is gone"))
            }
            Err(fault) => Err(self.write_failed(fault, doing, options.encryption.as_ref()).await),
        }
    }

    /// The headers of a condition; none where the bucket does not hold to them.
    pub(super) async fn condition(&self, key: &str, only_if: &OnlyIf) -> Result<Condition> {
        if *only_if == OnlyIf::Always {
            return Ok(Condition::default());
        }
        let honoured = self.honoured().await?;
        match only_if {
            OnlyIf::Absent if honoured.create_new => {
                Ok(Condition { if_match: None, if_none_match: Some("*".into()) })
            }
            OnlyIf::Version(version) => {
                let Some(form) = honoured.replace_if else { return Ok(Condition::default()) };
                let etag = match Which::parse(version) {
                    Which::Null(etag) => etag.to_owned(),
                    Which::Named(_) => match self.shared.etags.of(version) {
                        Some(etag) => etag,
                        None => self.etag_of_current(key, version).await?,
                    },
                };
                Ok(Condition { if_match: Some(form.of(&etag)), if_none_match: None })
            }
            OnlyIf::Always | OnlyIf::Absent => Ok(Condition::default()),
        }
    }

    /// The ETag of a version that is the current one: conditions know no other name.
    async fn etag_of_current(&self, key: &str, version: &VersionId) -> Result<String> {
        let changed = || Error::conflict("changed in the meantime");
        match self.head(key, &Asked::default(), None).await {
            Ok(head) if head.object.version == *version => Ok(head.etag),
            Ok(_) => Err(changed()),
            Err(fault) if fault.is_not_found() => Err(changed()),
            Err(fault) if fault.status == 400 => match self.listed(key, None).await? {
                Some(head) if head.object.version == *version => Ok(head.etag),
                _ => Err(changed()),
            },
            Err(fault) => Err(fault.error(Doing::Reading)),
        }
    }

    pub(super) async fn get_object(&self, key: &str, options: &GetOptions) -> Result<Download> {
        if options.customer_key.is_some() {
            self.may_send_keys().await?;
        }
        let asked = self.asked(options.version.as_ref()).await?;
        let range = match &options.range {
            Some(range) if range.start >= range.end => return self.no_bytes(key, &asked, options).await,
            Some(range) => Some(range_header(range.start, range.end)),
            None => None,
        };
        let request = self
            .client()
            .await?
            .get_object()
            .bucket(self.bucket_name())
            .key(key)
            .set_version_id(asked.version_id.clone())
            .set_if_match(asked.if_match.clone())
            .set_range(range.clone());
        let request = with_key!(request, options.customer_key.as_ref());
        let answer = match self.answer(WAIT, request.send()).await {
            Ok(answer) => answer,
            Err(fault) if fault.status == 416 => return self.no_bytes(key, &asked, options).await,
            Err(fault) => {
                return Err(self.read_failed(fault, key, &asked, options.customer_key.as_ref()).await);
            }
        };
        let len = size(answer.content_length());
        let whole = match (&range, answer.content_range().and_then(whole_size)) {
            (None, _) => len,
            (Some(_), Some(whole)) => whole,
            (Some(_), None) => {
                return Err(Error::new(
                    ErrorKind::Refused,
                    "the service sends all where a range was asked for",
                ));
            }
        };
        let version = id(answer.version_id(), answer.e_tag());
        if let (Which::Named(_), Some(etag)) = (Which::parse(&version), answer.e_tag()) {
            self.shared.etags.note(&version, bare(etag));
        }
        let object = Object {
            key: key.to_owned(),
            version,
            // Of a version that is asked for by its id nobody says whether a newer one came.
            latest: options.version.is_none(),
            marker: false,
            size: whole,
            modified: time(answer.last_modified()),
            info: Some(info(answer.metadata())),
        };
        Ok(Download { object, body: Body::Stream(chunks(answer.body, len)) })
    }

    /// A range without bytes, of an object that is there.
    async fn no_bytes(&self, key: &str, asked: &Asked, options: &GetOptions) -> Result<Download> {
        match self.head(key, asked, options.customer_key.as_ref()).await {
            Ok(Head { mut object, .. }) => {
                object.latest = options.version.is_none();
                Ok(Download { object, body: Body::Stream(stream::empty().boxed()) })
            }
            Err(fault) => Err(self.read_failed(fault, key, asked, options.customer_key.as_ref()).await),
        }
    }

    pub(super) async fn stat_object(&self, key: &str, version: Option<&VersionId>) -> Result<Object> {
        let asked = self.asked(version).await?;
        let mut head = match self.head(key, &asked, None).await {
            Ok(head) => head,
            // What a customer's key encrypts (SSE-C) is looked at with the key only; a listing tells without.
            Err(fault) if fault.status == 400 => match self.listed(key, version).await? {
                Some(head) => return Ok(head.object),
                None => return Err(Error::not_found("there is nothing under that name")),
            },
            Err(fault) if fault.is_precondition() => {
                return Err(fault.says(ErrorKind::NotFound, "there is no such version"));
            }
            Err(fault) => return Err(fault.error(Doing::Reading)),
        };
        if version.is_some() && self.versioning().await? != Versioning::Off {
            head.object.latest = match self.head(key, &Asked::default(), None).await {
                Ok(current) => current.object.version == head.object.version,
                Err(fault) if fault.is_not_found() => false,
                Err(fault) if fault.status == 400 => false, // Another one: this one was looked at.
                Err(fault) => return Err(fault.error(Doing::Reading)),
            };
        }
        Ok(head.object)
    }

    pub(super) async fn head(
        &self,
        key: &str,
        asked: &Asked,
        customer_key: Option<&CustomerKey>,
    ) -> Result<Head, Fault> {
        let client = self.client().await.map_err(|error| Fault::of(&error))?;
        let request = client
            .head_object()
            .bucket(self.bucket_name())
            .key(key)
            .set_version_id(asked.version_id.clone())
            .set_if_match(asked.if_match.clone());
        let request = with_key!(request, customer_key);
        let answer = self.answer(WAIT, request.send()).await?;
        let object = Object {
            key: key.to_owned(),
            version: id(answer.version_id(), answer.e_tag()),
            latest: true,
            marker: false,
            size: size(answer.content_length()),
            modified: time(answer.last_modified()),
            info: Some(info(answer.metadata())),
        };
        Ok(Head { object, etag: answer.e_tag().map(bare).unwrap_or_default().to_owned() })
    }

    /// What a listing tells of a version, or of the current one; it needs no key.
    pub(super) async fn listed(&self, key: &str, version: Option<&VersionId>) -> Result<Option<Head>> {
        Ok(self.listed_line(key, version).await?.filter(|head| !head.object.marker))
    }

    /// The same, and it may be a delete marker.
    async fn listed_line(&self, key: &str, version: Option<&VersionId>) -> Result<Option<Head>> {
        let options = ListOptions { prefix: key.to_owned(), versions: true, ..ListOptions::default() };
        let mut listed = self.lines(options);
        while let Some(line) = listed.next().await {
            let (object, etag) = match line? {
                (Listed::Object(object), etag) if object.key == key => (object, etag),
                // The key itself is the first of all that begin with it.
                _ => break,
            };
            if version.is_none_or(|version| object.version == *version) {
                return Ok(Some(Head { object, etag }));
            }
        }
        Ok(None)
    }

    /// The words in which a request asks for a version.
    pub(super) async fn asked(&self, version: Option<&VersionId>) -> Result<Asked> {
        match version {
            None => Ok(Asked::default()),
            Some(version) if matches!(Which::parse(version), Which::Named(_)) => {
                Ok(Asked::new(Some(version), Versioning::On))
            }
            Some(version) => Ok(Asked::new(Some(version), self.versioning().await?)),
        }
    }

    pub(super) async fn delete_version(&self, key: &str, version: &VersionId) -> Result<()> {
        let versioning = self.versioning().await?;
        let asked = Asked::new(Some(version), versioning);
        let mut if_match = None;
        match (Which::parse(version), versioning) {
            (Which::Named(_), Versioning::Off) => return Ok(()), // Nothing there has a name.
            // A delete marker without a name; what is written since has its place, and is deleted by the same name.
            (Which::Named(NULL), _) => match self.listed_line(key, Some(version)).await? {
                None => return Ok(()),
                Some(head) if head.object.marker => {}
                Some(_) => {
                    return Err(Error::conflict("has neither a name nor an ETag, so it may be another one"));
                }
            },
            (Which::Named(_), _) => {}
            (Which::Null(etag), Versioning::Off) => {
                // Whoever deletes under conditions has asked for them.
                let form = self.shared.honoured.get().and_then(|all| all.delete_if);
                if_match = form.map(|form| form.of(etag));
            }
            // Deletes know no ETag of a version, and another one may have taken the place.
            (Which::Null(_), _) if !self.is_there(key, version).await? => return Ok(()),
            (Which::Null(_), _) => {}
        }
        let deleted = match if_match {
            Some(if_match) => self.delete_if(key, if_match).await,
            None => {
                self.delete_one(&Unwanted { key: key.to_owned(), version_id: asked.version_id.clone() }).await
            }
        };
        match deleted {
            Ok(_) => Ok(()),
            Err(fault) if fault.is_not_found() || fault.is_precondition() => Ok(()),
            Err(fault) if fault.is_denied() => Err(self.delete_denied(&fault, key, asked.version_id).await),
            Err(fault) => Err(fault.error(Doing::Writing)),
        }
    }

    async fn delete_if(&self, key: &str, if_match: String) -> Result<(), Fault> {
        let client = self.client().await.map_err(|error| Fault::of(&error))?;
        let request = client.delete_object().bucket(self.bucket_name()).key(key).if_match(if_match);
        self.answer(WAIT, request.send()).await.map(drop)
    }

    /// Whether what was written without a name is still this.
    async fn is_there(&self, key: &str, version: &VersionId) -> Result<bool> {
        let asked = self.asked(Some(version)).await?;
        match self.head(key, &asked, None).await {
            Ok(_) => Ok(true),
            Err(fault) if fault.is_not_found() || fault.is_precondition() => Ok(false),
            Err(fault) if fault.status == 400 => Ok(self.listed(key, Some(version)).await?.is_some()),
            Err(fault) => Err(fault.error(Doing::Reading)),
        }
    }

    pub(super) async fn put_marker(&self, key: &str) -> Result<VersionId> {
        match self.versioning().await? {
            Versioning::On => {}
            Versioning::Off => {
                return Err(Error::new(
                    ErrorKind::Refused,
                    "the bucket keeps no versions, so nothing can be hidden",
                ));
            }
            // The marker would take the place of what was written since.
            Versioning::Suspended => {
                return Err(Error::new(
                    ErrorKind::Refused,
                    "the bucket keeps versions no more (suspended), so nothing can be hidden",
                )
                .hint("delete the versions themselves, or switch versions on again"));
            }
        }
        let request = self.client().await?.delete_object().bucket(self.bucket_name()).key(key);
        match self.answer(WAIT, request.send()).await {
            Ok(hidden) => Ok(id(hidden.version_id(), None)),
            Err(fault) => Err(fault.error(Doing::Once)),
        }
    }
}

/// Info as headers: their values are plain text.
pub(super) fn metadata(info: &Info) -> Result<Option<HashMap<String, String>>> {
    if let Some((name, _)) =
        info.iter().find(|(_, value)| !value.bytes().all(|byte| (b' '..0x7f).contains(&byte)))
    {
        return Err(Error::input(format!("the info {name:?} is more than plain ASCII text")));
    }
    Ok((!info.is_empty()).then(|| info.clone().into_iter().collect()))
}

pub(super) fn info(metadata: Option<&HashMap<String, String>>) -> Info {
    metadata.into_iter().flatten().map(|(name, value)| (name.to_lowercase(), value.clone())).collect()
}

/// `end` is behind the last byte; what lies beyond any object is left open, as services know signed numbers.
fn range_header(start: u64, end: u64) -> String {
    match i64::try_from(end) {
        Ok(_) => format!("bytes={start}-{}", end - 1),
        Err(_) => format!("bytes={start}-"),
    }
}

/// The number behind the `/` in `bytes 0-9/100`.
fn whole_size(range: &str) -> Option<u64> {
    range.rsplit_once('/')?.1.parse().ok()
}

/// The bytes of an answer, exactly so many.
fn chunks(body: ByteStream, len: u64) -> BoxStream<'static, Result<Bytes>> {
    stream::unfold(Some((body, len)), |state| async {
        let (mut body, left) = state?;
        let broken = |message: String| Error::new(ErrorKind::Transient, message);
        match body.next().await {
            Some(Ok(chunk)) => match left.checked_sub(chunk.len() as u64) {
                Some(left) => Some((Ok(chunk), Some((body, left)))),
                None => Some((Err(Error::integrity("more bytes came than were announced")), None)),
            },
            Some(Err(error)) => {
                Some((Err(broken("the connection broke".into()).because(chain(&error))), None))
            }
            None if left > 0 => Some((Err(broken(format!("the bytes ended {left} early"))), None)),
            None => None,
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_headers() {
        assert_eq!(range_header(0, 1), "bytes=0-0");
        assert_eq!(range_header(5, 10), "bytes=5-9");
        assert_eq!(range_header(5, u64::MAX), "bytes=5-");
        assert_eq!(whole_size("bytes 0-9/100"), Some(100));
        assert_eq!(whole_size("bytes 0-9/*"), None);
    }

    #[test]
    fn info_is_plain_text() {
        let of = |value: &str| Info::from([("name".to_owned(), value.to_owned())]);
        assert_eq!(info(metadata(&of("a+b c/%=&")).unwrap().as_ref()), of("a+b c/%=&"));
        assert_eq!(metadata(&Info::new()).unwrap(), None);
        assert_eq!(metadata(&of("é")).unwrap_err().kind(), ErrorKind::Input);
        assert_eq!(metadata(&of("a\nb")).unwrap_err().kind(), ErrorKind::Input);
    }
}
