//! Bad input and hostile stores, by the real binary: each fault is said in one line with its remedy and its exit code,
//! nothing is left under a final name, and what was there is untouched.

use crate::common;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use sidekey::format::{Entry, Envelope, FileType, Header, Metadata, Wrap};
use sidekey::random::OsRandom;
use sidekey::seal::{SealOptions, seal};
use sidekey::secret::FileKey;
use sidekey::wrap::{new_entry, wrap};
use sidekey::{DataId, KeyId};

use crate::common::{Ended, Killed, LIMIT, PASS, Place, failed, noise};

const SECTION: usize = 65536;
/// Header and metadata section of a file with a short name.
const FRONT: usize = 64 + 304;
const FULL: usize = SECTION + 48;

const FETCH_AGAIN: &str =
    "the container is damaged or was cut short; fetch it again or restore an older version";

/// `NAME.enc` and `NAME.key.enc` with `plain`, for `old`.
fn stored(files: &[(&str, &[u8])]) -> Place {
    let place = Place::with_keys();
    for (name, plain) in files {
        place.write(name, plain);
        place.sidekey(&format!("encrypt -q -r keys/old.pub.pem {name}")).good();
    }
    place
}

/// Decrypts `a.enc` to `out`, where there is something already with `force`, and checks that nothing changed.
fn refused(place: &Place, says: &str, hint: &str, code: i32) {
    let names = place.names();
    for force in [false, true] {
        let (option, before) = match force {
            true => (" --force", Some("mine")),
            false => ("", None),
        };
        if let Some(text) = before {
            place.write("out", text);
        }
        let run = place.sidekey(&format!("decrypt -i keys/old.pem a.enc -o out{option}"));
        let mut lines: Vec<_> = run.stderr.lines().collect();
        let summary = lines.pop().unwrap_or_default();
        assert!(
            summary.starts_with("sidekey: decrypted 0 files, ") && summary.ends_with(", 1 failed"),
            "{run:?}"
        );
        let hint = format!("sidekey: hint: {hint}");
        let expected = [&format!("sidekey: a.enc: {says}"), &hint];
        assert_eq!(lines, expected[..if hint.ends_with(": ") { 1 } else { 2 }], "{run:?}");
        assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""), "{run:?}");
        match before {
            Some(text) => assert_eq!(place.text("out"), text),
            None => assert_eq!(place.names(), names),
        }
        let _ = std::fs::remove_file(place.path("out"));
        // A pipe gets no byte of the section that failed, and the exit code tells.
        let piped = place.sidekey("decrypt -q -i keys/old.pem a.enc -o -");
        assert_eq!(piped.code, Some(code), "{piped:?}");
    }
    assert_eq!(place.names(), names);
}

#[test]
fn a_damaged_byte_is_found_wherever_it_is() {
    let place = stored(&[("a", &noise(2 * SECTION + 100, 1))]);
    let whole = place.read("a.enc");
    let last = whole.len();
    let second = |index: usize| FRONT + index * FULL;
    let sound = |index: usize| {
        match index {
        1 => {
            "the section before it is sound; fetch the container again or restore an older version, or save what is good of it with sidekey get --salvage".to_owned()
        }
        _ => format!(
            "the {index} sections before it are sound; fetch the container again or restore an older version, or save what is good of it with sidekey get --salvage"
        ),
    }
    };
    let commitment = (
        "the header does not commit to the key in the envelope".to_owned(),
        "the header is damaged, or the envelope was made for another container under the same data id"
            .to_owned(),
    );
    let section = |index: usize, at: usize| {
        (format!("section {index} at byte {at} fails authentication"), sound(index))
    };
    let metadata = ("the metadata section at byte 64 fails authentication".to_owned(), String::new());
    let end = (format!("the end section at byte {} fails authentication", last - 96), FETCH_AGAIN.to_owned());
    for (at, (says, hint)) in [
        (0, ("not a sidekey container (no magic at byte 0)".into(), String::new())),
        (
            8,
            (
                "container version 254 at byte 8 is unknown".into(),
                "it is damaged, or a newer sidekey wrote it; this one reads version 1".into(),
            ),
        ),
        (
            9,
            (
                "cipher suite 254 at byte 9 is unknown".into(),
                "it is damaged, or a newer sidekey wrote it; this one reads suite 1".into(),
            ),
        ),
        (10, ("header: section size 2^239 is not between 2^12 and 2^24".into(), String::new())),
        (11, ("reserved byte 11 of the header is not zero".into(), String::new())),
        (12, ("header: metadata length 463 is not a possible one".into(), String::new())),
        (32, commitment.clone()),
        (63, commitment),
        (64, metadata.clone()),
        (64 + 100, metadata.clone()),
        (FRONT - 1, metadata),
        (second(0), section(1, second(0))),
        (second(0) + 16, section(1, second(0))),
        (second(1) - 1, section(1, second(0))),
        (second(1) + 5000, section(2, second(1))),
        (second(2), section(3, second(2))),
        (last - 97, section(3, second(2))),
        (last - 96, end.clone()),
        (last - 80, end.clone()),
        (last - 1, end),
    ] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        place.write("a.enc", &bytes);
        refused(&place, &says, &hint, 3);
    }
    // The data id: the envelope then belongs to another container.
    let (mut bytes, id) = (whole.clone(), place.header("a.enc").data_id());
    place.write("a.enc", &whole);
    bytes[16] ^= 0xff;
    place.write("a.enc", &bytes);
    let other = place.header("a.enc").data_id();
    refused(
        &place,
        &format!("the envelope belongs to data id {id}, the container is {other}"),
        "find the .key.enc file that was made with this container",
        3,
    );
}

