//! Cryptography without files, network, environment or clock. Bytes in, bytes out.

pub mod derive;
pub mod ivs;
pub mod recipe;
pub mod rsa;
pub mod sections;

pub use sidekey_kernel as lanes;
