//! The operations of the command line as plain functions: options in, report out; nothing here prints.

pub mod atomic;
pub mod decrypt;
pub mod encrypt;
pub mod events;
pub mod filter;
pub mod inspect;
pub mod pair_files;
mod parallel;
pub mod put;
mod recipe_files;
pub mod rewrap;
mod runtime;
mod source;
pub mod walk;
