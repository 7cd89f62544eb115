//! `rewrap` of real folders, by the real binary: who opens what afterwards, what is left alone, and what it says.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::time::SystemTime;

use sidekey::format::envelope::{Block, Content};
use sidekey::format::{Entry, Envelope, Wrap};
use sidekey::secret::FileKey;
use sidekey::wrap::{new_entry, unwrap};
use sidekey::{DataId, ErrorKind};

use crate::common::{Ended, Place, failed, objects};

const REWRAP: &str = "rewrap --json -i keys/old.pem --to keys/new.pub.pem";

/// Containers of `a`, `b`, ... below `in`, for `old`.
fn stored(names: &[&str]) -> Place {
    let place = Place::with_keys();
    place.mkdir("in");
    place.mkdir("plain");
    for name in names {
        place.write(format!("plain/{name}"), format!("contents of {name}"));
    }
    place.sidekey("encrypt -q -r keys/old.pub.pem plain/ -o in").good();
    place
}

/// The counts of a summary that are not zero.
fn counts(run: &Ended) -> BTreeMap<String, u64> {
    let summary = objects(&run.stdout).pop().unwrap_or_else(|| panic!("{run:?}"));
    assert_eq!(summary["type"], "summary", "{run:?}");
    let numbers = summary.into_iter().filter_map(|(name, value)| Some((name, value.as_u64()?)));
    numbers.filter(|(_, number)| *number > 0).collect()
}

#[track_caller]
fn counted(run: &Ended, code: i32, expected: &[(&str, u64)]) {
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    assert_eq!((counts(run), run.code), (expected, Some(code)), "{run:?}");
}

/// What is said on standard error, as message and hint.
fn said(run: &Ended) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    objects(&run.stderr).iter().map(|line| (text(&line["message"]), text(&line["hint"]))).collect()
}

impl Place {
    /// Whether a private key opens `in/NAME`, to the right contents.
    fn opened_by(&self, name: &str, key: &str) -> bool {
        let run = self.sidekey(&format!("decrypt -q -i keys/{key}.pem in/{name}.enc -o -"));
        match run.code {
            Some(0) => run.stdout == format!("contents of {name}"),
            _ => false,
        }
    }

    fn data_id(&self, name: &str) -> DataId {
        self.header(format!("in/{name}.enc")).data_id()
    }

    /// One entry as anybody could write it who has the public key.
    fn entry(&self, key: &str, secret: &[u8; 32], data_id: &DataId) -> Entry {
        let created = SystemTime::UNIX_EPOCH;
        new_entry(&self.public(key), secret, data_id, Wrap::RsaOaepSha256, created).unwrap()
    }

    fn put(&self, name: &str, blocks: Vec<Block>) {
        self.write(format!("in/{name}.key.enc"), Envelope { blocks }.to_text().unwrap());
    }
}

#[test]
fn all_move_to_the_new_key_and_a_second_run_touches_nothing() {
    let place = stored(&["a", "b", "c"]);
    let containers = place.fingerprint("in");
    let dry = place.sidekey(&format!("{REWRAP} in --dry-run")).good();
    counted(&dry, 0, &[("rewrapped", 3), ("checked", 3)]);
    assert_eq!(place.fingerprint("in"), containers);

    let run = place.sidekey(&format!("{REWRAP} in --prove all --jobs 2")).good();
    counted(&run, 0, &[("rewrapped", 3), ("checked", 3), ("tried", 3)]);
    for name in ["a", "b", "c"] {
        assert!(place.opened_by(name, "new"), "{name}");
        assert!(!place.opened_by(name, "old"), "{name}");
    }
    let after = place.fingerprint("in");
    for (path, before) in &containers {
        let is_envelope = path.to_str().unwrap().ends_with(".key.enc");
        assert_eq!(after[path] == *before, !is_envelope, "{path:?}");
    }

    for prove in ["sample", "all"] {
        let again = place.sidekey(&format!("{REWRAP} in --prove {prove}")).good();
        counted(&again, 0, &[("already", 3), ("tried", 3)]);
        assert_eq!(place.fingerprint("in"), after);
    }
    assert_eq!(place.temporary(), Vec::<std::path::PathBuf>::new());

    let people = place.sidekey("rewrap in -i keys/old.pem --to keys/new.pub.pem --to keys/escrow.pub.pem");
    let lines: Vec<_> = people.stderr.lines().collect();
    assert_eq!(people.code, Some(0), "{people:?}");
    assert_eq!(
        lines[..2],
        [
            "sidekey: rewrapped 0 envelopes; 0 were done already, 3 are not for the old key, 0 have residue, 0 failed",
            "sidekey: compared 0 keys with their containers; for 0 the container was not there",
        ]
    );
}

