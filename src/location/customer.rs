//! Containers that a service encrypts once more, with a key that comes with every request (SSE-C).
//!
//! Each container has a key of its own, derived from its file key: it is in the envelope already, which is written before
//! the container and not under such a key. Without it not even the header can be read. [`Unlocking`] is the one place
//! that finds it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use zeroize::Zeroizing;

use super::cleartext::Cleartext;
use super::read::small;
use crate::crypto::derive::Derivation;
use crate::crypto::rsa::PrivateKey;
use crate::format::{Entry, Envelope};
use crate::name::{envelope_name, is_envelope_name};
use crate::secret::FileKey;
use crate::store::layer::Layer;
use crate::store::{
    CustomerKey, DATA_ID_INFO, Download, Encryption, GetOptions, ListOptions, Listed, Object, Store,
    VersionId,
};
use crate::wrap::open_entry;
use crate::{DataId, Error, ErrorKind, Result};

/// The most envelopes that are tried for one container: anybody can put more there.
const MOST_TRIED: usize = 64;

/// The most keys that are remembered of a generation.
const MOST_KNOWN: usize = 1 << 10;

/// The header of entries whose container a service keeps under a key that it does not have, and its value.
const SSE: &str = "Sse";
const SSE_C: &str = "c";

/// Whether an entry says that a service keeps its container so.
pub(super) fn is_customers(entry: &Entry) -> bool {
    entry.extra.iter().any(|(name, value)| name == SSE && value == SSE_C)
}

/// How a service is asked to encrypt a pair, on top of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PairEncryption {
    /// As it does by default.
    #[default]
    ByDefault,
    /// Container and envelope, with a key that the service has.
    Both(Encryption),
    /// The container with a key that comes with every request: this one, or one derived from its file key. The envelope
    /// as by default: it holds the key.
    Customer(Option<CustomerKey>),
    /// Files as they are, each with a key derived from its file key: only the service encrypts them. Folders and symlinks as
    /// under [`Self::Customer`] without a key.
    Cleartext,
}

impl PairEncryption {
    /// What is asked for about the envelope.
    pub fn of_envelope(&self) -> Option<Encryption> {
        match self {
            Self::Both(encryption) => Some(encryption.clone()),
            Self::ByDefault | Self::Customer(_) | Self::Cleartext => None,
        }
    }

    /// Whether containers go with keys that the service does not keep.
    pub fn is_customers(&self) -> bool {
        matches!(self, Self::Customer(_) | Self::Cleartext)
    }

    /// The headers that each entry gets: without a key nothing else tells what the service keeps so from what is not ours.
    pub fn headers(&self) -> Vec<(String, String)> {
        match self.is_customers() {
            true => vec![(SSE.into(), SSE_C.into())],
            false => vec![],
        }
    }

    /// What is asked for about the container with this file key and data id.
    pub fn of_container(&self, file_key: &FileKey, data_id: &DataId) -> Option<Encryption> {
        match self {
            Self::ByDefault => None,
            Self::Both(encryption) => Some(encryption.clone()),
            Self::Customer(Some(fixed)) => Some(Encryption::Customer(fixed.named(data_id.to_string()))),
            Self::Customer(None) | Self::Cleartext => Some(Encryption::Customer(derived(file_key, data_id))),
        }
    }
}

/// The key of a container under SSE-C; its name is the data id.
pub(super) fn derived(file_key: &FileKey, data_id: &DataId) -> CustomerKey {
    CustomerKey::new(Derivation::sse_key(file_key, data_id).expose(), Some(data_id.to_string()))
}

