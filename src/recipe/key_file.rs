//! The key file of the recipe: one RSA block, which holds the password, raw or in base64.

use super::base64::{decode, encode};
use super::{ContainerEncoding, PasswordBlock, detect_container};
use crate::crypto::rsa::{MAX_BITS, MIN_BITS, PrivateKey, PublicKey};
use crate::{Error, Result};

/// How the RSA block of a key file is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyFileForm {
    /// The bytes themselves: what `openssl rsautl` and `openssl pkeyutl` write.
    Raw,
    /// Base64 on one line, with a line end: 345 bytes for a key of 2048 bits.
    Base64OneLine,
    /// Base64 in lines of 64 columns: what `openssl base64` writes.
    Base64Wrapped,
}

/// A key file of the recipe, still encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    form: KeyFileForm,
    block: Vec<u8>,
}

/// No key file of the recipe is longer, in bytes.
pub const KEY_FILE_LIMIT: usize = 4096;

/// Reads a whole key file of the recipe, or nothing when `bytes` are not one.
///
/// The RSA block is 256 to 1024 bytes long, as the moduli of 2048 to 8192 bits are. Text that is not base64 (an
/// envelope of sidekey's, or any other PEM file) and containers are told apart from it.
///
/// ```
/// use sidekey::recipe::{KeyFileForm, detect_key_file};
/// assert_eq!(detect_key_file(&[0xA5; 256]).unwrap().form(), KeyFileForm::Raw);
/// assert!(detect_key_file(b"-----BEGIN SIDEKEY WRAPPED KEY-----\n").is_none());
/// ```
pub fn detect_key_file(bytes: &[u8]) -> Option<KeyFile> {
    if bytes.len() > KEY_FILE_LIMIT || detect_container(bytes).is_some() || bytes.starts_with(OWN_MAGIC) {
        return None;
    }
    // A random block of 256 bytes is not UTF-8; text is never a raw block.
    let (form, block) = match std::str::from_utf8(bytes) {
        Ok(text) if text.trim().contains('\n') => (KeyFileForm::Base64Wrapped, decode(bytes)?),
        Ok(_) => (KeyFileForm::Base64OneLine, decode(bytes)?),
        Err(_) => (KeyFileForm::Raw, bytes.to_vec()),
    };
    (MIN_BITS / 8..=MAX_BITS / 8).contains(&block.len()).then_some(KeyFile { form, block })
}

impl KeyFile {
    /// Encrypts `password` for `recipient` with PKCS#1 v1.5 (RFC 8017, section 7.2), so that `openssl pkeyutl -decrypt`
    /// gives the same bytes back. This is also how a key file is rewrapped in its own format.
    ///
    /// # Errors
    /// `Input` when the recipient's key is too small for the password.
    pub fn wrap(password: &PasswordBlock, recipient: &PublicKey, form: KeyFileForm) -> Result<Self> {
        Ok(Self { form, block: recipient.wrap_pkcs1(password.expose())? })
    }

    /// How its block is written down.
    pub fn form(&self) -> KeyFileForm {
        self.form
    }

    /// The length of the RSA block in bytes, and so of the modulus that it was made for.
    pub fn block_len(&self) -> usize {
        self.block.len()
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        match self.form {
            KeyFileForm::Raw => self.block.clone(),
            KeyFileForm::Base64OneLine => encode(&self.block, ContainerEncoding::Base64OneLine)
                .into_bytes()
                .into_iter()
                .chain([b'\n'])
                .collect(),
            KeyFileForm::Base64Wrapped => encode(&self.block, ContainerEncoding::Base64Wrapped).into_bytes(),
        }
    }

