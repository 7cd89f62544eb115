//! Sound containers.

use super::writer::{S, Shape};
use super::{Expect, Scenario, Vector};

pub(crate) fn scenarios() -> Vec<Scenario> {
    let of = Shape::of;
    let meta = |json: &str| of(100).metadata(json);
    let nothing = |json: &str| of(0).metadata(json);
    let long = format!(r#"{{"v":1,"type":"file","name":"{}"}}"#, "n".repeat(250));
    let longest = format!(r#"{{"v":1,"type":"file","later":"{}"}}"#, "x".repeat(65_500));
    [
        ("empty", "no plaintext: the end section alone", of(0)),
        ("one-byte", "one byte", of(1)),
        ("block-minus-one", "15 bytes: one byte of padding", of(15)),
        ("block", "16 bytes: a block of padding", of(16)),
        ("block-plus-one", "17 bytes", of(17)),
        ("section-minus-block-minus-one", "the section size less 17 bytes", of(S - 17)),
        ("section-minus-block", "the section size less 16 bytes", of(S - 16)),
        (
            "section-minus-one",
            "one byte less than a section: as many blocks as a full one less one",
            of(S - 1),
        ),
        ("section", "exactly one full section", of(S)),
        ("section-plus-one", "a full section and one of one byte", of(S + 1)),
        ("two-sections-minus-one", "a full section and one that lacks a byte", of(2 * S - 1)),
        ("two-sections", "exactly two full sections", of(2 * S)),
        ("two-sections-plus-one", "two full sections and one byte", of(2 * S + 1)),
        ("eight-sections", "as many sections as the kernel has lanes", of(8 * S)),
        ("nine-sections", "nine sections, the last one short", of(8 * S + 100)),
        ("log2-13", "sections of 8 KiB", of(8192 + 8000).log2(13)),
        ("log2-16", "the default section size, one short section", of(1000).log2(16)),
        ("log2-16-section", "exactly one full section of the default size", of(65_536).log2(16)),
        ("log2-16-section-plus-one", "the default section size and one byte", of(65_537).log2(16)),
        ("log2-24", "the largest section size, one short section", of(1000).log2(24)),
        ("digest-empty", "SHA-256 of nothing", of(0).digest()),
        ("digest", "SHA-256 of three sections", of(2 * S + 100).digest()),
        (
            "metadata-file",
            "all fields of a file",
            meta(r#"{"v":1,"type":"file","name":"a.txt","mtime":"1795215960123456789","mode":"0644"}"#),
        ),
        (
            "metadata-several-sections",
            "metadata, three data sections, a digest",
            of(2 * S + 100)
                .digest()
                .metadata(r#"{"v":1,"type":"file","name":"big","mtime":"0","mode":"0600"}"#),
        ),
        (
            "metadata-empty-file",
            "metadata and no plaintext",
            nothing(r#"{"v":1,"type":"file","name":"empty","mode":"0400"}"#),
        ),
        ("metadata-pipe", "required fields alone, as for a pipe", meta(r#"{"v":1,"type":"file"}"#)),
        (
            "metadata-dir",
            "a folder",
            nothing(r#"{"v":1,"type":"dir","name":"folder","mtime":"1795215960000000000","mode":"0755"}"#),
        ),
        (
            "metadata-symlink",
            "a symlink",
            nothing(
                r#"{"v":1,"type":"symlink","name":"link","mtime":"1795215960000000001","target":"../there"}"#,
            ),
        ),
        (
            "metadata-symlink-not-utf8",
            "a symlink whose target is not UTF-8",
            nothing(r#"{"v":1,"type":"symlink","name":"link","target_b64":"/3VwLw=="}"#),
        ),
        (
            "metadata-name-not-utf8",
            "a name that is not UTF-8",
            meta(r#"{"v":1,"type":"file","name_b64":"//5h"}"#),
        ),
        (
            "metadata-name-hostile",
            "a name that must not be used as a path",
            meta(r#"{"v":1,"type":"file","name":"../../etc/x\u001b[31m\n"}"#),
        ),
        (
            "metadata-name-unicode",
            "escapes and characters outside the first plane",
            meta(r#"{"v":1,"type":"file","name":"na\u00efve \ud83d\ude00 ☕"}"#),
        ),
        (
            "metadata-mtime-negative",
            "a time before 1970",
            meta(r#"{"v":1,"type":"file","mtime":"-1500000001"}"#),
        ),
        (
            "metadata-mode-special",
            "mode bits above 0777, which readers mask",
            meta(r#"{"v":1,"type":"file","mode":"4755"}"#),
        ),
        ("metadata-mode-short", "a mode of three digits", meta(r#"{"v":1,"type":"file","mode":"600"}"#)),
        (
            "metadata-unknown-fields",
            "fields that readers ignore and tools keep",
            meta(r#"{"v":1,"type":"file","name":"a","later":{"x":[1,null,true,{"y":-2.5}]},"xattr":"u"}"#),
        ),
        (
            "metadata-order",
            "another order of fields, with white space",
            meta("{ \"mode\" : \"0644\" ,\n\t\"type\":\"file\",\"v\":1 }"),
        ),
        ("metadata-two-units", "metadata of more than 256 bytes", of(100).metadata(long)),
        ("metadata-longest", "metadata of 256 units", of(1).metadata(longest)),
    ]
    .into_iter()
    .map(|(name, comment, shape)| {
        let draft = shape.draft(name);
        let mut vector = Vector::new(comment, Expect::Ok, &shape.plain, draft.seal().bytes());
        vector.file_key = Some(draft.file_key);
        Scenario { name: name.into(), says: "", vector }
    })
    .collect()
}