/// Reads a key for all containers: 32 bytes as they are, or in hex or base64.
///
/// # Errors
/// `Input` when it is none of these.
pub fn parse_key(bytes: &[u8]) -> Result<CustomerKey> {
    let text = bytes.trim_ascii();
    let decoded = match text.len() {
        _ if bytes.len() == 32 => Some(Zeroizing::new(bytes.to_vec())),
        64 => from_hex(text),
        _ => {
            let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
            STANDARD.decode_vec(text, &mut decoded).ok().map(|()| decoded)
        }
    };
    let key = decoded.as_ref().and_then(|decoded| <&[u8; 32]>::try_from(decoded.as_slice()).ok());
    key.map(|key| CustomerKey::new(key, None)).ok_or_else(|| {
        Error::input("is no key of 32 bytes, nor that in hex or base64")
            .hint("openssl rand -hex 32 makes one")
    })
}

fn from_hex(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let mut decoded = Zeroizing::new(Vec::with_capacity(32));
    for pair in text.chunks(2) {
        decoded.push(byte(pair)?);
    }
    Some(decoded)
}

/// A store that reads containers under SSE-C with the keys that their envelopes hold.
///
/// What the store refuses for want of a key is asked for again with those that the private keys open, or with the one key
/// for all. Nothing is believed by that: it is the header that commits to a file key, and the sections that are
/// authenticated.
pub struct Unlocking {
    inner: Arc<dyn Store>,
    identities: Vec<PrivateKey>,
    fixed: Option<Unlocked>,
    /// The keys that were right.
    known: Mutex<Known>,
    /// Another one, that the store is asked through.
    inside: Option<Arc<Self>>,
}

/// What opens an object.
#[derive(Clone, Debug)]
struct Unlocked {
    key: CustomerKey,
    what: What,
}

/// What an envelope says of its object.
#[derive(Clone, Debug)]
enum What {
    /// It is a container.
    Container,
    /// The service alone encrypts it.
    Cleartext(Arc<Cleartext>),
    /// The same, but nothing tells what it must be, for this reason.
    Damaged(String),
}

impl Unlocked {
    /// What a key opens of which nothing else is known.
    fn by(key: CustomerKey) -> Self {
        Self { key, what: What::Container }
    }

    fn from_entry(entry: &Entry, identities: &[PrivateKey]) -> Option<Self> {
        let file_key = identities.iter().find_map(|identity| open_entry(entry, identity))?;
        let what = match Cleartext::is_marked(entry).then(|| Cleartext::open(entry, &file_key)) {
            None => What::Container,
            Some(Ok(cleartext)) => What::Cleartext(Arc::new(cleartext)),
            Some(Err(error)) => What::Damaged(error.line()),
        };
        Some(Self { key: derived(&file_key, &entry.data_id), what })
    }
}

/// By object and version, in two generations: the older one is forgotten as a whole.
#[derive(Default)]
struct Known {
    young: BTreeMap<(String, VersionId), Unlocked>,
    old: BTreeMap<(String, VersionId), Unlocked>,
}

impl Known {
    fn get(&self, object: &(String, VersionId)) -> Option<&Unlocked> {
        self.young.get(object).or_else(|| self.old.get(object))
    }

    fn insert(&mut self, object: (String, VersionId), unlocked: Unlocked) {
        if self.young.len() >= MOST_KNOWN {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(object, unlocked);
    }
}

impl fmt::Debug for Unlocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unlocking").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Unlocking {
    /// With one key for all containers.
    pub fn with_key(inner: Arc<dyn Store>, key: CustomerKey) -> Self {
        Self {
            inner,
            identities: vec![],
            fixed: Some(Unlocked::by(key)),
            known: Mutex::default(),
            inside: None,
        }
    }

    /// With the private keys that open envelopes.
    ///
    /// # Errors
    /// What sharing a key fails with.
    pub fn with_identities(inner: Arc<dyn Store>, identities: &[PrivateKey]) -> Result<Self> {
        let identities = identities.iter().map(PrivateKey::share).collect::<Result<_>>()?;
        Ok(Self { inner, identities, fixed: None, known: Mutex::default(), inside: None })
    }

    /// The same where its store is asked through another one.
    #[must_use]
    pub(super) fn within(self, inside: Option<Arc<Self>>) -> Self {
        Self { inside, ..self }
    }

