//! What a bucket does with objects that come without a wish.

use async_trait::async_trait;
use aws_sdk_s3::types::{
    EncryptionType, ServerSideEncryption, ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration,
    ServerSideEncryptionRule,
};

use super::fault::{Doing, Fault};
use super::sse::with_content_md5;
use super::{S3Store, WAIT};
use crate::store::{Bucket, DefaultEncryption, Encryption};
use crate::{Error, ErrorKind, Result};

const NONE: &str = "ServerSideEncryptionConfigurationNotFoundError";

#[async_trait]
impl Bucket for S3Store {
    async fn default_encryption(&self) -> Result<DefaultEncryption> {
        match self.encryption_rule().await {
            Ok(rule) => Ok(by_default(rule.as_ref())),
            Err(fault) if fault.is_denied() => Ok(DefaultEncryption::Hidden),
            // Some answer as if nothing special was asked.
            Err(fault) if fault.is_unknown_there() || fault.status == 200 => {
                let error =
                    fault.says(ErrorKind::Refused, "the service keeps no default encryption of buckets");
                Err(error.about(self.show_bucket()))
            }
            Err(fault) => Err(fault.error(Doing::Reading).about(self.show_bucket())),
        }
    }

    async fn set_default_encryption(&self, encryption: Option<&Encryption>) -> Result<()> {
        let done = match encryption {
            None => self.clear_encryption().await,
            Some(Encryption::Customer(_)) => {
                return Err(Error::new(ErrorKind::Refused, "a customer's key (SSE-C) cannot be a default")
                    .about(self.show_bucket()));
            }
            Some(Encryption::Service) => self.set_encryption(ServerSideEncryption::Aes256, None).await,
            Some(Encryption::Kms(key)) => {
                self.set_encryption(ServerSideEncryption::AwsKms, key.clone()).await
            }
        };
        done.map_err(|fault| fault.error(Doing::Writing).about(self.show_bucket()))
    }
}

impl S3Store {
    /// Whether the bucket refuses what comes with a key of the customer's, as far as it may be asked.
    pub(super) async fn blocks_customer_keys(&self) -> bool {
        let rule = self.encryption_rule().await.ok().flatten();
        let blocked = rule.as_ref().and_then(ServerSideEncryptionRule::blocked_encryption_types);
        blocked.is_some_and(|blocked| blocked.encryption_type().contains(&EncryptionType::SseC))
    }

    async fn encryption_rule(&self) -> Result<Option<ServerSideEncryptionRule>, Fault> {
        let client = self.client().await.map_err(|error| Fault::of(&error))?;
        match self.answer(WAIT, client.get_bucket_encryption().bucket(self.bucket_name()).send()).await {
            Ok(answer) => {
                let configuration = answer.server_side_encryption_configuration;
                Ok(configuration.and_then(|all| all.rules.into_iter().next()))
            }
            Err(fault) if fault.code == NONE => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Keeps what the bucket blocks, and its choice of bucket keys.
    async fn set_encryption(
        &self,
        algorithm: ServerSideEncryption,
        key: Option<String>,
    ) -> Result<(), Fault> {
        let rule = match self.encryption_rule().await {
            Err(fault) if !fault.is_denied() => return Err(fault),
            rule => rule.ok().flatten(),
        };
        let default =
            ServerSideEncryptionByDefault::builder().sse_algorithm(algorithm).set_kms_master_key_id(key);
        let default = default.build().map_err(|error| Fault::of(&Error::input(error.to_string())))?;
        let rule = ServerSideEncryptionRule::builder()
            .apply_server_side_encryption_by_default(default)
            .set_bucket_key_enabled(rule.as_ref().and_then(ServerSideEncryptionRule::bucket_key_enabled))
            .set_blocked_encryption_types(rule.and_then(|rule| rule.blocked_encryption_types))
            .build();
        let configuration = ServerSideEncryptionConfiguration::builder().rules(rule).build();
        let configuration = configuration.map_err(|error| Fault::of(&Error::input(error.to_string())))?;
        let client = self.client().await.map_err(|error| Fault::of(&error))?;
        let request = client
            .put_bucket_encryption()
            .bucket(self.bucket_name())
            .server_side_encryption_configuration(configuration)
            .customize()
            .mutate_request(with_content_md5);
        self.answer(WAIT, request.send()).await.map(|_| ())
    }

    async fn clear_encryption(&self) -> Result<(), Fault> {
        let client = self.client().await.map_err(|error| Fault::of(&error))?;
        self.answer(WAIT, client.delete_bucket_encryption().bucket(self.bucket_name()).send())
            .await
            .map(|_| ())
    }
}

fn by_default(rule: Option<&ServerSideEncryptionRule>) -> DefaultEncryption {
    let default = rule.and_then(ServerSideEncryptionRule::apply_server_side_encryption_by_default);
    match default {
        None => DefaultEncryption::Off,
        Some(default) => DefaultEncryption::On(match default.sse_algorithm() {
            ServerSideEncryption::Aes256 => Encryption::Service,
            _ => Encryption::Kms(default.kms_master_key_id().map(str::to_owned)),
        }),
    }
}
