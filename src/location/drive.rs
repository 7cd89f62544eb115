//! Performs the steps of [`crate::pair`] on a [`Location`](super::Location), whatever its store.
//!
//! What may be done, and in which order, is decided there. Here a step becomes calls of the store, and their answers a
//! reply: what is not known is never taken for absent, and what may have been done never for not done.

mod clean;
mod copy;
mod examine;
mod fetch;
mod key_versions;
mod located;
mod names;
mod put;
mod recipe;
mod relocate;
mod remove;
mod rewrap;
mod supersede;

pub use crate::pair::IfExists;
pub use clean::{CleanOptions, CleanPlan, Cleaned, Deletion, Leftover, clean, plan_clean, store_time};
pub use copy::{CopiedPair, CopyRequest, copy};
pub use names::{UnusedName, clean_names, plan_names};
pub use put::{
    Begun, Content, Copied, PartSource, PutRequest, Stored, UploadMemory, exists, has_envelope, put, put_over,
};
pub use recipe::Recipes;
pub use remove::{Kept, RemoveOptions, Removed, WhyKept, remove};
pub use rewrap::{
    Facts, Headers, Listed, RewrapMemory, RewrapOptions, Rewrapped, TextDigest, rewrap, rewrap_listed,
};
pub use supersede::{Superseded, stands_over, supersede};
