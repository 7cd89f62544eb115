//! Files that the service alone encrypts, in the store in memory.

use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use sidekey::format::{Entry, Envelope, FileType, Metadata};
use sidekey::keys::KeyFile;
use sidekey::location::argument::Target;
use sidekey::location::cleartext::Cleartext;
use sidekey::location::customer::PairEncryption;
use sidekey::location::drive::{self, IfExists, RewrapOptions};
use sidekey::ops::audit::{Subject, audit};
use sidekey::ops::cat::ByteRange;
use sidekey::ops::clean::{CleanOptions, plan};
use sidekey::ops::events::Silent;
use sidekey::ops::filter::Filter;
use sidekey::ops::get::{GetOptions, Overwrite, Source, Which, get};
use sidekey::ops::ls::{LsOptions, ls};
use sidekey::ops::remove::{RemoveOptions, remove};
use sidekey::ops::verify::Level;
use sidekey::pair::RewrapOutcome;
use sidekey::recipe::Named;
use sidekey::rewrap::Rotation;
use sidekey::secret::FileKey;
use sidekey::store::{DATA_ID_INFO, Encryption, Object, Store};
use sidekey::vault::{MasterKey, NamesMode, VaultId};
use sidekey::{DataId, ErrorKind, wrap};

use crate::customer::{BIG, DAY, Vault};

/// Longer than what is checked before anything is printed.
const LONG: usize = (16 << 20) + 5;

fn put(vault: &Vault, name: &str, contents: impl AsRef<[u8]>) {
    assert_eq!(vault.put_as(name, contents, PairEncryption::Cleartext, IfExists::Replace), [1, 0, 0]);
}

fn containers(vault: &Vault) -> Vec<Object> {
    vault.objects().into_iter().filter(|object| !object.key.ends_with(".key.enc")).collect()
}

/// Puts other bytes in the place of an object, under its key.
fn replace(vault: &Vault, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let (object, bytes) = vault.store.state().get(key, None).unwrap();
    let mut bytes = bytes.to_vec();
    change(&mut bytes);
    let encryption = vault.encryption(&object);
    let info = object.info.unwrap();
    let options = sidekey::store::PutOptions { encryption, info, ..sidekey::store::PutOptions::default() };
    vault.store.put(key, bytes.into(), &options).now_or_never().unwrap().unwrap();
}

fn get_all(vault: &Vault) -> [u64; 3] {
    let options = GetOptions {
        recipe: Named::default(),
        identities: vault.identities(&["old"]),
        which: Which::Current,
        overwrite: Overwrite::IfDifferent,
        filter: Filter::default(),
        strict: true,
        resume: true,
        salvage: false,
        dry_run: false,
        jobs: Some(2),
    };
    let summary = get(&[Source::new(vault.target(""))], &vault.place.path("out"), &options, &Silent).unwrap();
    [summary.done, summary.skipped, summary.failed]
}

#[test]
fn it_is_stored_as_it_is_under_a_key_of_its_own() {
    let vault = Vault::new(true);
    let big = "0123456789".repeat(BIG / 10);
    put(&vault, "a", "one");
    put(&vault, "b", &big);
    for (object, contents) in containers(&vault).into_iter().zip(["one", &big]) {
        let (_, bytes) = vault.store.state().get(&object.key, None).unwrap();
        assert!(bytes == contents.as_bytes(), "{}", object.key);
        let id = object.info.as_ref().unwrap()[DATA_ID_INFO].clone();
        let Some(Encryption::Customer(key)) = vault.encryption(&object) else { panic!("{object:?}") };
        assert_eq!(key.id(), Some(&*id));
        let envelope = vault.envelopes().into_iter().find(|envelope| envelope.key.contains(&id[..16]));
        let envelope = envelope.unwrap();
        assert_eq!(vault.encryption(&envelope), None);
        let (_, text) = vault.store.state().get(&envelope.key, None).unwrap();
        let envelope = Envelope::parse(&text).unwrap();
        let entry: &Entry = envelope.entries().next().unwrap();
        let file_key = wrap::open_entry(entry, &vault.place.private("old")).unwrap();
        // The service is never given what the record is sealed with.
        assert_ne!(key.expose(), file_key.expose());
        let cleartext = Cleartext::open(entry, &file_key).unwrap();
        assert_eq!((cleartext.size, &cleartext.key), (contents.len() as u64, &key));
        assert_eq!(cleartext.metadata.name.as_deref(), Some(&object.key.as_bytes()[2..3]));
        assert!(cleartext.metadata.mtime.is_some() && cleartext.metadata.mode.is_some());
    }
}

