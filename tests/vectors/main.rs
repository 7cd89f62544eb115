//! Walks `fixtures/vectors`: every vector through every way of reading, and what each must say and release.

mod generate;
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::time::SystemTime;

use generate::{Expect, FOLDER, Scenario, Vector, WORKED_EXAMPLE};
use reading::{ByteByByte, Replay, identity, read};
use sha2::{Digest as _, Sha256};
use sidekey::crypto::rsa::PublicKey;
use sidekey::format::section::{DigestKind, container_len};
use sidekey::format::{Envelope, FileType, Metadata};
use sidekey::open;
use sidekey::ops::decrypt::{DecryptOptions, decrypt};
use sidekey::ops::events::{Event, Observer};
use sidekey::ops::walk::Destination;
use sidekey::pair::IfExists;
use sidekey::seal::{SealOptions, seal};
use sidekey::secret::FileKey;
use sidekey::{Error, ErrorKind, wrap};

/// How many of each class there are at least: a walker that finds no files must not pass.
const AT_LEAST: [(Expect, usize); 9] = [
    (Expect::Ok, 60),
    (Expect::Header, 16),
    (Expect::Envelope, 25),
    (Expect::Key, 15),
    (Expect::Commitment, 8),
    (Expect::Metadata, 42),
    (Expect::Section, 45),
    (Expect::Truncated, 15),
    (Expect::End, 22),
];

/// All committed vectors by name.
fn committed() -> BTreeMap<String, Vector> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(FOLDER).expect("fixtures/vectors") {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "vec") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            all.insert(name, Vector::parse(&fs::read(&path).unwrap()));
        }
    }
    all
}

fn says() -> BTreeMap<String, &'static str> {
    generate::scenarios().into_iter().map(|Scenario { name, says, .. }| (name, says)).collect()
}

#[test]
fn the_committed_vectors_are_what_the_generator_makes() {
    let mut committed = committed();
    assert!(committed.remove(WORKED_EXAMPLE).is_some());
    let made: BTreeMap<_, _> =
        generate::scenarios().into_iter().map(|made| (made.name, made.vector)).collect();
    let names = |vectors: &BTreeMap<String, Vector>| vectors.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&committed), names(&made), "run: cargo run --release --example make_vectors");
    for (name, vector) in &made {
        assert!(committed[name] == *vector, "{name} is stale: cargo run --release --example make_vectors");
    }
}

#[test]
fn every_vector_is_read_or_refused_as_it_says() {
    let says = says();
    let (mut classes, mut reads, mut faults) = (BTreeMap::new(), 0, BTreeSet::new());
    let vectors = committed();
    for (name, vector) in &vectors {
        for threads in [1, 2] {
            for way in ["whole", "byte by byte", "verify"] {
                let bytes = &vector.container[..];
                let mut released = Vec::new();
                let result = match way {
                    "whole" => read(vector, bytes, &mut released, threads),
                    "byte by byte" => read(vector, ByteByByte(bytes), &mut released, threads),
                    _ => read(vector, bytes, &mut std::io::sink(), threads),
                };
                let run = format!("{name}, {way}, {threads} threads");
                let met = result.as_ref().err().map_or(Expect::Ok, |(expect, _)| *expect);
                if met != vector.expect {
                    faults.insert(format!("{name}: {} instead of {}", met.name(), vector.expect.name()));
                    continue;
                }
                match &result {
                    Ok(opened) => assert_eq!(opened.len, vector.len, "{run}"),
                    Err((expect, error)) => {
                        assert!(refusal(*expect, error), "{run}: {error:?}");
                        assert!(error.line().contains(says[name]), "{run}: {error:?} / {}", says[name]);
                    }
                }
                if way != "verify" {
                    assert_eq!(released.len() as u64, vector.len, "{run}");
                    assert_eq!(Sha256::digest(&released).as_slice(), vector.digest, "{run}");
                }
                reads += 1;
            }
        }
        *classes.entry(vector.expect).or_insert(0) += 1;
    }
    assert_eq!(faults, BTreeSet::new());
    for (expect, least) in AT_LEAST {
        assert!(classes[&expect] >= least, "{} vectors of class {}", classes[&expect], expect.name());
    }
    let counts: Vec<_> = Expect::ALL.map(|(expect, name)| format!("{} {name}", classes[&expect])).to_vec();
    println!("{} vectors ({}), read {reads} times", vectors.len(), counts.join(", "));
}

/// Only another key could help where no entry opens; all else is damage.
fn refusal(expect: Expect, error: &Error) -> bool {
    match expect {
        Expect::Key => matches!(error.kind(), ErrorKind::Auth | ErrorKind::Integrity),
        _ => error.kind() == ErrorKind::Integrity,
    }
}