#[test]
fn the_old_key_cannot_be_the_new_one_and_a_wrong_one_changes_nothing() {
    let place = stored(&["a"]);
    let before = place.fingerprint("in");
    let id = place.private("old").id().short();
    assert_eq!(
        place.sidekey("rewrap in -i keys/old.pem --to keys/old.pub.pem"),
        failed(
            2,
            &format!(
                "sidekey: key {id} is both the old and the new one\n\
                 sidekey: hint: make a new pair with sidekey keygen; what moves to the same key has not moved\n"
            )
        )
    );
    let wrong = place.sidekey("rewrap --json in -i keys/escrow.pem --to keys/new.pub.pem");
    counted(&wrong, 0, &[("not_ours", 1)]);
    for (line, says) in [
        (
            "rewrap in -i keys/old.pub.pem --to keys/new.pub.pem",
            "keys/old.pub.pem: is a public key; a private one is needed\n",
        ),
        (
            "rewrap in -i keys/old.pem --to keys/new.pem",
            "keys/new.pem: is a private key; a public one is needed\n\
             sidekey: hint: sidekey pubkey KEY writes its public half\n",
        ),
    ] {
        assert_eq!(place.sidekey(line), failed(1, &format!("sidekey: {says}")), "{line}");
    }
    assert_eq!(place.fingerprint("in"), before);
}

#[test]
fn other_recipients_and_blocks_stay_byte_for_byte() {
    let place = stored(&["a", "b"]);
    let key = place.file_key("in/a", "old");
    let (id, old) = (place.data_id("a"), place.entry("old", key.expose(), &place.data_id("a")));
    let escrow = Block::from(place.entry("escrow", key.expose(), &id));
    let later = "-----BEGIN SIDEKEY SOMETHING LATER-----\r\nX-Odd:  two  blanks \r\n\r\nAAEC\r\n-----END SIDEKEY SOMETHING LATER-----\r\n";
    let text = format!("{later}\n\n{}\n{}", escrow.text(), Block::from(old).text());
    place.write("in/a.key.enc", &text);
    let run = place.sidekey(&format!("{REWRAP} in"));
    counted(&run, 4, &[("rewrapped", 2), ("checked", 2), ("residue", 1), ("tried", 2)]);
    assert_eq!(
        said(&run),
        [(
            "in/a.key.enc: 1 of its blocks are of a kind that this version cannot judge".into(),
            String::new()
        )]
    );
    let now = place.text("in/a.key.enc");
    assert!(now.contains(later) && now.contains(escrow.text()), "{now}");
    assert!(place.opened_by("a", "escrow") && place.opened_by("a", "new") && !place.opened_by("a", "old"));
    // What cannot be judged stays residue, and is no reason to write again.
    let before = place.fingerprint("in");
    let again = place.sidekey(&format!("{REWRAP} in"));
    counted(&again, 4, &[("already", 2), ("residue", 1), ("tried", 2)]);
    assert_eq!(place.fingerprint("in"), before);
}

