//! Vaults on services: what the store does to them is noticed there too, and of an escrowed key no older version stays.

use std::process::Command;
use std::sync::Arc;

use futures_util::StreamExt as _;
use serde_json::json;
use sidekey::ErrorKind;
use sidekey::keys::KeyFile;
use sidekey::secret::{Passphrase, SecretBytes};
use sidekey::store::{Body, GetOptions, ListOptions, Listed, Object, PutOptions, Store, b2};

use crate::common::{Ended, Place, SIDEKEY, ended, objects};
use crate::s3::{self, runtime};
use crate::s3_server::{self, Versions};
use crate::server::World;

const FIRST: &str = "the first passphrase";
const SECOND: &str = "the second passphrase";
const ESCROW: &str = "backup/.sidekey/escrow.pem";
const SETTINGS: &str = "backup/.sidekey/vault.json";

fn b2_store(world: &World) -> Arc<dyn Store> {
    let settings = b2::Settings {
        bucket: world.bucket.clone(),
        key_id: world.key_id.clone(),
        key: SecretBytes::new(world.key.clone().into_bytes()),
        endpoint: Some(world.url.clone()),
        connections: 4,
    };
    b2::open(settings).unwrap()
}

fn listed(store: &dyn Store, prefix: &str, versions: bool) -> Vec<Object> {
    let options = ListOptions { prefix: prefix.into(), versions, ..ListOptions::default() };
    let all: Vec<_> = runtime().block_on(store.list(options).collect());
    let all = all.into_iter().filter_map(|listed| match listed.unwrap() {
        Listed::Object(object) => Some(object),
        Listed::Folder(_) => None,
    });
    all.collect()
}

/// A vault with an escrowed key whose passphrase changes: what is left opens with the new one alone.
fn changed(command: &dyn Fn(&str) -> Command, store: &dyn Store, keeps_versions: bool) {
    let run = |line: &str, old: Option<&str>, new: Option<&str>| -> Ended {
        let mut command = command(line);
        command.envs(old.map(|text| ("SIDEKEY_PASSPHRASE", text)));
        command.envs(new.map(|text| ("SIDEKEY_NEW_PASSPHRASE", text)));
        ended(&mut command)
    };
    run("init @ --escrow -i keys/old.pem", None, Some(FIRST)).good();
    assert_eq!(listed(store, ESCROW, keeps_versions).len(), 1);
    let changed = run("vault passwd @ --json", Some(FIRST), Some(SECOND)).good();
    assert_eq!(objects(&changed.stdout)[0]["purged"], u64::from(keeps_versions), "{changed:?}");
    let said = run("vault passwd @", Some(SECOND), Some(SECOND)).good();
    assert!(said.stderr.contains("opens with the old passphrase for ever"), "{said:?}");
    let versions = listed(store, ESCROW, keeps_versions);
    assert_eq!(versions.len(), 1, "{versions:?}");
    let text = read(store, ESCROW);
    let file = KeyFile::parse(&text).unwrap();
    let open = |passphrase: &str| file.open(Some(&Passphrase::new(passphrase.into())));
    assert_eq!(open(FIRST).unwrap_err().kind(), ErrorKind::Auth);
    open(SECOND).unwrap();
    let restored = run("restore @ back", Some(FIRST), None);
    assert_eq!(restored.code, Some(1), "{restored:?}");
    run("restore @ back", Some(SECOND), None).good();
}

fn read(store: &dyn Store, key: &str) -> Vec<u8> {
    runtime().block_on(async {
        let Body::Stream(mut body) = store.get(key, &GetOptions::default()).await.unwrap().body else {
            panic!("{key} is a file of this machine");
        };
        let mut bytes = vec![];
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk.unwrap());
        }
        bytes
    })
}

fn write(store: &dyn Store, key: &str, bytes: Vec<u8>) {
    let options = PutOptions { size: Some(bytes.len() as u64), ..PutOptions::default() };
    runtime().block_on(store.put(key, bytes.into(), &options)).unwrap();
}

#[test]
fn a_new_passphrase_leaves_no_older_version_on_b2() {
    let (place, world) = (Place::with_keys(), World::new(&json!({})));
    let location = format!("b2://{}/backup", world.bucket);
    let command = |line: &str| {
        let args: Vec<String> = line.split(' ').map(|word| word.replace('@', &location)).collect();
        let mut command = place.command(SIDEKEY, &args);
        command.envs(world.environment());
        command
    };
    changed(&command, b2_store(&world).as_ref(), true);
    assert_eq!(world.versions().iter().filter(|version| version.name == ESCROW).count(), 1);
}

