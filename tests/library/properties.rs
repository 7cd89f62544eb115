//! Properties of whole containers, envelopes and rewraps, on random inputs that are the same in every run.

use std::io::{self, Cursor, Read};
use std::sync::OnceLock;
use std::time::SystemTime;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use sidekey::crypto::rsa::{PrivateKey, PublicKey};
use sidekey::format::section::{DigestKind, container_len, plain_len};
use sidekey::format::{Entry, Envelope, FileType, Header, Metadata, Wrap};
use sidekey::open::{self, Opener};
use sidekey::pair::Finding;
use sidekey::random::OsRandom;
use sidekey::rewrap::{Rotation, examine, judge_by_headers};
use sidekey::seal::{SealOptions, seal};
use sidekey::secret::FileKey;
use sidekey::{DataId, ErrorKind, KeyId, Result, wrap};

fn cases(cases: u32) -> ProptestConfig {
    println!("{cases} cases");
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(2026),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Gives at most as many bytes a read as the next of some steps, over and over.
struct Steps<'a> {
    bytes: &'a [u8],
    steps: &'a [usize],
    at: usize,
}

impl<'a> Steps<'a> {
    fn new(bytes: &'a [u8], steps: &'a [usize]) -> Self {
        Self { bytes, steps, at: 0 }
    }
}

impl Read for Steps<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let step = self.steps[self.at % self.steps.len()];
        self.at += 1;
        let len = bytes.len().min(step);
        self.bytes.read(&mut bytes[..len])
    }
}

/// A plaintext's length: near a boundary of sections more often than not.
fn len(section: usize) -> impl Strategy<Value = usize> {
    prop_oneof![
        0..40usize,
        (0..18usize, 0..40usize)
            .prop_map(move |(sections, off)| (sections * section + off).saturating_sub(20)),
        0..4 * section,
    ]
}

#[derive(Clone, Debug)]
struct Sealing {
    plain: Vec<u8>,
    options: SealOptions,
    metadata: Option<Metadata>,
}

fn sealing() -> impl Strategy<Value = Sealing> {
    let shape = (12u8..=14).prop_flat_map(|log2| (Just(log2), len(1 << log2)));
    let size =
        prop_oneof![Just(None), Just(Some(0)), any::<u64>().prop_map(Some), (0..100_000u64).prop_map(Some)];
    (shape, any::<u8>(), any::<bool>(), 1..5usize, size, prop::option::of(metadata())).prop_map(
        |((log2, len), salt, digest, threads, size, metadata)| {
            let mut options = SealOptions::default();
            options.section_log2 = log2;
            options.digest = if digest { DigestKind::Sha256 } else { DigestKind::None };
            options.threads = threads;
            options.size = size;
            let plain = (0..len).map(|at| (at as u32).wrapping_mul(2_654_435_761) as u8 ^ salt).collect();
            Sealing { plain, options, metadata }
        },
    )
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..30);
    let text = || prop_oneof![bytes(), "\\PC{0,20}".prop_map(String::into_bytes)];
    let mtime = prop_oneof![any::<i64>().prop_map(i128::from), -(10i128.pow(37))..10i128.pow(37)];
    let other = prop::collection::btree_map("[a-z]{6,9}", "\\PC{0,9}", 0..3);
    let types = prop_oneof![Just(FileType::File), Just(FileType::Dir), Just(FileType::Symlink)];
    (types, prop::option::of(text()), prop::option::of(mtime), prop::option::of(0..0o10000u32), text(), other)
        .prop_map(|(file_type, name, mtime, mode, target, other)| {
            let mut metadata = Metadata::new(file_type);
            (metadata.name, metadata.mtime, metadata.mode) = (name, mtime, mode);
            metadata.target = (file_type == FileType::Symlink).then(|| [b"t".to_vec(), target].concat());
            metadata.other.extend(other.into_iter().map(|(key, value)| (key, value.into())));
            metadata
        })
}

