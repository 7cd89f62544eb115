//! One small container, and envelopes of all kinds for it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sidekey::{DataId, KeyId};

use super::rsa::Key;
use super::writer::{Shape, data_id, hash};
use super::{Expect, Scenario, Vector};

/// The key that opens, when one does.
const OURS: &str = "c-worked-example.pem";
/// Another recipient's.
const THEIRS: &str = "pkcs8.pem";

/// What an envelope is made from.
struct Kit {
    ours: Key,
    theirs: Key,
    data_id: DataId,
    file_key: [u8; 32],
}

type Case = (&'static str, &'static str, Expect, &'static str, &'static str, fn(&Kit) -> String);

pub(crate) fn scenarios() -> Vec<Scenario> {
    let (mut kit, mut all) = (
        Kit { ours: Key::load(OURS), theirs: Key::load(THEIRS), data_id: DataId([0; 16]), file_key: [0; 32] },
        vec![],
    );
    for (name, comment, expect, says, identity, make) in good().into_iter().chain(keys()).chain(texts()) {
        let shape = Shape::of(100);
        let draft = shape.draft(name);
        (kit.data_id, kit.file_key) = (draft.data_id, draft.file_key);
        let released = if expect == Expect::Ok { &shape.plain[..] } else { &[] };
        let mut vector = Vector::new(comment, expect, released, draft.seal().bytes());
        vector.file_key = (expect == Expect::Ok).then_some(draft.file_key);
        vector.envelope = Some(make(&kit).into_bytes());
        vector.identity = Some(identity.into());
        all.push(Scenario { name: name.into(), says, vector });
    }
    all
}

impl Kit {
    /// The right entry for one of the two keys.
    fn entry(&self, key: &Key) -> String {
        self.wrapped(key, &self.file_key)
    }

    /// An entry of this container with any secret.
    fn wrapped(&self, key: &Key, secret: &[u8]) -> String {
        block(&self.data_id, &key.id, "rsa-oaep-sha256", &key.oaep(secret, &self.data_id))
    }

    /// An entry with this body.
    fn with_body(&self, body: &[u8]) -> String {
        block(&self.data_id, &self.ours.id, "rsa-oaep-sha256", body)
    }

    /// The entry of another container, for our key.
    fn foreign(&self) -> String {
        let data_id = data_id("a container that is not here");
        let secret = hash("file key", "a container that is not here");
        block(&data_id, &self.ours.id, "rsa-oaep-sha256", &self.ours.oaep(&secret, &data_id))
    }

    /// A key that is not the container's, under its data id.
    fn planted(&self) -> String {
        self.wrapped(&self.ours, &hash("file key", "planted"))
    }
}

fn block(data_id: &DataId, recipient: &KeyId, wrap: &str, body: &[u8]) -> String {
    let base64 = STANDARD.encode(body);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!(
        "-----BEGIN SIDEKEY WRAPPED KEY-----\nData-Id: {data_id}\nRecipient: {recipient}\nWrap: {wrap}\n\
         Created: 2026-11-20T23:06:00Z\n\n{}\n-----END SIDEKEY WRAPPED KEY-----\n",
        lines.join("\n")
    )
}

const FUTURE: &str =
    "-----BEGIN SIDEKEY FUTURE-----\nAny: thing, with: colons\n\nAAAA\nAA==\n-----END SIDEKEY FUTURE-----\n";
const INFO: &str = "-----BEGIN SIDEKEY INFO-----\nAAECAwQFBgcICQoLDA0ODw==\n-----END SIDEKEY INFO-----\n";
const INFO_HEADER: &str =
    "-----BEGIN SIDEKEY INFO-----\nX-Note: a\n\nAAECAwQFBgcICQoLDA0ODw==\n-----END SIDEKEY INFO-----\n";
const TINY: &str = "-----BEGIN A-----\n-----END A-----\n";

