//! The configuration by the real program: remotes, where values come from, and what is wrong with a file.

use crate::common;
use std::os::unix::fs::symlink;

use crate::common::{Ended, Place, ended, failed, objects};

const FILE: &str = ".config/sidekey/config.toml";

impl Place {
    /// With these variables in the environment.
    pub(crate) fn with_env(&self, line: &str, variables: &[(&str, &str)]) -> Ended {
        let args: Vec<_> = line.split_whitespace().collect();
        ended(self.command(common::SIDEKEY, &args).envs(variables.iter().copied()))
    }

    pub(crate) fn configure(&self, text: &str) {
        self.mkdir(".config/sidekey");
        self.write(FILE, text);
    }

    /// A path below here, as the program prints it.
    pub(crate) fn shown(&self, name: &str) -> String {
        self.root().join(name).display().to_string()
    }
}

#[test]
fn a_remote_is_added_listed_and_removed() {
    let place = Place::with_keys();
    let said = place.sidekey("remote ls").good();
    assert_eq!(said.stdout, "");
    assert_eq!(
        said.stderr,
        "sidekey: no remotes are configured; sidekey remote add NAME LOCATION configures one\n"
    );

    let line =
        "remote add home vault -r keys/old.pub.pem -r keys/new.pub.pem -r keys/old.pub.pem -i keys/old.pem";
    let added = place.sidekey(line).good();
    assert_eq!(added.stdout, "");
    assert_eq!(
        added.stderr,
        format!("sidekey: home is {} now ({})\n", place.shown("vault"), place.shown(FILE))
    );
    assert_eq!((place.mode(FILE), place.mode(".config/sidekey")), (0o600, 0o700));
    // Adding makes nothing at the location.
    assert_eq!(place.names(), [".config", "keys"]);

    let [old, new] = ["old", "new"].map(|name| place.public(name).id());
    let listed = place.sidekey("remote ls").good();
    let key = |name: &str| place.shown(&format!("keys/{name}"));
    assert_eq!(
        listed.stdout,
        format!(
            "home: {}\n    recipient {} with key id {}\n    recipient {} with key id {}\n    identity {}\n",
            place.shown("vault"),
            key("old.pub.pem"),
            old.short(),
            key("new.pub.pem"),
            new.short(),
            key("old.pem")
        )
    );
    let json = place.sidekey("remote ls --json").good();
    let [remote] = &objects(&json.stdout)[..] else { panic!("{json:?}") };
    assert_eq!(remote["type"], "remote");
    assert_eq!(remote["name"], "home");
    assert_eq!(remote["location"], place.shown("vault"));
    assert_eq!(remote["recipients"][0]["key_id"], old.to_string());
    assert_eq!(remote["recipients"][1]["file"], key("new.pub.pem"));
    assert_eq!(remote["identities"][0], key("old.pem"));

    let removed = place.sidekey("remote rm home").good();
    assert_eq!(removed.stderr, "sidekey: home is no remote any more; its location was not touched\n");
    assert_eq!(place.text(FILE), "");
    assert_eq!(place.sidekey("remote ls").good().stdout, "");
}