#[test]
fn a_planted_key_is_neither_propagated_nor_does_it_hide_the_real_one() {
    let place = stored(&["a", "b"]);
    let real = place.file_key("in/a", "old");
    let planted = |name: &str| Block::from(place.entry("old", &[7; 32], &place.data_id(name)));
    let genuine = Block::from(place.entry("old", real.expose(), &place.data_id("a")));
    place.put("a", vec![planted("a"), genuine]);
    place.put("b", vec![planted("b")]);
    let planted_text = place.text("in/b.key.enc");
    let run = place.sidekey(&format!("{REWRAP} in"));
    counted(&run, 4, &[("rewrapped", 1), ("checked", 1), ("residue", 2), ("tried", 1)]);
    let message =
        "an entry that the old key opens carries another key than its container's: somebody planted it";
    let mut messages: Vec<_> = said(&run).into_iter().map(|(message, _)| message).collect();
    messages.sort();
    assert_eq!(messages, [format!("in/a.key.enc: {message}"), format!("in/b.key.enc: {message}")]);
    assert!(place.opened_by("a", "new"));
    assert_eq!(place.envelope("in/a.key.enc").entries().count(), 1);
    assert_eq!(place.text("in/b.key.enc"), planted_text);
}

#[test]
fn without_the_container_two_different_keys_are_both_kept() {
    for planted_first in [true, false] {
        let place = stored(&["a"]);
        let real = place.file_key("in/a", "old");
        let id = place.data_id("a");
        let mut blocks = vec![
            Block::from(place.entry("old", &[7; 32], &id)),
            Block::from(place.entry("old", real.expose(), &id)),
        ];
        if !planted_first {
            blocks.reverse();
        }
        place.put("a", blocks);
        std::fs::rename(place.path("in/a.enc"), place.path("a.enc")).unwrap();
        let run = place.sidekey(&format!("{REWRAP} in"));
        counted(&run, 4, &[("rewrapped", 1), ("unchecked", 2), ("residue", 1), ("tried", 1)]);
        assert_eq!(
            said(&run)[0].0,
            "in/a.key.enc: its entries carry different keys, and none can be told from a planted one: all were kept"
        );
        std::fs::rename(place.path("a.enc"), place.path("in/a.enc")).unwrap();
        assert!(place.opened_by("a", "new"), "the real key is lost, planted first: {planted_first}");
    }
}

#[test]
fn a_container_that_is_not_there_is_counted() {
    let place = stored(&["a"]);
    std::fs::rename(place.path("in/a.enc"), place.path("a.enc")).unwrap();
    let run = place.sidekey(&format!("{REWRAP} in/a.key.enc")).good();
    counted(&run, 0, &[("rewrapped", 1), ("unchecked", 1), ("tried", 1)]);
    std::fs::rename(place.path("a.enc"), place.path("in/a.enc")).unwrap();
    assert!(place.opened_by("a", "new"));
}

#[test]
fn labels_are_not_believed() {
    let place = stored(&["a", "b"]);
    let [a, b] = ["a", "b"].map(|name| place.file_key(&format!("in/{name}"), "old"));
    let mislabelled = |name: &str, key: &FileKey| {
        let entry = place.entry("old", key.expose(), &place.data_id(name));
        Block::from(Entry { recipient: place.public("escrow").id(), ..entry })
    };
    // One that says it is for somebody else, alone; and one beside an entry for the new key.
    place.put("a", vec![mislabelled("a", &a)]);
    let new = Block::from(place.entry("new", b.expose(), &place.data_id("b")));
    place.put("b", vec![mislabelled("b", &b), new]);
    let run = place.sidekey(&format!("{REWRAP} in"));
    counted(&run, 0, &[("rewrapped", 2), ("checked", 2), ("tried", 2)]);
    for name in ["a", "b"] {
        let envelope = place.envelope(format!("in/{name}.key.enc"));
        let old = place.private("old");
        assert!(envelope.entries().all(|entry| old.unwrap(&entry.body, &entry.data_id).is_none()), "{name}");
        assert!(place.opened_by(name, "new"));
    }

    // The other way: it says that it is for the old key, but does not open with it.
    let place = stored(&["c"]);
    let key = place.file_key("in/c", "old");
    let entry = place.entry("escrow", key.expose(), &place.data_id("c"));
    place.put("c", vec![Entry { recipient: place.public("old").id(), ..entry }.into()]);
    let before = place.fingerprint("in");
    let run = place.sidekey(&format!("{REWRAP} in"));
    counted(&run, 4, &[("residue", 1)]);
    let id = place.private("old").id().short();
    assert_eq!(
        said(&run)[0].0,
        format!(
            "in/c.key.enc: an entry is labelled for the old key {id} but does not open with it; it was kept"
        )
    );
    assert_eq!(place.fingerprint("in"), before);
}

