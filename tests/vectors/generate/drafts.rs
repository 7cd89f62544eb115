//! Containers that a faulty or hostile writer made: every tag is right, what it covers is not.

use sidekey::format::section::Kind;

use super::writer::{Draft, S, Shape, end, hash, pkcs7, text};
use super::{Expect, Scenario, Vector};

const META: &str = r#"{"v":1,"type":"file","name":"a.txt","mtime":"1795215960123456789","mode":"0644"}"#;

type Case = (&'static str, &'static str, &'static str, usize, fn(&mut Draft));

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (shape, expect, cases) in [
        (Shape::of(100), Expect::Header, header()),
        (Shape::of(2 * S + 100), Expect::Section, sections()),
        (Shape::of(S + 100).digest(), Expect::End, ends()),
    ] {
        all.extend(cases.into_iter().map(|case| scenario(&shape, expect, case)));
    }
    for (name, comment, says, json) in metadata() {
        let shape = Shape::of(if name.contains("target") { 0 } else { 100 }).metadata(json);
        all.push(scenario(&shape, Expect::Metadata, (name, comment, says, 0, |_| {})));
    }
    let shape = Shape::of(100).metadata(META);
    all.extend(metadata_sections().into_iter().map(|case| scenario(&shape, Expect::Metadata, case)));
    for (name, comment, json) in [
        ("section-in-dir", "a folder with a data section", r#"{"v":1,"type":"dir","name":"x"}"#),
        (
            "section-in-symlink",
            "a symlink with a data section",
            r#"{"v":1,"type":"symlink","name":"x","target":"y"}"#,
        ),
    ] {
        let shape = Shape::of(100).metadata(json);
        all.push(scenario(&shape, Expect::Section, (name, comment, "data", 0, |_| {})));
    }
    all
}

fn scenario(shape: &Shape, expect: Expect, (name, comment, says, released, edit): Case) -> Scenario {
    let mut draft = shape.draft(name);
    edit(&mut draft);
    let mut vector = Vector::new(comment, expect, &shape.plain[..released], draft.seal().bytes());
    vector.file_key = Some(draft.file_key);
    Scenario { name: name.into(), says, vector }
}

fn header() -> Vec<Case> {
    vec![
        ("header-magic", "the magic is another one", "no magic at byte 0", 0, |c| c.head[6] = b'Z'),
        ("header-magic-end", "the magic does not end in a zero byte", "no magic at byte 0", 0, |c| {
            c.head[7] = b'\n';
        }),
        ("header-version-0", "version 0", "version 0 at byte 8", 0, |c| c.head[8] = 0),
        ("header-version-2", "version 2", "version 2 at byte 8", 0, |c| c.head[8] = 2),
        ("header-suite-0", "suite 0", "suite 0 at byte 9", 0, |c| c.head[9] = 0),
        ("header-suite-2", "suite 2", "suite 2 at byte 9", 0, |c| c.head[9] = 2),
        ("header-log2-11", "sections of 2 KiB", "2^11", 0, |c| c.head[10] = 11),
        ("header-log2-25", "sections of 32 MiB", "2^25", 0, |c| c.head[10] = 25),
        ("header-log2-255", "a section size beyond every word", "2^255", 0, |c| c.head[10] = 255),
        ("header-reserved", "the reserved byte is 1", "reserved byte 11", 0, |c| c.head[11] = 1),
        ("header-metadata-framing", "a metadata length of framing alone", "metadata length 48", 0, |c| {
            c.head[12] = 48;
        }),
        ("header-metadata-odd", "a metadata length between two units", "metadata length 305", 0, |c| {
            c.head[12..].copy_from_slice(&305u32.to_le_bytes());
        }),
        ("header-metadata-long", "a metadata length of 257 units", "metadata length 65840", 0, |c| {
            c.head[12..].copy_from_slice(&(48 + 257 * 256u32).to_le_bytes());
        }),
        (
            "header-metadata-huge",
            "the largest metadata length that the field holds",
            "metadata length",
            0,
            |c| {
                c.head[12..].fill(255);
            },
        ),
    ]
}

const FIRST: &str = "section 0 at byte 64 fails authentication";
const SECOND: &str = "section 1 at byte 4208 fails authentication";
const LAST: &str = "section 2 at byte 8352 fails authentication";

fn sections() -> Vec<Case> {
    vec![
        ("section-padding-zero", "a last byte of padding that is 0, behind a good tag", FIRST, 0, |c| {
            *c.sections[0].padded.last_mut().unwrap() = 0;
        }),
        ("section-padding-17", "padding of 17 bytes, behind a good tag", SECOND, S, |c| {
            let padded = &mut c.sections[1].padded;
            let len = padded.len();
            padded[len - 17..].fill(17);
        }),
        ("section-padding-uneven", "padding bytes that differ, behind a good tag", LAST, 2 * S, |c| {
            let padded = &mut c.sections[2].padded;
            let len = padded.len();
            padded[len - 2] ^= 1;
        }),
        ("section-full-too-long", "a full section that unpads to one byte more", FIRST, 0, |c| {
            c.sections[0].padded = pkcs7(text(S + 1));
        }),
        ("section-full-longest", "a full section that unpads to 15 bytes more", SECOND, S, |c| {
            c.sections[1].padded = pkcs7(text(S + 15));
        }),
        ("section-last-empty", "a last data section of 0 bytes", LAST, 2 * S, |c| {
            c.sections[2].padded = pkcs7(vec![]);
        }),
        ("section-index-later", "the second section counted as the third", SECOND, S, |c| {
            c.sections[1].index = 2;
        }),
        ("section-index-from-one", "sections counted from 1", FIRST, 0, |c| {
            c.sections.iter_mut().for_each(|section| section.index += 1);
        }),
        ("section-index-high", "an index that differs in its upper half alone", FIRST, 0, |c| {
            c.sections[0].index = 1 << 32;
        }),
        ("section-kind-end", "a data section tagged as the end", SECOND, S, |c| {
            c.sections[1].kind = Kind::End;
        }),
        ("section-kind-metadata", "a first data section tagged as metadata", FIRST, 0, |c| {
            c.sections[0].kind = Kind::Metadata;
        }),
        ("section-short-in-between", "a short section before a full one", FIRST, 0, |c| {
            c.sections[0].padded = pkcs7(text(100));
        }),
    ]
}

const END: &str = "section 2 at byte 4352 fails authentication";

fn ends() -> Vec<Case> {
    vec![
        ("end-total-short", "a total that lacks a byte", "speaks of 4195 bytes", S + 100, |c| {
            set_end(c, 0, 99);
        }),
        ("end-total-long", "a total with a byte more", "speaks of 4197 bytes", S + 100, |c| {
            set_end(c, 0, 101);
        }),
        ("end-total-huge", "a total of 2^64 - 1", "speaks of 18446744073709551615 bytes", S + 100, |c| {
            c.sections[2].padded[..8].fill(255);
        }),
        ("end-digest-unknown", "digest algorithm 2", "digest algorithm 2 is unknown", S + 100, |c| {
            set_end(c, 8, 2);
        }),
        ("end-digest-wrong", "the digest of another plaintext", "does not have the SHA-256", S + 100, |c| {
            c.sections[2].padded[16..48].copy_from_slice(&hash("digest", "wrong"));
        }),
        (
            "end-digest-of-none",
            "digest bytes that are not zero, with algorithm 0",
            "are not zero",
            S + 100,
            |c| {
                set_end(c, 8, 0);
            },
        ),
        ("end-reserved-first", "byte 9 of the end section is not zero", "are not zero", S + 100, |c| {
            set_end(c, 9, 1);
        }),
        ("end-reserved-last", "byte 15 of the end section is not zero", "are not zero", S + 100, |c| {
            set_end(c, 15, 128);
        }),
        ("end-padding", "a padding fault in the end section, behind a good tag", END, S + 100, |c| {
            set_end(c, 50, 0);
        }),
        ("end-too-long", "an end section that unpads to 49 bytes", "wrong length", S + 100, |c| {
            c.sections[2].padded = pkcs7([end(4196, 0, [0; 32]), vec![0]].concat());
        }),
        ("end-index", "an end section that is counted one too far", END, S + 100, |c| {
            c.sections[2].index = 3;
        }),
        ("end-kind-data", "an end section tagged as data", END, S + 100, |c| c.sections[2].kind = Kind::Data),
        ("end-kind-metadata", "an end section tagged as metadata", END, S + 100, |c| {
            c.sections[2].kind = Kind::Metadata;
        }),
    ]
}

fn set_end(draft: &mut Draft, at: usize, value: u8) {
    draft.sections[2].padded[at] = value;
}

fn metadata() -> Vec<(&'static str, &'static str, &'static str, Vec<u8>)> {
    let nested = format!(r#"{{"v":1,"type":"file","x":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
    [
        ("metadata-not-json", "no JSON", "metadata: ", &b"name=x"[..]),
        ("metadata-cut-json", "JSON that ends early", "metadata: ", br#"{"v":1,"type":"file""#),
        ("metadata-spaces", "spaces alone", "metadata: ", b" "),
        ("metadata-array", "an array", "not an object", br#"["v",1]"#),
        ("metadata-behind", "something behind the object", "trailing", br#"{"v":1,"type":"file"} {}"#),
        ("metadata-bom", "a byte order mark", "metadata: ", b"\xef\xbb\xbf{\"v\":1,\"type\":\"file\"}"),
        (
            "metadata-not-utf8",
            "a string that is not UTF-8",
            "metadata: ",
            b"{\"v\":1,\"type\":\"file\",\"name\":\"\xff\"}",
        ),
        (
            "metadata-half-surrogate",
            "half of a surrogate pair",
            "metadata: ",
            br#"{"v":1,"type":"file","name":"\ud800"}"#,
        ),
        ("metadata-nested", "5,000 nested arrays", "metadata: ", nested.as_bytes()),
        ("metadata-duplicate", "a key twice", "type stands twice", br#"{"v":1,"type":"file","type":"dir"}"#),
        (
            "metadata-duplicate-unknown",
            "an unknown key twice",
            "x stands twice",
            br#"{"v":1,"x":1,"type":"file","x":1}"#,
        ),
        (
            "metadata-duplicate-deep",
            "a key twice in an object within",
            "a stands twice",
            br#"{"v":1,"type":"file","x":[{"a":1,"a":2}]}"#,
        ),
        (
            "metadata-duplicate-escaped",
            "a key twice, once with an escape",
            "v stands twice",
            br#"{"v":1,"type":"file","\u0076":1}"#,
        ),
        ("metadata-version-2", "v is 2", "version is not 1", br#"{"v":2,"type":"file"}"#),
        ("metadata-version-text", "v is a string", "version is not 1", br#"{"v":"1","type":"file"}"#),
        ("metadata-version-missing", "no v", "version is not 1", br#"{"type":"file"}"#),
        ("metadata-type-missing", "no type", "no type", br#"{"v":1}"#),
        ("metadata-type-unknown", "type is fifo", "type is not known", br#"{"v":1,"type":"fifo"}"#),
        ("metadata-type-number", "type is a number", "type is not a string", br#"{"v":1,"type":1}"#),
        (
            "metadata-name-number",
            "name is a number",
            "name is not a string",
            br#"{"v":1,"type":"file","name":1}"#,
        ),
        (
            "metadata-name-null",
            "name is null",
            "name is not a string",
            br#"{"v":1,"type":"file","name":null}"#,
        ),
        (
            "metadata-name-twice",
            "both name and name_b64",
            "both name and name_b64",
            br#"{"v":1,"type":"file","name":"a","name_b64":"YQ=="}"#,
        ),
        (
            "metadata-name-base64",
            "name_b64 without its padding",
            "name_b64 is not base64",
            br#"{"v":1,"type":"file","name_b64":"/w"}"#,
        ),
        (
            "metadata-mtime-number",
            "mtime is a number",
            "mtime is not a string",
            br#"{"v":1,"type":"file","mtime":1}"#,
        ),
        (
            "metadata-mtime-fraction",
            "mtime with a fraction",
            "mtime is not a decimal",
            br#"{"v":1,"type":"file","mtime":"1.5"}"#,
        ),
        (
            "metadata-mtime-empty",
            "mtime without a digit",
            "mtime is not a decimal",
            br#"{"v":1,"type":"file","mtime":""}"#,
        ),
        (
            "metadata-mtime-plus",
            "mtime with a plus sign",
            "mtime is not a decimal",
            br#"{"v":1,"type":"file","mtime":"+1"}"#,
        ),
        (
            "metadata-mtime-long",
            "mtime of 39 digits",
            "mtime is not a decimal",
            br#"{"v":1,"type":"file","mtime":"100000000000000000000000000000000000000"}"#,
        ),
        (
            "metadata-mode-decimal",
            "a mode that is not octal",
            "mode is not octal",
            br#"{"v":1,"type":"file","mode":"0980"}"#,
        ),
        (
            "metadata-mode-high",
            "a mode with type bits",
            "mode is not octal",
            br#"{"v":1,"type":"file","mode":"100644"}"#,
        ),
        (
            "metadata-target-twice",
            "both target and target_b64",
            "both target and target_b64",
            br#"{"v":1,"type":"symlink","target":"a","target_b64":"YQ=="}"#,
        ),
        (
            "metadata-target-missing",
            "a symlink without a target",
            "target",
            br#"{"v":1,"type":"symlink","name":"x"}"#,
        ),
        (
            "metadata-target-empty",
            "a symlink with an empty target",
            "target",
            br#"{"v":1,"type":"symlink","name":"x","target":""}"#,
        ),
    ]
    .map(|(name, comment, says, json)| (name, comment, says, json.to_vec()))
    .to_vec()
}

const METADATA: &str = "the metadata section at byte 64 fails authentication";

fn metadata_sections() -> Vec<Case> {
    vec![
        (
            "metadata-padding",
            "a padding fault in the metadata section, behind a good tag",
            METADATA,
            0,
            |c| {
                *c.sections[0].padded.last_mut().unwrap() = 15;
            },
        ),
        ("metadata-not-padded", "metadata that unpads to eight bytes more", "multiple of 256", 0, |c| {
            c.sections[0].padded = pkcs7([META.as_bytes(), &[b' '; 264][META.len()..]].concat());
        }),
        ("metadata-index", "a metadata section counted as section 1", METADATA, 0, |c| {
            c.sections[0].index = 1;
        }),
        ("metadata-kind-data", "a metadata section tagged as data", METADATA, 0, |c| {
            c.sections[0].kind = Kind::Data;
        }),
    ]
}