#[test]
fn what_cannot_be_a_remote_is_refused_and_nothing_is_written() {
    let place = Place::with_keys();
    place.write("file", "x");
    place.sidekey("remote add home vault").good();
    let before = place.fingerprint(".config");
    let file = place.shown("file");
    for (line, code, says) in [
        (
            "add a.b vault",
            2,
            "a.b: is not a name for a remote\nsidekey: hint: letters, digits, - and _ make a name",
        ),
        (
            "add home vault",
            1,
            "home: is a remote already\nsidekey: hint: --force replaces it; sidekey remote ls shows it",
        ),
        ("add x b2://", 2, "b2://: no bucket is named\nsidekey: hint: write b2://BUCKET/PATH"),
        (
            "add x home:sub",
            2,
            "home:sub: a remote's location cannot be a path of another remote\n\
             sidekey: hint: write a folder or a URL; for a folder with a colon write ./NAME",
        ),
        ("add x file", 2, &format!("{file}: is a file; a location is a folder")),
        (
            "add x vault -r keys",
            2,
            "keys: is a folder; the file of a public key is needed\n\
             sidekey: hint: -r names a recipient, it does not mean recursive: folders are always entered",
        ),
        ("add x vault -r keys/none", 1, "keys/none: cannot read: No such file or directory (os error 2)"),
        ("add x vault -i keys/old.pub.pem", 1, "keys/old.pub.pem: is a public key; a private one is needed"),
        (
            "rm x",
            2,
            "no remote x\nsidekey: hint: for a file write ./x:…; sidekey remote ls shows the remotes there are",
        ),
        ("", 2, "a command is missing\nsidekey: hint: sidekey remote --help shows what there is"),
    ] {
        let run = place.sidekey(&format!("remote {line}"));
        assert_eq!(run, failed(code, &format!("sidekey: {says}\n")), "{line}");
    }
    assert_eq!(place.fingerprint(".config"), before);
}

#[test]
fn edits_keep_comments_and_go_through_a_symlink() {
    let place = Place::with_keys();
    place.mkdir(".config/sidekey");
    place.write(
        "dotfiles.toml",
        "# mine\n\n[defaults]\njobs = 2 # few\n\n# far away\n[remote.far]\nlocation = \"/far\"\n",
    );
    symlink(place.path("dotfiles.toml"), place.path(FILE)).unwrap();
    let said = place.sidekey("remote add near /near").good();
    assert!(
        said.stderr.ends_with("it has no recipients: put will ask for --recipient each time\n"),
        "{said:?}"
    );
    let near = "\n[remote.near]\nlocation = \"/near\"\n";
    assert_eq!(
        place.text("dotfiles.toml"),
        format!(
            "# mine\n\n[defaults]\njobs = 2 # few\n\n# far away\n[remote.far]\nlocation = \"/far\"\n{near}"
        )
    );
    place.sidekey("remote add far file:///elsewhere/b%20c --force").good();
    place.sidekey("remote rm near").good();
    assert_eq!(
        place.text("dotfiles.toml"),
        "# mine\n\n[defaults]\njobs = 2 # few\n\n# far away\n[remote.far]\nlocation = \"/elsewhere/b c\"\n"
    );
    assert!(place.path(FILE).is_symlink());
}

#[test]
fn eight_adds_at_once_lose_none() {
    let place = Place::new();
    place.sidekey("remote add r0 /r0").good();
    let adds: Vec<_> = (1..=8)
        .map(|n| place.command(common::SIDEKEY, &["remote", "add", &format!("r{n}"), "/r"]).spawn().unwrap())
        .collect();
    for mut add in adds {
        assert!(add.wait().unwrap().success());
    }
    let listed = place.sidekey("remote ls").good().stdout;
    assert_eq!(listed.lines().count(), 9, "{listed}");
}

