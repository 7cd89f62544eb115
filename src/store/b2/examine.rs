//! The settings of the bucket, for `doctor`. Nothing is written.

use super::bucket::settings;
use super::session::Session;
use super::wire::LifecycleRule;
use crate::store::facts::{Facts, Lock, Rule, Told, Versions};
use crate::{ErrorKind, Result};

pub(super) async fn examine(session: &Session) -> Result<Facts> {
    let account = session.account().await?;
    let (lock, lifecycle) = match settings(session).await {
        Ok(bucket) => {
            let lock = match bucket.file_lock_configuration {
                Some(lock) if lock.is_client_authorized_to_read => Told::Is(lock.value.and_then(|lock| {
                    let retention = lock.default_retention.and_then(|kept| Some((kept.mode?, kept.period)));
                    lock.is_file_lock_enabled.then(|| Lock {
                        default: retention.map(|(mode, period)| {
                            let time = period.map(|time| format!("{} {}", time.duration, time.unit));
                            (mode, time.unwrap_or_else(|| "a time".into()))
                        }),
                    })
                })),
                Some(_) => Told::Hidden("readBucketRetentions"),
                None => Told::NoSuch,
            };
            (lock, Told::Is(bucket.lifecycle_rules.iter().map(rule).collect()))
        }
        Err(error) if error.kind() == ErrorKind::Permission => {
            (Told::Hidden("listBuckets"), Told::Hidden("listBuckets"))
        }
        Err(error) => return Err(error),
    };
    Ok(Facts {
        versions: Told::Is(Versions::On),
        lock,
        lifecycle,
        clock: account.now(),
        tells_rights: true,
        ..Facts::default()
    })
}

fn rule(rule: &LifecycleRule) -> Rule {
    let after = |days: Option<u32>, of: &str| {
        days.map(|days| format!("{days} {} after {of}", if days == 1 { "day" } else { "days" }))
    };
    Rule {
        prefix: rule.file_name_prefix.clone(),
        removes: after(rule.days_from_uploading_to_hiding, "they were written"),
        removes_old: after(rule.days_from_hiding_to_deleting, "they were hidden"),
        ..Rule::default()
    }
}
