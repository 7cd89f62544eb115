//! Round trips, sizes, ranges and damage of containers, through the public API.

use std::io::{self, Cursor, Read};

use sidekey::format::section::{self, DigestKind};
use sidekey::format::{FileType, Header, Metadata};
use sidekey::open::{self, Opener};
use sidekey::random::OsRandom;
use sidekey::seal::{SealOptions, Sealed, seal};
use sidekey::secret::FileKey;
use sidekey::{DataId, ErrorKind, Result};

const S: usize = 4096;

/// Gives at most `step` bytes a read.
struct Steps<'a>(&'a [u8], usize);

impl Read for Steps<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let len = self.1.min(bytes.len()).min(self.0.len());
        bytes[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        Ok(len)
    }
}

fn key() -> FileKey {
    FileKey::from_bytes(&[0x42; 32])
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}

fn metadata() -> Metadata {
    let mut metadata = Metadata::new(FileType::File);
    metadata.name = Some(b"a".to_vec());
    metadata
}

fn make(plain: &[u8], step: usize, meta: bool, digest: DigestKind, threads: usize) -> (Vec<u8>, Sealed) {
    let mut options = SealOptions::default();
    options.section_log2 = 12;
    options.digest = digest;
    options.threads = threads;
    let metadata = metadata();
    let metadata = meta.then_some(&metadata);
    let mut out = Vec::new();
    let sealed =
        seal(&key(), DataId([7; 16]), metadata, Steps(plain, step), &mut out, &OsRandom, &options).unwrap();
    (out, sealed)
}

fn open_all(container: &[u8], step: usize, threads: usize) -> (Vec<u8>, Result<Option<Metadata>>) {
    let mut source = Steps(container, step);
    let mut out = Vec::new();
    let result = open::read_header(&mut source).and_then(|header| {
        let opener = Opener::new(header, &key())?;
        let metadata = opener.metadata(&mut source)?;
        opener.copy(source, &mut out, None, threads)?;
        Ok(metadata)
    });
    (out, result)
}

#[test]
fn every_length_at_a_boundary_in_every_step_comes_back() {
    let lengths = [
        0,
        1,
        15,
        16,
        17,
        S - 17,
        S - 16,
        S - 1,
        S,
        S + 1,
        2 * S - 1,
        2 * S,
        2 * S + 1,
        8 * S,
        8 * S + 1,
        17 * S + 5,
    ];
    let mut runs = 0;
    for len in lengths {
        let plain = text(len);
        for (step, meta, digest, threads) in [
            (1, true, DigestKind::None, 1),
            (15, false, DigestKind::Sha256, 2),
            (16, true, DigestKind::Sha256, 3),
            (S + 1, false, DigestKind::None, 2),
            (usize::MAX, true, DigestKind::Sha256, 2),
        ] {
            let (container, sealed) = make(&plain, step, meta, digest, threads);
            assert_eq!(container.len() as u64, sealed.container_len, "{len}");
            assert_eq!(sealed.plain_len, len as u64);
            let expected = section::container_len(len as u64, S, sealed.header.metadata_len());
            assert_eq!(Some(container.len() as u64), expected);
            let (back, result) = open_all(&container, step, threads);
            assert_eq!(result.unwrap(), meta.then(metadata));
            assert!(back == plain, "{len} bytes in steps of {step}");
            runs += 1;
        }
    }
    assert_eq!(runs, lengths.len() * 5);
}

#[test]
fn ranges_are_what_the_whole_has() {
    for len in [0, 1, S - 1, S, S + 1, 3 * S, 3 * S + 7] {
        let plain = text(len);
        let (container, sealed) = make(&plain, usize::MAX, len % 2 == 0, DigestKind::None, 1);
        let mut source = Cursor::new(&container);
        let opener = Opener::new(open::read_header(&mut source).unwrap(), &key()).unwrap();
        let end = opener.end(&mut source, sealed.container_len).unwrap();
        assert_eq!(end.total, len as u64);
        for start in [0, 1, S - 1, S, S + 1, 2 * S, len] {
            for range in [0, 1, S, S + 1, 2 * S, len] {
                let mut out = Vec::new();
                let result = opener.copy_range(&mut source, &end, start as u64, range as u64, &mut out);
                match plain.get(start..start + range) {
                    Some(part) => assert!(result.is_ok() && out == part, "{start}+{range} of {len}"),
                    None => assert_eq!(result.unwrap_err().kind(), ErrorKind::Input),
                }
            }
        }
    }
}