#[test]
fn ranges_agree_with_the_whole() {
    let (mut ranges, mut refused) = (0, 0);
    for (name, vector) in committed() {
        let mut plain = Vec::new();
        let whole = read(&vector, &vector.container[..], &mut plain, 1);
        let Some(opener) = reading::opener(&vector).ok() else { continue };
        let (size, len) = (opener.header().section_size() as u64, vector.container.len() as u64);
        let mut source = Cursor::new(&vector.container);
        let end = match opener.end(&mut source, len) {
            Ok(end) => end,
            Err(error) => {
                assert!(whole.is_err() && error.kind() == ErrorKind::Integrity, "{name}: {error:?}");
                refused += 1;
                continue;
            }
        };
        let total = end.total;
        for start in [0, 1, 15, size - 1, size, size + 1, total / 2, total.saturating_sub(1), total] {
            for stop in [0, 1, start + 1, size - 1, size, size + 1, 2 * size, total] {
                if start > stop || stop > total {
                    continue;
                }
                let mut part = Vec::new();
                let result = opener.copy_range(&mut source, &end, start, stop - start, &mut part);
                // What comes out is the truth as far as it is known, and what failed is shorter than it should be.
                let known = plain.get(start as usize..).unwrap_or_default();
                let same = part.len().min(known.len());
                assert!(part[..same] == known[..same], "{name}: {start}..{stop}");
                match result {
                    Ok(()) => assert_eq!(part.len() as u64, stop - start, "{name}: {start}..{stop}"),
                    Err(error) => {
                        assert!(whole.is_err(), "{name}: {start}..{stop}: {error:?}");
                        assert_eq!(error.kind(), ErrorKind::Integrity, "{name}: {error:?}");
                        refused += 1;
                    }
                }
                ranges += 1;
            }
        }
        let mut out = Vec::new();
        let beyond = opener.copy_range(&mut source, &end, 0, total.saturating_add(1), &mut out);
        assert_eq!(beyond.unwrap_err().kind(), ErrorKind::Input, "{name}");
    }
    println!("{ranges} ranges, {refused} of them refused");
    assert!(ranges > 2000 && refused > 100, "{ranges}, {refused}");
}

#[test]
fn what_parses_prints_the_same() {
    let (mut headers, mut envelopes, mut metadata) = (0, 0, 0);
    for (name, vector) in committed() {
        if let Ok(header) = open::read_header(&mut &vector.container[..]) {
            assert_eq!(header.to_bytes(), vector.container[..64], "{name}");
            headers += 1;
        }
        if let Some(Ok(envelope)) = vector.envelope.as_deref().map(Envelope::parse) {
            let text = envelope.to_text().unwrap();
            assert_eq!(Envelope::parse(text.as_bytes()).unwrap().to_text().unwrap(), text, "{name}");
            let source = String::from_utf8(vector.envelope.clone().unwrap()).unwrap();
            assert!(envelope.blocks.iter().all(|block| source.contains(block.text())), "{name}");
            let odd = ["crlf", "last-newline", "blank-line", "1024"].iter().any(|odd| name.contains(odd));
            assert!(odd || text == source, "{name}");
            envelopes += 1;
        }
        if let (Ok(opener), true) = (reading::opener(&vector), vector.expect == Expect::Ok)
            && let Some(read) = opener.metadata(&mut &vector.container[64..]).unwrap()
        {
            let text = read.to_text().unwrap();
            assert_eq!(Metadata::parse(&text).unwrap(), read, "{name}");
            metadata += 1;
        }
    }
    println!("{headers} headers, {envelopes} envelopes, {metadata} metadata sections parsed and printed");
    assert!(headers > 220 && envelopes > 38 && metadata > 17);
}

