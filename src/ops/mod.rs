//! The operations of the command line as plain functions: options in, report out; nothing here prints.

pub mod atomic;
pub mod audit;
pub mod cat;
pub mod clean;
pub mod decrypt;
pub mod doctor;
pub mod encrypt;
pub mod events;
pub mod filter;
pub mod get;
pub mod inspect;
pub mod inventory;
mod look;
pub mod ls;
pub mod pair_files;
mod parallel;
pub mod part;
mod place;
pub mod put;
mod recipe_files;
mod recipe_objects;
pub mod recipients;
pub mod reencrypt;
pub mod remove;
pub mod reports;
mod restore;
pub mod rewrap;
mod rights;
pub mod rotate;
mod runtime;
mod source;
#[cfg(feature = "sync")]
pub mod sync;
pub mod transfer;
pub mod vault;
pub mod verify;
pub mod walk;
