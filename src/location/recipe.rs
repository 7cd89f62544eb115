//! Pairs of the OpenSSL recipe in a location: `NAME.enc` and, without a data id, `NAME.key.enc`.
//!
//! A script writes both again under the same names, so that on a store with versions each version of the key file is
//! another upload's. Which belongs to which is found out by trying them: the salt stands in the container, and only
//! the right password gives its last block a good padding.

use futures_util::StreamExt as _;

use super::Location;
use super::read::{self, Reader, collect_at_most, small};
use crate::crypto::recipe::RecipeKey;
use crate::crypto::rsa::PrivateKey;
use crate::format::{Envelope, Wrap};
use crate::name::envelope_name;
use crate::recipe::{
    Basis, Decision, KEY_FILE_LIMIT, KeyFile, PasswordBlock, STRONG, Sample, Settler, detect_key_file,
};
use crate::store::{GetOptions, ListOptions, Listed, Object};
use crate::{Error, ErrorKind, Result};

/// How a container of the recipe opens.
#[derive(Debug)]
pub struct FoundKey {
    /// Its AES key and IV.
    pub key: RecipeKey,
    /// Why this is the key; nothing where an envelope carries it, because the container was adopted.
    pub basis: Option<Basis>,
    /// What the user must be told before relying on it.
    pub warning: Option<String>,
}

impl From<Decision> for FoundKey {
    fn from(decision: Decision) -> Self {
        let (basis, warning) = (Some(decision.basis()), decision.warning().map(ToOwned::to_owned));
        Self { key: decision.into_key(), basis, warning }
    }
}

/// Both ends of one version of a container.
///
/// # Errors
/// Those of [`Sample::read`]; `Input` when only reading all of it could tell; what reading fails with.
pub async fn sample(location: &Location, object: &Object) -> Result<Sample> {
    let part = async |range: std::ops::Range<u64>| {
        let options = GetOptions {
            version: Some(object.version.clone()),
            range: Some(range.clone()),
            ..GetOptions::default()
        };
        let download = location.store().get(&object.key, &options).await?;
        let bytes = collect_at_most(download.body, range.end - range.start).await?;
        match bytes.len() as u64 == range.end - range.start {
            true => Ok(bytes),
            false => Err(Error::new(ErrorKind::Transient, "ended early while it was read")),
        }
    };
    let read = async {
        let front = part(0..object.size.min(Sample::END_LEN)).await?;
        let end = match object.size > Sample::END_LEN {
            true => part(object.size - Sample::END_LEN..object.size).await?,
            false => front.clone(),
        };
        Sample::from_ends(object.size, &front, &end)?.ok_or_else(|| {
            Error::input("only reading all of it could tell whether it is whole: its lines have odd lengths")
                .hint("sidekey get reads all of it")
        })
    };
    read.await.map_err(|error: Error| error.about(location.show_key(&object.key)))
}

/// The same of one that is being read, which stands at its first byte then. It may have to be read to its end.
///
/// # Errors
/// Those of [`Sample::read`].
pub fn sample_of(reader: &mut Reader) -> Result<Sample> {
    reader.only(0..HEAD);
    let sample = Sample::read(reader);
    reader.only(0..reader.object().size);
    std::io::Seek::rewind(reader).map_err(|source| Error::io("cannot read", source))?;
    sample
}