    /// What is known of an object that was just read and that the service alone encrypts.
    pub(super) fn cleartext(&self, object: &Object) -> Option<Arc<Cleartext>> {
        match self.known(&object.key, Some(&object.version)) {
            Some(Unlocked { what: What::Cleartext(cleartext), .. }) => Some(cleartext),
            Some(_) => None,
            None => self.inside.as_ref()?.cleartext(object),
        }
    }

    /// Asks again with every key that may be right; `refused` is how the store answered without.
    async fn unlock(&self, key: &str, options: &GetOptions, refused: Error) -> Result<Download> {
        if let Some(fixed) = &self.fixed
            && let Some(download) = self.attempt(key, options, fixed).await?
        {
            return Ok(download);
        }
        if !self.identities.is_empty() {
            let mut damaged = None;
            let hinted = self.hinted(key, options.version.as_ref()).await?;
            if let Some(download) = self.try_envelopes(key, options, hinted, &mut damaged).await? {
                return Ok(download);
            }
            let listed = self.listed(key).await?;
            if let Some(download) = self.try_envelopes(key, options, listed, &mut damaged).await? {
                return Ok(download);
            }
            if let Some(damaged) = damaged {
                return Err(damaged);
            }
        }
        Err(refused.hint(
            "the service keeps it under a key of its own (SSE-C): give the private key of one of its recipients with \
             --identity, or the key for all with --sse-c-key-file",
        ))
    }

    /// The names of the envelopes that the data id beside the container leads to, each with the version to read.
    async fn hinted(
        &self,
        key: &str,
        version: Option<&VersionId>,
    ) -> Result<Vec<(String, Option<VersionId>)>> {
        let info = match self.inner.stat(key, version).await {
            Ok(object) => object.info.unwrap_or_default(),
            Err(_) => return Ok(vec![]),
        };
        let data_id = info.get(DATA_ID_INFO).and_then(|id| id.parse::<DataId>().ok());
        let name = data_id.and_then(|data_id| envelope_name(key, Some(&data_id)));
        Ok(name.map(|name| (name, None)).into_iter().collect())
    }

    /// All that are called like its envelopes, in all their versions.
    async fn listed(&self, key: &str) -> Result<Vec<(String, Option<VersionId>)>> {
        let versions = self.inner.capabilities().await?.versions;
        let mut found = vec![];
        let mut listed = envelopes_of(self.inner.as_ref(), key, versions);
        while let Some(object) = listed.next().await.transpose()? {
            if !object.marker && found.len() < MOST_TRIED {
                found.push((object.key, versions.then_some(object.version)));
            }
        }
        Ok(found)
    }

    async fn try_envelopes(
        &self,
        key: &str,
        options: &GetOptions,
        envelopes: Vec<(String, Option<VersionId>)>,
        damaged: &mut Option<Error>,
    ) -> Result<Option<Download>> {
        for (name, version) in envelopes {
            let Ok((_, text)) = small(self.inner.as_ref(), &name, version).await else { continue };
            let Ok(envelope) = Envelope::parse(&text) else { continue };
            for unlocked in self.keys(&envelope) {
                let download = self.attempt(key, options, &unlocked).await?;
                match (download, unlocked.what) {
                    (None, _) => {}
                    // Another version of the envelope may be sound.
                    (Some(_), What::Damaged(line)) => {
                        let error = Error::integrity(line).about(self.inner.show(key));
                        *damaged = Some(error.hint("restore an older version of the .key.enc file"));
                    }
                    (Some(download), _) => return Ok(Some(download)),
                }
            }
        }
        Ok(None)
    }

    /// The keys that an envelope holds for the private keys at hand.
    fn keys(&self, envelope: &Envelope) -> Vec<Unlocked> {
        let mut keys: Vec<Unlocked> = vec![];
        for unlocked in envelope.entries().filter_map(|entry| Unlocked::from_entry(entry, &self.identities)) {
            // Another entry for the same key may be sound where one is damaged.
            match keys.iter_mut().find(|other| other.key == unlocked.key) {
                Some(other) if matches!(other.what, What::Damaged(_)) => *other = unlocked,
                Some(_) => {}
                None => keys.push(unlocked),
            }
        }
        keys
    }

