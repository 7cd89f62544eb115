//! What must hold for any bytes whatever, as plain functions. `tests/fuzz.rs` runs each on seeded mutations of the
//! vectors, `fuzz/fuzz_targets` under cargo-fuzz.
//!
//! A body panics when its law is broken, and says whether the bytes were accepted: a run in which all or none are has
//! tested little.

use std::io::Cursor;
use std::path::Path;

use sidekey::DataId;
use sidekey::crypto::derive::Derivation;
use sidekey::crypto::sections::{SectionSealer, Slot};
use sidekey::format::section::{FRAMING, Kind};
use sidekey::format::{Envelope, HEADER_LEN, Header, Metadata};
use sidekey::keys::KeyFile;
use sidekey::name::{self, ObjectName};
use sidekey::open::{self, Opener};
use sidekey::recipe::{Reader, Sample, detect_container, detect_key_file};
use sidekey::secret::FileKey;

#[path = "../tests/vectors/generate/file.rs"]
#[allow(dead_code, reason = "vectors are only read here")]
mod file;

use file::{Expect, Vector};

/// A body, and where its seeds come from.
pub(crate) struct Body {
    /// Its name, that of its cargo-fuzz target.
    pub(crate) name: &'static str,
    /// The law.
    pub(crate) run: fn(&World, &[u8]) -> bool,
    /// Good inputs.
    pub(crate) seeds: fn(&World) -> Vec<Vec<u8>>,
}

/// All bodies.
pub(crate) const BODIES: [Body; 8] = [
    Body { name: "header", run: |_, data| header(data), seeds: |world| world.containers(64) },
    Body { name: "open", run: open, seeds: |world| world.containers(usize::MAX) },
    Body { name: "forged", run: |_, data| forged(data), seeds: |_| forged_seeds() },
    Body { name: "envelope", run: |_, data| envelope(data), seeds: |world| world.envelopes.clone() },
    Body { name: "metadata", run: |_, data| metadata(data), seeds: |world| world.metadata.clone() },
    Body { name: "names", run: |_, data| names(data), seeds: |_| name_seeds() },
    Body { name: "recipe", run: |_, data| recipe(data), seeds: |world| world.recipe.clone() },
    Body { name: "keys", run: |_, data| keys(data), seeds: |world| world.keys.clone() },
];

/// Good containers whose plaintext is known, and other good files.
pub(crate) struct World {
    known: Vec<Known>,
    envelopes: Vec<Vec<u8>>,
    metadata: Vec<Vec<u8>>,
    recipe: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
}

struct Known {
    data_id: DataId,
    file_key: [u8; 32],
    container: Vec<u8>,
    plain: Vec<u8>,
}

impl World {
    /// Reads `fixtures`, which is in the folder `root` or the one above. Large files are left out.
    pub(crate) fn load(root: &str) -> Self {
        let below = |folder: &str| {
            let root = Path::new(root);
            let at = [root.join("fixtures"), root.join("../fixtures")].into_iter().find(|path| path.is_dir());
            read_all(&at.expect("fixtures").join(folder))
        };
        let mut world =
            Self { known: vec![], envelopes: vec![], metadata: vec![], recipe: vec![], keys: vec![] };
        for (name, bytes) in below("vectors").into_iter().filter(|(name, _)| name.ends_with(".vec")) {
            let vector = Vector::parse(&bytes);
            world.envelopes.extend(vector.envelope.clone().filter(|text| text.len() < 2500));
            if vector.expect == Expect::Ok && vector.container.len() < 9000 {
                world.add(&vector, &name);
            }
        }
        world.recipe.extend(
            below("recipe").into_iter().filter(|(name, _)| name.ends_with(".enc")).map(|(_, bytes)| bytes),
        );
        world.keys.extend(
            below("keys").into_iter().filter(|(name, _)| name.ends_with("em")).map(|(_, bytes)| bytes),
        );
        assert!(world.known.len() > 40 && world.envelopes.len() > 50 && world.metadata.len() > 12);
        assert!(world.recipe.len() > 100 && world.keys.len() > 20);
        world
    }

