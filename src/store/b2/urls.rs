//! URLs to upload to. One is for one task at a time, and for as many uploads as go well.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::failure::Failure;
use super::session::{Session, secret_header};
use super::wire::{Api, UploadUrlAnswer};

/// How often one upload is given another URL because the token of the last was over.
const TOKENS: usize = 3;

/// The URLs for one bucket, or for the parts of one large file.
pub(super) struct UploadUrls {
    /// Which call gives more of them.
    api: &'static Api,
    /// Who waits for a connection needs no URL yet.
    slots: Semaphore,
    /// Those that nobody uses now.
    idle: Mutex<Vec<UploadUrl>>,
}

struct UploadUrl {
    url: Url,
    token: HeaderValue,
}

impl UploadUrls {
    pub(super) fn new(api: &'static Api, connections: usize) -> Self {
        Self { api, slots: Semaphore::new(connections), idle: Mutex::new(Vec::new()) }
    }

    /// Uploads `body`. The URL is kept only when the service is content with it: who is too busy, or breaks the
    /// connection, is not asked again.
    pub(super) async fn upload<T: DeserializeOwned>(
        &self,
        session: &Session,
        of: &Value,
        api: &'static Api,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<T, Failure> {
        let _slot = self.slots.acquire().await;
        let mut tokens = 0;
        loop {
            let url = self.take(session, of).await?;
            let request = session.http.client().post(url.url.clone()).headers(headers.clone());
            let request = request.header(AUTHORIZATION, &url.token);
            let failure = match session.http.upload(api, request, body.clone()).await {
                Ok(answer) => {
                    self.idle().push(url);
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            let refusal = failure.refusal();
            if refusal.is_some_and(|refusal| refusal.spares_the_url()) {
                self.idle().push(url);
            }
            if !refusal.is_some_and(|refusal| refusal.is_stale_token()) {
                return Err(session.name_what_lacks(&*session.account().await?, failure));
            }
            self.idle().clear(); // They are as old.
            tokens += 1;
            if tokens == TOKENS {
                return Err(failure);
            }
        }
    }

    async fn take(&self, session: &Session, of: &Value) -> Result<UploadUrl, Failure> {
        if let Some(url) = self.idle().pop() {
            return Ok(url);
        }
        let answer: UploadUrlAnswer = session.call(self.api, of).await?;
        Ok(UploadUrl {
            url: session.trusted(&answer.upload_url)?,
            token: secret_header(&answer.authorization_token)?,
        })
    }

    /// Nothing panics under this lock, so a poisoned one is as good as any.
    fn idle(&self) -> MutexGuard<'_, Vec<UploadUrl>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