#[test]
fn a_pipe_has_no_end_to_look_at_first_and_fails_all_the_same() {
    let place = stored(&[("a", &noise(3 * SECTION, 2))]);
    let whole = place.read("a.enc");
    let mut bytes = whole.clone();
    bytes[FRONT + FULL + 99] ^= 1;
    place.write("damaged", &bytes);
    place.write("cut", &whole[..whole.len() - 96]);
    place.write("longer", [&whole[..], &[0; 16]].concat());
    for (name, says) in [
        ("damaged", format!("section 2 at byte {} fails authentication", FRONT + FULL)),
        ("cut", format!("section 3 at byte {} fails authentication", FRONT + 2 * FULL)),
        ("longer", "its last 112 bytes are no section: it was cut short, or something was added".into()),
    ] {
        let decrypt = r#""$PROGRAM" decrypt -i keys/old.pem - --envelope a.key.enc"#;
        let run = place.shell(&format!("{decrypt} -o out < {name}"));
        assert_eq!(run.code, Some(3), "{run:?}");
        assert!(run.stderr.starts_with(&format!("sidekey: -: {says}\nsidekey: hint: ")), "{name}: {run:?}");
        assert!(!place.path("out").exists());
        // What did come out is the beginning of the file and no more than was authentic.
        let run = place.shell(&format!("{decrypt} -q -o - < {name} > part"));
        assert_eq!(run.code, Some(3));
        let (part, plain) = (place.read("part"), place.read("a"));
        assert!(plain.starts_with(&part), "{name}");
        assert!(name != "damaged" || part.len() <= SECTION);
    }
    assert_eq!(place.temporary(), Vec::<PathBuf>::new());
}

#[test]
fn truncation_is_found_at_every_boundary() {
    let place = stored(&[("a", &noise(2 * SECTION + 100, 3))]);
    let whole = place.read("a.enc");
    for len in [0, 1, 63] {
        place.write("a.enc", &whole[..len]);
        refused(&place, &format!("is truncated: {len} bytes are less than a header"), "", 3);
    }
    for (len, says) in [
        (64, "is truncated: no container is 64 bytes long".to_owned()),
        (FRONT - 1, format!("is truncated: no container is {} bytes long", FRONT - 1)),
        (FRONT, format!("is truncated: no container is {FRONT} bytes long")),
        (FRONT + 16, format!("is truncated: no container is {} bytes long", FRONT + 16)),
        (FRONT + FULL - 1, format!("is truncated: no container is {} bytes long", FRONT + FULL - 1)),
        (whole.len() - 1, format!("is truncated: no container is {} bytes long", whole.len() - 1)),
    ] {
        place.write("a.enc", &whole[..len]);
        refused(&place, &says, "", 3);
    }
    for len in
        [FRONT + 96, FRONT + FULL, FRONT + FULL + 96, FRONT + 2 * FULL, whole.len() - 96, whole.len() - 16]
    {
        place.write("a.enc", &whole[..len]);
        refused(
            &place,
            &format!("the end section at byte {} fails authentication", len - 96),
            FETCH_AGAIN,
            3,
        );
    }
}

#[test]
fn sections_keep_their_places() {
    let place = stored(&[("a", &noise(4 * SECTION, 4)), ("b", &noise(4 * SECTION, 5))]);
    let whole = place.read("a.enc");
    let section = |index: usize| &whole[FRONT + index * FULL..FRONT + (index + 1) * FULL];
    let (front, end) = (&whole[..FRONT], &whole[whole.len() - 96..]);
    let other = place.read("b.enc");
    let foreign = &other[FRONT + FULL..FRONT + 2 * FULL];
    let at = |index: usize| {
        (
            format!("section {} at byte {} fails authentication", index + 1, FRONT + index * FULL),
            match index {
                0 => "the section before it is sound; fetch the container again or restore an older version, or save what is good of it with sidekey get --salvage"
                    .to_owned(),
                _ => format!(
                    "the {} sections before it are sound; fetch the container again or restore an older version, or save what is good of it with sidekey get --salvage",
                    index + 1
                ),
            },
        )
    };
    let end_at =
        |at: usize| (format!("the end section at byte {at} fails authentication"), FETCH_AGAIN.to_owned());
    let end_of = |sections: usize| end_at(FRONT + sections * FULL);
    for (sections, (says, hint)) in [
        (vec![section(1), section(0), section(2), section(3)], at(0)),
        (vec![section(0), section(2), section(1), section(3)], at(1)),
        (vec![section(0), section(1), section(2), section(2)], at(3)),
        (vec![section(0), foreign, section(2), section(3)], at(1)),
        (vec![section(0), section(2), section(3)], end_of(3)),
        (vec![section(0), section(1), section(2)], end_of(3)),
        (vec![section(0), section(0), section(1), section(2), section(3)], end_of(5)),
        (vec![], end_of(0)),
    ] {
        place.write("a.enc", [&[front], &sections[..], &[end]].concat().concat());
        refused(&place, &says, &hint, 3);
    }
    // Bytes after the end, a second end, another container's end and metadata.
    let extended = |more: &[u8]| [&whole[..], more].concat();
    place.write("a.enc", extended(&[0]));
    refused(&place, &format!("is truncated: no container is {} bytes long", whole.len() + 1), "", 3);
    for more in [&[0; 48][..], end, &whole] {
        place.write("a.enc", extended(more));
        let (says, hint) = end_at(whole.len() + more.len() - 96);
        refused(&place, &says, &hint, 3);
    }
    place.write("a.enc", [&whole[..whole.len() - 96], &other[other.len() - 96..]].concat());
    let (says, hint) = end_of(4);
    refused(&place, &says, &hint, 3);
    place.write("a.enc", [&whole[..64], &other[64..FRONT], &whole[FRONT..]].concat());
    refused(&place, "the metadata section at byte 64 fails authentication", "", 3);
}