    /// What the private keys make of it: one block for each key that opens it, and one at least.
    ///
    /// A wrong key of the right size gives random bytes once in some 100,000 files, so two keys may both give a block;
    /// only the container tells which is the password.
    ///
    /// # Errors
    /// `Auth` when no key opens it, with the sizes when they alone say so.
    pub fn open<'a>(&self, keys: impl IntoIterator<Item = &'a PrivateKey>) -> Result<Vec<PasswordBlock>> {
        let (mut blocks, mut sizes) = (Vec::new(), Vec::new());
        for key in keys {
            sizes.push(key.public().wrapped_len());
            let opened = key.unwrap_pkcs1(&self.block).filter(|block| !block.expose().is_empty());
            blocks.extend(opened.map(|block| PasswordBlock::opened(block, key.id())));
        }
        if !blocks.is_empty() {
            return Ok(blocks);
        }
        let message = match sizes.contains(&self.block.len()) {
            true => "wrong private key: none that was given opens this key file".into(),
            false => format!(
                "wrong private key: this key file was made for an RSA key of {} bits, and none that was given has as many",
                self.block.len() * 8
            ),
        };
        Err(Error::auth(message).hint("name the private key of its pair with --identity"))
    }
}

/// What a sidekey container begins with.
const OWN_MAGIC: &[u8] = b"SIDEKEY\0";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn block(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 151 + 200) as u8).collect()
    }

    #[test]
    fn every_form_reads_back_as_what_was_written() {
        for len in [256, 257, 384, 512, 1024] {
            for form in [KeyFileForm::Raw, KeyFileForm::Base64OneLine, KeyFileForm::Base64Wrapped] {
                let file = KeyFile { form, block: block(len) };
                assert_eq!(detect_key_file(&file.encode()), Some(file.clone()), "{len} {form:?}");
                let crlf = String::from_utf8(file.encode()).map(|text| text.replace('\n', "\r\n"));
                if let Ok(crlf) = crlf {
                    assert_eq!(detect_key_file(crlf.as_bytes()), Some(file), "{len} {form:?} CRLF");
                }
            }
        }
        let one_line = KeyFile { form: KeyFileForm::Base64OneLine, block: block(256) }.encode();
        assert_eq!(one_line.len(), 345);
        assert_eq!(detect_key_file(&one_line[..344]).unwrap().form(), KeyFileForm::Base64OneLine);
        let wrapped = KeyFile { form: KeyFileForm::Base64Wrapped, block: block(256) }.encode();
        assert_eq!(wrapped.len(), 350);
    }

    #[test]
    fn nothing_else_is_taken_for_a_key_file() {
        let pem = "-----BEGIN SIDEKEY WRAPPED KEY-----\nData-Id: 00\n\n".to_string() + &"QUJD\n".repeat(80);
        let mut container = b"Salted__".to_vec();
        container.extend(block(256));
        let mut own = b"SIDEKEY\0".to_vec();
        own.extend(block(256));
        let text_container = encode(&container, ContainerEncoding::Base64Wrapped).into_bytes();
        let umlauts = "\u{e4}\u{f6}".repeat(100).into_bytes();
        let damaged =
            [&encode(&block(256), ContainerEncoding::Base64Wrapped).into_bytes()[..], b"*"].concat();
        for bytes in [
            pem.into_bytes(),
            container,
            own,
            text_container,
            umlauts,
            damaged,
            block(255),
            block(1025),
            block(5000),
            encode(&block(255), ContainerEncoding::Base64OneLine).into_bytes(),
            encode(&block(1025), ContainerEncoding::Base64Wrapped).into_bytes(),
            vec![],
        ] {
            assert_eq!(detect_key_file(&bytes), None, "{} bytes", bytes.len());
        }
    }

    #[test]
    fn a_key_file_opens_with_its_own_key_and_says_what_is_wrong_with_others() {
        let (own, other, large) = (
            PrivateKey::generate(2048).unwrap(),
            PrivateKey::generate(2048).unwrap(),
            PrivateKey::generate(3072).unwrap(),
        );
        let password = PasswordBlock::from_bytes(vec![b'x'; 244]);
        let file = KeyFile::wrap(&password, own.public(), KeyFileForm::Raw).unwrap();
        let opened = file.open([&large, &own]).unwrap();
        assert_eq!((opened[0].expose(), opened[0].opened_by()), (&[b'x'; 244][..], Some(own.id())));

        let error = file.open([&other]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Auth);
        assert_eq!(error.to_string(), "wrong private key: none that was given opens this key file");
        let error = file.open([&large]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Auth);
        assert!(error.to_string().contains("for an RSA key of 2048 bits"), "{error}");
        assert_eq!(error.remedy(), Some("name the private key of its pair with --identity"));
    }
}
