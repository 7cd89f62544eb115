//! What the OpenSSL recipe left in buckets and folders: restored, rewrapped and adopted where it is; on Backblaze B2 put there
//! and taken from there by Backblaze's own tool.

use serde_json::json;

use crate::common::{Ended, Place, SIDEKEY, ended, noise, objects};
use crate::server::World;

/// How OpenSSL since 1.1.0 derives keys; said where too few files are there to agree.
const KDF: &str = "--recipe-kdf sha256";

/// The recipe's own commands: a one-time password, the file encrypted with it, and that with the public key. `$1` is the file,
/// `$2` and `$3` what is made of it.
const ENCRYPT: &str = r#"
ONE_TIME_PASSWORD=`openssl rand -base64 180`
echo $ONE_TIME_PASSWORD | openssl aes-256-cbc -a -salt -pass stdin -in "$1" -out "$2" 2>/dev/null
echo $ONE_TIME_PASSWORD | openssl rsautl -encrypt -pubin -inkey keys/old.pub.pem -out "$3" 2>/dev/null
"#;

/// The recipe's own way back. `$1` is the private key, `$2` and `$3` the halves, `$4` what they become.
const DECRYPT: &str = r#"
ONE_TIME_PASSWORD=`openssl rsautl -decrypt -inkey "$1" -in "$3" 2>/dev/null`
echo $ONE_TIME_PASSWORD | openssl aes-256-cbc -d -a -pass stdin -in "$2" -out "$4" 2>/dev/null
"#;

/// A folder that a script filled, or a bucket that the script and the `b2` tool did.
struct Legacy {
    place: Place,
    world: Option<World>,
}

impl Legacy {
    fn folder() -> Self {
        let place = Place::with_keys();
        place.mkdir("vault");
        place.mkdir("plain");
        Self { place, world: None }
    }

    fn bucket() -> Self {
        Self { world: Some(World::new(&json!({}))), ..Self::folder() }
    }

    fn script(&self, script: &str, args: &[&str]) {
        let mut all = vec!["-ec", script, "script"];
        all.extend(args);
        ended(&mut self.place.command("bash", &all)).good();
    }

    /// The unmodified tool of Backblaze.
    fn b2(&self, args: &[&str]) -> Ended {
        let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv-servers/bin/b2");
        let world = self.world.as_ref().unwrap();
        let info = self.place.path("account-info");
        ended(self.place.command(tool, args).envs(world.environment()).env("B2_ACCOUNT_INFO", info)).good()
    }

    /// One more upload of `name`, whose halves are called so.
    fn upload(&self, name: &str, contents: &[u8], container: &str, key: &str) {
        self.place.write(format!("plain/{name}"), contents);
        let halves = [format!("vault/{name}{container}"), format!("vault/{name}{key}")];
        self.script(ENCRYPT, &[&format!("plain/{name}"), &halves[0], &halves[1]]);
        if let Some(world) = &self.world {
            for half in halves {
                self.b2(&["file", "upload", "--no-progress", &world.bucket, &half, &half]);
            }
        }
    }

    /// `line` with `@` for the location.
    fn run(&self, line: &str) -> Ended {
        let location = match &self.world {
            Some(world) => format!("b2://{}/vault/", world.bucket),
            None => format!("file://{}/", self.place.path("vault").display()),
        };
        let args: Vec<String> = line.split(' ').map(|word| word.replace('@', &location)).collect();
        let mut command = self.place.command(SIDEKEY, &args);
        if let Some(world) = &self.world {
            command.envs(world.environment());
        }
        ended(&mut command)
    }

    /// The ids of the versions of one file, the newest first.
    fn versions(&self, name: &str) -> Vec<String> {
        let listed = self.run(&format!("ls --json --versions @{name}")).good().stdout;
        objects(&listed).iter().map(|row| row["version"].as_str().unwrap().to_owned()).collect()
    }

    #[track_caller]
    fn restores(&self, what: &str, key: &str, contents: &[u8]) {
        let _ = std::fs::remove_file(self.place.path("back"));
        self.run(&format!("get -q {KDF} -i keys/{key}.pem @{what} back")).good();
        assert!(self.place.read("back") == contents, "{what}");
    }

    /// Every version of a file.
    #[track_caller]
    fn restores_all(&self, name: &str, key: &str, contents: &[Vec<u8>]) {
        let versions = self.versions(name);
        assert_eq!(versions.len(), contents.len());
        for (version, contents) in versions.iter().zip(contents) {
            self.restores(&format!("{name} --version {version}"), key, contents);
        }
    }

    #[track_caller]
    fn nothing_left(&self, key: &str) {
        assert_eq!(self.run(&format!("audit @ -i keys/{key}.pem")).good().stdout, "");
    }
}