    fn add(&mut self, vector: &Vector, name: &str) {
        let header = open::read_header(&mut &vector.container[..]).expect(name);
        let (data_id, file_key) = (header.data_id(), vector.file_key.expect(name));
        let opener = Opener::new(header, &FileKey::from_bytes(&file_key)).expect(name);
        let (mut source, mut plain) = (&vector.container[HEADER_LEN..], Vec::new());
        let read = opener.metadata(&mut source).expect(name);
        self.metadata.extend(read.map(|metadata| metadata.to_text().expect(name)));
        opener.copy(source, &mut plain, None, 1).expect(name);
        self.known.push(Known { data_id, file_key, container: vector.container.clone(), plain });
    }

    fn containers(&self, most: usize) -> Vec<Vec<u8>> {
        self.known.iter().map(|known| known.container[..most.min(known.container.len())].to_vec()).collect()
    }
}

fn read_all(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("a folder of fixtures");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = paths.filter(|path| path.is_file()).collect();
    paths.sort();
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), std::fs::read(path).expect("a file"))).collect()
}

/// What parses prints the same bytes.
fn header(data: &[u8]) -> bool {
    let Ok(header) = open::read_header(&mut &data[..]) else { return false };
    assert_eq!(header.to_bytes(), data[..HEADER_LEN]);
    assert_eq!(header.salt(), data[..32]);
    assert!(header.section_size().is_power_of_two() && (header.metadata_len() as usize) < 1 << 17);
    true
}

/// Whoever has no key makes nothing that is read as another text: what is released is a prefix of the truth, and only
/// the very container is accepted.
fn open(world: &World, data: &[u8]) -> bool {
    let Ok(header) = open::read_header(&mut &data[..]) else { return false };
    let Some(known) = world.known.iter().find(|known| known.data_id == header.data_id()) else {
        return false;
    };
    let Ok(opener) = Opener::new(header, &FileKey::from_bytes(&known.file_key)) else { return false };
    assert_eq!(data[..HEADER_LEN], known.container[..HEADER_LEN]);

    let mut cursor = Cursor::new(data);
    if let Ok(end) = opener.end(&mut cursor, data.len() as u64) {
        assert_eq!((end.total, data.len()), (known.plain.len() as u64, known.container.len()));
        let (start, mut part) = (end.total / 3, Vec::new());
        let read = opener.copy_range(&mut cursor, &end, start, end.total - start, &mut part);
        assert!(known.plain[start as usize..].starts_with(&part));
        assert!(read.is_err() || part.len() as u64 == end.total - start);
    }

    let (mut source, mut released) = (&data[HEADER_LEN..], Vec::new());
    if opener.metadata(&mut source).is_err() {
        return false;
    }
    let read = opener.copy(source, &mut released, None, 1);
    assert!(known.plain.starts_with(&released));
    assert_eq!(read.is_ok(), data == known.container);
    read.is_ok()
}