fn good() -> Vec<Case> {
    use Expect::Ok;
    vec![
        ("envelope", "one entry", Ok, "", OURS, |k| k.entry(&k.ours)),
        ("envelope-two-first", "two recipients, the first one reads", Ok, "", OURS, |k| {
            join(&[k.entry(&k.ours), k.entry(&k.theirs)])
        }),
        ("envelope-two-second", "two recipients, the second one reads", Ok, "", THEIRS, |k| {
            join(&[k.entry(&k.ours), k.entry(&k.theirs)])
        }),
        ("envelope-planted-first", "a planted key before the right one", Ok, "", OURS, |k| {
            join(&[k.planted(), k.entry(&k.ours)])
        }),
        ("envelope-damaged-first", "an entry of random bytes before the right one", Ok, "", OURS, |k| {
            join(&[k.with_body(&[7; 256]), k.entry(&k.ours)])
        }),
        ("envelope-mislabelled", "a Recipient that is another key: a hint, not a proof", Ok, "", OURS, |k| {
            k.entry(&k.ours).replace(&k.ours.id.to_string(), &k.theirs.id.to_string())
        }),
        ("envelope-beside-another", "the entry of another container before ours", Ok, "", OURS, |k| {
            join(&[k.foreign(), k.entry(&k.ours)])
        }),
        (
            "envelope-unknown-block",
            "blocks with labels that are not known, which tools keep",
            Ok,
            "",
            OURS,
            |k| join(&[FUTURE.into(), k.entry(&k.ours), TINY.into()]),
        ),
        ("envelope-unknown-wrap", "an entry of a kind that is not known before ours", Ok, "", OURS, |k| {
            join(&[k.entry(&k.theirs).replace("rsa-oaep-sha256", "x-hybrid"), k.entry(&k.ours)])
        }),
        ("envelope-recipe-key-first", "the entry of an adopted recipe file before ours", Ok, "", OURS, |k| {
            join(&[k.entry(&k.ours).replace("rsa-oaep-sha256", "recipe-key"), k.entry(&k.ours)])
        }),
        ("envelope-unknown-header", "headers that are not known, which tools keep", Ok, "", OURS, |k| {
            k.entry(&k.ours).replace("Created:", "X-Note: a: b  c\nCreated:")
        }),
        ("envelope-no-created", "without the optional header", Ok, "", OURS, |k| {
            k.entry(&k.ours).replace("Created: 2026-11-20T23:06:00Z\n", "")
        }),
        ("envelope-header-order", "headers in another order", Ok, "", OURS, |k| {
            let entry = k.entry(&k.ours);
            let wrap = "Wrap: rsa-oaep-sha256\n";
            entry.replace(wrap, "").replacen("Data-Id", &format!("{wrap}Data-Id"), 1)
        }),
        ("envelope-info-header", "an info record with a header beside the entry", Ok, "", OURS, |k| {
            join(&[k.entry(&k.ours), INFO_HEADER.into()])
        }),
        ("envelope-info", "an info record beside the entry", Ok, "", OURS, |k| {
            join(&[k.entry(&k.ours), INFO.into()])
        }),
        ("envelope-crlf", "lines that end in CR LF", Ok, "", OURS, |k| {
            join(&[k.entry(&k.theirs), k.entry(&k.ours)]).replace('\n', "\r\n")
        }),
        ("envelope-no-last-newline", "without the last line feed", Ok, "", OURS, |k| {
            k.entry(&k.ours).trim_end().into()
        }),
        ("envelope-blank-lines", "empty lines before, between and behind", Ok, "", OURS, |k| {
            format!("\n\n{}\n\n\n{}\n\n", k.entry(&k.theirs), k.entry(&k.ours))
        }),
        ("envelope-no-blank-line", "no empty line between blocks", Ok, "", OURS, |k| {
            k.entry(&k.theirs) + &k.entry(&k.ours)
        }),
        ("envelope-1024-blocks", "as many blocks as there may be, ours the last", Ok, "", OURS, |k| {
            TINY.repeat(1023) + &k.entry(&k.ours)
        }),
    ]
}

const DAMAGED: &str = "the envelope's entry for key 5117669b73f94bab is damaged";