#[test]
fn sealing_what_was_opened_with_the_same_randomness_gives_the_same_container() {
    let mut same = 0;
    for (name, vector) in committed() {
        let (Expect::Ok, Some(file_key)) = (vector.expect, vector.file_key) else { continue };
        let (mut plain, file_key) = (Vec::new(), FileKey::from_bytes(&file_key));
        let Ok(opened) = read(&vector, &vector.container[..], &mut plain, 1) else { continue };
        let header = open::read_header(&mut &vector.container[..]).unwrap();
        let expected = container_len(vector.len, header.section_size(), header.metadata_len());
        assert_eq!(expected, Some(vector.container.len() as u64), "{name}");
        for threads in [1, 2] {
            let mut options = SealOptions::default();
            options.section_log2 = vector.container[10];
            options.threads = threads;
            options.digest = if opened.digest { DigestKind::Sha256 } else { DigestKind::None };
            // Two threads may ask for their IVs in another order, except when one of them has them all.
            let random = Replay::of(&vector.container, &header);
            if threads == 2 && plain.len() > 8 * header.section_size() {
                continue;
            }
            let mut again = Vec::new();
            let metadata = opened.metadata.as_ref();
            seal(&file_key, header.data_id(), metadata, &plain[..], &mut again, &random, &options).unwrap();
            let canonical =
                !["order", "unicode", "mode-short", "unknown-fields"].iter().any(|odd| name.ends_with(odd));
            assert!(again == vector.container || !canonical, "{name}");
            same += usize::from(again == vector.container);
        }
    }
    println!("{same} containers sealed again, byte for byte");
    assert!(same >= 104, "{same}");
}

struct Failures(std::sync::Mutex<Vec<(ErrorKind, String)>>);

impl Observer for Failures {
    fn event(&self, event: Event<'_>) {
        if let Event::Failed(error) = event {
            self.0.lock().unwrap().push((error.kind(), error.line()));
        }
    }
}

#[test]
fn as_files_a_good_pair_is_restored_and_a_bad_one_leaves_nothing() {
    let (mut restored, mut refused, mut faults) = (0, 0, BTreeSet::new());
    for (name, vector) in committed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |file: &str| folder.path().join(file);
        write(&path("x.enc"), &vector.container);
        write(&path("x.key.enc"), &envelope_of(&vector));
        let options = DecryptOptions {
            identities: vec![identity(vector.identity.as_deref())],
            destination: Destination::File(path("out")),
            envelope: None,
            if_exists: IfExists::Fail,
            strict: false,
            recipe: Default::default(),
            jobs: 1,
            now: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1 << 40),
        };
        let failures = Failures(Default::default());
        decrypt(&[path("x.enc")], &options, &failures).unwrap();
        let failures = failures.0.into_inner().unwrap();
        let good = vector.expect == Expect::Ok;
        let rightly = |(kind, _): &(ErrorKind, String)| {
            *kind == ErrorKind::Integrity || (vector.expect == Expect::Key && *kind == ErrorKind::Auth)
        };
        let expected = if good { failures.is_empty() } else { failures.len() == 1 && rightly(&failures[0]) };
        if !expected {
            let how = failures.first().map_or("restored", |(_, line)| line.rsplit(": ").next().unwrap());
            faults.insert(format!("{name}: {how}"));
            continue;
        }
        if good {
            let (is, plain) = found_at(&path("out"));
            let mut body = &vector.container[64..];
            let metadata = reading::opener(&vector).unwrap().metadata(&mut body).unwrap();
            assert_eq!(is, metadata.map_or(FileType::File, |metadata| metadata.file_type), "{name}");
            assert_eq!(Sha256::digest(plain).as_slice(), vector.digest, "{name}");
            restored += 1;
            continue;
        }
        let left = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(
            left.collect::<BTreeSet<_>>(),
            BTreeSet::from(["x.enc".into(), "x.key.enc".into()]),
            "{name}"
        );
        refused += 1;
    }
    assert_eq!(faults, BTreeSet::new());
    println!("{restored} pairs restored, {refused} refused");
    assert!(restored >= 58 && refused >= 180, "{restored}, {refused}");
}

/// What was restored, and its plaintext.
fn found_at(path: &Path) -> (FileType, Vec<u8>) {
    let found = path.symlink_metadata().unwrap();
    match () {
        () if found.is_symlink() => (FileType::Symlink, vec![]),
        () if found.is_dir() => (FileType::Dir, vec![]),
        () => (FileType::File, fs::read(path).unwrap()),
    }
}

/// The vector's envelope, or one for the key of the worked example.
fn envelope_of(vector: &Vector) -> Vec<u8> {
    if let Some(envelope) = &vector.envelope {
        return envelope.clone();
    }
    let file_key = FileKey::from_bytes(&vector.file_key.unwrap());
    let mut start = [0; 32];
    let len = vector.container.len().min(32);
    start[..len].copy_from_slice(&vector.container[..len]);
    let data_id = sidekey::DataId(start[16..].try_into().unwrap());
    let to = PublicKey::from_spki_der(identity(None).public().spki_der()).unwrap();
    let envelope = wrap::wrap(&file_key, &data_id, &[to], SystemTime::UNIX_EPOCH).unwrap();
    envelope.to_text().unwrap().into_bytes()
}

#[expect(clippy::disallowed_methods, reason = "input of a test")]
fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}
