//! What a bucket can do, asked once. Services say little of it: some ignore a condition in silence. So it is tried, on an
//! object that is made for it below `.sidekey/` and removed again, versions and all.

use std::collections::BTreeSet;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{
    BucketVersioningStatus, CompletedMultipartUpload, CompletedPart, MetadataDirective, ObjectLockEnabled,
};
use bytes::Bytes;
use rand::TryRng as _;
use rand::rngs::SysRng;

use super::copy::without_body;
use super::fault::{Doing, Fault};
use super::names::copy_source;
use super::sse::content_md5;
use super::versions::{NULL, Versioning, bare, quoted};
use super::{S3Store, WAIT};
use crate::store::{Conditions, Store as _};
use crate::{Error, ErrorKind, Result};

/// Which conditions the bucket holds writes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Honoured {
    /// `If-None-Match: *` on a write.
    pub(super) create_new: bool,
    /// `If-Match` on a write.
    pub(super) replace_if: Option<Form>,
    /// `If-Match` on a delete.
    pub(super) delete_if: Option<Form>,
}

impl From<Honoured> for Conditions {
    fn from(Honoured { create_new, replace_if, delete_if }: Honoured) -> Self {
        Self { create_new, replace_if: replace_if.is_some(), delete_if: delete_if.is_some() }
    }
}

/// What else is held to conditions: asked when it first matters, for services that hold writes to them need not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AlsoHonoured {
    /// The same conditions when an upload in parts is completed.
    pub(super) complete: bool,
    /// `x-amz-copy-source-if-match`.
    pub(super) copy_source: bool,
}

/// How the service wants an ETag in `If-Match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As the standard has it.
    Quoted,
    /// Without the quotes, as older radosgw do.
    Bare,
}

impl Form {
    pub(super) fn of(self, etag: &str) -> String {
        match self {
            Self::Quoted => quoted(etag),
            Self::Bare => bare(etag).to_owned(),
        }
    }
}

/// No object has this ETag.
const WRONG: &str = "00000000000000000000000000000000";

impl S3Store {
    /// What the bucket does with what is replaced.
    pub(super) async fn versioning(&self) -> Result<Versioning> {
        self.shared.versioning.get_or_try_init(|| self.ask_versioning()).await.copied()
    }

    async fn ask_versioning(&self) -> Result<Versioning> {
        let request = self.client().await?.get_bucket_versioning().bucket(self.bucket_name());
        match self.answer(WAIT, request.send()).await {
            Ok(answer) => Ok(match answer.status() {
                Some(BucketVersioningStatus::Enabled) => Versioning::On,
                Some(BucketVersioningStatus::Suspended) => Versioning::Suspended,
                _ => Versioning::Off,
            }),
            Err(fault) if fault.is_unknown_there() => Ok(Versioning::Off),
            Err(fault) if fault.is_denied() => Err(fault
                .error(Doing::Reading)
                .about(self.show_bucket())
                .hint("whether it keeps versions must be known; allow s3:GetBucketVersioning")),
            Err(fault) => Err(fault.error(Doing::Reading).about(self.show_bucket())),
        }
    }

    /// Which conditions the bucket honours; none where nobody may try.
    pub(super) async fn honoured(&self) -> Result<Honoured> {
        self.shared.honoured.get_or_try_init(|| self.try_conditions()).await.copied()
    }

    /// What the bucket honours besides; nothing where nobody may try.
    pub(super) async fn also_honoured(&self) -> Result<AlsoHonoured> {
        self.shared.also_honoured.get_or_try_init(|| self.try_more()).await.copied()
    }

    async fn try_conditions(&self) -> Result<Honoured> {
        let Some((mut probe, versioning)) = self.probe().await? else { return Ok(Honoured::default()) };
        let tried = probe.run(versioning).await;
        probe.told(versioning, tried).await
    }

    async fn try_more(&self) -> Result<AlsoHonoured> {
        let Some((mut probe, versioning)) = self.probe().await? else { return Ok(AlsoHonoured::default()) };
        let tried = probe.run_more().await;
        probe.told(versioning, tried).await
    }

    /// Something to try it on; nothing where what is tried could not be removed.
    async fn probe(&self) -> Result<Option<(Probe<'_>, Versioning)>> {
        let versioning = self.versioning().await?;
        if versioning != Versioning::Off && self.locks_by_default().await? {
            return Ok(None);
        }
        let client = self.client().await?;
        let probe = Probe {
            store: self,
            client,
            bucket: self.bucket_name(),
            key: probe_key()?,
            written: Vec::new(),
            etag: String::new(),
            removed: false,
        };
        Ok(Some((probe, versioning)))
    }