/// Whoever has the key and writes nonsense under good tags: it is read exactly when it is sound, and what is released
/// is what was written. The bytes are the writer's decisions.
fn forged(data: &[u8]) -> bool {
    let mut choices = data.iter().copied();
    let mut choose = move || choices.next().unwrap_or(0);
    let flags = choose();
    let mut forger = Forger { sections: vec![], plain: vec![], sound: true };
    let text = (flags & 1 == 1).then(|| {
        let mut text = data.get(64..).unwrap_or_default().to_vec();
        text.truncate(1024);
        text.resize(text.len().next_multiple_of(256).max(256), b' ');
        text
    });
    if let Some(text) = &text {
        forger.sound &= Metadata::parse(text).is_ok();
        forger.section(Kind::Metadata, text, [choose(), choose(), choose()]);
    }
    let count = flags >> 1 & 3;
    for number in 0..count {
        let len = match choose() % 16 {
            0 => 0,
            1 => SIZE + 1,
            2 => SIZE - 1,
            3 => usize::from(choose()),
            4 => SIZE + 15,
            5 => usize::from(choose()) << 5 | 1,
            _ if number + 1 < count => SIZE,
            other => usize::from(other) * 600 % SIZE + 1,
        };
        let fits = if number + 1 < count { len == SIZE } else { (1..=SIZE).contains(&len) };
        forger.sound &= fits;
        let piece: Vec<u8> = (0..len).map(|at| (at * 7) as u8 ^ number).collect();
        forger.section(Kind::Data, &piece, [choose(), choose(), choose()]);
        forger.plain.extend(piece);
    }
    let mut end = [0; 48];
    let total =
        (forger.plain.len() as u64).wrapping_add(if choose() == 255 { u64::from(choose()) } else { 0 });
    end[..8].copy_from_slice(&total.to_le_bytes());
    end[8 + usize::from(choose() % 40)] = choose();
    forger.sound &= total == forger.plain.len() as u64 && end[8..] == [0; 40];
    forger.section(Kind::End, &end, [choose(), choose(), choose()]);
    forger.judge(text.map_or(0, |text| text.len() as u32 + 48))
}

const SIZE: usize = 4096;

struct Forger {
    sections: Vec<(u64, Kind, Vec<u8>)>,
    plain: Vec<u8>,
    sound: bool,
}

impl Forger {
    /// Adds a section; now and then with another index, kind or padding than it should have.
    fn section(&mut self, kind: Kind, plain: &[u8], [index, other, pad]: [u8; 3]) {
        let right = self.sections.len() as u64;
        let index = if index > 250 { right.wrapping_add(u64::from(index) << (index % 64)) } else { right };
        let written = match other {
            253 => Kind::Metadata,
            254 => Kind::Data,
            255 => Kind::End,
            _ => kind,
        };
        let fill = 16 - plain.len() % 16;
        let mut padded = plain.to_vec();
        padded.resize(plain.len() + fill, fill as u8);
        if pad > 250 {
            let at = padded.len() - 1 - usize::from(pad) % fill;
            padded[at] ^= pad;
            self.sound = false;
        }
        self.sound &= index == right && written == kind;
        self.sections.push((index, written, padded));
    }

    /// Seals what there is and reads it.
    fn judge(&self, metadata_len: u32) -> bool {
        let file_key = FileKey::from_bytes(&[0x11; 32]);
        let mut header = Header::new(12, metadata_len, DataId([0x22; 16])).expect("a possible header");
        let derivation = Derivation::new(&file_key, &header.salt());
        header.commitment = derivation.commitment();
        let sealer = SectionSealer::new(&derivation);
        let mut body = Vec::new();
        for (index, kind, padded) in &self.sections {
            let start = body.len();
            body.extend([&[0x33; 16][..], padded, &[0; 16]].concat());
            sealer.seal(&mut [Slot { index: *index, kind: *kind, bytes: &mut body[start..] }]);
        }
        let opener = Opener::new(header, &file_key).expect("the right key");
        let (mut source, mut released) = (&body[..], Vec::new());
        let read = opener.metadata(&mut source).and_then(|_| opener.copy(source, &mut released, None, 1));
        assert!(self.plain.starts_with(&released), "released what was not written");
        assert_eq!(read.is_ok(), self.sound, "{read:?}");
        assert!(body.len() >= self.plain.len() + FRAMING);
        read.is_ok()
    }
}

fn forged_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for flags in 0..8 {
        let mut seed = vec![flags];
        seed.extend([6, 1, 2, 3, 7, 4, 5, 6, 8, 7, 8, 9]);
        seed.resize(64, 0);
        seed.extend(br#"{"v":1,"type":"file","name":"a","mtime":"-1","mode":"0644","x":[1,{"y":null}]}"#);
        seeds.push(seed);
    }
    seeds
}

