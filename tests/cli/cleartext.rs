//! `put --cleartext --sse c` by the real program, on both services.

use std::fs::File;
use std::os::unix::fs::symlink;

use serde_json::json;
use sha1::{Digest as _, Sha1};

use crate::common::{Content, Place, ended, noise, same_trees};
use crate::rotate_servers::Service;
use crate::s3::bucket;
use crate::s3_server::{self, Versions};
use crate::server::World;

const PUT: &str = "put -q -r keys/old.pub.pem tree/ @ --sse c --cleartext";

/// Files of all lengths that matter, one of them sent in parts, and what is no file.
fn planted() -> Place {
    let place = Place::with_keys();
    place.mkdir("tree/sub/none");
    place.write("tree/a b", "small");
    place.write("tree/empty", "");
    place.write("tree/sub/large", noise((11 << 20) + 1, 5));
    place.write("tree/sub/recipe", "Salted__12345678 and sixteen more.");
    symlink("../a b", place.path("tree/sub/link")).unwrap();
    place
}

/// Through every command that reads or changes it.
fn goes_there_and_comes_back(service: &Service) {
    let place = planted();
    let run = |line: &str| service.run(&place, line);
    run(PUT).good();
    run("get -q -i keys/old.pem @ back/").good();
    same_trees(&place.tree("back"), &place.tree("tree"), false);
    let again = run("get --overwrite if-different -i keys/old.pem @ back/").good();
    assert!(again.stderr.contains("4 skipped"), "{again:?}");
    let large = place.read("tree/sub/large");
    for (range, bytes) in [
        ("0-9", &large[..10]),
        ("-5", &large[large.len() - 5..]),
        ("9000000-9000003", &large[9_000_000..9_000_004]),
    ] {
        let line = format!("cat -i keys/old.pem --range {range} @sub/large");
        let mut command = service.command(&place, &line);
        place.write("out", "");
        let out = File::options().write(true).truncate(true).open(place.path("out")).unwrap();
        command.stdout(out);
        assert_eq!(ended(&mut command).code, Some(0), "{range}");
        assert_eq!(place.read("out"), bytes, "{range}");
    }
    let listed = run("ls -R @").good();
    assert_eq!(listed.stdout.lines().filter(|line| !line.ends_with('/')).count(), 5, "{}", listed.stdout);
    run("verify -i keys/old.pem --level full @").good();
    run("verify -i keys/old.pem --level full --against tree @").good();
    let wrong = run("get -q -i keys/new.pem @ other/");
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.stderr.contains("--identity"), "{wrong:?}");
    assert!(!place.path("other/a b").exists());

    // From a pipe: what comes is known before it is sent.
    let mut command = service.command(&place, "put -q -r keys/old.pub.pem - @piped --sse c --cleartext");
    command.stdin(File::open(place.path("tree/sub/recipe")).unwrap());
    ended(&mut command).good();
    assert_eq!(run("cat -i keys/old.pem @piped").good().stdout, place.text("tree/sub/recipe"));
    place.write("long", noise((32 << 20) + 1, 1));
    let mut command = service.command(&place, "put -r keys/old.pub.pem - @long --sse c --cleartext");
    command.stdin(File::open(place.path("long")).unwrap());
    let refused = ended(&mut command);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("longer than 32 MiB"), "{refused:?}");

    run("rewrap @ -q -i keys/old.pem --to keys/new.pub.pem").good();
    run("audit @ -q -i keys/old.pem").good();
    assert_eq!(run("cat -i keys/old.pem @piped").code, Some(1));
    run("get -q -i keys/new.pem @ moved/").good();
    std::fs::remove_file(place.path("moved/piped")).unwrap();
    same_trees(&place.tree("moved"), &place.tree("tree"), false);
    run("verify -i keys/new.pem --level full @").good();

    // Overwritten by a container of ours, and the other way.
    run("put -q -r keys/new.pub.pem tree/ @ --sse c").good();
    run("put -q -r keys/new.pub.pem tree/ @ --sse c --cleartext").good();
    run("get -q -i keys/new.pem @ third/").good();
    assert_eq!(place.text("third/a b"), "small");

    // New keys for all, by copies of the service.
    let refused = run("reencrypt @ -i keys/new.pem --to keys/old.pub.pem");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("has to stay under --sse c"), "{refused:?}");
    let reencrypted = run("reencrypt @sub/ -i keys/new.pem --to keys/old.pub.pem --sse c --purge-versions");
    assert!(matches!(reencrypted.code, Some(0 | 4)), "{reencrypted:?}");
    run("get -q -i keys/old.pem @sub/ fourth/").good();
    for name in ["large", "recipe"] {
        assert!(place.read(format!("fourth/{name}")) == place.read(format!("tree/sub/{name}")), "{name}");
    }
    assert_eq!(run("cat -i keys/new.pem @sub/recipe").code, Some(1));

    run("rm -q -r @").good();
    assert_eq!(run("ls -R @").stdout, "");
}