/// The key files of a container: what has their names now, or with `versions` all that ever had. Other objects that are
/// called so are left out.
///
/// # Errors
/// What listing and reading fails with.
pub async fn key_files(
    location: &Location,
    container: &str,
    versions: bool,
) -> Result<Vec<(Object, KeyFile)>> {
    let store = location.store();
    let versions = versions && store.capabilities().await?.versions;
    let mut found = Vec::new();
    for (name, is_prefix) in names(location, container) {
        if !versions && !is_prefix {
            match small(store, &name, None).await {
                Ok((object, bytes)) => {
                    found.extend(detect_key_file(&bytes).map(|key_file| (object, key_file)))
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            continue;
        }
        let mut listed = store.list(ListOptions { prefix: name.clone(), versions, ..ListOptions::default() });
        while let Some(next) = listed.next().await.transpose()? {
            let Listed::Object(object) = next else { continue };
            match is_prefix {
                // The key itself is the first of all that begin with it.
                false if object.key != name => break,
                true if !is_key_file_of(location, &object.key, container) => continue,
                _ => {}
            }
            if object.marker || object.size > KEY_FILE_LIMIT as u64 {
                continue;
            }
            match small(store, &object.key, Some(object.version.clone())).await {
                Ok((_, bytes)) => found.extend(detect_key_file(&bytes).map(|key_file| (object, key_file))),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

/// The keys under which the key files of a container stand, and whether others begin so.
fn names(location: &Location, container: &str) -> Vec<(String, bool)> {
    let usual = envelope_name(container, None).map(|name| (name, false));
    let other = location.recipe_suffix().and_then(|suffix| {
        Some((suffix.key_prefix(container)?, suffix.has_name())).filter(|name| Some(name) != usual.as_ref())
    });
    other.into_iter().chain(usual).collect()
}

fn is_key_file_of(location: &Location, key_file: &str, container: &str) -> bool {
    location.recipe_suffix().is_some_and(|suffix| suffix.container_of(key_file).as_deref() == Some(container))
}

/// What private keys make of the key files of a container.
///
/// # Errors
/// `Integrity` when there is none; `Auth` when no key opens any; what reading fails with.
pub async fn open_key_files(
    location: &Location,
    container: &str,
    versions: bool,
    identities: &[PrivateKey],
) -> Result<Vec<Vec<PasswordBlock>>> {
    let mut opened = Vec::new();
    let mut fault = None;
    for (_, key_file) in key_files(location, container, versions).await? {
        match key_file.open(identities) {
            Ok(blocks) => opened.push(blocks),
            Err(error) => fault = Some(error),
        }
    }
    match (opened.is_empty(), fault) {
        (false, _) => Ok(opened),
        (true, Some(fault)) => Err(fault),
        (true, None) => Err(Error::integrity("has no key file").hint(
            "without its .key.enc file nothing opens it; where a script gave that another name, say so with --recipe-suffix",
        )),
    }
}

/// The key of one version of a container: that of the key file that is there now, of an envelope if it was adopted, or of
/// an older version of the key file.
///
/// # Errors
/// Those of [`open_key_files`] and [`Settler::decide`]; `Input` when several versions of the key file fit.
pub async fn find_key(
    location: &Location,
    container: &Object,
    is_current: bool,
    sample: &Sample,
    identities: &[PrivateKey],
    settler: &Settler,
) -> Result<FoundKey> {
    let store = location.store();
    let mut why = None;
    if is_current {
        let opened = open_key_files(location, &container.key, false, identities).await;
        match opened.and_then(|opened| choose(settler, opened.iter().map(Vec::as_slice), sample)) {
            Ok(decision) => return Ok(decision.into()),
            Err(error) => why = Some(error),
        }
    }
    let envelopes = read::envelopes(store, &container.key, &sample.data_id()).await?;
    let envelopes: Vec<Envelope> = envelopes.found.into_iter().map(|found| found.envelope).collect();
    if let Some(key) = adopted_key(sample, &envelopes, identities) {
        return Ok(FoundKey { key, basis: None, warning: None });
    }
    let entries = envelopes.iter().flat_map(Envelope::entries);
    if entries.filter(|entry| entry.wrap == Wrap::RecipeKey).any(|entry| entry.data_id == sample.data_id()) {
        why = Some(
            Error::auth("wrong private key: its envelope is for others")
                .hint("name the private key of one of its recipients with --identity"),
        );
    }
    if store.capabilities().await?.versions {
        let opened = open_key_files(location, &container.key, true, identities).await;
        match opened.and_then(|opened| choose(settler, opened.iter().map(Vec::as_slice), sample)) {
            Ok(decision) => return Ok(decision.into()),
            Err(error) => why = why.or(Some(error)),
        }
    }
    Err(why.unwrap_or_else(|| Error::integrity("has no key file")))
}

/// Decides which of several key files is a container's, and how it was made.
///
/// # Errors
/// Those of [`Settler::decide`]; `Input` when several fit and none of them fits so well that it is no chance.
pub fn choose<'b>(
    settler: &Settler,
    opened: impl IntoIterator<Item = &'b [PasswordBlock]>,
    sample: &Sample,
) -> Result<Decision> {
    let (mut fits, mut fault) = (Vec::<Decision>::new(), None::<Error>);
    for blocks in opened {
        match settler.decide(blocks, sample) {
            Ok(decision) if fits.iter().any(|other| is_same(other.key(), decision.key())) => {}
            Ok(decision) => fits.push(decision),
            // Not to know weighs more than not to fit.
            Err(error) if fault.as_ref().is_none_or(|fault| fault.kind() == ErrorKind::Integrity) => {
                fault = Some(error);
            }
            Err(_) => {}
        }
    }
    let is_strong = |fit: &Decision| sample.padding(fit.key()).is_some_and(|padding| padding >= STRONG);
    let strong = fits.iter().filter(|fit| is_strong(fit)).count();
    match (fits.len(), strong) {
        (1, _) => {}
        (2.., 1) => fits.retain(is_strong),
        (0, _) => return Err(fault.unwrap_or_else(|| Error::integrity("has no key file"))),
        _ => {
            return Err(Error::input("several versions of its key file would fit it, perhaps by chance")
                .hint("look at each: sidekey get --version, or name what made it with --recipe-kdf"));
        }
    }
    fits.pop().ok_or_else(|| Error::integrity("has no key file"))
}

pub(crate) fn is_same(one: &RecipeKey, other: &RecipeKey) -> bool {
    crate::crypto::lanes::same(one.payload().expose(), other.payload().expose())
}

/// The key of an adopted container, when one of these private keys opens one of these envelopes for it.
pub(crate) fn adopted_key(
    sample: &Sample,
    envelopes: &[Envelope],
    identities: &[PrivateKey],
) -> Option<RecipeKey> {
    let entries = envelopes.iter().flat_map(Envelope::entries);
    let ours = entries.filter(|entry| entry.wrap == Wrap::RecipeKey && entry.data_id == sample.data_id());
    ours.flat_map(|entry| identities.iter().map(move |identity| (entry, identity)))
        .filter_map(|(entry, identity)| identity.unwrap(&entry.body, &entry.data_id))
        .filter_map(|payload| RecipeKey::from_payload(payload.expose()).ok())
        .find(|key| sample.padding(key).is_some())
}

/// How much of a container is asked for at once to read its first bytes: text is decoded in such pieces.
const HEAD: u64 = 32 << 10;