/// The counts of a summary.
#[track_caller]
fn counts(run: &Ended, names: &[&str]) -> Vec<u64> {
    let summary = objects(&run.stdout).pop().unwrap_or_else(|| panic!("{run:?}"));
    assert_eq!(summary["type"], "summary", "{run:?}");
    names.iter().map(|name| summary[*name].as_u64().unwrap()).collect()
}

#[test]
fn a_folder_of_a_script_settles_how_it_was_made_and_moves_in_place() {
    let legacy = Legacy::folder();
    // A long padding, so that no dear derivation is tried on a single file.
    let contents = |number: usize| noise(1024 * number + 4, number as u64);
    legacy.place.mkdir("vault/sub");
    legacy.place.mkdir("plain/sub");
    for number in 0..9 {
        let name = if number < 8 { number.to_string() } else { "sub/8".into() };
        legacy.upload(&name, &contents(number), ".enc", ".key.enc");
    }
    let same = |folder: &str| {
        for number in 0..9 {
            let name = if number < 8 { number.to_string() } else { "sub/8".into() };
            assert!(legacy.place.read(format!("{folder}/{name}")) == contents(number), "{folder}/{name}");
        }
    };
    let got = legacy.run("get -i keys/old.pem @ out1").good();
    assert_eq!(got.stderr.matches("which is not authenticated").count(), 1, "{got:?}");
    assert_eq!(got.stderr.matches("warning").count(), 1, "nothing was guessed: {got:?}");
    same("out1");
    // Of one file alone another way fits by chance, once in a hundred times; then it is undecided.
    let alone: Vec<Ended> =
        (1..4).map(|number| legacy.run(&format!("cat -i keys/old.pem @{number} --range 100-199"))).collect();
    for alone in &alone {
        let says = match alone.code {
            Some(0) => "only its last block says that it was made with sha256",
            _ => "cannot tell how it was made: sha256 and ",
        };
        assert!(alone.stderr.contains(says), "{alone:?}");
    }
    assert!(alone.iter().any(|alone| alone.code == Some(0)), "{alone:?}");
    let listed = objects(&legacy.run("ls -l --json @3").good().stdout);
    assert_eq!((&listed[0]["recipe"], &listed[0]["problem"]), (&json!(true), &json!(null)));
    let max = listed[0]["size_max"].as_u64().unwrap();
    assert!((3076..3092).contains(&max), "{max}");
    let verified = legacy.run("verify --json @ -i keys/old.pem").good();
    assert_eq!(counts(&verified, &["unchecked", "recipe", "damaged"]), [9, 9, 0]);

    let before = legacy.place.fingerprint("vault");
    let rewrapped = ["rewrapped", "checked", "unchecked", "residue", "failed", "tried", "opened"];
    let dry = legacy.run("rewrap --json @ -i keys/old.pem --to keys/new.pub.pem --dry-run").good();
    assert_eq!(counts(&dry, &rewrapped), [9, 9, 0, 0, 0, 0, 0]);
    let dry = legacy.run("rewrap --json --adopt @ -i keys/old.pem --to keys/new.pub.pem --dry-run").good();
    assert_eq!(counts(&dry, &rewrapped), [9, 9, 0, 0, 0, 0, 0]);
    assert_eq!(legacy.place.fingerprint("vault"), before);

    let kept = legacy.run("rewrap --json @ -i keys/old.pem --to keys/new.pub.pem").good();
    assert_eq!(counts(&kept, &rewrapped), [9, 9, 0, 0, 0, 9, 0]);
    legacy.nothing_left("old");
    legacy.script(DECRYPT, &["keys/new.pem", "vault/3.enc", "vault/3.key.enc", "script"]);
    assert!(legacy.place.read("script") == contents(3), "the recipe's own script opens it with the new key");

    let two = "--to keys/old.pub.pem --to keys/escrow.pub.pem";
    let adopted = legacy.run(&format!("rewrap --json @ -i keys/new.pem {two} --adopt")).good();
    assert_eq!(counts(&adopted, &rewrapped), [9, 9, 0, 0, 0, 9, 0]);
    legacy.nothing_left("new");
    assert!(!legacy.place.names_in("vault").contains(&"3.key.enc".to_owned()));
    legacy.run("get -q -i keys/escrow.pem @ out2").good();
    same("out2");
    // What was adopted is compared with its container from now on.
    let again = legacy.run("rewrap --json --prove all @ -i keys/old.pem --to keys/new.pub.pem").good();
    assert_eq!(counts(&again, &rewrapped), [9, 9, 0, 0, 0, 9, 0]);
    legacy.run("get -q -i keys/new.pem @ out3").good();
    same("out3");
}