const KEY: [u8; 32] = [0x42; 32];

fn make(sealing: &Sealing, steps: &[usize]) -> (Vec<u8>, Header) {
    let (mut out, id) = (Vec::new(), DataId([9; 16]));
    let source = Steps::new(&sealing.plain, steps);
    let metadata = sealing.metadata.as_ref();
    let key = FileKey::from_bytes(&KEY);
    let sealed = seal(&key, id, metadata, source, &mut out, &OsRandom, &sealing.options).unwrap();
    assert_eq!((sealed.plain_len, sealed.container_len), (sealing.plain.len() as u64, out.len() as u64));
    (out, sealed.header)
}

fn read(container: &[u8], steps: &[usize], threads: usize) -> (Vec<u8>, Result<Option<Metadata>>) {
    let (mut source, mut out) = (Steps::new(container, steps), Vec::new());
    let result = open::read_header(&mut source).and_then(|header| {
        let opener = Opener::new(header, &FileKey::from_bytes(&KEY))?;
        let metadata = opener.metadata(&mut source)?;
        opener.copy(source, &mut out, None, threads)?;
        Ok(metadata)
    });
    (out, result)
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn what_was_sealed_opens(
        sealing in sealing(),
        steps in prop::collection::vec(prop_oneof![1..40usize, 1..9000usize, Just(usize::MAX)], 1..5),
        threads in 1..5usize,
        range in any::<(u32, u32)>(),
    ) {
        let (container, header) = make(&sealing, &steps);
        let len = sealing.plain.len() as u64;
        prop_assert_eq!(container_len(len, header.section_size(), header.metadata_len()), Some(container.len() as u64));
        let (shortest, longest) = plain_len(container.len() as u64, &header).unwrap();
        prop_assert!(shortest <= len && len <= longest && longest - shortest < 16);
        let (plain, result) = read(&container, &steps, threads);
        prop_assert_eq!(result.unwrap(), sealing.metadata);
        prop_assert!(plain == sealing.plain);

        let opener = Opener::new(header, &FileKey::from_bytes(&KEY)).unwrap();
        let mut source = Cursor::new(&container);
        let end = opener.end(&mut source, container.len() as u64).unwrap();
        prop_assert_eq!(end.digest.is_some(), sealing.options.digest == DigestKind::Sha256);
        let (one, other) = (u64::from(range.0) % (len + 1), u64::from(range.1) % (len + 1));
        let (start, stop) = (one.min(other), one.max(other));
        let mut part = Vec::new();
        opener.copy_range(&mut source, &end, start, stop - start, &mut part).unwrap();
        prop_assert!(part == sealing.plain[start as usize..stop as usize]);
    }

    #[test]
    fn every_changed_byte_is_refused(sealing in sealing(), at in any::<prop::sample::Index>(), change in 1..=255u8, threads in 1..3usize) {
        let (mut container, _) = make(&sealing, &[usize::MAX]);
        let at = at.index(container.len());
        container[at] ^= change;
        let (released, result) = read(&container, &[usize::MAX], threads);
        prop_assert_eq!(result.unwrap_err().kind(), ErrorKind::Integrity, "byte {}", at);
        prop_assert!(sealing.plain.starts_with(&released));
    }

    #[test]
    fn every_other_length_is_refused(sealing in sealing(), at in any::<prop::sample::Index>(), more in prop::collection::vec(any::<u8>(), 1..200)) {
        let (container, _) = make(&sealing, &[usize::MAX]);
        let cut = read(&container[..at.index(container.len())], &[usize::MAX], 1);
        let longer = read(&[container, more].concat(), &[usize::MAX], 1);
        for (released, result) in [cut, longer] {
            prop_assert_eq!(result.unwrap_err().kind(), ErrorKind::Integrity);
            prop_assert!(sealing.plain.starts_with(&released));
        }
    }

    #[test]
    fn headers_print_and_parse(log2 in 0..30u8, units in 0..300u32, odd in 0..3u32, id in any::<[u8; 16]>(), commitment in any::<[u8; 32]>()) {
        let metadata_len = if units == 0 { odd } else { 48 + 256 * units + odd };
        let header = Header::new(log2, metadata_len, DataId(id));
        prop_assert_eq!(header.is_ok(), (12..=24).contains(&log2) && odd == 0 && units <= 256);
        if let Ok(mut header) = header {
            header.commitment = commitment;
            prop_assert_eq!(Header::parse(&header.to_bytes()).unwrap(), header);
        }
    }

    #[test]
    fn metadata_prints_and_parses(metadata in metadata()) {
        let text = metadata.to_text().unwrap();
        prop_assert!(text.len() % 256 == 0);
        prop_assert_eq!(Metadata::parse(&text).unwrap(), metadata);
    }

    #[test]
    fn envelopes_print_and_parse(entries in prop::collection::vec(entry(), 1..6)) {
        let envelope = Envelope { blocks: entries.iter().cloned().map(Into::into).collect() };
        let text = envelope.to_text().unwrap();
        let again = Envelope::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(again.entries().cloned().collect::<Vec<_>>(), entries.clone());
        prop_assert_eq!(again.to_text().unwrap(), text.clone());
        let crlf = Envelope::parse(text.replace('\n', "\r\n").as_bytes()).unwrap();
        prop_assert_eq!(crlf.entries().cloned().collect::<Vec<_>>(), entries);
    }
}

