//! The bytes of containers and envelopes (docs/format.md): pure, no cryptography, no files, bounds checked.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)
)]

pub mod envelope;
pub mod header;
pub mod metadata;
pub mod section;

pub use envelope::{Entry, Envelope, Wrap};
pub use header::{HEADER_LEN, Header};
pub use metadata::{FileType, Metadata};