    /// Whether what is written cannot be deleted for a time, without having asked for that.
    async fn locks_by_default(&self) -> Result<bool> {
        let request = self.client().await?.get_object_lock_configuration().bucket(self.bucket_name());
        let answer =
            match self.answer(WAIT, request.send()).await.map_err(|fault| fault.error(Doing::Reading)) {
                Ok(answer) => answer,
                // Who could not say it now is asked again; who does not say it has none, for all that is known.
                Err(error) if error.kind() == ErrorKind::Transient => {
                    return Err(error.about(self.show_bucket()));
                }
                Err(_) => return Ok(false),
            };
        Ok(answer.object_lock_configuration().is_some_and(|lock| {
            lock.object_lock_enabled() == Some(&ObjectLockEnabled::Enabled)
                && lock.rule().is_some_and(|rule| rule.default_retention().is_some())
        }))
    }
}

struct Probe<'a> {
    store: &'a S3Store,
    client: &'a Client,
    bucket: &'a str,
    key: String,
    /// The versions that came of it.
    written: Vec<Option<String>>,
    /// The ETag of the last of them.
    etag: String,
    /// Whether nothing is there any more.
    removed: bool,
}

/// What became of a request.
enum Tried {
    /// It was done; this is the ETag of what was written.
    Done(String),
    /// A condition did not hold.
    Spared,
    /// The service does not take such a request.
    Unknown,
}