#[test]
fn what_does_not_fit_is_kept_and_told() {
    let legacy = Legacy::folder();
    for name in ["good", "swapped"] {
        legacy.upload(name, &noise(5000, 1), ".enc", ".key.enc");
    }
    legacy.upload("alone", &noise(5000, 2), ".enc", ".key.enc");
    // The password of another file, and a key file whose container is gone. A wrong password opens one file in 256 by chance.
    for _ in 0..4 {
        legacy.place.write("vault/swapped.key.enc", legacy.place.read("vault/alone.key.enc"));
        if legacy.run(&format!("get {KDF} -i keys/old.pem @swapped back")).code == Some(0) {
            std::fs::remove_file(legacy.place.path("back")).unwrap();
            legacy.upload("swapped", &noise(5000, 1), ".enc", ".key.enc");
        }
    }
    std::fs::remove_file(legacy.place.path("vault/alone.enc")).unwrap();
    let before = legacy.place.fingerprint("vault");
    let failed = legacy.run(&format!("get {KDF} -i keys/old.pem @swapped back"));
    assert_eq!((failed.code, legacy.place.path("back").exists()), (Some(3), false), "{failed:?}");
    let adopted = legacy.run(&format!("rewrap --json --adopt {KDF} @ -i keys/old.pem --to keys/new.pub.pem"));
    assert_eq!(
        (adopted.code, counts(&adopted, &["rewrapped", "residue", "failed"])),
        (Some(4), vec![1, 2, 0])
    );
    for (name, why) in [("swapped", "its password does not open it"), ("alone", "without its container")] {
        let said = adopted
            .stderr
            .lines()
            .any(|line| line.contains(&format!("{name}.key.enc")) && line.contains(why));
        assert!(said, "{name}: {adopted:?}");
        let path = legacy.place.path(format!("vault/{name}.key.enc"));
        assert_eq!(legacy.place.fingerprint("vault").get(&path), before.get(&path), "{name} was touched");
    }
    legacy.restores("good", "new", &noise(5000, 1));
}

#[test]
fn old_versions_on_b2_are_matched_by_trial_and_moved_with_the_current_one() {
    let legacy = Legacy::bucket();
    let contents: Vec<Vec<u8>> = (0..3).map(|version| noise(3000 + 1000 * version, version as u64)).collect();
    for contents in &contents {
        legacy.upload("x", contents, ".enc", ".key.enc");
    }
    let newest_first: Vec<Vec<u8>> = contents.iter().rev().cloned().collect();
    legacy.restores("x", "old", &contents[2]);
    legacy.restores_all("x", "old", &newest_first);

    let moved = ["rewrapped", "checked", "residue", "failed", "purged", "opened"];
    let kept = legacy.run(&format!("rewrap --json {KDF} @ -i keys/old.pem --to keys/new.pub.pem")).good();
    assert_eq!(counts(&kept, &moved), [1, 3, 0, 0, 3, 0]);
    legacy.nothing_left("old");
    legacy.restores_all("x", "new", &newest_first);
    let bucket = &legacy.world.as_ref().unwrap().bucket;
    for half in ["x.enc", "x.key.enc"] {
        legacy.b2(&["file", "download", "--no-progress", &format!("b2://{bucket}/vault/{half}"), half]);
    }
    legacy.script(DECRYPT, &["keys/new.pem", "x.enc", "x.key.enc", "script"]);
    assert!(
        legacy.place.read("script") == contents[2],
        "the newest key file is that of the newest container"
    );

    let adopted =
        legacy.run(&format!("rewrap --json {KDF} --adopt @ -i keys/new.pem --to keys/old.pub.pem")).good();
    assert_eq!(counts(&adopted, &moved), [3, 3, 0, 0, 3, 0]);
    legacy.nothing_left("new");
    let versions = legacy.world.as_ref().unwrap().versions();
    let names: Vec<&str> = versions.iter().map(|version| version.name.as_str()).collect();
    assert!(!names.contains(&"vault/x.key.enc"), "{names:?}");
    assert_eq!(names.iter().filter(|name| name.ends_with(".key.enc")).count(), 3, "{names:?}");
    legacy.restores_all("x", "old", &newest_first);
    let again = legacy.run("rewrap --json --prove all @ -i keys/old.pem --to keys/new.pub.pem").good();
    assert_eq!(counts(&again, &moved), [3, 3, 0, 0, 3, 0]);
    legacy.restores_all("x", "new", &newest_first);
}

