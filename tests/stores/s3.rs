//! The store of S3, on LocalStack's: what is special about it. What a service does wrong is in `s3_faults.rs`.

use std::sync::Arc;

use aws_sdk_s3::types::BucketVersioningStatus;
use bytes::Bytes;
use sidekey::ErrorKind;
use sidekey::store::retry::{Policy, Retry};
use sidekey::store::{
    CustomerKey, DefaultEncryption, Encryption, GetOptions, ListOptions, Listed, OnlyIf, PutOptions, Store,
    Unfinished,
};

use crate::s3_server::{self, Versions, admin};
use crate::store_suite::{
    assert_kind, block_on, bytes_of, info, list, noise, put, put_if, read, read_version, unfinished, versions,
};

fn retrying(versions: Versions) -> (Retry<dyn Store>, ()) {
    let bucket = block_on(s3_server::bucket(versions));
    (Retry::new(s3_server::store(&bucket), Policy::default()), ())
}

store_suite!(unversioned, retrying(Versions::Off));
store_suite!(versioned, retrying(Versions::On));