impl Probe<'_> {
    async fn run(&mut self, versioning: Versioning) -> Result<Honoured, Fault> {
        let Tried::Done(etag) = self.put(None, None).await? else { return Ok(Honoured::default()) };
        let mut form = None;
        for candidate in [Form::Quoted, Form::Bare] {
            if let Tried::Done(_) = self.put(Some(candidate.of(&etag)), None).await? {
                form = Some(candidate);
                break;
            }
        }
        let replace_if = match form {
            Some(form) => {
                matches!(self.put(Some(form.of(WRONG)), None).await?, Tried::Spared).then_some(form)
            }
            None => None,
        };
        let create_new = matches!(self.put(None, Some("*".into())).await?, Tried::Spared);
        let delete_if = match replace_if {
            Some(form) if versioning == Versioning::Off && self.deletes_if(form).await? => Some(form),
            _ => None,
        };
        Ok(Honoured { create_new, replace_if, delete_if })
    }

    async fn put(&mut self, if_match: Option<String>, if_none_match: Option<String>) -> Result<Tried, Fault> {
        let conditional = if_match.is_some() || if_none_match.is_some();
        // Another length each time, so that each has another ETag.
        let body = Bytes::from(vec![b'?'; self.written.len() + 1]);
        let request = self
            .client
            .put_object()
            .bucket(self.bucket)
            .key(&self.key)
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .content_md5(content_md5(&body))
            .body(body.into());
        match self.store.answer(WAIT, request.send()).await {
            Err(fault) if !conditional => Err(fault),
            answer => self.tried(answer.map(|written| {
                (written.version_id().map(str::to_owned), written.e_tag().unwrap_or_default().to_owned())
            })),
        }
    }

    /// Cleans up, and says what was found out: nothing where it may not be tried.
    async fn told<T: Default>(&self, versioning: Versioning, tried: Result<T, Fault>) -> Result<T> {
        self.clean(versioning).await;
        match tried {
            Err(fault) if fault.is_denied() => Ok(T::default()),
            tried => tried.map_err(|fault| fault.error(Doing::Writing).about(self.store.show(&self.key))),
        }
    }

    async fn run_more(&mut self) -> Result<AlsoHonoured, Fault> {
        let Tried::Done(_) = self.put(None, None).await? else { return Ok(AlsoHonoured::default()) };
        Ok(AlsoHonoured {
            complete: self.spared_by_complete().await?,
            copy_source: self.spared_by_copy().await?,
        })
    }

    /// Whether an upload that is to make something new leaves alone what is there when it is completed.
    async fn spared_by_complete(&mut self) -> Result<bool, Fault> {
        let request = self.client.create_multipart_upload().bucket(self.bucket).key(&self.key);
        let begun = self.store.answer(WAIT, request.send()).await?;
        let id = begun.upload_id().unwrap_or_default();
        let completed = self.complete(id).await;
        if !matches!(completed, Ok(Tried::Done(_))) {
            let request =
                self.client.abort_multipart_upload().bucket(self.bucket).key(&self.key).upload_id(id);
            let _ = self.store.answer(WAIT, request.send()).await;
        }
        Ok(matches!(completed?, Tried::Spared))
    }

    async fn complete(&mut self, id: &str) -> Result<Tried, Fault> {
        let body = Bytes::from_static(b"part");
        let request =
            self.client.upload_part().bucket(self.bucket).key(&self.key).upload_id(id).part_number(1);
        let request = request.content_md5(content_md5(&body)).body(body.into());
        let sent = self.store.answer(WAIT, request.send()).await?;
        let part = CompletedPart::builder().part_number(1).e_tag(sent.e_tag().unwrap_or_default()).build();
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(self.bucket)
            .key(&self.key)
            .upload_id(id)
            .multipart_upload(CompletedMultipartUpload::builder().parts(part).build())
            .if_none_match("*");
        self.tried(
            self.store.answer(WAIT, request.send()).await.map(|done| {
                (done.version_id().map(str::to_owned), done.e_tag().unwrap_or_default().to_owned())
            }),
        )
    }

    /// Whether a copy of another version than the one that is there is refused.
    async fn spared_by_copy(&mut self) -> Result<bool, Fault> {
        let request = self
            .client
            .copy_object()
            .bucket(self.bucket)
            .key(&self.key)
            .copy_source(copy_source(self.bucket, &self.key, None))
            .copy_source_if_match(quoted(WRONG))
            .metadata_directive(MetadataDirective::Replace);
        let request = request.customize().mutate_request(without_body);
        let tried = self.tried(
            self.store
                .answer(WAIT, request.send())
                .await
                .map(|done| (done.version_id().map(str::to_owned), String::new())),
        );
        Ok(matches!(tried?, Tried::Spared))
    }

    /// What became of a conditional request, by its version and ETag.
    fn tried(&mut self, answer: Result<(Option<String>, String), Fault>) -> Result<Tried, Fault> {
        match answer {
            Ok((version, etag)) => {
                self.written.push(version);
                self.etag.clone_from(&etag);
                Ok(Tried::Done(etag))
            }
            Err(fault) if fault.is_precondition() => Ok(Tried::Spared),
            Err(fault) if fault.is_unknown_there() || fault.status == 400 => Ok(Tried::Unknown),
            Err(fault) => Err(fault),
        }
    }

    /// Whether a delete leaves alone what has another ETag, and takes what has this one: who spares both would say of every
    /// delete that something else is there by now. In the end it is to be removed anyway.
    async fn deletes_if(&mut self, form: Form) -> Result<bool, Fault> {
        if !matches!(self.delete(form.of(WRONG)).await?, Tried::Spared) {
            return Ok(false);
        }
        self.removed = matches!(self.delete(form.of(&self.etag)).await?, Tried::Done(_));
        Ok(self.removed)
    }

    async fn delete(&self, if_match: String) -> Result<Tried, Fault> {
        let request = self.client.delete_object().bucket(self.bucket).key(&self.key).if_match(if_match);
        match self.store.answer(WAIT, request.send()).await {
            Ok(_) => Ok(Tried::Done(String::new())),
            Err(fault) if fault.is_precondition() => Ok(Tried::Spared),
            Err(fault) if fault.is_unknown_there() || fault.is_not_found() || fault.status == 400 => {
                Ok(Tried::Unknown)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Removes what came of it, as far as that may be done: it is a few bytes.
    async fn clean(&self, versioning: Versioning) {
        let versions: BTreeSet<Option<String>> = match versioning {
            Versioning::Off if self.removed => BTreeSet::new(),
            Versioning::Off => BTreeSet::from([None]),
            // Without a name it would be hidden and not deleted.
            _ => self.written.iter().map(|name| Some(name.clone().unwrap_or(NULL.into()))).collect(),
        };
        for version in versions {
            let request =
                self.client.delete_object().bucket(self.bucket).key(&self.key).set_version_id(version);
            let _ = self.store.answer(WAIT, request.send()).await;
        }
    }
}

/// A name that no other run has.
fn probe_key() -> Result<String> {
    let mut number = [0; 8];
    SysRng.try_fill_bytes(&mut number).map_err(|error| {
        Error::new(ErrorKind::Io, "the operating system gave no random bytes").because(error)
    })?;
    Ok(format!(".sidekey/probe-{:016x}", u64::from_be_bytes(number)))
}
