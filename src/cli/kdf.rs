//! `--kdf`: how a new passphrase becomes the key of a key file.

use sidekey::keys::{Kdf, KeyFile};

// Not a doc comment: clap would make it the description of the command that takes this option.
// How the key is derived from the new passphrase.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct KdfArgs {
    /// derive the key by pbkdf2, which OpenSSL reads, or scrypt: 128 MiB of memory a guess, more than OpenSSL does
    #[arg(
        long,
        value_name = "HOW",
        value_parser = kind,
        help_heading = "New passphrase",
        conflicts_with = "no_passphrase"
    )]
    kdf: Option<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pbkdf2,
    Scrypt,
}

impl KdfArgs {
    /// Whether it was said how.
    pub(crate) fn is_given(&self) -> bool {
        self.kdf.is_some()
    }

    /// For a new file; PBKDF2 has so many rounds.
    pub(crate) fn of_new(&self, rounds: u32) -> Kdf {
        match self.kdf {
            Some(Kind::Scrypt) => Kdf::SCRYPT,
            Some(Kind::Pbkdf2) | None => Kdf::Pbkdf2 { rounds },
        }
    }

    /// For a file that gets another passphrase: never less work than before by the same method, and a strong scrypt is
    /// not given up unasked.
    pub(crate) fn of_changed(&self, rounds: u32, before: &KeyFile) -> Kdf {
        match (self.kdf, before.derivation()) {
            (None, Some(kdf @ Kdf::Scrypt { .. })) if kdf.at_least(Kdf::SCRYPT) == kdf => kdf,
            (Some(Kind::Scrypt), Some(kdf @ Kdf::Scrypt { .. })) => kdf.at_least(Kdf::SCRYPT),
            (None | Some(Kind::Pbkdf2), Some(kdf @ Kdf::Pbkdf2 { .. })) => {
                kdf.at_least(Kdf::Pbkdf2 { rounds })
            }
            _ => self.of_new(rounds),
        }
    }
}

fn kind(typed: &str) -> Result<Kind, &'static str> {
    match typed {
        "pbkdf2" => Ok(Kind::Pbkdf2),
        "scrypt" => Ok(Kind::Scrypt),
        _ => Err("is neither pbkdf2 nor scrypt"),
    }
}