fn entry() -> impl Strategy<Value = Entry> {
    let wraps = prop_oneof![
        Just("rsa-oaep-sha256".to_owned()),
        Just("recipe-key".to_owned()),
        "[a-z][a-z0-9-]{0,20}"
    ];
    let extra = prop::collection::btree_map("X-[A-Za-z0-9]{1,8}", "[!-~]([ -~]{0,20}[!-~])?", 0..3);
    let body = prop::collection::vec(any::<u8>(), 1..600);
    (any::<[u8; 16]>(), any::<[u8; 32]>(), wraps, any::<bool>(), extra, body).prop_map(
        |(data_id, recipient, wrap, created, extra, body)| Entry {
            data_id: DataId(data_id),
            recipient: KeyId(recipient),
            wrap: Wrap::from(wrap.as_str()),
            created: created.then(|| "2026-11-20T23:06:00Z".into()),
            extra: extra.into_iter().collect(),
            body,
        },
    )
}

/// The same keys for all cases; read from DER, since a key has no `Clone`.
fn key(number: usize) -> PrivateKey {
    static KEYS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let made =
        || (0..4).map(|_| PrivateKey::generate(2048).unwrap().to_pkcs8_der().unwrap().expose().to_vec());
    PrivateKey::from_pkcs8_der(&KEYS.get_or_init(|| made().collect())[number]).unwrap()
}

fn public(number: usize) -> PublicKey {
    PublicKey::from_spki_der(key(number).public().spki_der()).unwrap()
}

const FUTURE: &str = "-----BEGIN SIDEKEY FUTURE-----\n\nAAAA\n-----END SIDEKEY FUTURE-----\n";

