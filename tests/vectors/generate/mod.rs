//! The deterministic generator of `fixtures/vectors`: one scenario a file, every byte a function of its name.
//!
//! `cargo run --release --example make_vectors` writes the files; the test `vectors` compares them with what this makes.

mod damaged;
mod drafts;
mod envelopes;
mod file;
mod good;
mod rsa;
mod writer;

pub(crate) use file::{Expect, Vector};

/// The folder of the vectors.
pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/vectors");
/// The vector that another generator makes: `tests/python/worked_example.py`.
pub(crate) const WORKED_EXAMPLE: &str = "worked-example";

/// A vector, and what sidekey's own error says of it, which is no part of the file.
pub(crate) struct Scenario {
    /// The name of the file, without `.vec`.
    pub(crate) name: String,
    /// What the error must contain; empty for a good one.
    pub(crate) says: &'static str,
    /// The file.
    pub(crate) vector: Vector,
}

/// All scenarios, in the order of their classes.
pub(crate) fn scenarios() -> Vec<Scenario> {
    [good::scenarios(), drafts::scenarios(), damaged::scenarios(), envelopes::scenarios()]
        .into_iter()
        .flatten()
        .collect()
}