#[test]
fn the_envelope_of_another_file_and_none_at_all() {
    let place = stored(&[("a", b"a"), ("b", b"b")]);
    let [a, b] = ["a", "b"].map(|name| place.header(format!("{name}.enc")).data_id());
    std::fs::rename(place.path("b.key.enc"), place.path("a.key.enc")).unwrap();
    refused(
        &place,
        &format!("the envelope belongs to data id {b}, the container is {a}"),
        "find the .key.enc file that was made with this container",
        3,
    );
    std::fs::remove_file(place.path("a.key.enc")).unwrap();
    refused(
        &place,
        "has no envelope beside it",
        "without its .key.enc file it cannot be opened; fetch that too, or name it with --envelope",
        3,
    );
    let run = place.sidekey("decrypt -i keys/old.pem a.enc -o out --envelope none");
    assert!(
        run.stderr.starts_with("sidekey: none: cannot read: No such file or directory (os error 2)\n"),
        "{run:?}"
    );
}

#[test]
fn a_damaged_envelope_says_what_and_where() {
    let place = stored(&[("a", b"contents")]);
    let text = place.text("a.key.enc");
    let id = place.header("a.enc").data_id();
    let key = place.private("old").id();
    let body = text.lines().nth(6).unwrap().to_owned();
    let flipped = format!("{}{}", if body.starts_with('A') { 'B' } else { 'A' }, &body[1..]);
    let entry = |old: &str, new: &str| text.replace(old, new);
    let other = DataId([9; 16]);
    let damaged = (
        format!("the envelope's entry for key {} is damaged", key.short()),
        "the private key is right; restore an older version of the .key.enc file",
    );
    // Each is about the envelope, by its own name, unless its text is sound.
    for (envelope, subject, (says, hint)) in [
        (entry(&body, &flipped), "a.enc", damaged.clone()),
        (
            entry(&id.to_string(), &other.to_string()),
            "a.enc",
            (
                format!("the envelope belongs to data id {other}, the container is {id}"),
                "find the .key.enc file that was made with this container",
            ),
        ),
        (String::new(), "a.key.enc", ("an envelope without a block".into(), "")),
        (format!("x\n{text}"), "a.key.enc", ("envelope line 1 is outside every block".into(), "")),
        (format!("{text}\nx"), "a.key.enc", ("envelope line 15 is outside every block".into(), "")),
        (entry("-----END", "-----ENT"), "a.key.enc", ("the block at envelope line 1 has no end".into(), "")),
        (
            entry("-----BEGIN SIDEKEY", "-----BEGIN  SIDEKEY"),
            "a.key.enc",
            ("the block at envelope line 1 has no end".into(), ""),
        ),
    ] {
        place.write("a.key.enc", &envelope);
        let run = place.sidekey("decrypt -q -i keys/old.pem a.enc -o out");
        let hint = if hint.is_empty() { String::new() } else { format!("sidekey: hint: {hint}\n") };
        assert_eq!(run, failed(3, &format!("sidekey: {subject}: {says}\n{hint}")));
        assert!(!place.path("out").exists());
    }
    for (old, new, says) in [
        ("Data-Id: ", "Data-Id: 0", "data id"),
        ("Data-Id: ", "data-id: ", "data id"),
        ("Recipient: ", "Recipient: 0", "key id"),
        ("Wrap: ", "Data-Id: 5\nWrap: ", "data id"),
        ("Wrap: rsa-oaep-sha256\n", "", "wrap"),
    ] {
        place.write("a.key.enc", entry(old, new));
        let run = place.sidekey("decrypt -q -i keys/old.pem a.enc -o out");
        assert_eq!(run.code, Some(3), "{run:?}");
        assert!(
            run.stderr.starts_with("sidekey: a.key.enc: the block at envelope line 1: "),
            "{new}: {run:?}"
        );
        assert!(run.stderr.to_lowercase().replace('-', " ").contains(says), "{new}: {run:?}");
    }
    // A kind of entry that this version does not know is for no key at hand.
    place.write("a.key.enc", entry("rsa-oaep-sha256", "later"));
    assert_eq!(place.sidekey("decrypt -q -i keys/old.pem a.enc -o out").code, Some(3));
    assert_eq!(place.names(), ["a", "a.enc", "a.key.enc", "keys"]);
}

