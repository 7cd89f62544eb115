//! The store that fails where it is told to, and the store that tries again.

#[path = "../store_suite/mod.rs"]
mod store_suite;

mod faulty;
mod random;
mod spotted;
mod streams;
mod unsure;
mod waits;
