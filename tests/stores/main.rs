//! The stores: what every store does, what is special about some, and the steps of pairs on them.

#[macro_use]
#[path = "../store_suite/mod.rs"]
mod store_suite;

#[path = "../common/http_stub.rs"]
mod http_stub;
#[path = "../common/s3_server.rs"]
mod s3_server;
#[path = "../common/b2_server.rs"]
mod server;

mod b2;
mod b2_faults;
mod b2_server;
mod faults;
mod local;
mod pair;
mod s3;
mod s3_deletes;
mod s3_faults;
mod s3_lists;
mod suite;