#[test]
fn on_backblaze() {
    goes_there_and_comes_back(&Service::b2(&World::new(&json!({}))));
}

#[test]
fn on_s3() {
    for versions in [Versions::Off, Versions::On] {
        goes_there_and_comes_back(&Service::s3(&bucket(versions), s3_server::address()));
    }
}

type Container = (String, String, Option<String>, Option<String>, u64);

#[test]
fn the_service_has_the_file_itself_under_a_key_and_keeps_it_through_a_rotation() {
    let (place, world) = (planted(), World::new(&json!({})));
    let service = Service::b2(&world);
    service.run(&place, PUT).good();
    let containers = || -> Vec<Container> {
        let versions = world.versions().into_iter().filter(|version| !version.name.ends_with(".key.enc"));
        versions
            .map(|version| (version.name, version.id, version.encryption, version.sha1, version.size))
            .collect::<Vec<_>>()
    };
    let before = containers();
    assert_eq!(before.len(), 6, "{before:?}");
    for (name, _, encryption, sha1, size) in &before {
        assert_eq!(encryption.as_deref(), Some("SSE-C"), "{name}");
        let file = name.strip_prefix("backup/").unwrap().strip_suffix(".enc").unwrap();
        let found = place.tree("tree").remove(std::path::Path::new(file));
        let Some(Content::File(bytes)) = found.map(|node| node.content) else { continue };
        assert_eq!(*size, bytes.len() as u64, "{name}");
        let expected: String = Sha1::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        // Of a large file the service keeps none.
        let kept = if bytes.len() < 8 << 20 { &*expected } else { "none" };
        assert_eq!(sha1.as_deref(), Some(kept), "{name}");
    }
    for version in world.versions().iter().filter(|version| version.name.ends_with(".key.enc")) {
        assert_ne!(version.encryption.as_deref(), Some("SSE-C"), "{version:?}");
    }
    service.run(&place, "rewrap @ -q -i keys/old.pem --to keys/new.pub.pem").good();
    assert_eq!(containers(), before);

    // Nor does a new key cost more than a look at both ends: the service copies.
    world.reset_calls();
    let done = service.run(&place, "reencrypt @sub/large -q -i keys/new.pem --to keys/old.pub.pem --sse c");
    assert!(matches!(done.code, Some(0 | 4)), "{done:?}");
    let calls = world.calls();
    assert!(calls.bytes_in < 1 << 20 && calls.bytes_out < 1 << 20, "{calls:?}");
    assert_eq!(calls.of("b2_copy_file"), 1, "{calls:?}");
    let large = |all: &[Container]| all.iter().filter(|(name, ..)| name.contains("large")).count();
    assert_eq!((large(&before), large(&containers())), (1, 1));
    assert_ne!(containers(), before);
    service.run(&place, "get -q -i keys/old.pem @sub/large copied").good();
    assert!(place.read("copied") == place.read("tree/sub/large"));
}

#[test]
fn it_is_refused_where_nothing_would_encrypt() {
    let (place, world) = (Place::with_keys(), World::new(&json!({})));
    let service = Service::b2(&world);
    place.write("a", "a");
    place.write("c.key", [7; 32]);
    place.chmod("c.key", 0o600);
    place.mkdir("folder");
    for (line, says) in [
        ("put -r keys/old.pub.pem a @ --cleartext", "--cleartext needs --sse c"),
        ("put -r keys/old.pub.pem a @ --cleartext --sse b2", "--cleartext needs --sse c"),
        ("put -r keys/old.pub.pem a @ --cleartext --sse c --sse-c-key-file c.key", "exclude each other"),
        ("put -r keys/old.pub.pem a @ --cleartext --sse c --digest none", "exclude each other"),
        ("put -r keys/old.pub.pem a folder --cleartext", "is a folder of this machine"),
        ("put -r keys/old.pub.pem a folder --cleartext --sse c", "is a folder of this machine"),
    ] {
        let said = service.run(&place, line);
        assert_eq!(said.code, Some(2), "{line}: {said:?}");
        assert!(said.stderr.contains(says), "{line}: {said:?}");
        assert!(said.stderr.contains("hint: "), "{line}: {said:?}");
    }
    service.run(&place, "init @ -q -r keys/old.pub.pem").good();
    let said = service.run(&place, "put a @ --cleartext --sse c");
    assert_eq!((said.code, said.stderr.contains("is a vault")), (Some(2), true), "{said:?}");
    let names: Vec<String> = world.versions().into_iter().map(|version| version.name).collect();
    assert!(names.iter().all(|name| name.starts_with("backup/.sidekey/")), "{names:?}");
}