    /// Asks with this key; nothing when it is not the right one.
    async fn attempt(
        &self,
        key: &str,
        options: &GetOptions,
        unlocked: &Unlocked,
    ) -> Result<Option<Download>> {
        let options = GetOptions { customer_key: Some(unlocked.key.clone()), ..options.clone() };
        match self.inner.get(key, &options).await {
            Ok(download) if matches!(unlocked.what, What::Damaged(_)) => Ok(Some(download)),
            Ok(download) => {
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                known.insert((key.to_owned(), download.object.version.clone()), unlocked.clone());
                Ok(Some(download))
            }
            // Some services call it a wrong key, others a lack of rights; without a key they had said what they lack.
            Err(error) if matches!(error.kind(), ErrorKind::Auth | ErrorKind::Permission) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn known(&self, key: &str, version: Option<&VersionId>) -> Option<Unlocked> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(key.to_owned(), version?.clone())).cloned()
    }
}

/// The objects that are called `NAME.<16 lower-case hex digits>.key.enc`, as the envelopes of a container do.
pub(super) fn envelopes_of<'s>(
    store: &'s dyn Store,
    container: &str,
    versions: bool,
) -> BoxStream<'s, Result<Object>> {
    let prefix = container.strip_suffix("enc").unwrap_or(container).to_owned();
    let options = ListOptions { prefix: prefix.clone(), delimiter: true, versions, after: None };
    let listed = store.list(options).filter_map(move |listed| {
        let object = match listed {
            Ok(Listed::Object(object)) if is_first_form(&object.key, &prefix) => Some(Ok(object)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        };
        std::future::ready(object)
    });
    listed.boxed()
}

fn is_first_form(key: &str, prefix: &str) -> bool {
    let short = key.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(".key.enc"));
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    short.is_some_and(|short| short.len() == 16 && short.bytes().all(hex))
}

#[async_trait]
impl Layer for Unlocking {
    fn below(&self) -> &dyn Store {
        self.inner.as_ref()
    }

    async fn get(&self, key: &str, options: &GetOptions) -> Result<Download> {
        let known = match options.customer_key {
            Some(_) => None,
            None => self.known(key, options.version.as_ref()),
        };
        if let Some(known) = known
            && let Some(download) = self.attempt(key, options, &known).await?
        {
            return Ok(download);
        }
        match self.inner.get(key, options).await {
            Err(error)
                if error.kind() == ErrorKind::Auth
                    && options.customer_key.is_none()
                    && !is_envelope_name(key) =>
            {
                self.unlock(key, options, error).await
            }
            answer => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_for_all_is_bytes_hex_or_base64() {
        let bytes: Vec<u8> = (100..132).collect();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let base64 = STANDARD.encode(&bytes);
        for text in
            [bytes.clone(), hex.clone().into(), format!("{hex}\n").into(), format!(" {base64}\r\n").into()]
        {
            assert_eq!(parse_key(&text).unwrap().expose().as_slice(), bytes, "{text:?}");
        }
        for bad in [&b""[..], &bytes[1..], &hex.as_bytes()[1..], &base64.as_bytes()[4..], &[b'g'; 64]] {
            let error = parse_key(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Input, "{bad:?}");
            assert!(!error.line().contains(&hex[2..]), "{error:?}");
        }
    }

    #[test]
    fn envelopes_are_found_by_sixteen_digits_and_nothing_else() {
        assert!(is_first_form("p/x.0123456789abcdef.key.enc", "p/x."));
        for other in [
            "p/x.0123456789ABCDEF.key.enc",
            "p/x.key.enc",
            "p/x.y.0123456789abcdef.key.enc",
            "p/x.0123456789abcde.key.enc",
        ] {
            assert!(!is_first_form(other, "p/x."), "{other}");
        }
    }
}
