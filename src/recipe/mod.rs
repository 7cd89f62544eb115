//! Files of the OpenSSL recipe: `NAME.enc` made by `openssl enc -aes-256-cbc`, and beside it `NAME.key.enc`, its
//! one-time password encrypted by `openssl rsautl` (docs/format.md, "Recipe").
//!
//! Reading a pair takes four steps. [`KeyFile::open`] gives the password block, [`Sample::read`] the two ends of the
//! container, [`Settler`] says how the one became the key of the other — the files themselves do not — and
//! [`Reader::decrypt`] deciphers. Writing one is [`NewPair`]. This module knows no paths, prints nothing, and makes
//! no difference between a wrong key and damaged data where the recipe, which is not authenticated, has none.
//!
//! ```
//! use std::io::Cursor;
//!
//! use sidekey::crypto::rsa::PrivateKey;
//! use sidekey::random::OsRandom;
//! use sidekey::recipe::{
//!     ContainerEncoding, KeyFileForm, NewPair, Reader, Sample, Settler, detect_key_file,
//! };
//!
//! let identity = PrivateKey::generate(2048)?;
//! let pair = NewPair::generate(&OsRandom, 10_000)?;
//! let key_file = pair.key_file(identity.public(), KeyFileForm::Raw)?.encode();
//! let mut container = Vec::new();
//! pair.encrypt(&b"hello"[..], ContainerEncoding::Base64Wrapped, &mut container)?;
//!
//! let blocks = detect_key_file(&key_file).unwrap().open([&identity])?;
//! let sample = Sample::read(&mut Cursor::new(&container))?;
//! let decision = Settler::default().decide(&blocks, &sample)?;
//! let mut plaintext = Vec::new();
//! Reader::new(&container[..])?.decrypt(decision.key(), &mut plaintext)?;
//! assert_eq!(plaintext, b"hello");
//! # Ok::<(), sidekey::Error>(())
//! ```

mod base64;
mod container;
mod key_file;
mod new_pair;
mod password;
mod sample;
mod settle;
mod tally;
mod trial;

pub use container::{ContainerEncoding, DETECT_LEN, Reader, detect_container, encrypt, plain_len};
pub use key_file::{KEY_FILE_LIMIT, KeyFile, KeyFileForm, detect_key_file};
pub use new_pair::NewPair;
pub use password::{PasswordBlock, PasswordReading};
pub use sample::Sample;
pub use settle::{Ballot, Basis, Decision, Settler};
pub use tally::QUORUM;
pub use trial::{Named, Parameters, STRONG};
