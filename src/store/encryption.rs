//! Encryption by the service, on top of ours: keys that the service keeps, or one that every request brings.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// How a service is asked to encrypt what it keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// With a key of the service (SSE-B2, SSE-S3).
    Service,
    /// With a key of the service's key management (SSE-KMS): this one, or the account's default.
    Kms(Option<String>),
    /// With a key that the service does not keep (SSE-C).
    Customer(CustomerKey),
}

/// An AES-256 key that goes with every request about an object (SSE-C). Clones share the bytes, which are wiped with the
/// last of them.
#[derive(Clone)]
pub struct CustomerKey {
    key: Arc<Zeroizing<[u8; 32]>>,
    id: Option<String>,
}

impl CustomerKey {
    /// Copies the 32 bytes of a key. `id` names it where a store keeps such a name (`sse_c_key_id`).
    pub fn new(key: &[u8; 32], id: Option<String>) -> Self {
        let mut copy = Arc::new(Zeroizing::new([0; 32]));
        if let Some(copy) = Arc::get_mut(&mut copy) {
            copy.copy_from_slice(key);
        }
        Self { key: copy, id }
    }

    /// The same key by another name.
    #[must_use]
    pub fn named(&self, id: String) -> Self {
        Self { key: Arc::clone(&self.key), id: Some(id) }
    }

    /// The raw bytes; every use is a place to look at.
    pub fn expose(&self) -> &[u8; 32] {
        &self.key
    }

    /// The name of the key, which is no secret.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

/// The same bytes, in constant time, whatever their names.
impl PartialEq for CustomerKey {
    fn eq(&self, other: &Self) -> bool {
        self.key.as_slice().ct_eq(other.key.as_slice()).into()
    }
}

impl Eq for CustomerKey {}

/// For the state of the store in memory: of all keys the same.
impl Hash for CustomerKey {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomerKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a bucket does with objects that come without a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultEncryption {
    /// Nothing.
    Off,
    /// This.
    On(Encryption),
    /// It may not be asked with these credentials.
    Hidden,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_compared_and_never_shown() {
        let key = CustomerKey::new(&[0xAB; 32], Some("one".into()));
        assert_eq!(key, CustomerKey::new(&[0xAB; 32], None));
        assert_ne!(key, CustomerKey::new(&[0xAC; 32], Some("one".into())));
        let shown = format!("{:?}", Encryption::Customer(key));
        assert_eq!(shown, r#"Customer(CustomerKey { id: Some("one"), .. })"#);
    }
}