#[test]
fn the_private_key_reads_it_with_and_without_the_hint() {
    let vault = Vault::new(false);
    let big = "0123456789".repeat(LONG / 10);
    put(&vault, "a", "one");
    put(&vault, "b", &big);
    put(&vault, "empty", "");
    // What could be taken for something else.
    let (id, key) = (DataId([7; 16]), FileKey::from_bytes(&[3; 32]));
    let mut container = Vec::new();
    let options = sidekey::seal::SealOptions::default();
    sidekey::seal::seal(&key, id, None, &b"x"[..], &mut container, &sidekey::random::OsRandom, &options)
        .unwrap();
    let lookalikes = [("recipe", &b"Salted__12345678 and sixteen more."[..]), ("ours", &container)];
    for (name, bytes) in lookalikes {
        put(&vault, name, bytes);
    }
    for forget in [false, true] {
        if forget {
            vault.forget_hints();
        }
        assert_eq!(vault.cat("a", &["new", "old"]).unwrap(), "one");
        assert_eq!(vault.cat("empty", &["old"]).unwrap(), "");
        assert!(vault.cat("b", &["old"]).unwrap() == big);
        let source = Source::new(vault.target("b"));
        for (range, expected) in [
            (ByteRange::From(4_000_000, Some(4_000_009)), "0123456789"),
            (ByteRange::Last(3), &big[big.len() - 3..]),
        ] {
            assert_eq!(vault.cat_as(&source, Which::Current, &["old"], range).unwrap(), expected);
        }
        assert_eq!(vault.cat("a", &["new"]).unwrap_err().kind(), ErrorKind::Auth);
    }
    assert_eq!(get_all(&vault), [5, 0, 0]);
    assert_eq!(vault.place.text("out/a"), "one");
    assert_eq!(vault.place.text("out/empty"), "");
    assert!(vault.place.text("out/b") == big);
    for (name, bytes) in lookalikes {
        assert_eq!(vault.place.read(format!("out/{name}")), bytes);
    }
    assert_eq!(get_all(&vault), [0, 5, 0], "what is there is not fetched again");
}

#[test]
fn no_wrong_byte_is_believed() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 4] = [
        ("a changed byte", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("a shorter file", |bytes| bytes.truncate(bytes.len() - 1)),
        ("a longer file", |bytes| bytes.push(0)),
        ("an empty file", |bytes| bytes.clear()),
    ];
    for (what, change) in changes {
        for len in [3, BIG, LONG] {
            let vault = Vault::new(true);
            put(&vault, "a", vec![b'x'; len]);
            let good = containers(&vault).remove(0);
            replace(&vault, "p/a.enc", change);
            assert_eq!(vault.cat("a", &["old"]).unwrap_err().kind(), ErrorKind::Integrity, "{what}, {len}");
            assert_eq!(get_all(&vault), [0, 0, 1], "{what}, {len}");
            assert!(!vault.place.path("out/a").exists(), "{what}, {len}");
            let summary = vault.verify(Level::Full, &["old"]);
            assert_eq!((summary.ok, summary.damaged), (1, 1), "{what}, {len}: {summary:?}");
            // The version before is as good as it was.
            let which = Which::Version(good.version.clone());
            let source = Source::new(vault.target("a"));
            let all = vault.cat_as(&source, which, &["old"], ByteRange::All).unwrap();
            assert!(all == "x".repeat(len));
        }
    }
}

#[test]
fn a_damaged_record_is_never_read_around() {
    let vault = Vault::new(false);
    put(&vault, "a", "one");
    let envelope = vault.envelopes().remove(0);
    let (_, text) = vault.store.state().get(&envelope.key, None).unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let at = text.find("Cleartext-Record: ").unwrap() + 30;
    let other = if &text[at..=at] == "A" { "B" } else { "A" };
    let without: String = text.split_inclusive('\n').filter(|line| !line.starts_with("Cleartext-")).collect();
    for bad in [format!("{}{other}{}", &text[..at], &text[at + 1..]), without] {
        let options = sidekey::store::PutOptions::default();
        vault.store.put(&envelope.key, bad.into(), &options).now_or_never().unwrap().unwrap();
        assert_eq!(vault.cat("a", &["old"]).unwrap_err().kind(), ErrorKind::Integrity);
        assert_eq!(get_all(&vault), [0, 0, 1]);
        assert_eq!(vault.verify(Level::Full, &["old"]).ok, 0);
    }
}

