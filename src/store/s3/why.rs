//! Why a request failed, where the answer leaves it open: another request tells.

use std::time::SystemTime;

use super::fault::{Doing, Fault};
use super::sse::customer_key;
use super::versions::Asked;
use super::{S3Store, WAIT};
use crate::store::{CustomerKey, Encryption};
use crate::{Error, ErrorKind, rfc3339};

impl S3Store {
    /// Why a version may not be deleted: an object lock says until when.
    pub(super) async fn delete_denied(&self, fault: &Fault, key: &str, version: Option<String>) -> Error {
        let denied = fault.error(Doing::Writing);
        let Ok(client) = self.client().await else { return denied };
        let (bucket, hint) = (
            self.bucket_name(),
            "delete it again after that; nobody can before, or only who may bypass governance",
        );
        let request = client.get_object_retention().bucket(bucket).key(key).set_version_id(version.clone());
        if let Ok(answer) = self.answer(WAIT, request.send()).await
            && let Some(retention) = answer.retention()
            && let Some(until) =
                retention.retain_until_date().and_then(|until| SystemTime::try_from(*until).ok())
            && fault.date().is_none_or(|now| until > now)
        {
            let mode = retention.mode().map_or("retention", |mode| mode.as_str()).to_lowercase();
            let until = rfc3339(until);
            return fault
                .says(ErrorKind::Permission, format!("is locked until {until} (object lock, {mode})"))
                .hint(hint);
        }
        let request = client.get_object_legal_hold().bucket(bucket).key(key).set_version_id(version);
        if let Ok(answer) = self.answer(WAIT, request.send()).await
            && answer
                .legal_hold()
                .and_then(|hold| hold.status())
                .is_some_and(|status| status.as_str() == "ON")
        {
            return fault
                .says(ErrorKind::Permission, "is locked by a legal hold (object lock)")
                .hint("who may end the hold (s3:PutObjectLegalHold) does that first");
        }
        denied
    }

    /// Why nothing could be read: which of the right and the customer's key was missing or wrong.
    pub(super) async fn read_failed(
        &self,
        fault: Fault,
        key: &str,
        asked: &Asked,
        customer_key: Option<&CustomerKey>,
    ) -> Error {
        if fault.is_precondition() {
            return fault.says(ErrorKind::NotFound, "there is no such version");
        }
        let about_keys = fault.status == 400
            && matches!(&*fault.code, "" | "InvalidRequest" | "InvalidArgument")
            && (fault.message.is_empty() || is_about_keys(&fault.message.to_lowercase()));
        match customer_key {
            None if about_keys => key_missing(&fault),
            Some(_) if about_keys && fault.message.contains("not applicable") => fault
                .says(ErrorKind::Auth, "is not encrypted with a customer's key (SSE-C), and one was given")
                .hint("leave the key away"),
            Some(_) if about_keys => key_wrong(&fault),
            // Who may look, and is told that a key is needed, gave a wrong one.
            Some(_) if fault.is_denied() => match self.head(key, asked, None).await {
                Err(other) if other.status == 400 => key_wrong(&fault),
                _ => fault.error(Doing::Reading),
            },
            _ => fault.error(Doing::Reading),
        }
    }

    /// Why nothing could be written. AWS denies what is encrypted in a way that the bucket blocks.
    pub(super) async fn write_failed(
        &self,
        fault: Fault,
        doing: Doing,
        encryption: Option<&Encryption>,
    ) -> Error {
        let error = fault.error(doing);
        if customer_key(encryption).is_none() {
            return error;
        }
        let hint = "since 2026 AWS blocks SSE-C on new buckets (BlockedEncryptionTypes); use another encryption, or \
                    allow it with `aws s3api put-bucket-encryption`";
        if fault.is_denied() {
            return match self.blocks_customer_keys().await {
                true => fault
                    .says(ErrorKind::Refused, "the bucket blocks encryption with a customer's key (SSE-C)")
                    .hint(hint),
                false => error.hint(format!("look at the rights of the credentials; {hint}")),
            };
        }
        match &*fault.code {
            "InvalidEncryptionAlgorithmError" | "InvalidEncryptionAlgorithm" | "NotImplemented" => fault
                .says(ErrorKind::Refused, "the service does not encrypt with a customer's key (SSE-C) here")
                .hint(hint),
            _ => error,
        }
    }
}

/// Radosgw says of a wrong key that its MD5 is another one.
fn is_about_keys(message: &str) -> bool {
    message.contains("encrypt") || message.contains("md5 hash of the key")
}

fn key_missing(fault: &Fault) -> Error {
    fault
        .says(ErrorKind::Auth, "is encrypted with a customer's key (SSE-C), and none was given")
        .hint("give the key that it was written with")
}

fn key_wrong(fault: &Fault) -> Error {
    fault
        .says(ErrorKind::Auth, "is encrypted with another customer's key (SSE-C) than the one given")
        .hint("give the key that it was written with")
}
