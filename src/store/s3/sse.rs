//! Encryption by the service, in the words of requests.

use aws_sdk_s3::types::ServerSideEncryption;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use crate::store::{CustomerKey, Encryption};

const ALGORITHM: &str = "AES256";

/// The headers of a write.
#[derive(Default)]
pub(super) struct Sse {
    pub(super) algorithm: Option<ServerSideEncryption>,
    pub(super) kms_key: Option<String>,
    pub(super) customer: CustomerHeaders,
}

/// The headers that bring a key of the customer's. They are never shown.
#[derive(Default)]
pub(super) struct CustomerHeaders {
    pub(super) algorithm: Option<String>,
    pub(super) key: Option<String>,
    pub(super) md5: Option<String>,
}

impl Sse {
    pub(super) fn new(encryption: Option<&Encryption>) -> Self {
        match encryption {
            None => Self::default(),
            Some(Encryption::Service) => {
                Self { algorithm: Some(ServerSideEncryption::Aes256), ..Self::default() }
            }
            Some(Encryption::Kms(key)) => Self {
                algorithm: Some(ServerSideEncryption::AwsKms),
                kms_key: key.clone(),
                ..Self::default()
            },
            Some(Encryption::Customer(key)) => {
                Self { customer: CustomerHeaders::new(Some(key)), ..Self::default() }
            }
        }
    }
}

impl CustomerHeaders {
    pub(super) fn new(key: Option<&CustomerKey>) -> Self {
        let Some(key) = key else { return Self::default() };
        Self {
            algorithm: Some(ALGORITHM.into()),
            key: Some(STANDARD.encode(key.expose())),
            md5: Some(content_md5(key.expose())),
        }
    }
}

/// The key of the customer's that a write asks for.
pub(super) fn customer_key(encryption: Option<&Encryption>) -> Option<&CustomerKey> {
    match encryption {
        Some(Encryption::Customer(key)) => Some(key),
        _ => None,
    }
}

/// As `Content-MD5` has it: the service compares it with what arrives.
pub(super) fn content_md5(bytes: &[u8]) -> String {
    STANDARD.encode(Md5::digest(bytes))
}

/// For requests that need a checksum: `x-amz-checksum-*` is what services refuse.
pub(super) fn with_content_md5(request: &mut HttpRequest) {
    let Some(md5) = request.body().bytes().map(content_md5) else { return };
    let headers = request.headers_mut();
    let checksums: Vec<String> = headers
        .iter()
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.starts_with("x-amz-checksum-") || name == "x-amz-sdk-checksum-algorithm")
        .collect();
    for name in checksums {
        headers.remove(name);
    }
    headers.insert("content-md5", md5);
}

/// Puts the headers of a write on a request.
macro_rules! encrypted {
    ($request:expr, $encryption:expr) => {{
        let sse = crate::store::s3::sse::Sse::new($encryption);
        $request
            .set_server_side_encryption(sse.algorithm)
            .set_ssekms_key_id(sse.kms_key)
            .set_sse_customer_algorithm(sse.customer.algorithm)
            .set_sse_customer_key(sse.customer.key)
            .set_sse_customer_key_md5(sse.customer.md5)
    }};
}

/// Puts a key of the customer's on a request about what is there, or on a part.
macro_rules! with_key {
    ($request:expr, $key:expr) => {{
        let headers = crate::store::s3::sse::CustomerHeaders::new($key);
        $request
            .set_sse_customer_algorithm(headers.algorithm)
            .set_sse_customer_key(headers.key)
            .set_sse_customer_key_md5(headers.md5)
    }};
}

/// Puts the key of what is copied on a request.
macro_rules! with_source_key {
    ($request:expr, $key:expr) => {{
        let headers = crate::store::s3::sse::CustomerHeaders::new($key);
        $request
            .set_copy_source_sse_customer_algorithm(headers.algorithm)
            .set_copy_source_sse_customer_key(headers.key)
            .set_copy_source_sse_customer_key_md5(headers.md5)
    }};
}

pub(super) use {encrypted, with_key, with_source_key};
