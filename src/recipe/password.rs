//! The one-time password: what stands in the key file, and how `openssl enc` read it.
//!
//! `openssl rand -base64 180` gives four lines. A script that says `echo $VAR | …` joins them with spaces; one that says
//! `echo "$VAR" | …` keeps them, and then `-pass stdin` takes the first line alone. Both scripts end the password
//! with a newline, which is no part of it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use zeroize::Zeroizing;

use crate::crypto::recipe::{Kdf, MAX_ROUNDS};
use crate::random::Random;
use crate::secret::SecretBytes;
use crate::{Error, KeyId, Result};

/// How the password was taken from a block of several lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PasswordReading {
    /// All lines, joined by single spaces: `echo $VAR`.
    Joined,
    /// The first line alone: `echo "$VAR"`.
    FirstLine,
}

impl fmt::Display for PasswordReading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Joined => "joined",
            Self::FirstLine => "first-line",
        })
    }
}

impl FromStr for PasswordReading {
    type Err = Error;

    /// Reads `joined` or `first-line`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "joined" => Ok(Self::Joined),
            "first-line" => Ok(Self::FirstLine),
            _ => Err(Error::input(format!("no reading of the recipe's password is called {text:?}"))
                .hint("joined and first-line are")),
        }
    }
}

/// What a key file of the recipe holds: the password as some shell echoed it.
#[derive(Debug)]
pub struct PasswordBlock {
    bytes: SecretBytes,
    opened_by: Option<KeyId>,
}

impl PasswordBlock {
    /// A block of these bytes.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes: SecretBytes::new(bytes), opened_by: None }
    }

    /// A new random block of one line: `sidekey:pbkdf2:ROUNDS:` and 48 random bytes in base64.
    ///
    /// The password itself says how its key is derived, so that reading the pair again needs no guess; for OpenSSL it is
    /// a password like any other.
    ///
    /// # Errors
    /// `Usage` when `rounds` is 0 or more than [`MAX_ROUNDS`].
    pub fn generate(random: &dyn Random, rounds: u32) -> Result<Self> {
        if !(1..=MAX_ROUNDS).contains(&rounds) {
            return Err(Error::usage(format!("{rounds} rounds of PBKDF2 are not in 1 to {MAX_ROUNDS}")));
        }
        let mut secret = Zeroizing::new([0; 48]);
        random.fill(secret.as_mut_slice())?;
        let head = format!("{DECLARED}{}:", Kdf::Pbkdf2 { rounds });
        let mut line = vec![0; head.len() + DECLARED_RANDOM + 1];
        line[..head.len()].copy_from_slice(head.as_bytes());
        base64::engine::general_purpose::STANDARD
            .encode_slice(secret.as_slice(), &mut line[head.len()..])
            .map_err(|error| Error::usage("no room for a password").because(error))?;
        line[head.len() + DECLARED_RANDOM] = b'\n';
        Ok(Self::from_bytes(line))
    }

    /// What the private key `id` made of a key file.
    pub(super) fn opened(bytes: SecretBytes, id: KeyId) -> Self {
        Self { bytes, opened_by: Some(id) }
    }

    /// The private key that opened it, if it comes from a key file.
    pub fn opened_by(&self) -> Option<KeyId> {
        self.opened_by
    }

    /// The raw bytes; every use is a place to look at.
    pub fn expose(&self) -> &[u8] {
        self.bytes.expose()
    }

    /// Whether it is printable ASCII, as every password that a script made is. Random bytes, which a wrong private key
    /// gives now and then, are not: whoever rewrites a key file without its container asks this first.
    pub fn is_text(&self) -> bool {
        self.expose().iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n'))
    }

    /// The bytes that `openssl enc` used as its password under `reading`.
    pub fn password(&self, reading: PasswordReading) -> SecretBytes {
        let lines = self.expose().split(|byte| *byte == b'\n');
        let mut password = Zeroizing::new(Vec::with_capacity(self.expose().len()));
        match reading {
            PasswordReading::FirstLine => {
                password.extend_from_slice(lines.take(1).next().unwrap_or_default());
            }
            PasswordReading::Joined => {
                for line in lines.filter(|line| !line.is_empty()) {
                    if !password.is_empty() {
                        password.push(b' ');
                    }
                    password.extend_from_slice(line);
                }
            }
        }
        // To OpenSSL a password ends at its first NUL.
        let end = password.iter().position(|byte| *byte == 0).unwrap_or(password.len());
        password.truncate(end);
        SecretBytes::from(password)
    }

    /// Whether it has several lines, so that the two readings are two passwords.
    pub fn readings_differ(&self) -> bool {
        self.password(PasswordReading::Joined).expose() != self.password(PasswordReading::FirstLine).expose()
    }

    /// The derivation that the password names, if sidekey made it.
    pub fn declared_kdf(&self) -> Option<Kdf> {
        let line = self.password(PasswordReading::FirstLine);
        let line = std::str::from_utf8(line.expose()).ok()?;
        let (kdf, random) = line.strip_prefix(DECLARED)?.rsplit_once(':')?;
        let kdf = kdf.parse().ok().filter(|kdf| matches!(kdf, Kdf::Pbkdf2 { .. }))?;
        let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let ours = random.len() == DECLARED_RANDOM && random.bytes().all(alphabet) && !self.readings_differ();
        ours.then_some(kdf)
    }
}