#[test]
fn limits_of_envelopes_are_errors() {
    let place = stored(&[("a", b"contents")]);
    let envelope = place.envelope("a.key.enc");
    let Some(entry) = envelope.entries().next().cloned() else { panic!("no entry") };
    let many = |count: usize| {
        let one =
            |number: usize| Entry { recipient: KeyId([(number % 251) as u8; 32]), ..entry.clone() }.into();
        let mut blocks: Vec<_> = (1..count).map(one).collect();
        blocks.push(entry.clone().into());
        Envelope { blocks }
    };
    place.write("a.key.enc", many(1024).to_text().unwrap());
    let run = place.sidekey("decrypt -i keys/old.pem a.enc -o -").good();
    assert_eq!(run.stdout, "contents");
    let mut text = many(1024).to_text().unwrap();
    text.push_str(&envelope.to_text().unwrap());
    place.write("a.key.enc", &text);
    let run = place.sidekey("decrypt -q -i keys/old.pem a.enc -o out");
    assert_eq!(run, failed(3, "sidekey: a.key.enc: an envelope of more than 1024 entries is not read\n"));
    place.write("a.key.enc", vec![b'\n'; (1 << 20) + 1]);
    let run = place.sidekey("decrypt -q -i keys/old.pem a.enc -o out");
    assert_eq!(run, failed(3, "sidekey: a.key.enc: an envelope of more than 1048576 bytes is not read\n"));
}

#[test]
fn wrong_passphrase_wrong_key_and_damage_are_three_messages() {
    let place = stored(&[("a", b"contents")]);
    place.key("pkcs8-aes256.pem");
    place.write("pass", "wrong\n");
    let [old, new] = ["old", "new"].map(|name| place.private(name).id().short());
    let passphrase = place.sidekey("decrypt -q -i KEY --passphrase-file pass a.enc -o out");
    assert_eq!(passphrase, failed(1, "sidekey: KEY: wrong passphrase\nsidekey: hint: tried pass\n"));
    let key = place.sidekey("decrypt -q -i keys/new.pem a.enc -o out");
    assert_eq!(
        key,
        failed(
            1,
            &format!(
                "sidekey: a.enc: wrapped for key {old}, but the keys given are {new}\n\
                 sidekey: hint: give the private key of one of those recipients with --identity\n"
            )
        )
    );
    assert!(!place.path("out").exists());
    place.write("pass", PASS);
    let run = place.sidekey("decrypt -i KEY --passphrase-file pass a.enc -o -").good();
    assert_eq!(run.stdout, "contents");
}

#[test]
fn keys_of_the_wrong_kind_are_refused_before_anything_is_done() {
    let place = stored(&[("a", b"contents")]);
    for (name, fixture) in [("small", "refused-1024"), ("ec", "refused-ec")] {
        place.write(format!("{name}.pem"), common::fixture_bytes(&format!("{fixture}.pem")));
        place.write(format!("{name}.pub.pem"), common::fixture_bytes(&format!("{fixture}.pub.pem")));
    }
    let small = "is an RSA key of 1024 bits; 2048 to 8192 are accepted\n\
                 sidekey: hint: sidekey keygen -o NAME makes a key pair of 3072 bits\n";
    let ec = "is a key of another kind";
    for (line, says) in [
        ("encrypt -r keys/new.pem a -o new.enc", "keys/new.pem: is a private key; a public one is needed\nsidekey: hint: sidekey pubkey KEY writes its public half\n".to_owned()),
        ("encrypt -r small.pub.pem a -o new.enc", format!("small.pub.pem: {small}")),
        ("encrypt -r ec.pub.pem a -o new.enc", format!("ec.pub.pem: {ec}")),
        ("encrypt -r a.enc a -o new.enc", "a.enc: is not ".to_owned()),
        ("decrypt -i keys/new.pub.pem a.enc -o out", "keys/new.pub.pem: is a public key; a private one is needed\n".to_owned()),
        ("decrypt -i small.pem a.enc -o out", format!("small.pem: {small}")),
        ("decrypt -i ec.pem a.enc -o out", format!("ec.pem: {ec}")),
        ("rewrap a.key.enc -i small.pem --to keys/new.pub.pem", format!("small.pem: {small}")),
        ("rewrap a.key.enc -i keys/old.pem --to small.pub.pem", format!("small.pub.pem: {small}")),
    ] {
        let before = place.fingerprint(".");
        let run = place.sidekey(line);
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{line}: {run:?}");
        assert!(run.stderr.starts_with(&format!("sidekey: {says}")), "{line}: {run:?}");
        assert_eq!(place.fingerprint("."), before, "{line}");
    }
}

