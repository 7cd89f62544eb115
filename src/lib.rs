//! Client-side envelope encryption for backups.
//!
//! # Speed
//! Profiles are those of the program that is built, not of the crates that it uses, and the kernel (`crypto::lanes`) has to be
//! compiled as one unit: the rounds of `aes` for several blocks become part of its loops then, and it is ten to fifty times as fast.
//! These lines belong into the program's `Cargo.toml`:
//!
//! ```toml
//! [profile.release.package.sidekey-kernel]
//! codegen-units = 1
//! ```
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

pub mod crypto;
mod disk;
mod error;
pub mod format;
mod id;
pub mod keys;
pub mod location;
pub mod name;
pub mod open;
pub mod ops;
pub mod pair;
mod pipeline;
pub mod random;
pub mod recipe;
pub mod rewrap;
pub mod seal;
pub mod secret;
pub mod store;
mod temporary;
mod time;
mod unnamed;
pub mod vault;
pub mod wrap;

pub use error::{Error, ErrorKind, Failure, IoContext, Result};
pub use id::{DataId, KeyId, VaultId, hex};
pub use time::rfc3339;
