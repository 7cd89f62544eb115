//! `sidekey keygen`.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sidekey::keys::{DEFAULT_ROUNDS, KeyFile, PrivateKey};
use sidekey::ops::atomic::{AtomicFile, Mode};
use sidekey::random::OsRandom;
use sidekey::{Error, IoContext as _, Result};
use zeroize::Zeroizing;

use super::kdf::KdfArgs;
use super::passphrase::NewPassphraseArgs;
use super::report::Report;

/// make a key pair: NAME.pem and NAME.pub.pem
///
/// NAME.pub.pem, the public key, encrypts; NAME.pem, the private key, decrypts. The private key is written with mode
/// 0600, encrypted under a passphrase that is asked for twice. Neither file is ever overwritten. The key id is printed.
/// Keep NAME.pem off the machines that only encrypt, and keep a copy of it: without it nothing can be decrypted.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey keygen -o backup
  sidekey keygen -o backup --bits 4096 --new-passphrase-command 'pass show backup'")]
pub(crate) struct Args {
    /// write NAME.pem and NAME.pub.pem
    #[arg(short, long, value_name = "NAME")]
    output: PathBuf,
    /// the length of the key: 2048, 3072, 4096 or 8192 bits
    #[arg(long, value_name = "BITS", default_value = "3072", value_parser = bits)]
    bits: usize,
    #[command(flatten)]
    new_passphrase: NewPassphraseArgs,
    #[command(flatten)]
    kdf: KdfArgs,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        let (private, public) = names(&self.output);
        for path in [&private, &public] {
            if path.symlink_metadata().is_ok() {
                return Err(Error::conflict("exists already").at(path).hint("choose another NAME"));
            }
        }
        let passphrase = self.new_passphrase.read(&private)?;
        let key = PrivateKey::generate(self.bits)?;
        let text = match &passphrase {
            Some(passphrase) => {
                let kdf = self.kdf.of_new(DEFAULT_ROUNDS);
                Zeroizing::new(key.to_encrypted_pem(passphrase, kdf, &OsRandom)?)
            }
            None => key.to_plain_pem()?,
        };
        if KeyFile::parse(text.as_bytes())?.open(passphrase.as_ref())?.id() != key.id() {
            return Err(Error::integrity("the new key does not open again; nothing was written"));
        }
        let private_file = filled(&private, Mode::Secret, text.as_bytes())?;
        let public_file = filled(&public, Mode::Data, key.public().to_pem().as_bytes())?;
        // In this order: a public key alone would encrypt what nobody can decrypt.
        private_file.commit_new()?;
        public_file.commit_new().map_err(|error| {
            let (private, public) = (private.display(), public.display());
            error.hint(format!(
                "the private key is written; sidekey pubkey {private} -o {public} makes this file"
            ))
        })?;
        let made = Made {
            key_id: key.id().to_string(),
            bits: key.public().bits(),
            private: private.to_string_lossy().into(),
            public: public.to_string_lossy().into(),
            encrypted: passphrase.is_some(),
        };
        report.note(format_args!("wrote {} and {}; this is the key id:", made.private, made.public));
        report.result(&made, [&made.key_id]);
        Ok(())
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "keygen")]
struct Made {
    key_id: String,
    bits: usize,
    private: String,
    public: String,
    encrypted: bool,
}

/// NAME.pem and NAME.pub.pem; a NAME that was typed with `.pem` already has no second one.
fn names(typed: &Path) -> (PathBuf, PathBuf) {
    let bare = if typed.extension().is_some_and(|end| end == "pem") {
        typed.with_extension("")
    } else {
        typed.to_owned()
    };
    let with = |end: &str| {
        let mut name = OsString::from(&bare);
        name.push(end);
        PathBuf::from(name)
    };
    (with(".pem"), with(".pub.pem"))
}

fn filled(path: &Path, mode: Mode, bytes: &[u8]) -> Result<AtomicFile> {
    let mut file = AtomicFile::create(path, mode)?;
    file.write_all(bytes).context("cannot write", path)?;
    Ok(file)
}

fn bits(typed: &str) -> Result<usize, &'static str> {
    let bits = typed.parse().ok().filter(|bits| [2048, 3072, 4096, 8192].contains(bits));
    bits.ok_or("is not 2048, 3072, 4096 or 8192")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_names_come_from_the_one_typed() {
        for (typed, private, public) in [
            ("a", "a.pem", "a.pub.pem"),
            ("d/a.pem", "d/a.pem", "d/a.pub.pem"),
            ("a.2026", "a.2026.pem", "a.2026.pub.pem"),
        ] {
            assert_eq!(names(Path::new(typed)), (private.into(), public.into()));
        }
    }
}