#[test]
fn what_exists_is_replaced_only_by_force() {
    let place = stored(&[("a", b"contents")]);
    let hint = "sidekey: hint: --force replaces it, --if-exists skip leaves it and goes on; --output DIR writes elsewhere\n";
    let exists = |name: &str| failed(1, &format!("sidekey: {name}: exists already\n{hint}"));
    let before = place.fingerprint(".");
    assert_eq!(place.sidekey("encrypt -q -r keys/old.pub.pem a"), exists("a.enc"));
    assert_eq!(place.sidekey("decrypt -q -i keys/old.pem a.enc"), exists("a"));
    assert_eq!(place.fingerprint("."), before);
    // Half a pair, too: what is called like an envelope may be somebody's file.
    std::fs::remove_file(place.path("a.enc")).unwrap();
    place.write("a.key.enc", "my own notes");
    let half = "sidekey: a.key.enc: exists already, and its container does not\n\
                sidekey: hint: --force replaces it, after a run that was interrupted here; if its container was moved, this is its key\n";
    assert_eq!(place.sidekey("encrypt -q -r keys/old.pub.pem a"), failed(1, half));
    assert_eq!(place.text("a.key.enc"), "my own notes");

    place.sidekey("encrypt -q -r keys/old.pub.pem a --force").good();
    place.write("a", "something else");
    place.sidekey("decrypt -q -i keys/old.pem a.enc --force").good();
    assert_eq!(place.text("a"), "contents");
    let first = place.header("a.enc").data_id();
    place.sidekey("encrypt -q -r keys/old.pub.pem a --force").good();
    assert_ne!(place.header("a.enc").data_id(), first);
    assert_eq!(place.names(), ["a", "a.enc", "a.key.enc", "keys"]);
    assert_eq!(place.sidekey("decrypt -i keys/old.pem a.enc -o -").good().stdout, "contents");

    // A folder is never replaced.
    place.mkdir("out/a/inside");
    place.mkdir("in");
    for name in ["a.enc", "a.key.enc"] {
        std::fs::copy(place.path(name), place.path("in").join(name)).unwrap();
    }
    let run = place.sidekey("decrypt -q -i keys/old.pem in/ -o out");
    assert_eq!(run, exists("out/a"));
    let run = place.sidekey("decrypt -q -i keys/old.pem in/ -o out --force");
    assert_eq!(run, failed(1, "sidekey: out/a: cannot replace the file: Is a directory (os error 21)\n"));
    assert!(place.path("out/a/inside").is_dir());
}

#[test]
fn no_result_takes_the_place_of_what_the_run_needs() {
    let place = stored(&[("a", b"contents")]);
    place.write("plain.enc", "not a container");
    place.write("b", "b");
    std::fs::hard_link(place.path("b"), place.path("hard.enc")).unwrap();
    let before = place.fingerprint(".");
    let hint = "sidekey: hint: choose another name for the result\n";
    for (line, says) in [
        (
            "encrypt -q -r keys/old.pub.pem plain.enc -o plain.enc --force",
            format!("plain.enc: would replace plain.enc, which this run needs\n{hint}"),
        ),
        (
            "encrypt -q -r keys/old.pub.pem b -o hard.enc --force",
            format!("hard.enc: would replace b, which this run needs\n{hint}"),
        ),
        (
            "encrypt -q -r keys/old.pub.pem b -o new.enc --envelope b --force",
            format!("b: would replace b, which this run needs\n{hint}"),
        ),
        (
            "encrypt -q -r keys/old.pub.pem b -o /dev/null --envelope b --force",
            format!("b: would replace b, which this run needs\n{hint}"),
        ),
        (
            "encrypt -q -r keys/old.pub.pem b -o new.enc --envelope new.enc --force",
            "new.enc: is both the container and its envelope\n".into(),
        ),
        (
            "encrypt -q -r keys/old.pub.pem b -o new.enc --envelope /dev/null --force",
            "/dev/null: is no regular file, which an envelope needs\n".into(),
        ),
        (
            "decrypt -q -i keys/old.pem a.enc -o a.enc --force",
            format!("a.enc: would replace a.enc, which this run needs\n{hint}"),
        ),
        (
            "decrypt -q -i keys/old.pem a.enc -o a.key.enc --force",
            format!("a.key.enc: would replace a.key.enc, which this run needs\n{hint}"),
        ),
    ] {
        assert_eq!(place.sidekey(line), failed(2, &format!("sidekey: {says}")), "{line}");
        assert_eq!(place.fingerprint("."), before, "{line}");
    }
}

/// Runs `script` where `full` is a file system of some blocks: mounted by root, or in a name space of the user's own.
fn on_a_small_disk(place: &Place, script: &str) -> Ended {
    place.mkdir("full");
    let script = format!("mount -t tmpfs -o size=256k tmpfs full || exit 99\n{script}");
    let run = common::ended(&mut place.command("unshare", &["-Urm", "sh", "-c", &script]));
    match run.code {
        Some(99) | None => {
            let run = common::ended(&mut place.command("unshare", &["-m", "sh", "-c", &script]));
            assert!(
                !matches!(run.code, Some(99) | None),
                "this test needs user name spaces or root, to mount a tmpfs: {run:?}"
            );
            run
        }
        _ => run,
    }
}

