//! Objects that come in parts.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::fault::{Doing, Fault};
use super::object::{Condition, metadata};
use super::sse::{content_md5, customer_key, encrypted, with_key};
use super::versions::{Asked, Versioning, bare, id, size};
use super::{MAX_PARTS, S3Store, WAIT, WORK, wait_for};
use crate::store::{
    DATA_ID_INFO, ListOptions, Listed, OnlyIf, Part, PutOptions, Resumed, Store as _, Unfinished, Upload,
    VersionId, Written,
};
use crate::{Error, ErrorKind, Result};

use futures_util::StreamExt as _;

/// How many versions of a name are looked at for one that an answer was lost about.
const LOOKED_AT: usize = 20;

pub(super) struct S3Upload {
    store: S3Store,
    key: String,
    id: String,
    options: PutOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    parts: BTreeMap<u32, Sent>,
    /// Whether it was to be completed and no answer came.
    unsure: bool,
    completed: Option<Written>,
}

/// A part that the service has.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) etag: String,
    pub(super) size: u64,
}

impl S3Store {
    pub(super) async fn begin(&self, key: &str, options: &PutOptions) -> Result<S3Upload> {
        self.may_send(options.encryption.as_ref()).await?;
        let request = self
            .client()
            .await?
            .create_multipart_upload()
            .bucket(self.bucket_name())
            .key(key)
            .set_metadata(metadata(&options.info)?);
        let request = encrypted!(request, options.encryption.as_ref());
        let begun = match self.answer(WAIT, request.send()).await {
            Ok(begun) => begun,
            Err(fault) => {
                return Err(self.write_failed(fault, Doing::Writing, options.encryption.as_ref()).await);
            }
        };
        let id = begun
            .upload_id()
            .ok_or_else(|| Error::new(ErrorKind::Refused, "the service gave the upload no id"))?;
        Ok(self.upload_of(key, id, options, BTreeMap::new()))
    }

    fn upload_of(&self, key: &str, id: &str, options: &PutOptions, parts: BTreeMap<u32, Sent>) -> S3Upload {
        S3Upload {
            store: self.clone(),
            key: key.to_owned(),
            id: id.to_owned(),
            options: options.clone(),
            state: Mutex::new(State { parts, ..State::default() }),
        }
    }

    pub(super) async fn resume_upload(
        &self,
        unfinished: &Unfinished,
        options: &PutOptions,
    ) -> Result<Resumed> {
        self.may_send(options.encryption.as_ref()).await?;
        let mut sent = BTreeMap::new();
        let mut marker: Option<String> = None;
        loop {
            let request = self
                .client()
                .await?
                .list_parts()
                .bucket(self.bucket_name())
                .key(&unfinished.key)
                .upload_id(&unfinished.id)
                .set_part_number_marker(marker.clone());
            let page =
                self.answer(WAIT, request.send()).await.map_err(|fault| fault.error(Doing::Reading))?;
            for part in page.parts() {
                let number = part.part_number().and_then(|number| u32::try_from(number).ok());
                if let (Some(number), Some(etag)) = (number, part.e_tag()) {
                    sent.insert(number, Sent { etag: etag.to_owned(), size: size(part.size()) });
                }
            }
            let next = page.next_part_number_marker().map(str::to_owned);
            if page.is_truncated() != Some(true) || next.is_none() || next == marker {
                break;
            }
            marker = next;
        }
        let parts = sent.iter().map(|(number, sent)| Part { number: *number, size: sent.size, sha1: None });
        let parts = parts.collect();
        let upload = self.upload_of(&unfinished.key, &unfinished.id, options, sent);
        Ok(Resumed { upload: Box::new(upload), parts })
    }

    pub(super) async fn abort_upload(&self, key: &str, id: &str) -> Result<()> {
        let request =
            self.client().await?.abort_multipart_upload().bucket(self.bucket_name()).key(key).upload_id(id);
        match self.answer(WAIT, request.send()).await {
            Ok(_) => Ok(()),
            Err(fault) if fault.is_not_found() => Ok(()),
            Err(fault) => Err(fault.error(Doing::Writing)),
        }
    }
}

impl S3Upload {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what the service said of a part.
    pub(super) fn sent(&self, number: u32, sent: Sent) {
        self.state().parts.insert(number, sent);
    }

    pub(super) fn upload_id(&self) -> &str {
        &self.id
    }