#[test]
fn verifying_and_listing_say_what_can_be_said() {
    let vault = Vault::new(true);
    put(&vault, "a", "one");
    put(&vault, "b", vec![b'x'; LONG]);
    for (level, deep) in [(Level::Pairs, 0), (Level::Read, 2), (Level::Full, 2)] {
        let summary = vault.verify(level, &["old"]);
        assert_eq!((summary.ok, summary.deep, summary.unchecked), (2, deep, 0), "{level}: {summary:?}");
    }
    let summary = vault.verify(Level::Pairs, &[]);
    assert_eq!((summary.ok, summary.unchecked, summary.no_container), (0, 2, 0));
    let mut lines = vec![];
    let options = LsOptions { long: true, ..LsOptions::default() };
    let target = vault.target("").unlocked(&vault.identities(&["old"])).unwrap();
    for (target, size) in [(target, Some((3, 3))), (vault.target(""), None)] {
        lines.clear();
        ls(&target, options, &mut |line| lines.push(line.unwrap())).unwrap();
        assert_eq!((lines.len(), lines[0].size), (2, size));
        assert!(lines[0].problem.is_none(), "{:?}", lines[0]);
        assert_eq!(lines[0].recipients, [vault.place.public("old").id()]);
    }
}

#[test]
fn rewrapping_touches_the_envelope_alone() {
    let vault = Vault::new(true);
    put(&vault, "a", "one");
    put(&vault, "a", "two");
    let before = containers(&vault);
    // It says of each that it compared the key: the service took what is derived from it.
    assert_eq!(vault.rewrap(), [RewrapOutcome::Rewrapped, RewrapOutcome::Rewrapped]);
    assert_eq!(containers(&vault), before);
    assert_eq!(vault.cat("a", &["new"]).unwrap(), "two");
    assert_eq!(vault.cat("a", &["old"]).unwrap_err().kind(), ErrorKind::Auth);
    let source = Source::new(vault.target("a"));
    let which = Which::Version(before[1].version.clone());
    assert_eq!(vault.cat_as(&source, which, &["new"], ByteRange::All).unwrap(), "one");
    let summary = audit(&vault.target(""), &Subject::Keys(vault.identities(&["old"])), 2, &Silent).unwrap();
    assert_eq!((summary.audited, summary.opened, summary.unknown, summary.failed), (2, 0, 0, 0));
}

#[test]
fn a_planted_entry_hides_nothing_and_is_not_wrapped_anew() {
    let vault = Vault::new(false);
    put(&vault, "a", "one");
    let object = vault.envelopes().remove(0);
    let (_, text) = vault.store.state().get(&object.key, None).unwrap();
    let real = Envelope::parse(&text).unwrap();
    let data_id = real.entries().next().unwrap().data_id;
    let (planted, metadata) = (FileKey::from_bytes(&[8; 32]), Metadata::new(FileType::File));
    let headers = Cleartext::headers(&planted, &data_id, &metadata, 3, [0; 32]);
    let recipients = [vault.place.public("old")];
    let mut both =
        wrap::wrap_with(&planted, &data_id, &recipients, SystemTime::UNIX_EPOCH, &headers).unwrap();
    both.blocks.extend(real.blocks);
    let options = sidekey::store::PutOptions::default();
    let text = both.to_text().unwrap();
    vault.store.put(&object.key, text.into(), &options).now_or_never().unwrap().unwrap();
    assert_eq!(vault.cat("a", &["old"]).unwrap(), "one");

    let rotation = Rotation::new(vec![vault.place.private("old")], vec![vault.place.public("new")]).unwrap();
    let options = RewrapOptions { all: true, ..RewrapOptions::new(&rotation, SystemTime::UNIX_EPOCH) };
    let stored = object.key.strip_prefix("p/").unwrap();
    let done = drive::rewrap(&vault.location(), stored, &options).now_or_never().unwrap().unwrap();
    assert_eq!((done[0].outcome, done[0].checked, done[0].unchecked), (RewrapOutcome::Rewrapped, 1, 0));
    assert!(done[0].residue.iter().any(|line| line.contains("planted")), "{:?}", done[0].residue);
    assert_eq!(vault.cat("a", &["new"]).unwrap(), "one");
    let (_, text) = vault.store.state().get(&object.key, None).unwrap();
    assert_eq!(Envelope::parse(&text).unwrap().entries().count(), 1);
}