#[test]
fn a_damaged_envelope_is_said_and_the_rest_is_done() {
    let place = stored(&["a", "b", "c"]);
    place.write("in/a.key.enc", "");
    let mut text = place.text("in/b.key.enc");
    text.insert_str(0, "hello\n");
    place.write("in/b.key.enc", &text);
    let run = place.sidekey(&format!("{REWRAP} in"));
    counted(&run, 3, &[("rewrapped", 1), ("checked", 1), ("failed", 2), ("tried", 1)]);
    let mut messages: Vec<_> = said(&run).into_iter().map(|(message, _)| message).collect();
    messages.sort();
    assert_eq!(
        messages,
        ["in/a.key.enc: an envelope without a block", "in/b.key.enc: envelope line 1 is outside every block"]
    );
    assert_eq!((place.read("in/a.key.enc"), place.text("in/b.key.enc")), (vec![], text));
}

#[test]
fn a_folder_that_must_not_be_written_keeps_its_envelopes() {
    let place = stored(&["a"]);
    place.chmod("in", 0o500);
    let before = place.read("in/a.key.enc");
    let run = place.run_bound(&format!("{REWRAP} in"));
    counted(&run, 1, &[("failed", 1)]);
    assert_eq!(said(&run)[0].0, "in/a.key.enc: cannot create a file there: Permission denied (os error 13)");
    assert_eq!(place.read("in/a.key.enc"), before);
    place.chmod("in", 0o700);
}

#[test]
fn mode_and_owner_stay() {
    let place = stored(&["a"]);
    place.chmod("in/a.key.enc", 0o640);
    let owner = |name: &str| {
        let found = std::fs::metadata(place.path(name)).unwrap();
        (found.uid(), found.gid(), found.mode() & 0o7777)
    };
    // Only root can give a file away; for others this is the mode alone.
    let _ = std::os::unix::fs::chown(place.path("in/a.key.enc"), Some(12345), Some(54321));
    let before = owner("in/a.key.enc");
    place.sidekey(&format!("{REWRAP} in")).good();
    assert_eq!(owner("in/a.key.enc"), before);
    assert!(place.opened_by("a", "new"));
}

#[test]
fn links_are_followed_where_named_and_reported_where_not() {
    let place = stored(&["a", "b"]);
    symlink("in", place.path("archive")).unwrap();
    symlink("in/b.key.enc", place.path("b")).unwrap();
    place.mkdir("other");
    symlink("../in/b.key.enc", place.path("other/b.key.enc")).unwrap();
    let run = place.sidekey(&format!("{REWRAP} other"));
    counted(&run, 1, &[("failed", 1)]);
    assert_eq!(
        said(&run),
        [(
            "other/b.key.enc: is a symlink, which is not followed".into(),
            "name what it leads to, or the folder of that, to rewrap it too".into()
        )]
    );
    let run = place.sidekey(&format!("{REWRAP} b")).good();
    counted(&run, 0, &[("rewrapped", 1), ("checked", 1), ("tried", 1)]);
    assert!(place.path("b").is_symlink() && place.opened_by("b", "new") && !place.opened_by("b", "old"));
    let run = place.sidekey(&format!("{REWRAP} archive")).good();
    counted(&run, 0, &[("rewrapped", 1), ("already", 1), ("checked", 1), ("tried", 2)]);
}

