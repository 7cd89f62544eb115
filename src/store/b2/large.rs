//! Large files: uploads in parts. The id of a large file is the version that it becomes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::json;

use super::failure::Failure;
use super::put::{ANY_BYTES, CONTENT_SHA1, Puts, info, sha1, sha1_header};
use super::session::Session;
use super::urls::UploadUrls;
use super::wire::{
    CANCEL_LARGE_FILE, FINISH_LARGE_FILE, File, Files, GET_UPLOAD_PART_URL, LIST_PARTS, LIST_UNFINISHED,
    Nothing, PartAnswer, Parts, START_LARGE_FILE, UPLOAD_PART,
};
use super::{sse, text};
use crate::store::{Part, PutOptions, Resumed, Unfinished, Upload, Written};
use crate::{Error, ErrorKind, Result};

pub(super) const MAX_PARTS: u32 = 10_000;
const PART_NUMBER: HeaderName = HeaderName::from_static("x-bz-part-number");

/// A large file on its way.
pub(super) struct LargeUpload {
    session: Arc<Session>,
    puts: Arc<Puts>,
    key: String,
    id: String,
    options: PutOptions,
    urls: UploadUrls,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    /// The SHA-1 of the parts that the service has.
    sha1s: BTreeMap<u32, String>,
    /// The first part, as long as it is the only one: the service may want two at least.
    only: Option<Bytes>,
    /// What `complete` answered.
    completed: Option<Written>,
}

impl LargeUpload {
    /// Begins a large file.
    pub(super) async fn start(
        session: &Arc<Session>,
        puts: &Arc<Puts>,
        key: &str,
        options: &PutOptions,
    ) -> Result<Self> {
        let id = start(session, key, options).await?;
        Ok(Self::new(session, puts, key, id, options))
    }

    fn new(session: &Arc<Session>, puts: &Arc<Puts>, key: &str, id: String, options: &PutOptions) -> Self {
        Self {
            session: Arc::clone(session),
            puts: Arc::clone(puts),
            key: key.to_owned(),
            id,
            options: options.clone(),
            urls: UploadUrls::new(&GET_UPLOAD_PART_URL, session.http.connections()),
            progress: Mutex::new(Progress::default()),
        }
    }

    /// Goes on with one that was begun before, if it is neither finished nor cancelled.
    pub(super) async fn resume(
        session: &Arc<Session>,
        puts: &Arc<Puts>,
        unfinished: &Unfinished,
        options: &PutOptions,
    ) -> Result<Resumed> {
        if !is_unfinished(session, unfinished).await? {
            return Err(Error::not_found("the upload was completed or aborted"));
        }
        let parts = parts(session, &unfinished.id).await?;
        let upload = Self::new(session, puts, &unfinished.key, unfinished.id.clone(), options);
        upload.progress().sha1s =
            parts.iter().filter_map(|part| Some((part.part_number, part.content_sha1.clone()?))).collect();
        let parts = parts.into_iter().map(|part| Part {
            number: part.part_number,
            size: part.content_length,
            sha1: part.content_sha1,
        });
        Ok(Resumed { parts: parts.collect(), upload: Box::new(upload) })
    }

    /// One part is a file like any other where the service wants more for a large one.
    async fn put_whole(&self, body: Bytes) -> Result<Written> {
        let written = self.puts.put(&self.session, &self.key, body, &self.options).await?;
        // What is left of the large file is found by `clean`.
        let _ = cancel(&self.session, &self.id).await;
        Ok(written)
    }

    /// Nothing panics under this lock, so a poisoned one is as good as any.
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn about(&self, error: impl Into<Error>) -> Error {
        error.into().about(show(&self.session, &self.key))
    }

    async fn send(&self, number: u32, body: &Bytes) -> Result<String> {
        if !(1..=MAX_PARTS).contains(&number) {
            return Err(Error::input(format!("there is no part {number}: B2 has {MAX_PARTS} at most")));
        }
        let sha1 = sha1(body);
        let mut headers = match &self.options.encryption {
            Some(crate::store::Encryption::Customer(key)) => sse::key_headers(key)?,
            _ => reqwest::header::HeaderMap::new(),
        };
        headers.insert(PART_NUMBER, HeaderValue::from(number));
        headers.insert(CONTENT_SHA1, sha1_header(&sha1)?);
        let of = json!({"fileId": self.id});
        let sent = self.urls.upload::<PartAnswer>(&self.session, &of, &UPLOAD_PART, &headers, body);
        let kept = sent.await?.content_sha1;
        match kept.is_none_or(|kept| kept.eq_ignore_ascii_case(&sha1)) {
            true => Ok(sha1),
            false => Err(Error::integrity("the service says that it keeps another part than was sent")),
        }
    }

