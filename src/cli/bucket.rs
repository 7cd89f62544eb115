//! `sidekey bucket`.

use std::ffi::OsString;

use serde::Serialize;
use sidekey::store::{Bucket, DefaultEncryption, Encryption};
use sidekey::{Error, Result};
use tokio::runtime::Builder;

use super::location::Place;
use super::report::Report;
use super::sse::Sse;

/// show and change settings of the bucket that a location is in
#[derive(clap::Args, Debug)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
examples:
  sidekey bucket encryption get b2://photos
  sidekey bucket encryption set s3://photos kms:alias/backup"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    Encryption(OfEncryption),
}

/// what the service does with objects that come without a wish of their own
///
/// It is on top of our own encryption, which is done before anything is sent, and which this does not change. What is there
/// already stays as it is.
#[derive(clap::Args, Debug)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
examples:
  sidekey bucket encryption get b2://photos
  sidekey bucket encryption set b2://photos b2
  sidekey bucket encryption set s3://photos kms:alias/backup
  sidekey bucket encryption clear s3://photos"
)]
struct OfEncryption {
    #[command(subcommand)]
    what: OnEncryption,
}

#[derive(clap::Subcommand, Debug)]
enum OnEncryption {
    /// show it
    Get {
        /// the bucket, or any place in it
        #[arg(value_name = "LOCATION")]
        location: OsString,
    },
    /// encrypt them from now on
    Set {
        /// the bucket, or any place in it
        #[arg(value_name = "LOCATION")]
        location: OsString,
        /// b2 or s3: with a key of the service; kms or kms:ID: with one of its key management
        #[arg(value_name = "HOW")]
        how: Sse,
    },
    /// encrypt them no longer, where the service lets that be
    Clear {
        /// the bucket, or any place in it
        #[arg(value_name = "LOCATION")]
        location: OsString,
    },
}

/// What the bucket does.
#[derive(Serialize)]
struct Shown<'a> {
    r#type: &'a str,
    location: String,
    /// `off`, `service`, `kms`, or `hidden` when it may not be asked.
    encryption: &'a str,
    /// The id of the key, with `kms`.
    key: Option<&'a str>,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        let What::Encryption(OfEncryption { what }) = self.what;
        match what {
            OnEncryption::Get { location } => {
                of_bucket(&location, |shown, bucket| get(bucket, shown, report))
            }
            OnEncryption::Set { location, how } => {
                let encryption = how.of_a_bucket().ok_or_else(|| {
                    Error::usage("a bucket's own encryption is b2, s3, kms or kms:ID").hint(
                        "sidekey bucket encryption clear switches it off; put --sse c is for single uploads",
                    )
                })?;
                of_bucket(&location, |shown, bucket| set(bucket, Some(&encryption), shown, report))
            }
            OnEncryption::Clear { location } => {
                of_bucket(&location, |shown, bucket| set(bucket, None, shown, report))
            }
        }
    }
}

/// Does something with the bucket of a location.
fn of_bucket(typed: &OsString, act: impl FnOnce(String, &dyn Bucket) -> Result<()>) -> Result<()> {
    let place = Place::open(typed)?;
    let shown = place.target.show();
    let Some(bucket) = place.target.location.store().bucket() else {
        return Err(Error::usage("is in no bucket")
            .about(shown)
            .hint("buckets are with services: b2://BUCKET, s3://BUCKET"));
    };
    act(shown.clone(), bucket).map_err(|error| error.about(shown))
}

fn get(bucket: &dyn Bucket, location: String, report: &Report) -> Result<()> {
    let encryption = wait(bucket.default_encryption())?;
    tell("encryption", &encryption, location, report);
    Ok(())
}

fn set(
    bucket: &dyn Bucket,
    encryption: Option<&Encryption>,
    location: String,
    report: &Report,
) -> Result<()> {
    wait(bucket.set_default_encryption(encryption))?;
    let now =
        encryption.map_or(DefaultEncryption::Off, |encryption| DefaultEncryption::On(encryption.clone()));
    tell("encryption-set", &now, location, report);
    Ok(())
}