#[test]
fn what_is_named_and_no_envelope_is_an_error() {
    let place = stored(&["a"]);
    for (name, says) in [
        ("in/a.enc", "in/a.enc: is a container, not an envelope"),
        ("plain/a", "plain/a: is not an envelope"),
        ("/dev/null", "/dev/null: is a device, not an envelope"),
        ("none", "none: cannot read: No such file or directory (os error 2)"),
    ] {
        let run = place.sidekey(&format!("{REWRAP} {name}"));
        counted(&run, 1, &[("failed", 1)]);
        assert_eq!(said(&run)[0].0, says);
    }
    // As a shell gives them.
    let run = place.sidekey(&format!("{REWRAP} in/a.enc in/a.key.enc"));
    counted(&run, 0, &[("rewrapped", 1), ("checked", 1), ("tried", 1)]);
}

#[test]
fn both_forms_of_names_belong_to_a_container() {
    let place = stored(&["a"]);
    let id = place.data_id("a").short();
    let located = format!("in/a.{id}.key.enc");
    std::fs::copy(place.path("in/a.key.enc"), place.path(&located)).unwrap();
    let run = place.sidekey(&format!("{REWRAP} in")).good();
    counted(&run, 0, &[("rewrapped", 2), ("checked", 2), ("tried", 2)]);
    std::fs::remove_file(place.path("in/a.key.enc")).unwrap();
    assert!(place.opened_by("a", "new") && !place.opened_by("a", "old"));
    // An envelope that is not one does not hide the other.
    place.write("in/a.key.enc", "not an envelope");
    assert!(place.opened_by("a", "new"));
    let entry = |name: &str| place.envelope(name).entries().next().cloned();
    assert!(matches!(
        Envelope::parse(&place.read("in/a.key.enc")).map_err(|error| error.kind()),
        Err(ErrorKind::Integrity)
    ));
    assert_eq!(entry(&located).unwrap().recipient, place.public("new").id());
}

#[test]
fn two_old_keys_and_two_new_recipients_in_one_run() {
    let place = stored(&["a", "b"]);
    let key = place.file_key("in/b", "old");
    place.put("b", vec![place.entry("escrow", key.expose(), &place.data_id("b")).into()]);
    let run = place.sidekey(
        "rewrap --json in -i keys/old.pem -i keys/escrow.pem --to keys/new.pub.pem --to keys/new.pub.pem",
    );
    counted(&run, 0, &[("rewrapped", 2), ("checked", 2), ("tried", 2)]);
    for name in ["a", "b"] {
        let envelope = place.envelope(format!("in/{name}.key.enc"));
        assert_eq!(envelope.blocks.len(), 1);
        assert!(matches!(&envelope.blocks[0].content, Content::Entry(_)));
        let header = place.header(format!("in/{name}.enc"));
        assert!(unwrap(&header, &[envelope], &[place.private("new")]).is_ok());
    }
}

/// `cp -al` makes such snapshots.
#[test]
fn hard_links_of_an_envelope_are_residue() {
    let place = stored(&["a"]);
    place.mkdir("snapshot");
    std::fs::hard_link(place.path("in/a.key.enc"), place.path("snapshot/a.key.enc")).unwrap();
    let run = place.sidekey(&format!("{REWRAP} in"));
    assert_eq!(run.code, Some(4), "{run:?}");
    assert!(said(&run)[0].0.contains("it had 2 hard links"), "{run:?}");
    assert!(place.opened_by("a", "new") && !place.opened_by("a", "old"));
}