fn keys() -> Vec<Case> {
    use Expect::{Commitment, Key};
    vec![
        ("key-other", "wrapped for another key", Key, "wrapped for key", OURS, |k| k.entry(&k.theirs)),
        ("key-mislabelled", "labelled for our key, wrapped for another", Key, DAMAGED, OURS, |k| {
            k.entry(&k.theirs).replace(&k.theirs.id.to_string(), &k.ours.id.to_string())
        }),
        ("key-damaged", "a changed byte in the RSA block", Key, DAMAGED, OURS, |k| {
            let mut body = k.ours.oaep(&k.file_key, &k.data_id);
            body[100] ^= 4;
            k.with_body(&body)
        }),
        ("key-zeros", "an RSA block of zeros", Key, DAMAGED, OURS, |k| k.with_body(&[0; 256])),
        ("key-ones", "an RSA block that is not below the modulus", Key, DAMAGED, OURS, |k| {
            k.with_body(&[255; 256])
        }),
        ("key-short", "an RSA block without its last byte", Key, DAMAGED, OURS, |k| {
            k.with_body(&k.ours.oaep(&k.file_key, &k.data_id)[..255])
        }),
        ("key-long", "an RSA block with a zero before it", Key, DAMAGED, OURS, |k| {
            k.with_body(&[&[0], &k.ours.oaep(&k.file_key, &k.data_id)[..]].concat())
        }),
        ("key-empty", "an RSA block of no bytes", Key, DAMAGED, OURS, |k| k.with_body(&[])),
        ("key-label", "the OAEP label of another data id", Key, DAMAGED, OURS, |k| {
            k.with_body(&k.ours.oaep(&k.file_key, &data_id("a container that is not here")))
        }),
        ("key-moved", "an entry of another container with this one's Data-Id", Key, DAMAGED, OURS, |k| {
            k.foreign().replace(&data_id("a container that is not here").to_string(), &k.data_id.to_string())
        }),
        ("key-pkcs1", "wrapped with PKCS#1 v1.5", Key, DAMAGED, OURS, |k| {
            k.with_body(&k.ours.pkcs1(&k.file_key))
        }),
        ("key-31-bytes", "a secret of 31 bytes", Key, DAMAGED, OURS, |k| {
            k.wrapped(&k.ours, &k.file_key[..31])
        }),
        ("key-33-bytes", "a secret of 33 bytes", Key, DAMAGED, OURS, |k| {
            k.wrapped(&k.ours, &[&k.file_key[..], &[0]].concat())
        }),
        ("key-recipe-key", "the right secret in an entry for recipe files", Key, DAMAGED, OURS, |k| {
            k.entry(&k.ours).replace("rsa-oaep-sha256", "recipe-key")
        }),
        ("key-unknown-wrap", "the right secret in an entry of an unknown kind", Key, DAMAGED, OURS, |k| {
            k.entry(&k.ours).replace("rsa-oaep-sha256", "RSA-OAEP-SHA256")
        }),
        (
            "commitment-planted",
            "a planted key alone",
            Commitment,
            "does not commit to the key in the envelope",
            OURS,
            Kit::planted,
        ),
        (
            "commitment-planted-twice",
            "planted keys for both recipients",
            Commitment,
            "does not commit to the key in the envelope",
            THEIRS,
            |k| join(&[k.planted(), k.wrapped(&k.theirs, &hash("file key", "planted"))]),
        ),
    ]
}

