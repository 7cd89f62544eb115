//! The settings of a bucket, for `doctor`. Nothing is written.

use std::time::SystemTime;

use aws_sdk_s3::types::{
    DefaultRetention, ExpirationStatus, LifecycleRule, LifecycleRuleFilter, ObjectLockEnabled,
    TransitionStorageClass,
};
use aws_smithy_types::DateTime;

use super::fault::{Doing, Fault};
use super::versions::{Asked, Versioning};
use super::{S3Store, WAIT};
use crate::store::facts::{Facts, Lock, Rule, Told, Versions};
use crate::{ErrorKind, Result, rfc3339};

impl S3Store {
    pub(super) async fn examine(&self, prefix: &str) -> Result<Facts> {
        let versions = match self.versioning().await {
            Ok(Versioning::Off) => Told::Is(Versions::Off),
            Ok(Versioning::On) => Told::Is(Versions::On),
            Ok(Versioning::Suspended) => Told::Is(Versions::Suspended),
            Err(error) if error.kind() == ErrorKind::Permission => Told::Hidden("s3:GetBucketVersioning"),
            Err(error) => return Err(error),
        };
        Ok(Facts {
            versions,
            lock: self.lock().await?,
            lifecycle: self.lifecycle().await?,
            blocks_customer_keys: self.blocks_customer_keys().await,
            clock: self.clock(prefix).await,
            ..Facts::default()
        })
    }

    async fn lock(&self) -> Result<Told<Option<Lock>>> {
        let request = self.client().await?.get_object_lock_configuration().bucket(self.bucket_name());
        let fault = match self.answer(WAIT, request.send()).await {
            Ok(answer) => {
                let lock = answer.object_lock_configuration();
                let on = lock
                    .filter(|lock| lock.object_lock_enabled() == Some(&ObjectLockEnabled::Enabled))
                    .map(|lock| Lock {
                        default: lock.rule().and_then(|rule| rule.default_retention()).map(retention),
                    });
                return Ok(Told::Is(on));
            }
            Err(fault) => fault,
        };
        // Services have two names for it, and some a number alone.
        match fault.status == 404 && fault.code != "NoSuchBucket" {
            true => Ok(Told::Is(None)),
            false => self.not_told(&fault, "s3:GetBucketObjectLockConfiguration"),
        }
    }

    async fn lifecycle(&self) -> Result<Told<Vec<Rule>>> {
        let request = self.client().await?.get_bucket_lifecycle_configuration().bucket(self.bucket_name());
        match self.answer(WAIT, request.send()).await {
            Ok(answer) => {
                let on = answer.rules().iter().filter(|rule| *rule.status() == ExpirationStatus::Enabled);
                Ok(Told::Is(on.map(rule).collect()))
            }
            Err(fault) if fault.code == "NoSuchLifecycleConfiguration" => Ok(Told::Is(vec![])),
            Err(fault) => self.not_told(&fault, "s3:GetLifecycleConfiguration"),
        }
    }

    fn not_told<T>(&self, fault: &Fault, right: &'static str) -> Result<Told<T>> {
        match fault {
            fault if fault.is_denied() => Ok(Told::Hidden(right)),
            fault if fault.is_unknown_there() || matches!(fault.status, 400 | 404 | 405) => Ok(Told::NoSuch),
            fault => Err(fault.error(Doing::Reading).about(self.show_bucket())),
        }
    }

    /// What the service's clock says when it is asked for what is not there.
    async fn clock(&self, prefix: &str) -> Option<SystemTime> {
        let key = format!("{prefix}.sidekey/no-such-object");
        self.head(&key, &Asked::default(), None).await.err()?.date()
    }
}

fn retention(retention: &DefaultRetention) -> (String, String) {
    let mode = retention.mode().map_or("retention", |mode| mode.as_str()).to_lowercase();
    let time = match (retention.days(), retention.years()) {
        (Some(days), _) => format!("{days} days"),
        (_, Some(years)) => format!("{years} years"),
        _ => "a time".into(),
    };
    (mode, time)
}

fn rule(rule: &LifecycleRule) -> Rule {
    let filter = rule.filter();
    let and = filter.and_then(LifecycleRuleFilter::and);
    #[expect(deprecated, reason = "older rules have their prefix there")]
    let prefix = filter
        .and_then(|filter| filter.prefix())
        .or_else(|| and.and_then(|and| and.prefix()))
        .or_else(|| rule.prefix());
    let sizes = [
        filter.and_then(LifecycleRuleFilter::object_size_greater_than),
        filter.and_then(LifecycleRuleFilter::object_size_less_than),
        and.and_then(|and| and.object_size_greater_than()),
        and.and_then(|and| and.object_size_less_than()),
    ];
    let expiration = rule.expiration();
    let removes = expiration.and_then(|expiration| when(expiration.days(), expiration.date()));
    let old = rule.noncurrent_version_expiration().and_then(|old| when(old.noncurrent_days(), None));
    let archive = rule.transitions().iter().find(|to| is_archive(to.storage_class()));
    Rule {
        name: rule.id().unwrap_or_default().to_owned(),
        prefix: prefix.unwrap_or_default().to_owned(),
        by_size: sizes.iter().any(Option::is_some),
        by_tag: filter.and_then(LifecycleRuleFilter::tag).is_some()
            || and.is_some_and(|and| !and.tags().is_empty()),
        removes,
        removes_old: old,
        archives: archive.map(|to| {
            let class = to.storage_class().map_or("", |class| class.as_str());
            format!("to {class} {}", when(to.days(), to.date()).unwrap_or_default()).trim_end().to_owned()
        }),
    }
}

/// Whether nobody reads from there without asking for it hours before.
fn is_archive(class: Option<&TransitionStorageClass>) -> bool {
    matches!(class, Some(TransitionStorageClass::Glacier | TransitionStorageClass::DeepArchive))
}

fn when(days: Option<i32>, date: Option<&DateTime>) -> Option<String> {
    match (days, date.and_then(|date| SystemTime::try_from(*date).ok())) {
        (Some(1), _) => Some("after a day".into()),
        (Some(days), _) => Some(format!("after {days} days")),
        (None, Some(date)) => Some(format!("on {}", rfc3339(date))),
        (None, None) => None,
    }
}