#[test]
fn an_old_version_that_fits_nothing_is_never_purged() {
    let legacy = Legacy::bucket();
    legacy.upload("x", &noise(4000, 1), ".enc", ".key.enc");
    let bucket = legacy.world.as_ref().unwrap().bucket.clone();
    let gone = legacy.versions("x");
    legacy.upload("x", &noise(5000, 2), ".enc", ".key.enc");
    legacy.b2(&["rm", "--no-progress", &format!("b2id://{}", gone[0])]);
    let before = legacy.world.as_ref().unwrap().versions().len();
    for adopt in ["", " --adopt"] {
        let line = format!("rewrap --json{adopt} {KDF} @ -i keys/old.pem --to keys/new.pub.pem --dry-run");
        assert_eq!(counts(&legacy.run(&line), &["residue"]), [1], "{bucket}");
    }
    assert_eq!(legacy.world.as_ref().unwrap().versions().len(), before);
    let kept = legacy.run(&format!("rewrap --json {KDF} @ -i keys/old.pem --to keys/new.pub.pem"));
    assert_eq!((kept.code, counts(&kept, &["rewrapped", "residue", "purged"])), (Some(4), vec![0, 1, 1]));
    assert!(kept.stderr.contains("no version of its container that is there fits"), "{kept:?}");
    legacy.restores("x", "new", &noise(5000, 2));
    let audited = legacy.run("audit @ -i keys/old.pem");
    assert_eq!((audited.code, audited.stdout.lines().count()), (Some(4), 1), "{audited:?}");
}

#[test]
fn other_names_of_other_scripts_are_said_with_an_option() {
    for (container, key, suffix) in
        [(".data.enc", ".key.enc", ".data.enc,.key.enc"), (".enc", ".key-office.enc", ".enc,.key-{name}.enc")]
    {
        let legacy = Legacy::folder();
        let contents = noise(5000, 3);
        legacy.upload("x", &contents, container, key);
        let option = format!("--recipe-suffix {suffix}");
        assert_eq!(
            legacy.run(&format!("get {KDF} -i keys/old.pem @x nothing")).code.map(|code| code > 0),
            Some(true)
        );
        let listed = objects(&legacy.run(&format!("ls -l --json {option} @")).good().stdout);
        assert_eq!((&listed[0]["name"], &listed[0]["problem"], listed.len()), (&json!("x"), &json!(null), 1));
        legacy.restores(&format!("x {option}"), "old", &contents);
        legacy.run(&format!("get -q {option} {KDF} -i keys/old.pem @ tree")).good();
        assert!(legacy.place.read("tree/x") == contents);
        let moved = ["rewrapped", "checked", "residue"];
        let kept = legacy
            .run(&format!("rewrap --json {option} {KDF} @ -i keys/old.pem --to keys/new.pub.pem"))
            .good();
        assert_eq!(counts(&kept, &moved), [1, 1, 0], "{suffix}");
        legacy.restores(&format!("x {option}"), "new", &contents);
        let adopted = legacy
            .run(&format!("rewrap --json --adopt {option} {KDF} @ -i keys/new.pem --to keys/old.pub.pem"))
            .good();
        assert_eq!(counts(&adopted, &moved), [1, 1, 0], "{suffix}");
        legacy.nothing_left("new");
        assert!(!legacy.place.names_in("vault").contains(&format!("x{key}")));
        legacy.restores(&format!("x {option}"), "old", &contents);
        let plain = container.strip_suffix(".enc").unwrap();
        legacy.restores(&format!("x{plain}"), "old", &contents);
    }
    let bad = Legacy::folder().run("ls --recipe-suffix .enc @");
    assert_eq!(bad.code, Some(2), "{bad:?}");
}

#[test]
fn what_we_write_in_the_recipes_format_goes_up_with_b2_and_opens_with_openssl() {
    let legacy = Legacy::bucket();
    let bucket = legacy.world.as_ref().unwrap().bucket.clone();
    let contents = noise(70_000, 4);
    legacy.place.write("letter", &contents);
    legacy.place.sidekey("encrypt --format openssl -r keys/old.pub.pem letter -o up/").good();
    for half in ["letter.enc", "letter.key.enc"] {
        legacy.b2(&[
            "file",
            "upload",
            "--no-progress",
            &bucket,
            &format!("up/{half}"),
            &format!("vault/{half}"),
        ]);
    }
    legacy.run("rewrap @ -i keys/old.pem --to keys/new.pub.pem").good();
    for half in ["letter.enc", "letter.key.enc"] {
        legacy.b2(&["file", "download", "--no-progress", &format!("b2://{bucket}/vault/{half}"), half]);
    }
    legacy.script(
        "openssl pkeyutl -decrypt -inkey keys/new.pem -in letter.key.enc | \
         openssl enc -d -aes-256-cbc -a -pbkdf2 -iter 600000 -pass stdin -in letter.enc -out script",
        &[],
    );
    assert!(legacy.place.read("script") == contents);
    legacy.run("get -q -i keys/new.pem @letter back").good();
    assert!(legacy.place.read("back") == contents);
}
