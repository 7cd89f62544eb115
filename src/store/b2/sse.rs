//! Encryption by the service, as headers and as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::store::{CustomerKey, Encryption};
use crate::{Error, Result};

/// The only algorithm there is.
pub(super) const ALGORITHM: &str = "AES256";
/// Under this name file info holds the name of the key, as the tools of the service have it.
pub(super) const KEY_ID_INFO: &str = "sse_c_key_id";

const MODE: HeaderName = HeaderName::from_static("x-bz-server-side-encryption");
const CUSTOMER_ALGORITHM: HeaderName =
    HeaderName::from_static("x-bz-server-side-encryption-customer-algorithm");
const CUSTOMER_KEY: HeaderName = HeaderName::from_static("x-bz-server-side-encryption-customer-key");
const CUSTOMER_KEY_MD5: HeaderName = HeaderName::from_static("x-bz-server-side-encryption-customer-key-md5");

/// What an upload says about its encryption.
///
/// # Errors
/// `Input` for what the service does not have.
pub(super) fn headers(encryption: Option<&Encryption>) -> Result<HeaderMap> {
    match encryption {
        None => Ok(HeaderMap::new()),
        Some(Encryption::Service) => Ok(HeaderMap::from_iter([(MODE, HeaderValue::from_static(ALGORITHM))])),
        Some(Encryption::Customer(key)) => key_headers(key),
        Some(Encryption::Kms(_)) => Err(no_kms()),
    }
}

/// What goes with every request about the bytes of an object that a customer's key encrypts.
///
/// # Errors
/// None in practice: Base64 is always a header's value.
pub(super) fn key_headers(key: &CustomerKey) -> Result<HeaderMap> {
    let secret = Zeroizing::new(STANDARD.encode(key.expose()));
    let value = HeaderValue::from_str(&secret).map_err(|_| Error::input("the key is no header"));
    let mut value = value?;
    value.set_sensitive(true);
    let md5 = HeaderValue::from_str(&md5(key)).map_err(|_| Error::input("the key is no header"))?;
    Ok(HeaderMap::from_iter([
        (CUSTOMER_ALGORITHM, HeaderValue::from_static(ALGORITHM)),
        (CUSTOMER_KEY, value),
        (CUSTOMER_KEY_MD5, md5),
    ]))
}

/// The same for calls that are JSON.
///
/// # Errors
/// `Input` for what the service does not have.
pub(super) fn json(encryption: &Encryption) -> Result<Value> {
    match encryption {
        Encryption::Service => Ok(json!({"mode": "SSE-B2", "algorithm": ALGORITHM})),
        Encryption::Customer(key) => Ok(key_json(key)),
        Encryption::Kms(_) => Err(no_kms()),
    }
}

/// The key of a source or target.
pub(super) fn key_json(key: &CustomerKey) -> Value {
    json!({
        "mode": "SSE-C",
        "algorithm": ALGORITHM,
        "customerKey": STANDARD.encode(key.expose()),
        "customerKeyMd5": md5(key),
    })
}

fn md5(key: &CustomerKey) -> String {
    STANDARD.encode(Md5::digest(key.expose()))
}

fn no_kms() -> Error {
    Error::input("Backblaze B2 has no key management (SSE-KMS)")
        .hint("take SSE-B2, with keys of the service, or SSE-C, with one of yours")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_customers_key_is_sent_and_never_shown() {
        let key = CustomerKey::new(b"SxVmYq3t6v9y$B&E)H@McQfTjWnZr4u7", None);
        let headers = headers(Some(&Encryption::Customer(key.clone()))).unwrap();
        assert_eq!(headers[CUSTOMER_KEY], "U3hWbVlxM3Q2djl5JEImRSlIQE1jUWZUalduWnI0dTc=");
        assert_eq!(headers[CUSTOMER_KEY_MD5], "SWx9GFv5BTT1jdwf48Bx+Q==");
        assert_eq!(headers[CUSTOMER_ALGORITHM], "AES256");
        assert!(!format!("{headers:?}").contains("U3hWbVlx"));
        let json = key_json(&key);
        assert_eq!(json["customerKey"], "U3hWbVlxM3Q2djl5JEImRSlIQE1jUWZUalduWnI0dTc=");
    }

    #[test]
    fn there_is_no_key_management() {
        assert_eq!(headers(Some(&Encryption::Kms(None))).unwrap_err().kind(), ErrorKind::Input);
        assert_eq!(json(&Encryption::Kms(None)).unwrap_err().kind(), ErrorKind::Input);
    }
}