    async fn finish(&self, parts: u32) -> Result<Written> {
        let (sha1s, only) = {
            let progress = self.progress();
            if let Some(written) = &progress.completed {
                return Ok(written.clone());
            }
            let sha1s: Option<Vec<String>> =
                (1..=parts).map(|number| progress.sha1s.get(&number).cloned()).collect();
            (sha1s.filter(|sha1s| sha1s.len() == progress.sha1s.len()), progress.only.clone())
        };
        let sha1s = sha1s.ok_or_else(|| Error::input("the parts are not those that were sent"))?;
        if parts == 0 {
            return self.put_whole(Bytes::new()).await;
        }
        let arguments = json!({"fileId": self.id, "partSha1Array": sha1s});
        let failure = match self.session.call::<File>(&FINISH_LARGE_FILE, &arguments).await {
            Ok(_) => return Ok(Written { version: self.id.clone() }),
            Err(failure) => failure,
        };
        let refused = failure.refusal().map(|refusal| (refusal.status, refusal.is_not_active()));
        let error = Error::from(failure);
        if error.kind() == ErrorKind::Unsure || refused.is_some_and(|(status, _)| matches!(status, 400 | 404))
        {
            // Perhaps it was done when nobody heard the answer.
            match self.session.finished(&self.key, &self.id).await {
                Ok(Some(written)) => return Ok(written),
                Ok(None) => {}
                Err(look) if error.kind() == ErrorKind::Unsure => return Err(error.because(look)),
                Err(look) => return Err(look),
            }
        }
        match (refused, only) {
            (Some((_, true)), _) => {
                Err(Error::not_found("the upload was completed or aborted").because(error))
            }
            (Some((400, _)), Some(body)) if parts == 1 => self.put_whole(body).await,
            _ => Err(error),
        }
    }
}

#[async_trait]
impl Upload for LargeUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<()> {
        {
            let mut progress = self.progress();
            progress.only =
                (number == 1 && progress.sha1s.keys().all(|sent| *sent == 1)).then(|| body.clone());
        }
        let sha1 = self.send(number, &body).await.map_err(|error| self.about(error))?;
        let mut progress = self.progress();
        progress.sha1s.insert(number, sha1);
        if progress.sha1s.len() > 1 {
            progress.only = None;
        }
        Ok(())
    }

    async fn complete(&self, parts: u32) -> Result<Written> {
        let written = self.finish(parts).await.map_err(|error| self.about(error))?;
        let mut progress = self.progress();
        progress.only = None;
        Ok(progress.completed.get_or_insert(written).clone())
    }

    async fn abort(&self) -> Result<()> {
        if self.progress().completed.is_some() {
            return Ok(());
        }
        self.progress().only = None;
        cancel(&self.session, &self.id).await.map_err(|error| self.about(error))
    }

    fn id(&self) -> Option<&str> {
        Some(&self.id)
    }
}

/// Begins a large file; its id.
pub(super) async fn start(session: &Session, key: &str, options: &PutOptions) -> Result<String> {
    text::check_key(key)?;
    let info = info(options);
    text::info_headers(key, &info, options.encryption.is_some())?;
    let mut arguments = json!({
        "bucketId": session.bucket_id().await?,
        "fileName": key,
        "contentType": ANY_BYTES,
        "fileInfo": info,
    });
    if let Some(encryption) = &options.encryption {
        arguments["serverSideEncryption"] = sse::json(encryption)?;
    }
    let started: File = session.call(&START_LARGE_FILE, &arguments).await?;
    started.file_id.ok_or_else(|| Error::new(ErrorKind::Refused, "the service gave the upload no id"))
}

/// Throws a large file away that is not finished; one that is finished, or gone, is left as it is.
pub(super) async fn cancel(session: &Session, id: &str) -> Result<()> {
    match session.call::<Nothing>(&CANCEL_LARGE_FILE, &json!({"fileId": id})).await {
        Err(Failure::Refused(refusal)) if refusal.is_not_active() => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

async fn is_unfinished(session: &Session, unfinished: &Unfinished) -> Result<bool> {
    let arguments = json!({
        "bucketId": session.bucket_id().await?,
        "namePrefix": unfinished.key,
        "startFileId": unfinished.id,
        "maxFileCount": 1,
    });
    let page: Files = session.call(&LIST_UNFINISHED, &arguments).await?;
    Ok(page.files.iter().any(|file| file.id() == unfinished.id && file.file_name == unfinished.key))
}

/// The parts that the service has of a large file.
async fn parts(session: &Session, id: &str) -> Result<Vec<PartAnswer>> {
    let mut found = Vec::new();
    let mut from = 1;
    loop {
        let arguments = json!({"fileId": id, "startPartNumber": from, "maxPartCount": 1000});
        let page: Parts = session.call(&LIST_PARTS, &arguments).await?;
        found.extend(page.parts);
        match page.next_part_number {
            Some(next) if next > from => from = next,
            _ => return Ok(found),
        }
    }
}

/// How people write a key.
pub(super) fn show(session: &Session, key: &str) -> String {
    format!("b2://{}/{key}", session.bucket)
}