#[test]
fn every_value_says_where_it_came_from() {
    let place = Place::new();
    place.configure("[remote.home]\nlocation = \"vault\"\njobs = 5\n\n[defaults]\njobs = 3\n");
    let explained = place.sidekey("--explain-config").good();
    assert_eq!(explained.stderr, "");
    assert_eq!(
        explained.stdout,
        format!(
            "config = {} (default)\n\
             log-file = none (default)\n\
             log-level = info (default)\n\
             jobs = 3 (file: line 6)\n\
             if-exists = replace (default)\n\
             b2-endpoint = that of Backblaze (default)\n\
             endpoint = AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, else that of AWS (default)\n\
             region = as the aws tool finds it (default)\n\
             profile = as the aws tool finds it (default)\n\
             path-style = true where an endpoint is named (default)\n\
             ca-file = none (default)\n\
             connections = 32 (default)\n\
             sse = none: as the bucket says (default)\n\
             sse-c-key-file = none: each file has a key of its own (default)\n\
             remote.home.location = {} (file: line 1)\n\
             remote.home.jobs = 5 (file: line 3)\n",
            place.shown(FILE),
            place.shown(".config/sidekey/vault")
        )
    );
    let jobs = |line: &str, variables: &[(&str, &str)]| {
        let said = place.with_env(line, variables).good().stdout;
        said.lines().find(|line| line.starts_with("jobs")).unwrap().to_owned()
    };
    let environment = [("SIDEKEY_JOBS", "7")];
    assert_eq!(jobs("--explain-config", &environment), "jobs = 7 (environment: SIDEKEY_JOBS)");
    assert_eq!(jobs("encrypt x --jobs 9 --explain-config", &environment), "jobs = 9 (flag: --jobs)");
    assert_eq!(jobs("encrypt x --explain-config", &[("SIDEKEY_JOBS", "")]), "jobs = 3 (file: line 6)");
    let json = place.sidekey("--explain-config --json").good();
    let lines = objects(&json.stdout);
    let jobs = lines.iter().find(|line| line["name"] == "jobs").unwrap();
    assert_eq!(jobs["source"], "file");
    assert_eq!(jobs["by"], "line 6");
    // Nothing but the explanation happens.
    assert_eq!(place.names(), [".config"]);
}

#[test]
fn the_file_is_named_by_flag_environment_or_the_home_folder() {
    let place = Place::new();
    for (name, remote) in [("flag", "f"), ("environment", "e"), ("home", "h")] {
        place.mkdir(format!("{name}/.config/sidekey"));
        place.write(
            format!("{name}/.config/sidekey/config.toml"),
            format!("[remote.{remote}]\nlocation = \"/x\"\n"),
        );
    }
    let file = |name: &str| place.shown(&format!("{name}/.config/sidekey/config.toml"));
    let (flag, environment, home) = (file("flag"), file("environment"), place.shown("home"));
    let mut variables = vec![("XDG_CONFIG_HOME", "relative is as good as unset"), ("HOME", &*home)];
    let listed = |line: &str, variables: &[(&str, &str)]| place.with_env(line, variables).good().stdout;
    assert_eq!(listed("remote ls", &variables), "h: /x\n");
    variables.push(("SIDEKEY_CONFIG", &environment));
    assert_eq!(listed("remote ls", &variables), "e: /x\n");
    assert_eq!(listed(&format!("remote ls --config {flag}"), &variables), "f: /x\n");

    // One that was named has to be there, unless it is to be made.
    let none = place.shown("none");
    assert_eq!(
        place.sidekey("--explain-config --config none"),
        failed(
            1,
            "sidekey: none: there is no such configuration file\nsidekey: hint: sidekey remote add makes one\n"
        )
    );
    assert_eq!(
        place.with_env("encrypt x", &[("SIDEKEY_CONFIG", &none)]),
        failed(
            1,
            &format!(
                "sidekey: {none}: there is no such configuration file\n\
                 sidekey: hint: SIDEKEY_CONFIG names it; unset that, or make the file\n"
            )
        )
    );
    place.sidekey("remote add a /x --config deep/none").good();
    assert_eq!(place.sidekey("remote ls --config deep/none").good().stdout, "a: /x\n");
    assert_eq!((place.mode("deep"), place.mode("deep/none")), (0o700, 0o600));
    assert_eq!(
        place.with_env("remote add a /x", &[("HOME", ""), ("XDG_CONFIG_HOME", "")]),
        failed(
            2,
            "sidekey: there is no place for a configuration: HOME is not set\n\
             sidekey: hint: name a file with --config\n"
        )
    );
}

