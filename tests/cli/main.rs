//! The command line, by running it.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/s3_server.rs"]
mod s3_server;

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
mod s3;
mod secrets;
mod stop;
mod verify;