    async fn send_part(&self, number: u32, body: Bytes) -> Result<()> {
        if !(1..=MAX_PARTS).contains(&number) {
            return Err(Error::input(format!("has a part {number}; S3 takes {MAX_PARTS}")));
        }
        let len = body.len();
        let request = self
            .store
            .client()
            .await?
            .upload_part()
            .bucket(self.store.bucket_name())
            .key(&self.key)
            .upload_id(&self.id)
            .part_number(number.cast_signed())
            .content_md5(content_md5(&body))
            .body(ByteStream::from(body));
        let encryption = self.options.encryption.as_ref();
        let request = with_key!(request, customer_key(encryption));
        match self.store.answer(wait_for(len), request.send()).await {
            Ok(part) => {
                let etag = part.e_tag().unwrap_or_default().to_owned();
                self.sent(number, Sent { etag, size: len as u64 });
                Ok(())
            }
            Err(fault) => Err(self.store.write_failed(fault, Doing::Writing, encryption).await),
        }
    }

    async fn complete_once(&self, parts: u32) -> Result<Written> {
        let (list, total) = {
            let state = self.state();
            if let Some(written) = &state.completed {
                return Ok(written.clone());
            }
            part_list(&state.parts, parts)?
        };
        let condition = match self.condition().await {
            // It may be our own object that stands there now.
            Err(error) if error.kind() == ErrorKind::Conflict && self.state().unsure => {
                return self.found(total).await?.ok_or(error);
            }
            condition => condition?,
        };
        match self.send_complete(list, condition).await {
            Ok(written) => Ok(self.remember(written)),
            Err(fault) => self.not_completed(fault, total).await,
        }
    }

