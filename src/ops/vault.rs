//! Vaults: made, opened with a private key, and compared with what is pinned.

use std::collections::BTreeSet;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::crypto::rsa::{PrivateKey, PublicKey};
use crate::format::Envelope;
use crate::format::envelope::MAX_BYTES;
use crate::keys::KeyFile;
use crate::location::Location;
use crate::location::outside::vault_above;
pub use crate::location::vault::Kept;
use crate::location::vault::{
    self as stored, escrow_name, kept, master_envelope, master_name, own, settings_name,
};
use crate::ops::runtime;
use crate::random::Random;
use crate::secret::FileKey;
use crate::store::{ListOptions, Listed, Object, OnlyIf, PutOptions, Right};
use crate::vault::settings::Settings;
use crate::vault::{MasterKey, NamesMode, Vault, VaultId};
use crate::wrap::{open_entry, wrap};
use crate::{Error, ErrorKind, Result};

/// The most bytes of an escrowed private key that are read.
const MOST_ESCROW: u64 = 64 << 10;

/// A vault, and the key that opens it.
#[derive(Debug)]
pub struct Opened {
    /// What the vault is.
    pub vault: Vault,
    /// Its master key.
    pub master: MasterKey,
}

impl Opened {
    /// The vault of this master key.
    pub fn new(master: MasterKey, settings: Settings) -> Self {
        let Settings { id, generation, names } = settings;
        Self { vault: Vault::new(&master, id, generation, names), master }
    }
}

/// How to make a vault.
#[derive(Debug)]
pub struct InitOptions<'a> {
    /// How names are kept.
    pub names: NamesMode,
    /// Whose private keys open the master key.
    pub recipients: &'a [PublicKey],
    /// The private key that is kept in the vault, encrypted under a passphrase: the text of its file.
    pub escrow: Option<&'a str>,
    /// The time that the master envelope says it was created.
    pub now: SystemTime,
}

/// Makes a vault out of keys that are on this machine alone; [`publish`] makes it one that others can open.
///
/// # Errors
/// What the source of randomness fails with.
pub fn draw(names: NamesMode, random: &dyn Random) -> Result<Opened> {
    let settings = Settings { id: VaultId::generate(random)?, generation: 1, names };
    Ok(Opened::new(MasterKey::generate(random)?, settings))
}

/// Writes what makes a location a vault: the master envelope first, the settings last, so that there is never a vault that
/// nobody can open. The caller has kept the master key before. What an interrupted run with the same master key wrote is
/// gone on with.
///
/// # Errors
/// `Conflict` when it is a vault already, or what stands there is another's: nothing was changed then; what the store
/// fails with: the same again goes on.
pub fn publish(location: &Location, opened: &Opened, options: &InitOptions<'_>) -> Result<()> {
    runtime::start()?.block_on(async {
        location.store().require(location.prefix(), &[Right::List, Right::Read, Right::Write]).await?;
        check_new(location).await?;
        publish_master(location, opened, options).await?;
        if let Some(escrow) = options.escrow {
            let text = Bytes::copy_from_slice(escrow.as_bytes());
            let there = own(location, &escrow_name(), MOST_ESCROW).await?;
            if there.as_ref() != Some(&text) {
                create(location, &escrow_name(), text).await?;
            }
        }
        create(location, &settings_name(), opened.vault.settings_file().into()).await
    })
}

/// The envelope of the master key. One that an interrupted run wrote stays when it is for the same recipients; else the
/// new one takes its place, which holds the same key.
async fn publish_master(location: &Location, opened: &Opened, options: &InitOptions<'_>) -> Result<()> {
    let stored = master_name(opened.vault.generation());
    let data_id = opened.vault.data_id();
    let file_key = FileKey::from_bytes(opened.master.expose());
    let envelope = wrap(&file_key, &data_id, options.recipients, options.now)?.to_text()?;
    let Some(before) = kept(location, &stored, MAX_BYTES as u64).await? else {
        return create(location, &stored, envelope.into()).await;
    };
    let recipients = match Envelope::parse(&before.bytes) {
        Ok(there) if there.entries().all(|entry| entry.data_id == data_id) => {
            there.entries().map(|entry| entry.recipient).collect::<BTreeSet<_>>()
        }
        _ => return Err(is_there(location, &stored)),
    };
    if recipients == options.recipients.iter().map(PublicKey::id).collect() {
        return Ok(());
    }
    // Where objects are, it was a whole vault once, and others open it.
    if any_object(location).await? {
        return Err(is_there(location, &stored));
    }
    replace(location, &stored, envelope.into(), MAX_BYTES as u64, Some(&before)).await.map(drop)
}

