//! Copies within the bucket: in one request, or by parts where the object is too large for that or the write is
//! conditional, as services that know conditions know them for completed uploads, and few for copies.

use aws_sdk_s3::types::MetadataDirective;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use bytes::Bytes;

use super::fault::{Doing, Fault};
use super::names::copy_source;
use super::object::{Head, metadata};
use super::sse::{customer_key, encrypted, with_key, with_source_key};
use super::upload::{S3Upload, Sent};
use super::versions::{Asked, Versioning, id};
use super::{MAX_PART, MAX_PARTS, S3Store, WORK};
use crate::store::{PutOptions, Store as _, Upload as _, VersionId, Written};
use crate::{Error, Result};

/// The length of the parts of a copy, unless that makes too many.
const PART: u64 = 1 << 30;

impl S3Store {
    pub(super) async fn copy_object(
        &self,
        from: &str,
        version: Option<&VersionId>,
        to: &str,
        options: &PutOptions,
    ) -> Result<Written> {
        self.may_send(options.encryption.as_ref()).await?;
        if options.source_key.is_some() {
            self.may_send_keys().await?;
        }
        let source = Source { key: from, asked: self.asked(version).await?, options, unguarded: false };
        let condition = self.condition(to, &options.only_if).await?;
        let source = Source { unguarded: self.is_unguarded(&source.asked).await?, ..source };
        if source.unguarded || condition.is_some() || options.size.is_some_and(|size| size > MAX_PART) {
            return self.copy_by_parts(&source, to).await;
        }
        let request = self
            .client()
            .await?
            .copy_object()
            .bucket(self.bucket_name())
            .key(to)
            .copy_source(copy_source(self.bucket_name(), from, source.asked.version_id.as_deref()))
            .set_copy_source_if_match(source.asked.if_match.clone())
            // Without it the info would be that of the source, and a copy onto itself is refused.
            .metadata_directive(MetadataDirective::Replace)
            .set_metadata(metadata(&options.info)?);
        let request = encrypted!(request, options.encryption.as_ref());
        let request = with_source_key!(request, options.source_key.as_ref());
        match self.answer(WORK, request.customize().mutate_request(without_body).send()).await {
            Ok(copied) if copied.version_id().is_none() && self.versioning().await? == Versioning::On => {
                // Radosgw does not say what it made.
                let key = customer_key(options.encryption.as_ref());
                let head = self.head(to, &Asked::default(), key).await;
                let head = head.map_err(|fault| fault.error(Doing::Once).about(self.show(to)))?;
                Ok(Written { version: head.object.version })
            }
            Ok(copied) => {
                let etag = copied.copy_object_result().and_then(|result| result.e_tag());
                Ok(Written { version: id(copied.version_id(), etag) })
            }
            Err(fault) if is_too_large(&fault) => self.copy_by_parts(&source, to).await,
            Err(fault) => Err(self.copy_failed(fault, &source).await),
        }
    }

    async fn copy_by_parts(&self, source: &Source<'_>, to: &str) -> Result<Written> {
        let head = match self.head(source.key, &source.asked, source.options.source_key.as_ref()).await {
            Ok(Head { object, .. }) => object,
            Err(fault) => return Err(self.copy_failed(fault, source).await),
        };
        let upload = self.begin(to, source.options).await?;
        let copied = self.copy_parts(source, &upload, to, head.size, &head.version).await;
        if copied.is_err() {
            // The first error counts; what is left of it is found among the unfinished.
            let _ = upload.abort().await;
        }
        copied
    }

    async fn copy_parts(
        &self,
        source: &Source<'_>,
        upload: &S3Upload,
        to: &str,
        size: u64,
        version: &VersionId,
    ) -> Result<Written> {
        // Of this one version, whatever is written in the meantime.
        let asked = self.asked(Some(version)).await?;
        if size == 0 {
            upload.part(1, Bytes::new()).await?;
            return self.complete_copy(source, upload, &asked, 1).await;
        }
        let len = PART.max(size.div_ceil(u64::from(MAX_PARTS)));
        let mut number = 0;
        for start in (0..size).step_by(usize::try_from(len).unwrap_or(usize::MAX)) {
            let end = size.min(start + len);
            number += 1;
            let client = self.client().await?;
            let request = client
                .upload_part_copy()
                .bucket(self.bucket_name())
                .key(to)
                .upload_id(upload.upload_id())
                .part_number(number)
                .copy_source(copy_source(self.bucket_name(), source.key, asked.version_id.as_deref()))
                .set_copy_source_if_match(asked.if_match.clone())
                .copy_source_range(format!("bytes={start}-{}", end - 1));
            let request = with_key!(request, customer_key(source.options.encryption.as_ref()));
            let request = with_source_key!(request, source.options.source_key.as_ref());
            let request = request.customize().mutate_request(without_body);
            let copied = match self.answer(WORK, request.send()).await {
                Ok(copied) => copied,
                Err(fault) => return Err(self.copy_failed(fault, source).await),
            };
            let etag = copied.copy_part_result().and_then(|part| part.e_tag());
            let etag = etag.ok_or_else(|| Error::integrity("the service gave a copied part no ETag"))?;
            upload.sent(number.cast_unsigned(), Sent { etag: etag.to_owned(), size: end - start });
        }
        self.complete_copy(source, upload, &asked, number.cast_unsigned()).await
    }

    async fn is_unguarded(&self, asked: &Asked) -> Result<bool> {
        Ok(asked.if_match.is_some() && !self.also_honoured().await?.copy_source)
    }

    /// Gives a copy its name, when what was copied is known to be what was to be.
    async fn complete_copy(
        &self,
        source: &Source<'_>,
        upload: &S3Upload,
        asked: &Asked,
        parts: u32,
    ) -> Result<Written> {
        if source.unguarded || self.is_unguarded(asked).await? {
            let still = self.head(source.key, asked, source.options.source_key.as_ref()).await;
            if let Err(fault) = still {
                return Err(self.copy_failed(fault, source).await);
            }
        }
        upload.complete(parts).await
    }

    /// Why it failed: for the source or for the copy.
    async fn copy_failed(&self, fault: Fault, source: &Source<'_>) -> Error {
        let Source { key, asked, options, .. } = source;
        let error = if fault.is_precondition() || fault.is_not_found() || fault.is_of_marker() {
            fault.says(crate::ErrorKind::NotFound, "there is nothing under that name to copy")
        } else if fault.status == 400 || (fault.is_denied() && options.source_key.is_some()) {
            self.read_failed(fault, key, asked, options.source_key.as_ref()).await
        } else {
            return self.write_failed(fault, Doing::Writing, options.encryption.as_ref()).await;
        };
        error.about(self.show(key))
    }
}

struct Source<'a> {
    key: &'a str,
    asked: Asked,
    options: &'a PutOptions,
    /// Whether the service copies whatever is there, even when it is told which version to copy.
    unguarded: bool,
}

fn is_too_large(fault: &Fault) -> bool {
    matches!(&*fault.code, "InvalidRequest" | "EntityTooLarge")
        && fault.message.contains("larger than the maximum")
}

/// Radosgw wants the length said even where there is nothing.
pub(super) fn without_body(request: &mut HttpRequest) {
    request.headers_mut().insert("content-length", "0");
}
