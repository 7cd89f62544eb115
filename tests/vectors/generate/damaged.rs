//! Sound containers that were changed afterwards, by somebody without the file key.

use super::writer::{Parts, S, Shape, hash};
use super::{Expect, Scenario, Vector};

type Case = (&'static str, &'static str, Expect, &'static str, usize, fn(&mut Parts));

const META: &str = r#"{"v":1,"type":"file","name":"a.txt","mode":"0644"}"#;

pub(crate) fn scenarios() -> Vec<Scenario> {
    let long = || Shape::of(2 * S + 100);
    let mut all = Vec::new();
    for (shape, cases) in [
        (long(), headers()),
        (long(), flipped()),
        (long(), moved()),
        (long(), truncated()),
        (long(), trailing()),
        (Shape::of(0), empty()),
        (Shape::of(2 * S), full()),
        (Shape::of(S + 100).metadata(META), metadata()),
    ] {
        for (name, comment, expect, says, released, edit) in cases {
            let draft = shape.draft(name);
            let mut parts = draft.seal();
            edit(&mut parts);
            let mut vector = Vector::new(comment, expect, &shape.plain[..released], parts.bytes());
            vector.file_key = Some(draft.file_key);
            all.push(Scenario { name: name.into(), says, vector });
        }
    }
    all
}

const COMMITMENT: &str = "does not commit";

fn headers() -> Vec<Case> {
    vec![
        ("header-short", "63 bytes", Expect::Header, "63 bytes are less than a header", 0, |c| {
            c.header.truncate(63);
            c.sections.clear();
        }),
        ("header-nothing", "no byte at all", Expect::Header, "0 bytes are less than a header", 0, |c| {
            c.header.clear();
            c.sections.clear();
        }),
        (
            "commitment-first-byte",
            "the commitment's first byte is changed",
            Expect::Commitment,
            COMMITMENT,
            0,
            |c| c.header[32] ^= 1,
        ),
        (
            "commitment-last-byte",
            "the commitment's last byte is changed",
            Expect::Commitment,
            COMMITMENT,
            0,
            |c| c.header[63] ^= 128,
        ),
        ("commitment-data-id", "the data id is changed", Expect::Commitment, COMMITMENT, 0, |c| {
            c.header[16] ^= 1;
        }),
        (
            "commitment-log2",
            "the section size is changed to another possible one",
            Expect::Commitment,
            COMMITMENT,
            0,
            |c| c.header[10] = 13,
        ),
        (
            "commitment-metadata",
            "the metadata length is changed to another possible one",
            Expect::Commitment,
            COMMITMENT,
            0,
            |c| {
                c.header[12..14].copy_from_slice(&304u16.to_le_bytes());
            },
        ),
        ("commitment-other", "the header of another container", Expect::Commitment, COMMITMENT, 0, |c| {
            c.header = other(c).header;
        }),
    ]
}

const FIRST: &str = "section 0 at byte 64 fails authentication";
const SECOND: &str = "section 1 at byte 4208 fails authentication";
const LAST: &str = "section 2 at byte 8352 fails authentication";
const END: &str = "section 3 at byte 8496 fails authentication";

fn flipped() -> Vec<Case> {
    use Expect::{End, Section};
    vec![
        ("section-tag-first", "a tag is changed: first section", Section, FIRST, 0, |c| flip(c, 0, S + 32)),
        ("section-tag-middle", "a tag is changed: middle section", Section, SECOND, S, |c| {
            flip(c, 1, S + 47);
        }),
        ("section-tag-last", "a tag is changed: last section", Section, LAST, 2 * S, |c| flip(c, 2, 128)),
        ("section-tag-zero", "a tag of zeros", Section, FIRST, 0, |c| c.sections[0][S + 32..].fill(0)),
        ("section-iv-first", "an IV is changed: first section", Section, FIRST, 0, |c| flip(c, 0, 0)),
        ("section-iv-last", "an IV is changed: last section", Section, LAST, 2 * S, |c| flip(c, 2, 15)),
        ("section-text-first", "a byte of ciphertext is changed: first section", Section, FIRST, 0, |c| {
            flip(c, 0, 16);
        }),
        ("section-text-middle", "a byte of ciphertext is changed: middle section", Section, SECOND, S, |c| {
            flip(c, 1, 2000);
        }),
        ("section-text-padding", "the block of padding is changed", Section, LAST, 2 * S, |c| {
            flip(c, 2, 127);
        }),
        ("end-tag", "the tag of the end section is changed", End, END, 2 * S + 100, |c| flip(c, 3, 95)),
        ("end-iv", "the IV of the end section is changed", End, END, 2 * S + 100, |c| flip(c, 3, 0)),
        ("end-text", "the total in the end section is changed", End, END, 2 * S + 100, |c| flip(c, 3, 16)),
        ("end-zeros", "an end section of zeros", End, END, 2 * S + 100, |c| c.sections[3].fill(0)),
    ]
}

fn moved() -> Vec<Case> {
    use Expect::{End, Section};
    vec![
        ("section-swapped", "two full sections are swapped", Section, FIRST, 0, |c| c.sections.swap(0, 1)),
        ("section-repeated", "a section stands twice", Section, SECOND, S, |c| {
            let again = c.sections[0].clone();
            c.sections.insert(1, again);
        }),
        ("section-dropped-first", "the first section is missing", Section, FIRST, 0, |c| {
            drop(c.sections.remove(0));
        }),
        ("section-dropped-middle", "the middle section is missing", Section, SECOND, S, |c| {
            drop(c.sections.remove(1));
        }),
        ("section-dropped-last", "the last section is missing", End, "section 2 at byte 8352", 2 * S, |c| {
            drop(c.sections.remove(2));
        }),
        ("section-spliced", "a section of another container", Section, SECOND, S, |c| {
            c.sections[1] = other(c).sections[1].clone();
        }),
        ("section-spliced-iv", "the IV of another section", Section, SECOND, S, |c| {
            let iv = c.sections[0][..16].to_vec();
            c.sections[1][..16].copy_from_slice(&iv);
        }),
        ("section-spliced-tail", "the second half of another section", Section, SECOND, S, |c| {
            let tail = c.sections[0][2064..S + 32].to_vec();
            c.sections[1][2064..S + 32].copy_from_slice(&tail);
        }),
        ("end-spliced", "the end section of another container", End, END, 2 * S + 100, |c| {
            c.sections[3] = other(c).sections[3].clone();
        }),
        ("end-first", "the end section stands first", Section, FIRST, 0, |c| c.sections.rotate_right(1)),
    ]
}

fn truncated() -> Vec<Case> {
    use Expect::{Section, Truncated};
    vec![
        ("truncated-header", "cut behind the header", Truncated, "its last 0 bytes are no section", 0, |c| {
            cut(c, 0);
        }),
        ("truncated-iv", "cut within the first IV", Truncated, "its last 8 bytes are no section", 0, |c| {
            cut(c, 8);
        }),
        ("truncated-first", "cut within the first section, between blocks", Section, FIRST, 0, |c| {
            cut(c, 2064);
        }),
        (
            "truncated-first-uneven",
            "cut within the first section and a block",
            Truncated,
            "its last 2001 bytes",
            0,
            |c| cut(c, 2001),
        ),
        ("truncated-section", "cut behind the first section", Section, FIRST, 0, |c| cut(c, S + 48)),
        (
            "truncated-section-plus-end",
            "the first section and 96 bytes of the second",
            Expect::End,
            "section 1 at byte 4208",
            S,
            |c| cut(c, S + 48 + 96),
        ),
        ("truncated-second", "cut within the second section, between blocks", Section, SECOND, S, |c| {
            cut(c, S + 48 + 2000);
        }),
        (
            "truncated-second-uneven",
            "cut within the second section and a block",
            Truncated,
            "its last 2005 bytes",
            S,
            |c| cut(c, S + 48 + 2005),
        ),
        ("truncated-two-sections", "cut behind the second section", Section, SECOND, S, |c| {
            cut(c, 2 * S + 96);
        }),
        ("truncated-last", "cut within the last section", Truncated, "are no section", 2 * S, |c| {
            cut(c, 2 * S + 96 + 112);
        }),
        ("truncated-before-end", "no end section", Section, LAST, 2 * S, |c| cut(c, 2 * S + 96 + 144)),
        ("truncated-in-end", "cut within the end section, between blocks", Section, LAST, 2 * S, |c| {
            cut(c, 2 * S + 96 + 144 + 48);
        }),
        ("truncated-one-byte", "the last byte is missing", Truncated, "its last 239 bytes", 2 * S, |c| {
            cut(c, 2 * S + 96 + 144 + 95);
        }),
    ]
}

fn trailing() -> Vec<Case> {
    use Expect::{Section, Truncated};
    vec![
        ("trailing-byte", "one byte behind the end", Truncated, "its last 241 bytes", 2 * S, |c| {
            append(c, &[0]);
        }),
        ("trailing-block", "16 bytes behind the end", Section, LAST, 2 * S, |c| append(c, &[0; 16])),
        ("trailing-end", "the end section twice", Section, LAST, 2 * S, |c| {
            let end = c.sections[3].clone();
            append(c, &end);
        }),
        ("trailing-section", "zeros as long as a section behind the end", Section, LAST, 2 * S, |c| {
            append(c, &[0; S + 48]);
        }),
        ("trailing-container", "another container behind the end", Section, LAST, 2 * S, |c| {
            let other = other(c).bytes();
            append(c, &other);
        }),
        ("trailing-newline", "a line feed behind the end", Truncated, "its last 241 bytes", 2 * S, |c| {
            append(c, b"\n");
        }),
    ]
}

fn empty() -> Vec<Case> {
    use Expect::{End, Section, Truncated};
    vec![
        ("truncated-empty", "an empty file without its end section", Truncated, "its last 0 bytes", 0, |c| {
            cut(c, 0);
        }),
        (
            "truncated-empty-byte",
            "an empty file without its last byte",
            Truncated,
            "its last 95 bytes",
            0,
            |c| cut(c, 95),
        ),
        (
            "end-empty-tag",
            "the only tag is changed",
            End,
            "section 0 at byte 64 fails authentication",
            0,
            |c| flip(c, 0, 80),
        ),
        (
            "trailing-empty-byte",
            "one byte behind the end of an empty file",
            Truncated,
            "its last 97 bytes",
            0,
            |c| append(c, &[1]),
        ),
        (
            "trailing-empty-block",
            "16 bytes behind the end of an empty file",
            Truncated,
            "its last 112 bytes",
            0,
            |c| append(c, &[1; 16]),
        ),
        ("trailing-empty-end", "the end section of an empty file twice", Section, FIRST, 0, |c| {
            let end = c.sections[0].clone();
            append(c, &end);
        }),
    ]
}

/// Here the last section is a full one.
fn full() -> Vec<Case> {
    use Expect::{End, Section};
    vec![
        ("truncated-full-before-end", "full sections without the end section", Section, SECOND, S, |c| {
            cut(c, 2 * S + 96);
        }),
        ("section-dropped-full", "a last, full section is missing", End, "section 1 at byte 4208", S, |c| {
            drop(c.sections.remove(1));
        }),
        ("section-full-swapped", "all data sections are in reverse order", Section, FIRST, 0, |c| {
            c.sections[..2].reverse();
        }),
    ]
}

const METADATA: &str = "the metadata section at byte 64 fails authentication";

fn metadata() -> Vec<Case> {
    use Expect::{Metadata, Section, Truncated};
    vec![
        ("metadata-tag", "the tag of the metadata is changed", Metadata, METADATA, 0, |c| flip(c, 0, 303)),
        ("metadata-iv", "the IV of the metadata is changed", Metadata, METADATA, 0, |c| flip(c, 0, 3)),
        ("metadata-text", "the ciphertext of the metadata is changed", Metadata, METADATA, 0, |c| {
            flip(c, 0, 40);
        }),
        ("metadata-spliced", "the metadata of another container", Metadata, METADATA, 0, |c| {
            c.sections[0] = other(c).sections[0].clone();
        }),
        ("metadata-dropped", "the metadata section is missing", Metadata, METADATA, 0, |c| {
            drop(c.sections.remove(0));
        }),
        (
            "metadata-repeated",
            "the metadata section stands twice",
            Section,
            "section 1 at byte 368",
            0,
            |c| {
                let again = c.sections[0].clone();
                c.sections.insert(1, again);
            },
        ),
        ("truncated-metadata", "cut within the metadata", Truncated, "ends within its metadata", 0, |c| {
            cut(c, 100);
        }),
        ("truncated-behind-metadata", "cut behind the metadata", Truncated, "its last 0 bytes", 0, |c| {
            cut(c, 304);
        }),
        ("truncated-metadata-and-half", "metadata, and 95 bytes", Truncated, "its last 95 bytes", 0, |c| {
            cut(c, 304 + 95);
        }),
    ]
}

/// The same shape under another name: another file key and data id.
fn other(parts: &Parts) -> Parts {
    let name = format!("{}, the other one", parts.name);
    let long = parts.sections.len() == 4;
    let shape = if long { Shape::of(2 * S + 100) } else { Shape::of(S + 100).metadata(META) };
    assert_ne!(hash("file key", &name), hash("file key", &parts.name));
    shape.draft(&name).seal()
}

fn flip(parts: &mut Parts, section: usize, at: usize) {
    parts.sections[section][at] ^= 1 << (at % 8);
}

/// Keeps so many bytes behind the header.
fn cut(parts: &mut Parts, keep: usize) {
    let mut bytes = parts.sections.concat();
    assert!(keep < bytes.len());
    bytes.truncate(keep);
    parts.sections = vec![bytes];
}

fn append(parts: &mut Parts, bytes: &[u8]) {
    parts.sections.push(bytes.to_vec());
}