fn texts() -> Vec<Case> {
    use Expect::Envelope as E;
    vec![
        (
            "envelope-of-another",
            "the envelope of another container",
            E,
            "the envelope belongs to data id",
            OURS,
            Kit::foreign,
        ),
        (
            "envelope-without-entry",
            "unknown blocks alone",
            E,
            "has no entry for this container",
            OURS,
            |_| FUTURE.into(),
        ),
        ("envelope-empty", "no bytes", E, "without a block", OURS, |_| String::new()),
        ("envelope-blank", "empty lines alone", E, "without a block", OURS, |_| "\n\n\n".into()),
        (
            "envelope-text-before",
            "text before the first block",
            E,
            "line 1 is outside every block",
            OURS,
            |k| format!("hello\n{}", k.entry(&k.ours)),
        ),
        ("envelope-text-between", "text between blocks", E, "is outside every block", OURS, |k| {
            format!("{}# a comment\n{}", k.entry(&k.theirs), k.entry(&k.ours))
        }),
        ("envelope-text-behind", "text behind the last block", E, "is outside every block", OURS, |k| {
            k.entry(&k.ours) + "bye"
        }),
        ("envelope-bom", "a byte order mark", E, "line 1 is outside every block", OURS, |k| {
            format!("\u{feff}{}", k.entry(&k.ours))
        }),
        ("envelope-indented", "a space before BEGIN", E, "line 1 is outside every block", OURS, |k| {
            format!(" {}", k.entry(&k.ours))
        }),
        ("envelope-no-end", "a block without END", E, "has no end", OURS, |k| {
            k.entry(&k.ours).replace("-----END SIDEKEY WRAPPED KEY-----\n", "")
        }),
        ("envelope-other-end", "a block that ends with another label", E, "has no end", OURS, |k| {
            k.entry(&k.ours).replace("END SIDEKEY WRAPPED KEY", "END SIDEKEY INFO")
        }),
        ("envelope-base64", "a character that is not base64", E, "is damaged", OURS, |k| {
            k.entry(&k.ours).replacen("\n\n", "\n\n!", 1)
        }),
        ("envelope-base64-cut", "base64 that lacks a character", E, "is damaged", OURS, |k| {
            k.entry(&k.ours).replace("=\n", "\n")
        }),
        ("envelope-no-data-id", "without the header Data-Id", E, "has no header Data-Id", OURS, |k| {
            without(k, "Data-Id")
        }),
        ("envelope-no-recipient", "without the header Recipient", E, "has no header Recipient", OURS, |k| {
            without(k, "Recipient")
        }),
        ("envelope-no-wrap", "without the header Wrap", E, "has no header Wrap", OURS, |k| {
            without(k, "Wrap")
        }),
        ("envelope-header-case", "a header name in another case", E, "has no header Data-Id", OURS, |k| {
            k.entry(&k.ours).replace("Data-Id", "Data-ID")
        }),
        ("envelope-header-twice", "a header twice", E, "has two headers Wrap", OURS, |k| {
            k.entry(&k.ours).replace("Created: 2026-11-20T23:06:00Z", "Wrap: x")
        }),
        ("envelope-unknown-header-twice", "an unknown header twice", E, "has two headers X", OURS, |k| {
            k.entry(&k.ours).replace("Created:", "X: 1\nX: 1\nCreated:")
        }),
        (
            "envelope-data-id-case",
            "a data id in upper case",
            E,
            "data id is not 32 lower-case hex digits",
            OURS,
            |k| {
                let entry = k.entry(&k.ours);
                entry.replace(&k.data_id.to_string(), &format!("{}A", &k.data_id.to_string()[..31]))
            },
        ),
        (
            "envelope-data-id-short",
            "a data id of 31 digits",
            E,
            "data id is not 32 lower-case hex digits",
            OURS,
            |k| {
                let entry = k.entry(&k.ours);
                entry.replace(&k.data_id.to_string(), &k.data_id.to_string()[..31])
            },
        ),
        (
            "envelope-recipient-short",
            "a key id of 16 digits",
            E,
            "key id is not 64 lower-case hex digits",
            OURS,
            |k| k.entry(&k.ours).replace(&k.ours.id.to_string(), &k.ours.id.short()),
        ),
        ("envelope-two-infos", "two info records", E, "more than one info record", OURS, |k| {
            join(&[k.entry(&k.ours), INFO_HEADER.into(), INFO_HEADER.into()])
        }),
        ("envelope-1025-blocks", "one block too many", E, "more than 1024 entries", OURS, |k| {
            TINY.repeat(1024) + &k.entry(&k.ours)
        }),
        (
            "envelope-damaged-beside",
            "a damaged entry of another recipient before ours",
            E,
            "has no header Wrap",
            OURS,
            |k| join(&[k.entry(&k.theirs).replace("Wrap:", "Warp:"), k.entry(&k.ours)]),
        ),
    ]
}

fn without(kit: &Kit, header: &str) -> String {
    let entry = kit.entry(&kit.ours);
    entry.lines().filter(|line| !line.starts_with(header)).map(|line| format!("{line}\n")).collect()
}

fn join<const N: usize>(blocks: &[String; N]) -> String {
    blocks.join("\n")
}