#[test]
fn no_flipped_byte_passes_and_nothing_behind_it_is_released() {
    let plain = text(2 * S + 100);
    let (container, _) = make(&plain, usize::MAX, true, DigestKind::Sha256, 1);
    for at in (0..container.len()).filter(|at| *at < 480 || at % 97 == 0 || *at + 320 > container.len()) {
        let mut damaged = container.clone();
        damaged[at] ^= 1 << (at % 8);
        let (released, result) = open_all(&damaged, usize::MAX, 2);
        let error = result.expect_err(&format!("byte {at}"));
        assert_eq!(error.kind(), ErrorKind::Integrity, "byte {at}: {error}");
        let in_end = at >= container.len() - 96;
        let sound = if in_end { plain.len() } else { at.saturating_sub(64 + 304) / (S + 48) * S };
        assert!(released.len() <= sound.min(plain.len()), "byte {at}: {} released", released.len());
        assert!(plain.starts_with(&released), "byte {at}");
    }
}

#[test]
fn no_truncation_passes() {
    for len in [0, 1, S, S + 1, 2 * S] {
        let (container, _) = make(&text(len), usize::MAX, len == S, DigestKind::None, 1);
        for cut in 0..container.len() {
            if cut < 700 || cut % 61 == 0 || cut + 200 > container.len() || cut % (S + 48) < 2 {
                let (_, result) = open_all(&container[..cut], usize::MAX, 1);
                assert_eq!(result.expect_err(&format!("{cut} of {len}")).kind(), ErrorKind::Integrity);
            }
        }
    }
}

#[test]
fn sections_cannot_be_swapped_dropped_repeated_spliced_or_appended() {
    let plain = text(4 * S);
    let (one, sealed) = make(&plain, usize::MAX, false, DigestKind::None, 1);
    let (other, _) = make(&plain, usize::MAX, false, DigestKind::None, 1);
    let section = |container: &[u8], index: usize| container[64 + index * (S + 48)..][..S + 48].to_vec();
    let build = |sections: &[Vec<u8>]| {
        let mut bytes = sealed.header.to_bytes().to_vec();
        bytes.extend(sections.concat());
        bytes.extend(&one[one.len() - 96..]);
        bytes
    };
    let good: Vec<_> = (0..4).map(|index| section(&one, index)).collect();
    assert!(open_all(&build(&good), usize::MAX, 1).1.is_ok());
    let swapped = [0, 2, 1, 3].map(|index| good[index].clone());
    let dropped = [0, 1, 3].map(|index| good[index].clone());
    let repeated = [0, 1, 1, 2, 3].map(|index| good[index].clone());
    // The same key, header and index: even then another encryption's IV and ciphertext do not mix within a section.
    let mut spliced = good.clone();
    spliced[2][..16].copy_from_slice(&section(&other, 2)[..16]);
    for (name, sections) in
        [("swapped", &swapped[..]), ("dropped", &dropped), ("repeated", &repeated), ("spliced", &spliced)]
    {
        let error = open_all(&build(sections), usize::MAX, 1).1.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Integrity, "{name}");
        assert!(error.to_string().contains("fails authentication"), "{name}: {error}");
    }
    for extra in [1, 15, 16, 48, 96, 97, S + 48] {
        let mut longer = one.clone();
        longer.resize(one.len() + extra, 0);
        assert_eq!(
            open_all(&longer, usize::MAX, 1).1.expect_err("appended").kind(),
            ErrorKind::Integrity,
            "{extra}"
        );
    }
}

#[test]
fn another_file_key_is_refused_before_anything_is_decrypted() {
    let (container, _) = make(&text(10), usize::MAX, true, DigestKind::None, 1);
    let header = Header::parse(container[..64].try_into().unwrap()).unwrap();
    let error = Opener::new(header, &FileKey::from_bytes(&[1; 32])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(error.to_string().contains("does not commit"), "{error}");
}