#[test]
fn a_wrong_file_or_variable_stops_every_command_before_it_does_anything() {
    let place = Place::with_keys();
    place.write("x", "x");
    place.configure("[remote.home]\nlocation = \"/x\"\nrecipient = [\"k\"]\n");
    let path = place.shown(FILE);
    let expected = failed(
        1,
        &format!(
            "sidekey: {path}: line 3: [remote.home] has no key recipient\nsidekey: hint: did you mean recipients?\n"
        ),
    );
    assert_eq!(place.sidekey("encrypt x -r keys/old.pub.pem"), expected);
    assert_eq!(place.sidekey("remote add home /y --force"), expected);
    assert_eq!(place.names(), [".config", "keys", "x"]);

    place.configure("[defaults]\npassphrase = \"hunter2\"\n");
    place.chmod(FILE, 0o640);
    let said = place.sidekey("remote ls");
    assert_eq!(said.code, Some(1));
    assert!(
        said.stderr.contains("line 2: passphrase is a secret, and others can read this file (mode 0640)"),
        "{said:?}"
    );
    assert!(!said.stderr.contains("hunter2"), "{said:?}");

    place.configure("");
    assert_eq!(
        place.with_env("encrypt x -r keys/old.pub.pem", &[("SIDEKEY_JOBS", "0")]),
        failed(2, "sidekey: SIDEKEY_JOBS: is not a number from 1 to 256\n")
    );
    assert_eq!(place.names(), [".config", "keys", "x"]);
}

#[test]
fn a_remote_brings_its_keys_along_and_another_key_in_their_place_is_refused() {
    let place = Place::with_keys();
    place.write("a", "contents");
    assert_eq!(
        place.sidekey("put a nowhere/"),
        failed(
            2,
            "sidekey: no recipient: nobody could open the result\n\
             sidekey: hint: name a public key with --recipient; sidekey keygen makes a pair\n"
        )
    );
    place.sidekey("remote add home vault -r keys/old.pub.pem -i keys/old.pem").good();
    place.sidekey("put -q a home:").good();
    assert_eq!(place.sidekey("cat home:a").good().stdout, "contents");
    assert_eq!(place.mode("vault"), 0o700);

    // What was typed wins, and is worth a word.
    let typed = place.sidekey("put -q a home:typed -r keys/new.pub.pem").good();
    assert_eq!(
        typed.stderr,
        "sidekey: warning: home: the keys of --recipient are not those that the remote pins\n\
         sidekey: hint: sidekey remote ls shows whose keys are pinned\n"
    );
    assert_eq!(place.sidekey("put -q a home:same -r keys/old.pub.pem").good().stderr, "");

    // The file of the pinned key holds another one now.
    let before = place.fingerprint("vault");
    let old = place.text("keys/old.pub.pem");
    place.write("keys/old.pub.pem", place.text("keys/new.pub.pem"));
    let file = place.shown("keys/old.pub.pem");
    assert_eq!(
        place.sidekey("put a home:b"),
        failed(
            3,
            &format!(
                "sidekey: {file}: holds another key than the one that home pins\n\
                 sidekey: hint: find out who changed it; if it was you: sidekey remote add --force pins the new key\n"
            )
        )
    );
    assert_eq!(place.fingerprint("vault"), before);

    // Pinned by key id alone, the file has to be typed.
    place.write("keys/old.pub.pem", old);
    let key_id = place.public("old").id();
    place.configure(&format!("[remote.home]\nlocation = \"../../vault\"\nrecipients = [\"{key_id}\"]\n"));
    let said = place.sidekey("put a home:b");
    let expected = format!("sidekey: home: key id {key_id} is pinned without the file of its public key\n");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.stderr.starts_with(&expected), "{said:?}");
    assert_eq!(place.sidekey("put -q a home:b -r keys/old.pub.pem").good().stderr, "");
    let typed = place.sidekey("put -q a home:c -r keys/new.pub.pem").good();
    assert!(typed.stderr.contains("not those that the remote pins"), "{typed:?}");
}