    /// What the service is to hold the completion to. Where it holds writes to conditions and completions not, what has the
    /// name is looked at right before; something may still come between.
    async fn condition(&self) -> Result<Condition> {
        let only_if = &self.options.only_if;
        let condition = self.store.condition(&self.key, only_if).await?;
        if !condition.is_some() || self.store.also_honoured().await?.complete {
            return Ok(condition);
        }
        let there = match self.store.stat(&self.key, None).await {
            Ok(object) => Some(object.version),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        match (only_if, there) {
            (OnlyIf::Absent, Some(_)) => Err(Error::conflict("something has the name already")),
            (OnlyIf::Version(wanted), there) if there.as_ref() != Some(wanted) => {
                Err(Error::conflict("changed in the meantime"))
            }
            _ => Ok(Condition::default()),
        }
    }

    async fn send_complete(&self, parts: Vec<CompletedPart>, condition: Condition) -> Result<Written, Fault> {
        let client = self.store.client().await.map_err(|error| Fault::of(&error))?;
        let request = client
            .complete_multipart_upload()
            .bucket(self.store.bucket_name())
            .key(&self.key)
            .upload_id(&self.id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .set_if_match(condition.if_match)
            .set_if_none_match(condition.if_none_match);
        let completed = self.store.answer(WORK, request.send()).await?;
        let etag = completed.e_tag().filter(|etag| !bare(etag).is_empty());
        if completed.version_id().is_none() && etag.is_none() {
            // Radosgw does not say what it made.
            let key = customer_key(self.options.encryption.as_ref());
            let head = self.store.head(&self.key, &Asked::default(), key).await?;
            return Ok(Written { version: head.object.version });
        }
        Ok(Written { version: id(completed.version_id(), etag) })
    }

    async fn not_completed(&self, fault: Fault, total: u64) -> Result<Written> {
        let is_forgotten = fault.status == 500 && self.is_forgotten().await;
        let is_gone = is_forgotten
            || fault.code == "NoSuchUpload"
            || (fault.is_not_found() && fault.code != "NoSuchKey");
        let was_asked = self.state().unsure;
        // Without an answer to the first time, this may be the answer to what that did.
        if is_gone || (was_asked && matches!(fault.status, 409 | 412)) {
            if let Some(written) = self.found(total).await? {
                return Ok(self.remember(written));
            }
            if is_gone && was_asked {
                return Err(fault
                    .says(ErrorKind::Conflict, "the upload is gone, and something else has the name")
                    .hint("look what is there before it is done again"));
            }
        }
        if is_forgotten {
            return Err(fault.says(ErrorKind::NotFound, "the upload was completed or aborted"));
        }
        // What was begun before the other write is not completed over it, however often it is asked.
        if fault.code == "ConditionalRequestConflict" {
            return Err(
                fault.says(ErrorKind::Conflict, "was written by somebody else since the upload began")
            );
        }
        if fault.code == "NoSuchKey" {
            return Err(fault.says(ErrorKind::Conflict, "what was to be replaced is gone"));
        }
        let error = fault.error(Doing::Once);
        if error.kind() == ErrorKind::Unsure {
            self.state().unsure = true;
        }
        Err(error)
    }

    /// Whether the service knows nothing of it any more. Radosgw answers the completion of such an upload with 500, always.
    async fn is_forgotten(&self) -> bool {
        let Ok(client) = self.store.client().await else { return false };
        let (bucket, key) = (self.store.bucket_name(), &self.key);
        let request = client.list_parts().bucket(bucket).key(key).upload_id(&self.id).max_parts(1);
        let request = with_key!(request, customer_key(self.options.encryption.as_ref()));
        let listed = self.store.answer(WAIT, request.send()).await;
        listed.is_err_and(|fault| ["NoSuchUpload", "NoSuchKey"].contains(&&*fault.code))
    }

    fn remember(&self, written: Written) -> Written {
        self.state().completed.get_or_insert(written).clone()
    }

    /// The object that this upload became, if it did: known by its length and by the data id in its info. Without such an
    /// id nothing tells it from another.
    async fn found(&self, total: u64) -> Result<Option<Written>> {
        if !self.options.info.contains_key(DATA_ID_INFO) {
            return Ok(None);
        }
        let candidates = match self.store.versioning().await? {
            Versioning::Off => vec![None],
            _ => self.versions_of(total).await?.into_iter().map(Some).collect(),
        };
        for version in candidates {
            let asked = self.store.asked(version.as_ref()).await?;
            let key = customer_key(self.options.encryption.as_ref());
            match self.store.head(&self.key, &asked, key).await {
                Ok(head)
                    if head.object.size == total && head.object.info.as_ref() == Some(&self.options.info) =>
                {
                    return Ok(Some(Written { version: head.object.version }));
                }
                Ok(_) => {}
                Err(fault) if fault.status == 400 || fault.is_not_found() || fault.is_precondition() => {}
                Err(fault) if fault.is_denied() => {}
                Err(fault) => return Err(fault.error(Doing::Reading)),
            }
        }
        Ok(None)
    }

    async fn versions_of(&self, total: u64) -> Result<Vec<VersionId>> {
        let options = ListOptions { prefix: self.key.clone(), versions: true, ..ListOptions::default() };
        let mut listed = self.store.lines(options).take(LOOKED_AT);
        let mut found = Vec::new();
        while let Some(line) = listed.next().await {
            match line? {
                (Listed::Object(object), _) if object.key == self.key => {
                    if !object.marker && object.size == total {
                        found.push(object.version);
                    }
                }
                _ => break,
            }
        }
        Ok(found)
    }
}

/// The parts `1..=parts` as the service wants them, and their length.
fn part_list(sent: &BTreeMap<u32, Sent>, parts: u32) -> Result<(Vec<CompletedPart>, u64)> {
    let mut list = Vec::new();
    let mut total = 0;
    for number in 1..=parts {
        let part = sent.get(&number);
        let part = part.ok_or_else(|| Error::input(format!("part {number} of the upload was not sent")))?;
        total += part.size;
        list.push(CompletedPart::builder().part_number(number.cast_signed()).e_tag(&part.etag).build());
    }
    Ok((list, total))
}

#[async_trait]
impl Upload for S3Upload {
    async fn part(&self, number: u32, body: Bytes) -> Result<()> {
        self.send_part(number, body).await.map_err(|error| error.about(self.store.show(&self.key)))
    }

    async fn complete(&self, parts: u32) -> Result<Written> {
        self.complete_once(parts).await.map_err(|error| error.about(self.store.show(&self.key)))
    }

    async fn abort(&self) -> Result<()> {
        if self.state().completed.is_some() {
            return Ok(());
        }
        let aborted = self.store.abort_upload(&self.key, &self.id).await;
        aborted.map_err(|error| error.about(self.store.show(&self.key)))
    }

    fn id(&self) -> Option<&str> {
        Some(&self.id)
    }
}