#[test]
fn a_full_disk_leaves_no_result_and_what_was_there() {
    let place = stored(&[("a", &noise(1 << 20, 6)), ("small", b"small")]);
    let run = on_a_small_disk(
        &place,
        r#"
        "$PROGRAM" encrypt -q -r keys/old.pub.pem a -o full/a.enc; echo $?
        "$PROGRAM" decrypt -q -i keys/old.pem a.enc -o full/a; echo $?
        "$PROGRAM" encrypt -q -r keys/old.pub.pem a -o full/; echo $?
        echo mine > full/kept
        "$PROGRAM" decrypt -q -i keys/old.pem a.enc -o full/kept --force; echo $?
        ls -A full; cat full/kept
        cp small.key.enc full/; head -c 400k /dev/zero > full/filler 2>/dev/null
        cmp full/small.key.enc small.key.enc || exit 5
        "$PROGRAM" rewrap -q full/small.key.enc -i keys/old.pem --to keys/new.pub.pem; echo $?
        cmp full/small.key.enc small.key.enc && ls -A full"#,
    );
    assert_eq!(run.stdout, "1\n1\n1\n1\nkept\nmine\n1\nfiller\nkept\nsmall.key.enc\n", "{run:?}");
    let full = "cannot write: No space left on device (os error 28)";
    let expected: Vec<_> = ["a.enc", "a", "a.enc", "kept", "small.key.enc"]
        .iter()
        .map(|name| format!("sidekey: full/{name}: {full}"))
        .collect();
    let said: Vec<_> = run.stderr.lines().collect();
    assert_eq!(said, expected);

    for (line, says) in [
        ("encrypt -q -r keys/old.pub.pem a -o /dev/full --envelope F", "/dev/full"),
        ("decrypt -q -i keys/old.pem a.enc -o /dev/full", "/dev/full"),
    ] {
        assert_eq!(place.sidekey(line), failed(1, &format!("sidekey: {says}: {full}\n")));
    }
    let run = place.shell(r#""$PROGRAM" decrypt -q -i keys/old.pem a.enc -o - > /dev/full"#);
    assert_eq!(run, failed(1, &format!("sidekey: standard output: {full}\n")));
    let run = place.shell(r#""$PROGRAM" inspect a.enc > /dev/full"#);
    assert_eq!(run, failed(1, &format!("sidekey: standard output: {full}\n")));
}

/// Changes `big` by `script` all the while that `sidekey encrypt big` runs, and says how that ended.
fn while_it_changes(place: &Place, script: &str) -> Ended {
    let mut writer = Command::new("sh");
    writer.args(["-c", &format!("while :; do {script}; done")]).current_dir(place.root());
    let writer = Killed::spawn(writer.stdin(Stdio::null()).stderr(Stdio::null()));
    let before = std::fs::metadata(place.path("big")).unwrap().ctime_nsec();
    let deadline = Instant::now() + Duration::from_secs(LIMIT);
    while std::fs::metadata(place.path("big")).unwrap().ctime_nsec() == before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    let run = place.sidekey("encrypt -r keys/old.pub.pem big");
    drop(writer);
    run
}

#[test]
fn a_file_that_changes_while_it_is_read_is_reported_and_not_published() {
    let place = Place::with_keys();
    for script in ["printf x >> big", "truncate -s 40M big; truncate -s 64M big"] {
        place.write("big", vec![0; 64 << 20]);
        let run = while_it_changes(&place, script);
        assert_eq!(run.code, Some(1), "{script}: {run:?}");
        let line = run.stderr.lines().next().unwrap();
        let known = [
            "sidekey: big: cannot read: it holds more than its size says; is it still growing?",
            "sidekey: big: cannot read: it holds less than its size says; was it cut while it was read?",
            "sidekey: big: changed while it was read; nothing was written for it",
        ];
        assert!(known.contains(&line), "{run:?}");
        assert_eq!(place.names(), ["big", "keys"], "{script}");
    }
    // A file of /proc says that it is empty.
    let run = place.sidekey("encrypt -r keys/old.pub.pem /proc/self/status -o status.enc");
    assert_eq!(run.code, Some(1));
    assert!(
        run.stderr.starts_with(
            "sidekey: /proc/self/status: cannot read: it holds more than its size says; is it still growing?\n"
        ),
        "{run:?}"
    );
    assert!(!place.path("status.enc").exists());
}

#[test]
fn a_source_that_changed_after_the_run_began_is_not_left_out() {
    let place = Place::with_keys();
    place.mkdir("in");
    place.write("in/1", noise(64 << 20, 8));
    place.write("in/2", "old");
    let mut run = place.program(&["encrypt", "-r", "keys/old.pub.pem", "in", "-o", "out", "--jobs", "1"]);
    let mut run = Killed::spawn(run.stdout(Stdio::null()).stderr(Stdio::null()));
    // Whichever of them comes first, both are written to before the run is over, and each is there or reported.
    let deadline = Instant::now() + Duration::from_secs(LIMIT);
    while !place.path("out/in").exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    place.write("in/2", "new");
    place.write("in/3", "new");
    let code = run.0.wait().unwrap().code();
    let names = place.names_in("out/in");
    let has = |name: &str| names.contains(&format!("{name}.enc"));
    assert!(has("1") && (has("2") || code == Some(1)), "{names:?} {code:?}");
}

/// A container as a store could make it that has the public key.
fn forged(place: &Place, stored: &str, metadata: &Metadata, plain: &[u8]) {
    let (key, id) = (FileKey::generate(&OsRandom).unwrap(), DataId::generate(&OsRandom).unwrap());
    let mut container = Vec::new();
    seal(&key, id, Some(metadata), plain, &mut container, &OsRandom, &SealOptions::default()).unwrap();
    let envelope = wrap(&key, &id, &[place.public("old")], SystemTime::UNIX_EPOCH).unwrap();
    let path = place.path(stored);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    place.write(stored, container);
    place.write(format!("{}.key.enc", stored.strip_suffix(".enc").unwrap()), envelope.to_text().unwrap());
}

#[test]
fn no_name_leads_out_of_the_output_folder() {
    let place = Place::with_keys();
    let mut metadata = Metadata::new(FileType::File);
    metadata.name = Some(b"../../escaped".to_vec());
    let names = [
        "..enc",
        "...enc",
        ".enc",
        "%b64~Li4.enc",
        "%b64~Li4vLi4veA.enc",
        "%b64~L2V0Yy9wYXNzd2Q.enc",
        "%b64~YQ.enc",
        "%b64~.enc",
        "x.key.enc",
        "%b64~YQBi.enc",
    ];
    for name in names {
        forged(&place, &format!("in/{name}"), &metadata, b"evil");
    }
    forged(&place, "in/%b64~Li4/x.enc", &metadata, b"in a folder that would be ..");
    let run = place.sidekey("decrypt -i keys/old.pem in/ -o deep/er/out --jobs 1");
    assert_eq!(run.code, Some(1), "{run:?}");
    let said: Vec<_> = run.stderr.lines().filter(|line| !line.contains("hint: ")).collect();
    for name in names {
        let line = format!("sidekey: in/{name}: is not the name of a container of ours");
        let either = said.contains(&line.as_str());
        // One that is called like an envelope is no container to look at where nothing else says so.
        assert!(either, "{name}: {run:?}");
    }
    // The folder is no name of ours, so it keeps the name that it has; the name inside a container leads nowhere.
    let tree = place.tree("deep/er/out");
    assert_eq!(tree.keys().collect::<Vec<_>>(), [Path::new("%b64~Li4"), Path::new("%b64~Li4/x")]);
    let warning = "sidekey: warning: in/%b64~Li4/x.enc: was encrypted under the name ../../escaped";
    assert!(said.contains(&warning), "{run:?}");
    assert_eq!(place.names(), ["deep", "in", "keys"]);
    assert_eq!(place.names_in("deep"), ["er"]);
}

#[test]
fn nothing_is_written_through_a_link() {
    let place = stored(&[("a", b"contents"), ("b", b"contents of b")]);
    place.mkdir("in/sub");
    for (from, to) in [("a", "a"), ("b", "sub/b"), ("a", "pipe")] {
        for end in ["enc", "key.enc"] {
            std::fs::copy(place.path(format!("{from}.{end}")), place.path(format!("in/{to}.{end}"))).unwrap();
        }
    }
    place.mkdir("elsewhere");
    place.mkdir("out");
    place.write("victim", "victim");
    symlink("../victim", place.path("out/a")).unwrap();
    symlink("../elsewhere", place.path("out/sub")).unwrap();
    symlink("/dev/null", place.path("out/pipe")).unwrap();
    for force in ["", " --force"] {
        let run = place.sidekey(&format!("decrypt -i keys/old.pem in/ -o out --jobs 1{force}"));
        assert_eq!(run.code, Some(1), "{run:?}");
        let mut said: Vec<_> = run
            .stderr
            .lines()
            .filter(|line| !line.contains("hint: ") && !line.contains("warning: "))
            .collect();
        said.sort_unstable();
        let link = "sidekey: out/sub: is in the way: a folder is needed there, not a file or link";
        match force {
            "" => assert_eq!(
                said[1..],
                ["sidekey: out/a: exists already", "sidekey: out/pipe: exists already", link]
            ),
            _ => assert_eq!(said[1..], [link]),
        }
        assert_eq!(place.text("victim"), "victim");
        assert!(place.names_in("elsewhere").is_empty());
    }
    // By force the links themselves were replaced.
    for name in ["out/a", "out/pipe"] {
        assert!(!place.path(name).is_symlink());
        assert_eq!(place.text(name), "contents");
    }
    // A link that comes out of a container and a file that would go through it, in one run.
    let mut link = Metadata::new(FileType::Symlink);
    link.target = Some(b"../elsewhere".to_vec());
    forged(&place, "trap/sub.enc", &link, b"");
    forged(&place, "trap/sub/x.enc", &Metadata::new(FileType::File), b"evil");
    let run = place.sidekey("decrypt -q -i keys/old.pem trap/ -o sprung");
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.starts_with("sidekey: sprung/sub: exists already\n"), "{run:?}");
    assert!(place.names_in("elsewhere").is_empty() && place.path("sprung/sub/x").exists());
}

#[test]
fn a_link_or_folder_holds_no_data_and_a_link_leads_somewhere() {
    let place = Place::with_keys();
    let mut link = Metadata::new(FileType::Symlink);
    forged(&place, "in/none.enc", &link, b"");
    link.target = Some(b"a\0b".to_vec());
    forged(&place, "in/nul.enc", &link, b"");
    link.target = Some(b"x".to_vec());
    forged(&place, "in/data.enc", &link, b"data");
    forged(&place, "in/folder/.folder.enc", &Metadata::new(FileType::Dir), b"data");
    let run = place.sidekey("decrypt -i keys/old.pem in/ -o out");
    assert_eq!(run.code, Some(3), "{run:?}");
    let mut said: Vec<_> = run.stderr.lines().collect();
    said.sort_unstable();
    assert_eq!(
        said[1..],
        [
            "sidekey: in/data.enc: is the container of a symlink, but holds data",
            "sidekey: in/folder/.folder.enc: is the container of a dir, but holds data",
            "sidekey: in/none.enc: metadata: a symlink without a target",
            "sidekey: out/nul: the metadata has no target for the symlink",
        ]
    );
    assert!(!place.path("out/none").exists() && !place.path("out/data").exists());
}

#[test]
fn a_pair_under_another_name_is_a_warning_or_with_strict_an_error() {
    let place = stored(&[("a", b"contents"), ("b", b"contents of b")]);
    for end in ["enc", "key.enc"] {
        let [a, b] = ["a", "b"].map(|name| place.path(format!("{name}.{end}")));
        std::fs::rename(&a, place.path("swap")).unwrap();
        std::fs::rename(&b, &a).unwrap();
        std::fs::rename(place.path("swap"), &b).unwrap();
    }
    let strict = place.sidekey("decrypt -q --strict -i keys/old.pem a.enc -o out");
    assert_eq!(
        strict,
        failed(
            3,
            "sidekey: a.enc: was encrypted under the name b\n\
             sidekey: hint: somebody renamed or swapped it; without --strict this is a warning\n"
        )
    );
    assert!(!place.path("out").exists());
    let run = place.sidekey("decrypt -q -i keys/old.pem a.enc -o out");
    assert_eq!(run, failed(0, "sidekey: warning: a.enc: was encrypted under the name b\n"));
    assert_eq!(place.text("out"), "contents of b");
}

#[test]
fn a_key_that_opens_but_is_not_the_containers_is_said_and_a_planted_one_hides_nothing() {
    let place = stored(&[("a", b"contents")]);
    let real = place.envelope("a.key.enc").blocks;
    let id = place.header("a.enc").data_id();
    let planted =
        new_entry(&place.public("old"), &[3; 32], &id, Wrap::RsaOaepSha256, SystemTime::UNIX_EPOCH).unwrap();
    let envelope = |blocks| Envelope { blocks }.to_text().unwrap();
    place.write("a.key.enc", envelope(vec![planted.clone().into()]));
    refused(
        &place,
        "the header does not commit to the key in the envelope",
        "the header is damaged, or the envelope was made for another container under the same data id",
        3,
    );
    place.write("a.key.enc", envelope([vec![planted.into()], real].concat()));
    assert_eq!(place.sidekey("decrypt -i keys/old.pem a.enc -o -").good().stdout, "contents");
}

#[test]
fn inspect_says_what_is_wrong_and_goes_on() {
    let place = stored(&[("a", &noise(100, 1))]);
    let whole = place.read("a.enc");
    place.write("cut.enc", &whole[..300]);
    place.write("new.enc", [&whole[..8], &[2], &whole[9..]].concat());
    place.write("text", "text");
    let run = place.sidekey("inspect cut.enc new.enc text none keys a.enc");
    assert_eq!(run.code, Some(3));
    assert_eq!(
        run.stderr,
        "sidekey: new.enc: container version 2 at byte 8 is unknown\n\
         sidekey: hint: it is damaged, or a newer sidekey wrote it; this one reads version 1\n\
         sidekey: text: is neither a container nor an envelope\n\
         sidekey: none: cannot read: No such file or directory (os error 2)\n\
         sidekey: keys: is a folder; name the files in it\n"
    );
    assert!(run.stdout.starts_with("cut.enc: container, version 1\n"), "{run:?}");
    assert!(
        run.stdout.contains("length    300 bytes, is truncated: no container is 300 bytes long\n"),
        "{run:?}"
    );
    assert!(run.stdout.ends_with("length    608 bytes, 96 to 111 bytes of plaintext\n"), "{run:?}");
    let header = Header::parse(whole[..64].try_into().unwrap()).unwrap();
    assert!(run.stdout.contains(&header.data_id().to_string()));
}

#[test]
fn as_many_threads_as_make_sense() {
    let place = stored(&[("a", b"contents")]);
    for jobs in ["0", "257", "1000000", "-1", "x"] {
        for line in [
            "encrypt -r keys/old.pub.pem a",
            "decrypt -i keys/old.pem a.enc",
            "rewrap a.key.enc -i keys/old.pem --to keys/new.pub.pem",
        ] {
            let run = place.sidekey(&format!("{line} --jobs={jobs}"));
            assert_eq!(run.code, Some(2), "{run:?}");
            assert!(
                run.stderr.starts_with(&format!("sidekey: --jobs {jobs}: is not a number from 1 to 256\n")),
                "{run:?}"
            );
        }
    }
    place.sidekey("decrypt -i keys/old.pem a.enc -o out --jobs 256").good();
}