/// Whether objects of any kind are there, but for what is sidekey's own.
///
/// # Errors
/// What listing fails with.
pub fn has_objects(location: &Location) -> Result<bool> {
    runtime::start()?.block_on(any_object(location))
}

async fn any_object(location: &Location) -> Result<bool> {
    let options = ListOptions { prefix: location.prefix().to_owned(), ..ListOptions::default() };
    let mut listed = location.store().list(options);
    while let Some(next) = listed.next().await.transpose()? {
        let (Listed::Object(Object { key, .. }) | Listed::Folder(key)) = next;
        if location.relative(&key).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Refuses a location that is a vault already.
///
/// # Errors
/// `Conflict` when it is one; what reading fails with.
pub fn refuse_vault(location: &Location) -> Result<()> {
    runtime::start()?.block_on(check_new(location))
}

async fn check_new(location: &Location) -> Result<()> {
    match stored::settings(location).await? {
        None => Ok(()),
        Some(_) => Err(Error::conflict("is a vault already")
            .about(location.store().show(location.prefix()))
            .hint("sidekey vault join takes part in it")),
    }
}

async fn create(location: &Location, stored: &str, bytes: Bytes) -> Result<()> {
    let (store, key) = (location.store(), location.key(stored));
    let size = Some(bytes.len() as u64);
    let options = PutOptions { only_if: OnlyIf::Absent, size, ..PutOptions::default() };
    match store.put(&key, bytes, &options).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::Conflict => Err(is_there(location, stored)),
        Err(error) => Err(error.about(store.show(&key))),
    }
}

fn is_there(location: &Location, stored: &str) -> Error {
    Error::conflict("is there already, and is not of this machine")
        .about(location.store().show(&location.key(stored)))
        .hint(
            "another init is running, or one was interrupted on another machine: run it there again; if it is lost, look \
             and remove .sidekey/ by hand",
        )
}

/// Whether a location is the root of a vault, as far as can be told: who may only write cannot look.
///
/// # Errors
/// What reading fails with.
pub fn settings(location: &Location) -> Result<Option<Settings>> {
    let read = match runtime::start()?.block_on(stored::settings(location)) {
        Err(error) if error.kind() == ErrorKind::Permission => return Ok(None),
        read => read?,
    };
    let shown = || location.store().show(&location.key(&settings_name()));
    read.map(|bytes| Settings::parse(&bytes).map_err(|error| error.about(shown()))).transpose()
}

/// The root of a vault at or above a path of a store, as far as that can be told.
///
/// # Errors
/// What starting threads fails with.
pub fn above(store: &Location, path: &str) -> Result<Option<String>> {
    Ok(runtime::start()?.block_on(vault_above(&store.shared_store(), path)))
}

/// Refuses a location whose settings are not those of its vault.
///
/// # Errors
/// `Integrity` when they differ or are missing; what reading fails with.
pub fn check(location: &Location) -> Result<()> {
    runtime::start()?.block_on(stored::check_settings(location))
}

/// Opens a vault with private keys: the master key is the one that made its settings. Whether it is the vault that was
/// meant tells only its fingerprint: the public key is public, and anybody who writes there can make one.
///
/// # Errors
/// `NotFound` when it is no vault; `Auth` when the keys open no entry; `Integrity` when what they open did not make the
/// settings.
pub fn open(location: &Location, identities: &[PrivateKey]) -> Result<Opened> {
    let shown = location.store().show(&location.key(&settings_name()));
    let (file, settings, envelope) = runtime::start()?.block_on(async {
        let file = stored::settings(location).await?.ok_or_else(|| {
            Error::not_found("there is no vault")
                .about(&*shown)
                .hint("a vault is named by its root, where sidekey init made it")
        })?;
        let settings = Settings::parse(&file).map_err(|error| error.about(&*shown))?;
        let envelope = master_envelope(location, settings.generation).await?;
        Ok::<_, Error>((file, settings, envelope))
    })?;
    let mut wrong = None;
    for master in masters(&envelope, &settings, identities) {
        let opened = Opened::new(master, settings);
        match opened.vault.check_settings(&file) {
            Ok(()) => return Ok(opened),
            Err(error) => wrong = Some(error.about(&*shown)),
        }
    }
    Err(wrong.unwrap_or_else(|| {
        let given: Vec<String> = identities.iter().map(|key| key.id().short()).collect();
        let wrapped: Vec<String> = envelope.entries().map(|entry| entry.recipient.short()).collect();
        Error::auth(format!(
            "the vault's master key is wrapped for key {}, but the keys given are {}",
            wrapped.join(", "),
            if given.is_empty() { "none".to_owned() } else { given.join(", ") }
        ))
        .about(location.store().show(&location.key(&master_name(settings.generation))))
        .hint("give the private key of one of those recipients with --identity")
    }))
}

/// Every key that the private keys find in a master envelope.
fn masters(envelope: &Envelope, settings: &Settings, identities: &[PrivateKey]) -> Vec<MasterKey> {
    let data_id = settings.id.data_id(settings.generation);
    let entries = envelope.entries().filter(|entry| entry.data_id == data_id);
    entries
        .flat_map(|entry| identities.iter().filter_map(|identity| open_entry(entry, identity)))
        .map(|key| MasterKey::from_bytes(key.expose()))
        .collect()
}

/// Whether the envelope of a vault's master key stands there, whatever else does.
///
/// # Errors
/// What listing fails with.
pub fn has_master(location: &Location) -> Result<bool> {
    let options = ListOptions { prefix: location.key(stored::MASTERS), ..ListOptions::default() };
    let mut listed = location.store().list(options);
    runtime::start()?.block_on(async { Ok(listed.next().await.transpose()?.is_some()) })
}

/// Whether all that these private keys open in an envelope of a master key is the key that made the settings.
///
/// # Errors
/// `Integrity` when one is another: somebody planted it. What reading the settings fails with.
pub(crate) async fn check_master(
    location: &Location,
    stored_name: &str,
    envelope: &Envelope,
    identities: &[PrivateKey],
) -> Result<()> {
    let Some(file) = stored::settings(location).await? else { return Ok(()) };
    let settings = Settings::parse(&file)?;
    if stored_name != master_name(settings.generation) {
        return Ok(());
    }
    let keys = masters(envelope, &settings, identities);
    match keys.into_iter().all(|key| Opened::new(key, settings).vault.check_settings(&file).is_ok()) {
        true => Ok(()),
        false => Err(Error::integrity(
            "holds another key than the one that made the vault's settings; it was left alone",
        )
        .about(location.store().show(&location.key(stored_name)))
        .hint(
            "somebody planted it, or rolled the settings back: compare with an older version or another copy",
        )),
    }
}

/// What is wrong with the keys that a vault keeps, as far as can be told without opening them: the envelope of its master key,
/// and the private key under a passphrase, which must be there where it is `escrowed`. A new machine needs them, and
/// nothing else reads them before.
///
/// # Errors
/// What reading fails with.
pub fn faults(location: &Location, generation: u8, escrowed: bool) -> Result<Vec<Error>> {
    let is_fault = |error: &Error| matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Input);
    let mut faults = vec![];
    match runtime::start()?.block_on(master_envelope(location, generation)) {
        // Who may only write cannot look.
        Err(error) if error.kind() == ErrorKind::Permission => return Ok(faults),
        Ok(_) => {}
        Err(error) if is_fault(&error) => faults.push(error.of_kind(ErrorKind::Integrity)),
        Err(error) => return Err(error),
    }
    let shown = location.store().show(&location.key(&escrow_name()));
    let damaged = match escrow(location)? {
        None if escrowed => Some("the private key that the vault kept under a passphrase is gone"),
        None => None,
        Some(found) => match KeyFile::parse(&found.bytes) {
            Ok(file) if file.is_encrypted() => None,
            Ok(_) => Some("is a private key without a passphrase; sidekey never puts one there"),
            Err(_) => Some("is no private key any more"),
        },
    };
    faults.extend(damaged.map(|damage| {
        Error::integrity(damage).about(shown).hint(
            "nobody restores with the passphrase alone: sidekey vault escrow --replace puts the key there again, or take an older \
             version or another copy",
        )
    }));
    Ok(faults)
}