/// What parses prints as text that parses to the same, and keeps every block byte for byte.
fn envelope(data: &[u8]) -> bool {
    let Ok(read) = Envelope::parse(data) else { return false };
    let text = read.to_text().expect("what was within the limits stays within them");
    let again = Envelope::parse(text.as_bytes()).expect("what was printed parses");
    assert_eq!(again.to_text().expect("printed again"), text);
    assert_eq!(again.blocks.len(), read.blocks.len());
    let source = std::str::from_utf8(data).expect("an envelope is text");
    for (block, same) in read.blocks.iter().zip(&again.blocks) {
        assert!(source.contains(block.text()) && block.content == same.content);
    }
    assert!(read.entries().all(|entry| source.contains(&entry.data_id.to_string())));
    true
}

/// What parses prints as text that parses to the same.
fn metadata(data: &[u8]) -> bool {
    let mut text = data.to_vec();
    text.resize(text.len().next_multiple_of(256), b' ');
    let Ok(read) = Metadata::parse(&text) else { return false };
    // A text of 64 KiB with escapes may grow when it is printed.
    let Ok(text) = read.to_text() else { return false };
    assert_eq!(text.len() % 256, 0);
    assert_eq!(Metadata::parse(&text).expect("what was printed parses"), read);
    true
}

/// What is ours is stored under that very name and is safe to make; what is not, is not.
fn names(data: &[u8]) -> bool {
    let Ok(stored) = std::str::from_utf8(data) else { return false };
    for container in name::containers_of(stored) {
        assert!(container.ends_with(".enc"));
    }
    let path: Vec<&[u8]> = data.split(|byte| *byte == b'/').collect();
    for made in [ObjectName::file(&path), ObjectName::folder(&path)].into_iter().flatten() {
        assert_eq!(ObjectName::parse(&made.container()), Some(made));
    }
    let Some(read) = ObjectName::parse(stored) else { return false };
    assert_eq!(read.container(), stored);
    assert!(name::is_container_name(stored) && !name::is_envelope_name(stored));
    for segment in read.segments() {
        assert!(!segment.is_empty() && segment != b"." && segment != b"..");
        assert!(!segment.contains(&b'/') && !segment.contains(&0));
    }
    true
}

fn name_seeds() -> Vec<Vec<u8>> {
    let names = "x.enc|a/b/c.enc|server.key~.enc|server.key~~.enc|.folder.enc|d/.folder.enc|.folder~.enc|a.enc~/x.enc|\
                 %b64~_w.enc|%b64~_y5rZXk.enc|%b64~JWI2NH5fdw.enc|%b64~_y5lbmM/x.enc|x.key.enc|../x.enc|\
                 x.0123456789abcdef.key.enc|x.0123456789abcdef.enc|naïve.enc|.key~.enc|a.key/x.enc|...enc";
    names.split('|').map(|name| name.as_bytes().to_vec()).collect()
}

/// No file is taken for both halves of a recipe pair, and what a key file is read as it is written as.
fn recipe(data: &[u8]) -> bool {
    let key_file = detect_key_file(data);
    let container = detect_container(data);
    if let Some(key_file) = &key_file {
        assert!(container.is_none());
        let again = detect_key_file(&key_file.encode()).expect("what was written is read");
        assert_eq!((again.form(), again.block_len()), (key_file.form(), key_file.block_len()));
    }
    let sample = Sample::read(&mut Cursor::new(data));
    let reader = Reader::new(data);
    if let (Ok(sample), Ok(reader)) = (&sample, &reader) {
        assert_eq!((sample.data_id(), sample.encoding()), (reader.data_id(), reader.encoding()));
    }
    assert!(sample.is_err() || container.is_some());
    key_file.is_some() || sample.is_ok()
}

/// No key file panics a reader, and only one that says that it is encrypted has a derivation.
fn keys(data: &[u8]) -> bool {
    let Ok(key) = KeyFile::parse(data) else { return false };
    assert_eq!(key.is_encrypted(), key.kdf().is_some());
    assert!(key.is_encrypted() || key.rounds().is_none());
    true
}
