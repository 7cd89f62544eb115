//! The log file: what was done and what happened, and nothing that nobody may know.

use std::os::unix::fs::PermissionsExt as _;

use crate::common::{Place, fixture_bytes};

/// The lines behind `from`, without their times.
fn lines(place: &Place, from: usize) -> Vec<String> {
    let text = place.text("log");
    text[from..].lines().map(|line| line.split_once(' ').unwrap().1.trim_start().to_owned()).collect()
}

#[test]
fn a_run_is_a_few_lines_and_with_debug_every_call_of_the_store() {
    let place = Place::with_keys();
    place.mkdir("in");
    place.write("in/a\u{1b}]2;\nERROR forged", "a");
    place.sidekey("put -r keys/old.pub.pem in/ vault --log-file log").good();
    let first = lines(&place, 0);
    assert!(first[0].starts_with("INFO sidekey: begins: put"), "{first:?}");
    assert!(first[1].starts_with("INFO sidekey: put in/a\\u{1b}]2;\\nERROR forged as "), "{first:?}");
    assert!(first.last().unwrap().starts_with("INFO sidekey: ends: Done failures=0 warnings=0"), "{first:?}");
    assert!(first.iter().all(|line| line.starts_with("INFO")), "{first:?}");
    assert_eq!(std::fs::metadata(place.path("log")).unwrap().permissions().mode() & 0o777, 0o600);

    // What is there stays, and a failure is told as what it is.
    let from = place.text("log").len();
    place.write("config.toml", "[defaults]\nlog-file = \"log\"\nlog-level = \"warn\"\n");
    let ended = place.sidekey("--config config.toml get vault/missing out -i keys/old.pem");
    assert_eq!(ended.code, Some(1));
    let [line] = &lines(&place, from)[..] else { panic!("{:?}", lines(&place, from)) };
    assert!(line.starts_with("ERROR sidekey: ") && line.contains("kind=\"not-found\""), "{line}");

    let from = place.text("log").len();
    place.sidekey("get vault/ out -i keys/old.pem --log-file log --log-level debug").good();
    let all = lines(&place, from);
    let calls = |what: &str| {
        all.iter().filter(|line| line.starts_with(&format!("DEBUG sidekey::store: {what} "))).count()
    };
    assert!(calls("list") >= 1, "{all:?}");
    assert!(calls("get") >= 2, "the container and its envelope: {all:?}");
    assert!(all.iter().all(|line| line.contains("sidekey")), "only ours: {all:?}");
}

#[test]
fn no_secret_is_logged() {
    let place = Place::with_keys();
    place.write("key.pem", fixture_bytes("pkcs8-aes256.pem"));
    place.write("in", "the text");
    place.sidekey("put -r keys/old.pub.pem in vault/ --log-file log --log-level debug").good();
    let wrong = place.run_with(
        &"cat vault/in -i key.pem --log-file log --log-level debug".split(" ").collect::<Vec<_>>(),
        Some("not this one"),
        None,
    );
    assert_ne!(wrong.code, Some(0));
    let log = place.text("log");
    for secret in ["the text", "not this one", "PRIVATE KEY", "WRAPPED KEY", "MII"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[test]
fn a_log_of_one_remote_alone_is_refused() {
    let place = Place::new();
    place.write("config.toml", "[remote.home]\nlocation = \"vault\"\nlog-file = \"log\"\n");
    let ended = place.sidekey("--config config.toml ls home:");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("has no key log-file"), "{ended:?}");
    assert!(!place.path("log").exists());
}