#[test]
fn nothing_is_deleted_that_it_needs() {
    for versions in [false, true] {
        let vault = Vault::new(versions);
        put(&vault, "a", "one");
        vault.store.state().advance(DAY * 100);
        let now = || {
            let mut state = vault.store.state();
            let info = sidekey::store::Info::new();
            state.put("clock", "x".into(), &sidekey::store::OnlyIf::Always, &info).unwrap();
            let (object, _) = state.get("clock", None).unwrap();
            state.delete("clock", &object.version);
            object.modified
        };
        let clean = || {
            let target = vault.target("").unlocked(&vault.identities(&["old"])).unwrap();
            let options = CleanOptions { age: DAY * 30, now: now() };
            plan(&target, options, &Silent).unwrap().clean(&mut |_, _| {}).unwrap().envelopes
        };
        assert_eq!(clean(), 0);
        assert_eq!(vault.cat("a", &["old"]).unwrap(), "one");
        // An overwritten one needs its own where it is kept, and what was left of the other goes.
        put(&vault, "a", "two");
        vault.store.state().advance(DAY * 100);
        assert_eq!(clean(), u64::from(!versions));
        assert_eq!(vault.cat("a", &["old"]).unwrap(), "two");
        let options = RemoveOptions {
            recursive: false,
            versions,
            filter: Filter::default(),
            dry_run: false,
            jobs: 1,
            now: now(),
        };
        let target = vault.target("a").unlocked(&vault.identities(&["old"])).unwrap();
        let summary = remove(&[Source::new(target)], &options, &Silent).unwrap();
        assert_eq!((summary.removed, summary.failed), (1, 0), "{summary:?}");
        assert_eq!(vault.objects(), []);
    }
}

/// Anybody could plant one: nothing in it is of the vault.
#[test]
fn a_vault_refuses_it() {
    let vault = Vault::new(true);
    put(&vault, "a", "one");
    let master = MasterKey::from_bytes(&[9; 32]);
    let keys = sidekey::vault::Vault::new(&master, VaultId([1; 16]), 1, NamesMode::Plain);
    let target = Target::new(vault.location().in_vault(Arc::new(keys)), b"a").unwrap();
    let read = vault.cat_as(&Source::new(target), Which::Current, &["old"], ByteRange::All);
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Integrity);
}

/// What tests/python/cleartext_example.py makes, from the document alone.
#[test]
fn the_vector_is_read_as_it_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/vectors/cleartext/hello.vec");
    let bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap();
    let (head, plain) = (std::str::from_utf8(&bytes[..at]).unwrap(), &bytes[at + 2..]);
    let value = |key: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("{key}")).to_owned()
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let identity = format!("{}/fixtures/keys/{}", env!("CARGO_MANIFEST_DIR"), value("identity"));
    let private = KeyFile::parse(&std::fs::read(identity).unwrap()).unwrap().open(None).unwrap();
    let text = STANDARD.decode(value("envelope")).unwrap();
    let envelope = Envelope::parse(&text).unwrap();
    let entry = envelope.entries().next().unwrap();
    let file_key = wrap::open_entry(entry, &private).unwrap();
    assert_eq!(hex(file_key.expose()), value("file-key"));
    let cleartext = Cleartext::open(entry, &file_key).unwrap();
    assert_eq!(hex(cleartext.key.expose()), value("sse-c-key"));
    assert_eq!(hex(&cleartext.digest), value("plain-sha256"));
    assert_eq!(cleartext.size.to_string(), value("plain-len"));
    assert_eq!((cleartext.size, plain), (6, &b"hello\n"[..]));
    let metadata = &cleartext.metadata;
    assert_eq!(metadata.name.as_deref(), Some(&b"hello.txt"[..]));
    assert_eq!((metadata.mtime, metadata.mode), (Some(1_795_215_960_000_000_000), Some(0o644)));
    // And written again, it is the same.
    let headers = Cleartext::headers(&file_key, &entry.data_id, metadata, cleartext.size, cleartext.digest);
    let all = [PairEncryption::Cleartext.headers().as_slice(), &headers].concat();
    assert_eq!(all, entry.extra);
}