/// What a password of sidekey's begins with, and how many random characters it ends in.
const DECLARED: &str = "sidekey:";
const DECLARED_RANDOM: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::OsRandom;

    #[test]
    fn readings_are_those_of_the_shell_and_of_openssl() {
        for (block, joined, first) in [
            ("a b c\n", "a b c", "a b c"),
            ("a\nb\nc\n", "a b c", "a"),
            ("a\nb", "a b", "a"),
            ("a", "a", "a"),
            ("a\r\nb\r\n", "a\r b\r", "a\r"),
            ("\nabc", "abc", ""),
            ("ab\0cd\nef", "ab", "ab"),
            (" a  b \n", " a  b ", " a  b "),
        ] {
            let block = PasswordBlock::from_bytes(block.into());
            assert_eq!(block.password(PasswordReading::Joined).expose(), joined.as_bytes());
            assert_eq!(block.password(PasswordReading::FirstLine).expose(), first.as_bytes());
            assert_eq!(block.readings_differ(), joined != first);
        }
        for reading in [PasswordReading::Joined, PasswordReading::FirstLine] {
            assert_eq!(reading.to_string().parse::<PasswordReading>().unwrap(), reading);
        }
        let error = "last-line".parse::<PasswordReading>().unwrap_err();
        assert_eq!(error.to_string(), "no reading of the recipe's password is called \"last-line\"");
    }

    #[test]
    fn a_new_password_names_its_derivation_and_fits_the_smallest_key() {
        for rounds in [1, 10_000, 600_000, MAX_ROUNDS] {
            let block = PasswordBlock::generate(&OsRandom, rounds).unwrap();
            assert_eq!(block.declared_kdf(), Some(Kdf::Pbkdf2 { rounds }));
            assert!(block.expose().len() <= 2048 / 8 - 11 && block.is_text() && !block.readings_differ());
            assert_eq!(format!("{block:?}"), "PasswordBlock { bytes: SecretBytes(..), opened_by: None }");
        }
        for rounds in [0, MAX_ROUNDS + 1] {
            assert!(PasswordBlock::generate(&OsRandom, rounds).is_err());
        }
    }

    #[test]
    fn no_other_password_names_a_derivation() {
        let random = "A".repeat(64);
        for block in [
            format!("sidekey:pbkdf2:99999999:{random}\n"),
            format!("sidekey:md5:{random}\n"),
            format!("sidekey:pbkdf2:10000:{random}A\n"),
            format!("sidekey:pbkdf2:10000:{random}\nmore\n"),
            format!("pbkdf2:10000:{random}\n"),
            random,
        ] {
            assert_eq!(PasswordBlock::from_bytes(block.clone().into()).declared_kdf(), None, "{block}");
        }
    }

    #[test]
    fn random_bytes_are_not_text() {
        assert!(PasswordBlock::from_bytes(b"a b\nc\r\n".to_vec()).is_text());
        assert!(!PasswordBlock::from_bytes(vec![b'a', 0x80]).is_text());
        assert!(!PasswordBlock::from_bytes(vec![0]).is_text());
    }
}