#[test]
fn a_new_passphrase_leaves_no_older_version_on_s3() {
    for versions in [Versions::Off, Versions::On] {
        let (place, bucket) = (Place::with_keys(), s3::bucket(versions));
        let location = format!("s3://{bucket}/backup");
        let command = |line: &str| s3::command(&place, &line.replace('@', &location));
        changed(&command, s3_server::store(&bucket).as_ref(), versions == Versions::On);
    }
}

#[test]
fn what_a_service_did_to_a_vault_is_named() {
    let (place, world) = (Place::with_keys(), World::new(&json!({})));
    let run = |line: &str| {
        let location = format!("b2://{}/backup", world.bucket);
        let args: Vec<String> = line.split(' ').map(|word| word.replace('@', &location)).collect();
        ended(place.command(SIDEKEY, &args).envs(world.environment()))
    };
    let store = b2_store(&world);
    let store = store.as_ref();
    place.mkdir("tree");
    place.write("tree/a", "the contents of a");
    place.write("tree/b", "the contents of b");
    run("init @ -r keys/old.pub.pem").good();
    run("put tree/a tree/b @/").good();

    // The settings: rolled back, of another vault, gone.
    let good = read(store, SETTINGS);
    let text = String::from_utf8(good.clone()).unwrap();
    run(&format!("init b2://{}/other -r keys/old.pub.pem", world.bucket)).good();
    for (bad, says) in [
        (text.replace("\"generation\":1", "\"generation\":0").into_bytes(), "rolled back to generation 0"),
        (read(store, "other/.sidekey/vault.json"), "not of the pinned"),
        (text.replace("encrypted", "plain").into_bytes(), "names are plain"),
    ] {
        write(store, SETTINGS, bad);
        for line in ["ls @", "put tree/a @/", "get -i keys/old.pem @/ back"] {
            let refused = run(line);
            assert_eq!(refused.code, Some(3), "{line}: {refused:?}");
            assert!(refused.stderr.contains(says), "{refused:?} / {says}");
        }
    }
    write(store, SETTINGS, good);

    // The pairs: each under the name of the other, then one for the same key by somebody without the master key.
    let containers = listed(store, "backup/s", false);
    let (envelopes, containers): (Vec<_>, Vec<_>) =
        containers.into_iter().map(|object| object.key).partition(|key| key.ends_with(".key.enc"));
    let [one, two] = &containers[..] else { panic!("{containers:?}") };
    let of = |container: &str| {
        let bare = container.strip_suffix("enc").unwrap();
        envelopes.iter().find(|envelope| envelope.starts_with(bare)).unwrap()
    };
    let short = |envelope: &str| envelope.rsplit('.').nth(2).unwrap().to_owned();
    let pairs =
        [one, two].map(|container| (read(store, container), read(store, of(container)), of(container)));
    for (to, (container, envelope, name)) in [(two, &pairs[0]), (one, &pairs[1])] {
        let bare = to.strip_suffix("enc").unwrap();
        write(store, &format!("{bare}{}.key.enc", short(name)), envelope.clone());
        write(store, to, container.clone());
    }
    let refused = |says: [&str; 2]| {
        for line in ["verify @", "get -i keys/old.pem @/ back", "cat -i keys/old.pem @/a"] {
            let run = run(line);
            assert_eq!(run.code, Some(3), "{line}: {run:?}");
            assert!(says.iter().any(|says| run.stderr.contains(says)), "{line}: {run:?}");
            assert!(run.stderr.contains("/backup/a.enc: "), "{line}: {run:?}");
            assert!(!run.stdout.contains("contents"), "{run:?}");
        }
        assert!(!place.path("back/a").exists() && !place.path("back/b").exists());
    };
    let other = "its info record is not of this vault and this name";
    refused([other; 2]);
    place.write("planted", "planted");
    run(&format!("put -r keys/old.pub.pem planted b2://{}/beside/", world.bucket)).good();
    for object in listed(store, "beside/planted", false) {
        let end = object.key.strip_prefix("beside/planted").unwrap();
        for to in [one, two] {
            let bare = to.strip_suffix(".enc").unwrap();
            write(store, &format!("{bare}{end}"), read(store, &object.key));
        }
    }
    // The envelopes of the others stand there still.
    refused(["has no info record of this vault", other]);
    // What was there before is among the older versions, and whole.
    let older = listed(store, one, true).into_iter().last().unwrap();
    assert_eq!(older.size, pairs[0].0.len() as u64);
}
