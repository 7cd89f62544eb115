//! `--sse` and `--sse-c-key-file`: what the service is asked to encrypt, and with which key.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sidekey::location::customer::{PairEncryption, parse_key};
use sidekey::store::{CustomerKey, Encryption};
use sidekey::{Error, ErrorKind, IoContext as _, Result};
use zeroize::Zeroizing;

use super::config::{self, Remote, SSE, SSE_C_KEY_FILE, Source};

/// What may stand behind `--sse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sse {
    /// `b2`, `s3`: a key of the service.
    Service,
    /// `kms`, `kms:ID`.
    Kms(Option<String>),
    /// `c`: a key that the service does not keep.
    Customer,
    /// `none`: nothing is asked for.
    None,
}

impl FromStr for Sse {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("kms", id)) if !id.is_empty() => Ok(Self::Kms(Some(id.to_owned()))),
            None if text == "kms" => Ok(Self::Kms(None)),
            None if matches!(text, "b2" | "s3") => Ok(Self::Service),
            None if text == "c" => Ok(Self::Customer),
            None if text == "none" => Ok(Self::None),
            _ => Err(format!("{text:?} is not one of b2, s3, kms, kms:ID, c, none")),
        }
    }
}

impl Sse {
    /// What a bucket can do to all that comes without a wish: no key goes with that.
    pub(super) fn of_a_bucket(&self) -> Option<Encryption> {
        match self {
            Self::Service => Some(Encryption::Service),
            Self::Kms(id) => Some(Encryption::Kms(id.clone())),
            Self::Customer | Self::None => None,
        }
    }
}

/// How pairs that are put are to be encrypted: by the service that `remote` is, or in a `folder` of this machine.
///
/// # Errors
/// `Usage` when it was asked for where there is no service; those of reading the key.
pub(super) fn of_pairs(remote: Option<&'static Remote>, folder: bool) -> Result<PairEncryption> {
    let typed = matches!(config::current().value(&SSE, remote).source, Source::Flag(_));
    Ok(match config::current().get::<Sse>(&SSE, remote) {
        None | Some(Sse::None) => PairEncryption::ByDefault,
        Some(_) if folder && typed => {
            return Err(Error::usage("--sse is for services, and the location is a folder of this machine")
                .hint("leave it out: what is put is encrypted before it is stored, wherever that is"));
        }
        Some(_) if folder => PairEncryption::ByDefault,
        Some(Sse::Service) => PairEncryption::Both(Encryption::Service),
        Some(Sse::Kms(id)) => PairEncryption::Both(Encryption::Kms(id)),
        Some(Sse::Customer) => PairEncryption::Customer(customer_key(remote)?),
    })
}

/// The one key for all files, where one is configured.
///
/// # Errors
/// `Permission` when others can read the file; `Input` when it holds no key; what reading it fails with.
pub(super) fn customer_key(remote: Option<&'static Remote>) -> Result<Option<CustomerKey>> {
    let path: Option<PathBuf> = config::current().get(&SSE_C_KEY_FILE, remote);
    path.map(|path| read_key(&path)).transpose()
}

fn read_key(path: &Path) -> Result<CustomerKey> {
    let file = File::open(path).context("cannot read", path)?;
    let found = file.metadata().context("cannot read", path)?;
    let mode = found.mode() & 0o777;
    if found.is_file() && mode & 0o077 != 0 {
        let error =
            Error::new(ErrorKind::Permission, format!("other users can use this key (mode {mode:04o})"));
        return Err(error.at(path).hint(format!("chmod 600 {}", path.display())));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(1 << 10));
    file.take(1 << 10).read_to_end(&mut bytes).context("cannot read", path)?;
    parse_key(&bytes).map_err(|error| error.at(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_one_of_few_words() {
        for (text, wish) in [
            ("b2", Sse::Service),
            ("s3", Sse::Service),
            ("kms", Sse::Kms(None)),
            ("kms:arn:aws:kms:x", Sse::Kms(Some("arn:aws:kms:x".into()))),
            ("c", Sse::Customer),
            ("none", Sse::None),
        ] {
            assert_eq!(text.parse(), Ok(wish), "{text}");
        }
        for bad in ["", "C", "kms:", "s3:x", "aes256"] {
            assert!(bad.parse::<Sse>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::io::Write as _;
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.key");
        File::create_new(&path).unwrap().write_all(&[7; 32]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = read_key(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission);
        assert!(error.line().ends_with("c.key: other users can use this key (mode 0640)"), "{error:?}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_key(&path).unwrap().expose(), &[7; 32]);
    }
}