/// The private key that is kept in a vault, as the text of its file; nothing where there is none.
///
/// # Errors
/// What reading fails with.
pub fn escrow(location: &Location) -> Result<Option<Kept>> {
    runtime::start()?.block_on(kept(location, &escrow_name(), MOST_ESCROW))
}

/// What replacing the escrowed key came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Older versions that were deleted.
    pub purged: u64,
    /// Why others are still there.
    pub left: Vec<String>,
}

/// Writes the escrowed private key in place of the one that was read `before`, and deletes its older versions by the ids that
/// were there then. The new one is read back before any is deleted.
///
/// # Errors
/// What the store fails with; `Conflict` when there is another one than `before`, as far as the store can tell; `Integrity`
/// when what is read back is not what was written. Nothing was deleted then.
pub fn replace_escrow(location: &Location, text: &str, before: Option<&Kept>) -> Result<Replaced> {
    runtime::start()?.block_on(async {
        let key = location.key(&escrow_name());
        location.store().require(&key, &[Right::List, Right::Read, Right::Write]).await?;
        let body = Bytes::copy_from_slice(text.as_bytes());
        replace(location, &escrow_name(), body, MOST_ESCROW, before).await
    })
}

/// Writes a small file of sidekey's own in place of what was read `before`, reads it back, and deletes the versions that were
/// there.
async fn replace(
    location: &Location,
    stored: &str,
    body: Bytes,
    most: u64,
    before: Option<&Kept>,
) -> Result<Replaced> {
    let (store, key) = (location.store(), location.key(stored));
    let keeps_versions = store.capabilities().await?.versions;
    let older = match keeps_versions {
        true => versions(location, &key).await?,
        false => vec![],
    };
    let only_if = match before {
        Some(before) => OnlyIf::Version(before.version.clone()),
        None => OnlyIf::Absent,
    };
    // Not every store can compare while it writes.
    if kept(location, stored, most).await?.as_ref() != before {
        return Err(changed(location, stored));
    }
    let options = PutOptions { only_if, size: Some(body.len() as u64), ..PutOptions::default() };
    match store.put(&key, body.clone(), &options).await {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::Conflict => return Err(changed(location, stored)),
        Err(error) => return Err(error.about(store.show(&key))),
    }
    if own(location, stored, most).await? != Some(body) {
        return Err(Error::integrity("is not what was written; nothing was deleted")
            .about(store.show(&key))
            .hint("run the same again"));
    }
    let mut replaced = Replaced::default();
    for version in older {
        match store.delete(&key, &version).await {
            Ok(()) => replaced.purged += 1,
            Err(error) => replaced.left.push(format!("version {version}: {}", error.line())),
        }
    }
    Ok(replaced)
}

fn changed(location: &Location, stored: &str) -> Error {
    Error::conflict("was changed by somebody else meanwhile; nothing was written")
        .about(location.store().show(&location.key(stored)))
        .hint("look at what is there now, and run the same again")
}

async fn versions(location: &Location, key: &str) -> Result<Vec<String>> {
    let options = ListOptions { prefix: key.to_owned(), versions: true, ..ListOptions::default() };
    let mut listed = location.store().list(options);
    let mut versions = vec![];
    while let Some(next) = listed.next().await.transpose()? {
        if let Listed::Object(object) = next
            && object.key == key
        {
            versions.push(object.version);
        }
    }
    Ok(versions)
}