fn tell(r#type: &str, encryption: &DefaultEncryption, location: String, report: &Report) {
    let (name, key, text) = words(encryption);
    let line = format!("{location}: {text}");
    report.result(&Shown { r#type, location, encryption: name, key }, [line]);
}

/// The name of it, its key, and what people read.
fn words(encryption: &DefaultEncryption) -> (&'static str, Option<&str>, String) {
    match encryption {
        DefaultEncryption::Off => ("off", None, "off: as they come".to_owned()),
        DefaultEncryption::On(Encryption::Kms(Some(id))) => {
            ("kms", Some(id.as_str()), format!("kms: with the key {id} of its key management"))
        }
        DefaultEncryption::On(Encryption::Kms(None)) => {
            ("kms", None, "kms: with the usual key of its key management".to_owned())
        }
        DefaultEncryption::On(_) => ("service", None, "service: with a key of the service".to_owned()),
        DefaultEncryption::Hidden => ("hidden", None, "hidden: may not be read with this key".to_owned()),
    }
}

fn wait<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::io("cannot start a runtime", source))?;
    runtime.block_on(future)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use sidekey::ErrorKind;

    use super::*;

    /// The settings of a bucket; nothing where they may not be read.
    struct Fake(Mutex<Option<DefaultEncryption>>);

    #[async_trait]
    impl Bucket for Fake {
        async fn default_encryption(&self) -> Result<DefaultEncryption> {
            Ok(self.0.lock().unwrap().clone().unwrap_or(DefaultEncryption::Hidden))
        }

        async fn set_default_encryption(&self, encryption: Option<&Encryption>) -> Result<()> {
            let mut now = self.0.lock().unwrap();
            match (&mut *now, encryption) {
                (None, _) => Err(Error::new(ErrorKind::Permission, "may not be changed with this key")),
                (Some(now), encryption) => {
                    *now = encryption.map_or(DefaultEncryption::Off, |to| DefaultEncryption::On(to.clone()));
                    Ok(())
                }
            }
        }
    }

    fn shown(bucket: &Fake) -> (&'static str, Option<String>, String) {
        let encryption = wait(bucket.default_encryption()).unwrap();
        let (name, key, text) = words(&encryption);
        (name, key.map(str::to_owned), text)
    }

    #[test]
    fn what_is_set_is_what_is_shown() {
        let report = Report::new(crate::cli::report::Settings { quiet: true, ..Default::default() });
        let bucket = Fake(Mutex::new(Some(DefaultEncryption::Off)));
        assert_eq!(shown(&bucket), ("off", None, "off: as they come".into()));
        for (how, name, key) in [
            ("b2", "service", None),
            ("s3", "service", None),
            ("kms", "kms", None),
            ("kms:k", "kms", Some("k")),
        ] {
            let encryption = how.parse::<Sse>().unwrap().of_a_bucket();
            set(&bucket, encryption.as_ref(), "b2://x".into(), &report).unwrap();
            let (shown, of, text) = shown(&bucket);
            assert_eq!((shown, of.as_deref()), (name, key), "{how}");
            assert!(text.starts_with(name), "{text}");
        }
        set(&bucket, None, "b2://x".into(), &report).unwrap();
        assert_eq!(shown(&bucket).0, "off");
        for no_setting in ["c", "none"] {
            assert_eq!(no_setting.parse::<Sse>().unwrap().of_a_bucket(), None);
        }
    }

    #[test]
    fn what_may_not_be_read_is_neither_on_nor_off() {
        let report = Report::new(crate::cli::report::Settings::default());
        let bucket = Fake(Mutex::new(None));
        assert_eq!(shown(&bucket), ("hidden", None, "hidden: may not be read with this key".into()));
        assert_eq!(set(&bucket, None, "b2://x".into(), &report).unwrap_err().kind(), ErrorKind::Permission);
    }
}
