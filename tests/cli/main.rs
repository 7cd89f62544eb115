//! The command line, by running it.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/edits.rs"]
mod edits;
#[path = "../common/http_stub.rs"]
mod http_stub;
#[path = "../common/s3_server.rs"]
mod s3_server;

#[path = "../common/b2_server.rs"]
mod server;

mod b2;
mod chance;
mod cleartext;
mod damage;
mod doctor;
mod files;
mod get;
mod help;
mod json;
mod keys;
mod kill;
mod legacy;
mod log;
mod ls;
mod put;
mod recipes;
mod remote;
mod rewrap;
mod rm;
mod rotate;
mod rotate_kills;
mod rotate_servers;
mod rotation;
mod s3;
mod s3_lock;
mod s3_requests;
mod s3_tools;
mod secrets;
mod services;
mod stop;
mod sync;
mod sync_model;
mod sync_requests;
mod sync_safety;
mod vault;
mod vault_servers;
mod verify;
