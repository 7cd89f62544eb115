//! The command line, by running it.

#[path = "../common/mod.rs"]
mod common;

mod damage;
mod files;
mod get;
mod help;
mod json;
mod keys;
mod kill;
mod ls;
mod put;
mod remote;
mod rewrap;
mod rm;
mod rotate;
mod secrets;
mod services;
mod stop;
mod verify;
