//! The settings of the bucket.

use async_trait::async_trait;
use serde_json::json;

use super::B2Store;
use super::session::Session;
use super::sse;
use super::wire::{BucketAnswer, Buckets, LIST_BUCKETS, Nothing, UPDATE_BUCKET};
use crate::store::{Bucket, DefaultEncryption, Encryption};
use crate::{Error, ErrorKind, Result};

#[async_trait]
impl Bucket for B2Store {
    async fn default_encryption(&self) -> Result<DefaultEncryption> {
        let answer = settings(&self.session).await.map_err(|error| self.about_bucket(error))?;
        let default =
            answer.default_server_side_encryption.filter(|default| default.is_client_authorized_to_read);
        let Some(default) = default else { return Ok(DefaultEncryption::Hidden) };
        match default.value.and_then(|value| value.mode).as_deref() {
            None | Some("none") => Ok(DefaultEncryption::Off),
            Some("SSE-B2") => Ok(DefaultEncryption::On(Encryption::Service)),
            Some(other) => {
                let message = format!("has a default encryption that this version does not know: {other:?}");
                Err(self.about_bucket(Error::new(ErrorKind::Refused, message)))
            }
        }
    }

    async fn set_default_encryption(&self, encryption: Option<&Encryption>) -> Result<()> {
        set(self, encryption).await.map_err(|error| self.about_bucket(error))
    }
}

pub(super) async fn settings(session: &Session) -> Result<BucketAnswer> {
    let id = session.bucket_id().await?;
    let account = session.account().await?;
    let asked = json!({"accountId": account.id, "bucketId": id});
    let answer: Buckets = session.call(&LIST_BUCKETS, &asked).await?;
    let found = answer.buckets.into_iter().find(|bucket| bucket.bucket_id == id);
    found.ok_or_else(|| Error::new(ErrorKind::Refused, "the account has no such bucket"))
}

async fn set(store: &B2Store, encryption: Option<&Encryption>) -> Result<()> {
    let mode = match encryption {
        None => json!({"mode": "none"}),
        Some(Encryption::Customer(_)) => {
            let error = Error::new(ErrorKind::Refused, "a bucket of B2 cannot keep a key of the customer's");
            return Err(error.hint("set SSE-B2; a key of yours goes with every upload"));
        }
        Some(encryption) => sse::json(encryption)?,
    };
    let id = store.session.bucket_id().await?;
    let account = store.session.account().await?;
    let asked = json!({"accountId": account.id, "bucketId": id, "defaultServerSideEncryption": mode});
    match store.session.call::<Nothing>(&UPDATE_BUCKET, &asked).await {
        Ok(_) => Ok(()),
        Err(failure) if encryption.is_none() && failure.refusal().is_some_and(|no| no.status == 400) => {
            let message = "the service does not let the default encryption be switched off";
            let hint = "new buckets of B2 encrypt with SSE-B2, and cannot be set to none";
            Err(Error::new(ErrorKind::Refused, message).hint(hint).because(Error::from(failure)))
        }
        Err(failure) => Err(failure.into()),
    }
}