proptest! {
    #![proptest_config(cases(96))]

    /// Keys 0 and 1 may be left, 2 and 3 moved to; an envelope has any of the four, in any order, perhaps twice.
    #[test]
    fn a_rewrap_lets_the_new_keys_in_and_the_old_ones_out(
        recipients in prop::collection::vec(0..4usize, 1..5),
        old in prop_oneof![Just(vec![0]), Just(vec![1]), Just(vec![0, 1])],
        new in prop_oneof![Just(vec![2]), Just(vec![2, 3])],
        unknown in any::<bool>(),
        at_hand in any::<bool>(),
        file_key in any::<[u8; 32]>(),
    ) {
        let (mut header, file_key) = (Header::new(12, 0, DataId([5; 16])).unwrap(), FileKey::from_bytes(&file_key));
        header.commitment = sidekey::crypto::derive::Derivation::new(&file_key, &header.salt()).commitment();
        let publics: Vec<_> = recipients.iter().map(|number| public(*number)).collect();
        let now = SystemTime::UNIX_EPOCH;
        let mut envelope = wrap::wrap(&file_key, &header.data_id(), &publics, now).unwrap();
        if unknown {
            envelope.blocks.extend(Envelope::parse(FUTURE.as_bytes()).unwrap().blocks);
        }
        let rotation = Rotation::new(old.iter().map(|number| key(*number)).collect(), new.iter().map(|number| public(*number)).collect()).unwrap();
        let beside = at_hand.then_some(&header);
        let examined = examine(&envelope, &rotation, |entry, secret| judge_by_headers(beside, &entry.data_id, secret), now, false).unwrap();

        let opens = |envelope: &Envelope, number: usize| {
            wrap::unwrap(&header, &[Envelope::parse(envelope.to_text().unwrap().as_bytes()).unwrap()], &[key(number)])
                .is_ok_and(|found| found.same_as(&file_key))
        };
        let had = |number: &usize| recipients.contains(number);
        prop_assert_eq!(rotation.still_opens(&envelope), old.iter().any(had));
        if !old.iter().any(had) {
            let done = new.iter().all(had);
            prop_assert_eq!(examined.finding, if done { Finding::Done } else { Finding::NotOurs });
            prop_assert!(examined.rewrapped.is_none());
            return Ok(());
        }
        prop_assert_eq!(examined.finding, Finding::Opens);
        prop_assert_eq!((examined.checked > 0, examined.unchecked > 0), (at_hand, !at_hand));
        prop_assert_eq!(examined.residue.is_empty(), !unknown);
        let rewrapped = examined.rewrapped.unwrap();
        prop_assert!(!rotation.still_opens(&rewrapped));
        for number in 0..4 {
            let expected = new.contains(&number) || had(&number) && !old.contains(&number);
            prop_assert_eq!(opens(&rewrapped, number), expected, "key {}", number);
        }
        // Who is neither left nor moved to keeps the very same block, and what is not known is kept too.
        let text = rewrapped.to_text().unwrap();
        for block in &envelope.blocks {
            let stays = match &block.content {
                sidekey::format::envelope::Content::Entry(entry) => !(0..4).any(|number| {
                    (old.contains(&number) || new.contains(&number)) && key(number).id() == entry.recipient
                }),
                _ => true,
            };
            prop_assert_eq!(text.contains(block.text()), stays);
        }
        let again = examine(&rewrapped, &rotation, |entry, secret| judge_by_headers(beside, &entry.data_id, secret), now, false).unwrap();
        prop_assert_eq!(again.finding, Finding::Done);
    }

    /// A byte of an envelope that is changed never gives another file key.
    #[test]
    fn a_changed_envelope_gives_the_same_key_or_none(at in any::<prop::sample::Index>(), change in 1..=255u8) {
        let (mut header, file_key) = (Header::new(12, 0, DataId([6; 16])).unwrap(), FileKey::from_bytes(&KEY));
        header.commitment = sidekey::crypto::derive::Derivation::new(&file_key, &header.salt()).commitment();
        let envelope = wrap::wrap(&file_key, &header.data_id(), &[public(0)], SystemTime::UNIX_EPOCH).unwrap();
        let mut text = envelope.to_text().unwrap().into_bytes();
        let at = at.index(text.len());
        text[at] ^= change;
        match Envelope::parse(&text).and_then(|envelope| wrap::unwrap(&header, &[envelope], &[key(0)])) {
            Ok(found) => prop_assert!(found.same_as(&file_key)),
            Err(error) => prop_assert!(matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Auth), "{:?}", error),
        }
    }
}
