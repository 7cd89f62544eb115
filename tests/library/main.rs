//! The library: keys, containers and envelopes, and the operations on the store in memory.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/edits.rs"]
mod edits;

mod cleartext;
mod container;
mod customer;
mod get;
mod keys;
mod legacy;
mod properties;
mod published;
mod put;
mod put_resume;
mod reencrypt;
mod remove;
mod rights;
mod rotate;
mod rsa_second;
#[cfg(feature = "sync")]
mod sync;
