//! The operations of the command line as plain functions: options in, report out; nothing here prints.

pub mod atomic;
pub mod audit;
pub mod cat;
pub mod decrypt;
pub mod encrypt;
pub mod events;
pub mod filter;
pub mod get;
pub mod inspect;
mod look;
mod lookup;
pub mod ls;
pub mod pair_files;
mod parallel;
pub mod part;
pub mod put;
mod recipe_files;
pub mod remove;
mod restore;
pub mod rewrap;
mod runtime;
mod source;
pub mod verify;
pub mod walk;
