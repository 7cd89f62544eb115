//! The store that fails where it is told to, and the store that tries again.

mod faulty;
mod random;
mod spotted;
mod streams;
mod unsure;
mod waits;
