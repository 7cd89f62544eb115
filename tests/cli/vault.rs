//! Vaults, by the real binary: what the store sees, what it can do to them, and what another machine needs.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use sidekey::keys::KeyFile;

use crate::common::{Ended, Killed, Place, SIDEKEY, ended, noise, objects, path_of, same_trees};
use crate::server::World;

const STRONG: &str = "correct horse battery staple";

/// A tree whose names and contents can be searched for.
fn planted() -> Place {
    let place = Place::with_keys();
    for folder in ["tree/Grundriss/Keller", "tree/leer"] {
        place.mkdir(folder);
    }
    place.write("tree/Kontoauszug.pdf", "Geheimnis eins");
    place.write("tree/Grundriss/Keller/Kontoauszug.pdf", "Geheimnis zwei");
    place.write("tree/Grundriss/.folder", "called like the metadata of a folder");
    place.write("tree/server.key", "called like an envelope");
    place.write("tree/a.enc", "called like a container");
    place.write("tree/null", "");
    place.write(Path::new("tree").join(path_of(b"nicht\xffUTF8")), "odd");
    place.write(Path::new("tree").join("Lange".repeat(40)), "long");
    place.mkdir(Path::new("tree").join("Ordner".repeat(40)));
    place.write(Path::new("tree").join("Ordner".repeat(40)).join("drin"), "in a long folder");
    // Two names that differ by normalisation alone.
    place.write("tree/caf\u{e9}", "composed");
    place.write("tree/cafe\u{301}", "decomposed");
    place.write("tree/gross", noise((5 << 20) + 3, 5));
    place
}

fn vault() -> Place {
    let place = planted();
    place.mkdir("vault");
    place.sidekey("init vault -r keys/old.pub.pem").good();
    place.sidekey("put tree/ vault").good();
    place
}

/// Every file below a folder.
fn files(place: &Place, folder: &str) -> Vec<PathBuf> {
    let all = walkdir::WalkDir::new(place.path(folder)).into_iter().map(Result::unwrap);
    all.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

/// Another machine: the same store and keys, and no configuration.
fn elsewhere(place: &Place) -> Place {
    let other = Place::new();
    let copied = other.shell(&format!("cp -a '{0}/vault' '{0}/keys' .", place.root().display()));
    assert_eq!(copied.code, Some(0), "{copied:?}");
    other
}

const WORDS: [&str; 10] = [
    "Kontoauszug",
    "Grundriss",
    "Keller",
    ".folder",
    "server",
    "nicht",
    "LangeLange",
    "OrdnerOrdner",
    "Geheimnis",
    "caf\u{e9}",
];

fn assert_hidden(text: &[u8], what: &str) {
    for word in WORDS {
        assert!(!text.windows(word.len()).any(|found| found == word.as_bytes()), "{word} in {what}");
    }
}

#[test]
fn the_store_sees_no_name_and_everything_comes_back() {
    let place = vault();
    for file in files(&place, "vault") {
        assert_hidden(file.strip_prefix(place.root()).unwrap().as_os_str().as_encoded_bytes(), "a name");
        assert_hidden(&std::fs::read(&file).unwrap(), &file.display().to_string());
    }
    place.sidekey("get -i keys/old.pem vault/ back").good();
    same_trees(&place.tree("back"), &place.tree("tree"), false);
    place.sidekey("verify -i keys/old.pem vault").good();
    place.sidekey("verify vault").good();
    // Plain names on the command line, in the vault and below it.
    assert_eq!(
        place.sidekey("cat -q -i keys/old.pem vault/Grundriss/Keller/Kontoauszug.pdf").good().stdout,
        "Geheimnis zwei"
    );
    let listed = place.sidekey("ls vault/Grundriss").good();
    // In the order of the stored names, which is none.
    let mut names: Vec<_> = listed.stdout.lines().collect();
    names.sort_unstable();
    assert_eq!(names, [".folder", "Keller/"], "{listed:?}");
    let mode = place.names_in(".config/sidekey/vaults");
    assert_eq!(place.mode(&format!(".config/sidekey/vaults/{}", mode[0])), 0o600);
}

/// By an implementation that shares no code with this one.
fn recovered_by_python(place: &Place, to: &str) -> Ended {
    let root = env!("CARGO_MANIFEST_DIR");
    let python = format!("{root}/.venv/bin/python");
    assert!(Path::new(&python).exists(), "{python} is missing; run scripts/test once, it makes .venv");
    let script = format!("{root}/scripts/restore.py");
    ended(&mut place.command(&python, &[&script, "-i", "keys/old.pem", "vault", "-o", to]))
}

#[test]
fn python_alone_recovers_everything() {
    let place = vault();
    let recover = |to: &str| recovered_by_python(&place, to);
    let run = recover("back");
    assert_eq!(run.code, Some(0), "{run:?}");
    same_trees(&place.tree("back"), &place.tree("tree"), false);
    // What was renamed there has its old name inside, and a new record.
    let moved = place.sidekey("mv vault/Kontoauszug.pdf vault/Auszug.pdf").good();
    assert!(!moved.stderr.contains("old name"), "{moved:?}");
    std::fs::rename(place.path("tree/Kontoauszug.pdf"), place.path("tree/Auszug.pdf")).unwrap();
    let run = recover("renamed");
    assert_eq!(run.code, Some(0), "{run:?}");
    same_trees(&place.tree("renamed"), &place.tree("tree"), false);
    place.sidekey("get --strict -i keys/old.pem vault/ strict").good();
    same_trees(&place.tree("strict"), &place.tree("tree"), false);
    let verified = place.sidekey("verify --strict --level full -i keys/old.pem vault");
    assert!(matches!(verified.code, Some(0 | 4)), "{verified:?}");
    assert!(!verified.stderr.contains("under the name"), "{verified:?}");
    // With another master key than that of the settings nothing is guessed.
    let file = place.path("vault/.sidekey/vault.json");
    place.write(&file, place.text("vault/.sidekey/vault.json").replacen("\"hmac\":\"", "\"hmac\":\"0", 1));
    let run = recover("wrong");
    assert_eq!(run.code, Some(3), "{run:?}");
}

#[test]
fn python_names_what_is_not_of_the_vault_and_restores_the_rest() {
    let place = vault();
    // No base64 is as long as that: one segment for a file, and one for a folder.
    place.write("vault/sA.enc", "planted");
    place.mkdir("vault/sAAAAA");
    place.write("vault/sAAAAA/x.enc", "planted");
    let run = recovered_by_python(&place, "back");
    assert_eq!(run.code, Some(1), "{run:?}");
    for name in ["vault/sA.enc", "vault/sAAAAA/x.enc"] {
        let says = format!("restore.py: {name}: is not named as sidekey names containers\n");
        assert!(run.stderr.contains(&says), "{run:?}");
    }
    assert!(run.stderr.ends_with(" restored, 2 failed\n"), "{run:?}");
    same_trees(&place.tree("back"), &place.tree("tree"), false);
}

/// Encrypted names are longer than plain ones, so a path that exists may be stored under more than the 4,096 bytes that
/// a kernel takes at once.
#[test]
fn what_is_stored_under_a_longer_path_than_a_kernel_takes_is_there() {
    let place = Place::with_keys();
    let deep = Path::new("tree").join(["a folder"; 125].join("/"));
    place.mkdir(&deep);
    place.write(deep.join("file"), "deep");
    place.write("tree/z", "not deep");
    place.mkdir("vault");
    place.sidekey("init vault -r keys/old.pub.pem").good();
    place.sidekey("sync tree/ vault").good();
    let whole = walkdir::WalkDir::new(place.path("vault")).into_iter().all(|entry| entry.is_ok());
    assert!(!whole, "a path that is too long");

    place.sidekey("verify --level full -i keys/old.pem vault").good();
    place.sidekey("restore -i keys/old.pem vault back").good();
    same_trees(&place.tree("back"), &place.tree("tree"), false);
    let name = deep.strip_prefix("tree").unwrap().to_str().unwrap();
    assert_eq!(
        place.run(&["cat", "-i", "keys/old.pem", &format!("vault/{name}/file")]).good().stdout,
        "deep"
    );
    let audit = place.sidekey("audit vault -i keys/old.pem");
    assert_eq!((audit.code, audit.stdout.lines().count()), (Some(4), 3), "{audit:?}");
    place.sidekey("rewrap vault -i keys/old.pem --to keys/new.pub.pem --prove all").good();
    place.sidekey("audit vault -i keys/old.pem").good();
    // The other implementation cannot go there, says so, and restores the rest.
    place.sidekey("rewrap vault -i keys/new.pem --to keys/old.pub.pem").good();
    let run = recovered_by_python(&place, "python");
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("cannot be listed: File name too long"), "{run:?}");
    assert_eq!(place.text("python/z"), "not deep");

    std::fs::remove_dir_all(place.path("tree/a folder")).unwrap();
    for removed in [1, 0] {
        let run = place.sidekey("sync tree/ vault --delete").good();
        assert!(run.stderr.contains(&format!(" {removed} removed; 1 unchanged")), "{run:?}");
    }
    place.sidekey("get -i keys/old.pem -i keys/new.pem vault/ left").good();
    same_trees(&place.tree("left"), &place.tree("tree"), false);
}

#[test]
fn details_need_neither_key_nor_container() {
    let place = vault();
    // Containers are cut behind their headers: nothing more is read.
    let lines = objects(&place.sidekey("ls -lR vault --json").good().stdout);
    let size = |name: &str| {
        let line = lines.iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(line["size_min"], line["size_max"], "{line:?}");
        line["size_max"].as_u64().unwrap()
    };
    assert_eq!(size("Kontoauszug.pdf"), 14);
    assert_eq!(size("gross"), (5 << 20) + 3);
    // The file's own time, not that of its storing; what has no such time shows the other one.
    let time = |name: &str| {
        let long = place.sidekey(&format!("ls -l vault/{name}")).good().stdout;
        long.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert!(time("gross").starts_with("20"), "{}", time("gross"));
    for (touched, expected) in
        [("2001-02-03T04:05:06Z", "2001-02-03T04:05:06Z"), ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z")]
    {
        place.shell(&format!("touch -d {touched} tree/gross")).good();
        place.sidekey("put tree/gross vault/").good();
        assert_eq!(time("gross"), expected);
        let json = objects(&place.sidekey("ls -l vault/gross --json").good().stdout);
        assert_eq!(json[0]["mtime"], expected);
    }
    place.shell("touch -d 1960-01-01T00:00:00Z tree/gross").good();
    place.sidekey("put tree/gross vault/").good();
    assert!(time("gross").starts_with("20"), "{}", time("gross"));
    assert_eq!(size(&"Lange".repeat(40)), 4);
    assert_eq!(size("null"), 0);
}

#[test]
fn what_was_swapped_or_planted_is_refused_and_named() {
    let place = Place::with_keys();
    place.mkdir("vault");
    place.mkdir("tree");
    place.write("tree/a", "the contents of a");
    place.write("tree/b", "the contents of b");
    place.sidekey("init vault -r keys/old.pub.pem").good();
    place.sidekey("put tree/a tree/b vault/").good();
    let of = |name: &str| -> (PathBuf, PathBuf) {
        let lines = objects(&place.sidekey("ls vault --json").good().stdout);
        let object =
            lines.iter().find(|line| line["name"] == name).unwrap()["object"].as_str().unwrap().to_owned();
        let container = place.path("vault").join(&object);
        let bare = object.strip_suffix("enc").unwrap().to_owned();
        let all = place.names_in("vault");
        let envelope = all.iter().find(|name| name.starts_with(&bare) && name.ends_with(".key.enc")).unwrap();
        (container, place.path("vault").join(envelope))
    };
    let (a, b) = (of("a"), of("b"));
    // The envelope takes the data id along in its name.
    let renamed = |envelope: &Path, container: &Path| {
        let short = envelope.to_str().unwrap().rsplit('.').nth(2).unwrap().to_owned();
        container.with_extension(format!("{short}.key.enc"))
    };
    let bytes = |path: &Path| std::fs::read(path).unwrap();
    let (old_a, old_b) = ((bytes(&a.0), bytes(&a.1)), (bytes(&b.0), bytes(&b.1)));
    std::fs::remove_file(&a.1).unwrap();
    std::fs::remove_file(&b.1).unwrap();
    place.write(&a.0, &old_b.0);
    place.write(&b.0, &old_a.0);
    place.write(renamed(&b.1, &a.0), &old_b.1);
    place.write(renamed(&a.1, &b.0), &old_a.1);
    for command in [
        "verify vault",
        "verify -i keys/old.pem vault",
        "get -i keys/old.pem vault/ back",
        "cat -i keys/old.pem vault/a",
    ] {
        let run = place.sidekey(command);
        assert_eq!(run.code, Some(3), "{command}: {run:?}");
        assert!(run.stderr.contains("its info record is not of this vault and this name"), "{run:?}");
        assert!(run.stderr.contains("vault/a"), "{run:?}");
        assert!(!run.stdout.contains("contents"), "{run:?}");
    }
    assert!(!place.path("back/a").exists() && !place.path("back/b").exists());
    let run = recovered_by_python(&place, "python");
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(run.stderr.contains("has no info record of this vault for its name"), "{run:?}");
    assert!(!place.path("python/a").exists() && !place.path("python/b").exists());

    // A valid pair for the public key, by somebody without the master key.
    let other = Place::with_keys();
    other.mkdir("plain");
    other.write("planted", "planted");
    other.sidekey("put -r keys/old.pub.pem planted plain/").good();
    for file in files(&other, "plain") {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let end = name.strip_prefix("planted").unwrap();
        let bare = a.0.to_str().unwrap().strip_suffix(".enc").unwrap().to_owned();
        std::fs::copy(&file, format!("{bare}{end}")).unwrap();
    }
    let run = place.sidekey("get -i keys/old.pem vault/a planted");
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(run.stderr.contains("has no info record of this vault"), "{run:?}");
}

#[test]
fn another_vault_json_than_the_pinned_one_is_refused() {
    let place = Place::with_keys();
    place.mkdir("vault");
    place.mkdir("other");
    place.write("x", "x");
    place.sidekey("init vault -r keys/old.pub.pem").good();
    place.sidekey("init other -r keys/old.pub.pem").good();
    place.sidekey("put x vault/").good();
    let good = place.text("vault/.sidekey/vault.json");
    let file = place.path("vault/.sidekey/vault.json");
    for (bad, says) in [
        (place.text("other/.sidekey/vault.json"), "not of the pinned"),
        (good.replace("encrypted", "plain"), "names are plain"),
        (good.replace("\"generation\":1", "\"generation\":0"), "rolled back to generation 0"),
        (good.replacen("\"hmac\":\"", "\"hmac\":\"0", 1), "HMAC is wrong"),
        (String::new(), "no settings"),
    ] {
        place.write(&file, bad);
        for command in ["put x vault/", "ls vault", "get -i keys/old.pem vault/ back", "vault show vault"] {
            let run = place.sidekey(command);
            assert_eq!(run.code, Some(3), "{command}: {run:?}");
            assert!(run.stderr.contains(says), "{run:?} / {says}");
        }
    }
    std::fs::remove_file(&file).unwrap();
    let run = place.sidekey("put x vault/");
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(run.stderr.contains("there are no settings"), "{run:?}");
    place.write(&file, good);
    assert_eq!(place.sidekey("ls vault").good().stdout, "x\n");
}

#[test]
fn another_machine_joins_with_the_key_or_with_an_exported_configuration() {
    let place = vault();
    let shown = place.sidekey("vault show vault").good().stdout;
    let fingerprint =
        shown.lines().find_map(|line| line.trim().strip_prefix("fingerprint ")).unwrap().to_owned();
    let other = elsewhere(&place);
    let run = other.sidekey("ls vault");
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("vault join"), "{run:?}");
    other.write("y", "y");
    assert_eq!(other.sidekey("put -r keys/old.pub.pem y vault/").code, Some(2));

    let wrong = other.sidekey("vault join vault -i keys/old.pem --fingerprint 0000");
    assert_eq!(wrong.code, Some(3), "{wrong:?}");
    assert_eq!(other.sidekey("vault join vault -i keys/new.pem").code, Some(1));
    let joined =
        other.sidekey(&format!("vault join vault -i keys/old.pem --fingerprint {fingerprint}")).good();
    assert!(joined.stdout.contains(&fingerprint), "{joined:?}");
    assert!(other.sidekey("ls vault").good().stdout.contains("Kontoauszug.pdf\n"));
    // The recipients came along.
    other.sidekey("put y vault/").good();

    place.sidekey("vault export-config vault -o laptop.json").good();
    assert_eq!(place.mode("laptop.json"), 0o600);
    let third = elsewhere(&place);
    third.write("laptop.json", place.read("laptop.json"));
    third.chmod("laptop.json", 0o644);
    assert_eq!(third.sidekey("vault join vault --exported laptop.json").code, Some(1));
    third.chmod("laptop.json", 0o600);
    third.sidekey("vault join vault --exported laptop.json").good();
    assert!(third.sidekey("ls vault").good().stdout.contains("Kontoauszug.pdf\n"));
}

#[test]
fn a_new_machine_restores_with_the_passphrase_alone() {
    let place = planted();
    let init = ["init", "vault", "--passphrase-only"];
    let weak = place.run_with(&init, None, Some("short"));
    assert_eq!(weak.code, Some(1), "{weak:?}");
    assert!(weak.stderr.contains("too weak"), "{weak:?}");
    place.run_with(&init, None, Some(STRONG)).good();
    place.sidekey("put tree/ vault").good();

    let other = elsewhere(&place);
    let restore = ["restore", "vault", "back"];
    let wrong = other.run_with(&restore, Some("wrong"), None);
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    let run = other.run_with(&restore, Some(STRONG), None).good();
    assert!(run.stderr.contains("fingerprint") && run.stderr.contains("cannot be told"), "{run:?}");
    same_trees(&other.tree("back"), &place.tree("tree"), false);
    // Again, with one file gone: the rest is left alone.
    std::fs::remove_file(other.path("back/server.key")).unwrap();
    let again = other.run_with(&restore, Some(STRONG), None).good();
    assert!(again.stderr.contains("restored 2 files,"), "{again:?}");
    other.run_with(&["restore", "vault", "Grundriss/Keller", "part"], Some(STRONG), None).good();
    assert_eq!(other.text("part/Keller/Kontoauszug.pdf"), "Geheimnis zwei");

    // The passphrase changes: the old one opens nothing any more.
    place.run_with(&["vault", "passwd", "vault"], Some(STRONG), Some("another long passphrase")).good();
    let other = elsewhere(&place);
    assert_eq!(other.run_with(&restore, Some(STRONG), None).code, Some(1));
    other.run_with(&restore, Some("another long passphrase"), None).good();
}

/// Everything that can be there when init stops: the pin first, then what it writes in its order.
#[test]
fn init_that_was_interrupted_is_gone_on_with() {
    let place = Place::with_keys();
    place.mkdir("tree");
    place.write("tree/x", "stored");
    let own = |name: &str| place.path("vault/.sidekey").join(name);
    let escrow = ["init", "vault", "--escrow", "-i", "keys/old.pem"];
    let alone = ["init", "vault", "--passphrase-only"];
    for init in [&escrow[..], &alone] {
        for gone in [
            &["vault.json"][..],
            &["vault.json", "escrow.pem"],
            &["vault.json", "escrow.pem", "master.1.key.enc"],
        ] {
            for left in ["vault", ".config"] {
                let _ = std::fs::remove_dir_all(place.path(left));
            }
            let first = place.run_with(init, None, Some(STRONG)).good().stdout;
            for name in gone {
                std::fs::remove_file(own(name)).unwrap();
            }
            // Not under another passphrase, and not without saying so.
            if gone.len() == 1 {
                let other = place.run_with(init, None, Some("another long passphrase"));
                assert_eq!(other.code, Some(1), "{other:?}");
                assert!(other.stderr.contains("the new passphrase does not open it"), "{other:?}");
                assert_eq!(place.sidekey("init vault -r keys/old.pub.pem").code, Some(1));
            }
            let names = place.run_with(&[init, &["--names", "plain"]].concat(), None, Some(STRONG));
            assert_eq!(names.code, Some(1), "{names:?}");
            let again = place.run_with(init, None, Some(STRONG)).good();
            assert_eq!(again.stdout, first, "the fingerprint of the same master key");
            assert_eq!(place.names_in(".config/sidekey/vaults").len(), 1);
            let third = place.run_with(init, None, Some(STRONG));
            assert!(third.stderr.contains("is a vault already"), "{third:?}");
            place.sidekey("put tree/ vault").good();
            let other = elsewhere(&place);
            other.run_with(&["restore", "vault", "back"], Some(STRONG), None).good();
            assert_eq!(other.text("back/x"), "stored");
        }
    }
    // A key that anybody can have put there is not taken.
    std::fs::remove_file(own("vault.json")).unwrap();
    std::fs::copy(place.path("keys/new.pem"), own("escrow.pem")).unwrap();
    let planted = place.run_with(&alone, None, Some(STRONG));
    assert_eq!(planted.code, Some(3), "{planted:?}");
}

#[test]
fn init_that_was_killed_is_gone_on_with() {
    let place = Place::with_keys();
    place.write("x", "stored");
    let mut killed = 0;
    for at in 0..16 {
        for left in ["vault", ".config"] {
            let _ = std::fs::remove_dir_all(place.path(left));
        }
        let mut init = place.program(&["init", "vault", "-r", "keys/old.pub.pem"]);
        let mut run = Killed::spawn(init.stdout(Stdio::null()).stderr(Stdio::null()));
        std::thread::sleep(Duration::from_millis(at * 4));
        run.0.kill().unwrap();
        killed += u32::from(run.0.wait().unwrap().signal() == Some(9));
        let again = place.sidekey("init vault -r keys/old.pub.pem");
        assert!(again.code == Some(0) || again.stderr.contains("is a vault already"), "{again:?}");
        assert_eq!(
            place.names_in(".config/sidekey/vaults").iter().filter(|name| name.ends_with(".json")).count(),
            1
        );
        place.sidekey("put x vault/").good();
        assert_eq!(place.sidekey("cat -q -i keys/old.pem vault/x").good().stdout, "stored");
    }
    println!("{killed} of 16 killed");
}

/// scrypt for the key in the vault: restored here, and by Python alone; the next passphrase keeps it.
#[test]
fn an_escrowed_key_under_scrypt_restores() {
    let place = Place::with_keys();
    place.mkdir("tree");
    place.write("tree/x", "restored");
    let useless = place.sidekey("init vault -r keys/old.pub.pem --kdf scrypt");
    assert_eq!(useless.code, Some(2), "{useless:?}");
    assert!(!place.path("vault").exists());
    let init = ["init", "vault", "--escrow", "-i", "keys/old.pem", "--kdf", "scrypt"];
    place.run_with(&init, None, Some("the first passphrase")).good();
    place.run_with(&["vault", "passwd", "vault"], Some("the first passphrase"), Some(STRONG)).good();
    let kdf = || KeyFile::parse(&place.read("vault/.sidekey/escrow.pem")).unwrap().kdf().unwrap();
    assert_eq!(kdf(), "scrypt with N=131072 r=8 p=1");
    place.sidekey("put tree/ vault").good();
    let other = elsewhere(&place);
    other.run_with(&["restore", "vault", "back"], Some(STRONG), None).good();
    assert_eq!(other.text("back/x"), "restored");

    place.write("passphrase", STRONG);
    let root = env!("CARGO_MANIFEST_DIR");
    let (python, script) = (format!("{root}/.venv/bin/python"), format!("{root}/scripts/restore.py"));
    let args = [&*script, "-i", "vault/.sidekey/escrow.pem", "-p", "passphrase", "vault", "-o", "python"];
    ended(&mut place.command(&python, &args)).good();
    assert_eq!(place.text("python/x"), "restored");
    let passwd = ["vault", "passwd", "vault", "--kdf", "pbkdf2"];
    place.run_with(&passwd, Some(STRONG), Some("the third passphrase")).good();
    assert_eq!(kdf(), "PBKDF2-HMAC-SHA-256 with 2000000 rounds");
}

/// The code of README's "Restore on a new machine", as it stands there.
#[test]
fn the_readme_restores_as_written() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let code = |marker: &str| {
        let (_, rest) = readme.split_once(&format!("<!-- {marker} -->\n```sh\n")).unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    };
    let run = |place: &Place, script: &str| {
        let script = format!("set -e\nsidekey() {{ \"$PROGRAM\" \"$@\"; }}\n{script}");
        let mut command = place.command("sh", &["-c", &script]);
        ended(command.env("SIDEKEY_PASSPHRASE", STRONG).env("SIDEKEY_NEW_PASSPHRASE", STRONG)).good()
    };
    let place = Place::new();
    place.mkdir("Documents/letters");
    place.write("Documents/letters/a", "dear");
    run(&place, &code("vault init"));
    let other = Place::new();
    other.shell(&format!("cp -a '{}/archive' .", place.root().display())).good();
    run(&other, &code("vault restore"));
    same_trees(&other.tree("restored/Documents"), &place.tree("Documents"), false);
}

#[test]
fn a_location_that_is_no_vault_is_restored_with_the_key() {
    let place = planted();
    place.mkdir("plain");
    place.sidekey("put -r keys/old.pub.pem tree/ plain").good();
    place.sidekey("restore plain -i keys/old.pem back").good();
    same_trees(&place.tree("back"), &place.tree("tree"), false);
    assert_eq!(place.sidekey("restore plain back").code, Some(2));
    // Where plain names are, a vault keeps them, and says so unless they were asked for.
    let told = place.sidekey("init plain -r keys/old.pub.pem --dry-run").good();
    assert!(told.stderr.contains("holds objects already, so names are plain"), "{told:?}");
    let asked = place.sidekey("init plain -r keys/old.pub.pem --dry-run --names plain").good();
    assert!(!asked.stderr.contains("holds objects already"), "{asked:?}");
    assert_eq!(place.sidekey("init plain -r keys/old.pub.pem --names encrypted").code, Some(1));
}

#[test]
fn rewrap_takes_the_master_key_along() {
    let place = vault();
    let run = place.sidekey("rewrap vault -i keys/old.pem --to keys/new.pub.pem");
    assert_eq!(run.code, Some(0), "{run:?}");
    let audit = place.sidekey("audit vault -i keys/old.pem");
    assert_eq!(audit.code, Some(0), "{audit:?}");
    place.sidekey("get -i keys/new.pem vault/ back").good();
    same_trees(&place.tree("back"), &place.tree("tree"), false);
    let other = elsewhere(&place);
    assert_eq!(other.sidekey("vault join vault -i keys/old.pem").code, Some(1));
    other.sidekey("vault join vault -i keys/new.pem").good();
    // What is stored next is for the new key, too.
    assert!(run.stderr.contains("this machine encrypts for key"), "{run:?}");
    place.write("later", "later");
    place.sidekey("put later vault").good();
    place.sidekey("audit vault -i keys/old.pem").good();
    assert_eq!(place.sidekey("cat -i keys/new.pem vault/later").good().stdout, "later");
    place.sidekey("recipients vault add -i keys/new.pem --to keys/escrow.pub.pem").good();
    place.write("last", "last");
    place.sidekey("put last vault").good();
    assert_eq!(place.sidekey("cat -i keys/escrow.pem vault/last").good().stdout, "last");
}

#[test]
fn after_a_rotation_the_vault_keeps_the_new_private_key() {
    let place = planted();
    let init = ["init", "vault", "--escrow", "-i", "keys/old.pem"];
    place.run_with(&init, None, Some("the first passphrase")).good();
    place.sidekey("put tree/ vault").good();
    // Its own private key is no envelope.
    place.sidekey("audit vault -i keys/escrow.pem").good();
    let run = place.sidekey("rewrap vault -i keys/old.pem --to keys/new.pub.pem").good();
    assert!(run.stderr.contains("keeps a private key under a passphrase"), "{run:?}");
    let restore = ["restore", "vault", "back"];
    let useless = elsewhere(&place).run_with(&restore, Some("the first passphrase"), None);
    assert_eq!(useless.code, Some(1), "{useless:?}");

    let not_its_own = ["vault", "escrow", "vault", "-i", "keys/old.pem"];
    assert_eq!(place.run_with(&not_its_own, None, Some(STRONG)).code, Some(1));
    let escrow = ["vault", "escrow", "vault", "-i", "keys/new.pem"];
    let before = place.read("vault/.sidekey/escrow.pem");
    place.sidekey("vault escrow vault -i keys/new.pem --dry-run").good();
    assert_eq!(place.run_with(&escrow, None, Some("short")).code, Some(1));
    assert_eq!(place.read("vault/.sidekey/escrow.pem"), before);
    // What is there may be the only copy of the old key.
    let kept = place.run_with(&escrow, None, Some(STRONG));
    assert_eq!(kept.code, Some(1), "{kept:?}");
    assert!(kept.stderr.contains("keeps a private key already"), "{kept:?}");
    assert_eq!(place.read("vault/.sidekey/escrow.pem"), before);
    let escrow = ["vault", "escrow", "vault", "-i", "keys/new.pem", "--replace"];
    place.run_with(&escrow, None, Some(STRONG)).good();
    let other = elsewhere(&place);
    assert_eq!(other.run_with(&restore, Some("the first passphrase"), None).code, Some(1));
    other.run_with(&restore, Some(STRONG), None).good();
    same_trees(&other.tree("back"), &place.tree("tree"), false);

    // One that never had a key takes one, too.
    let place = vault();
    place.run_with(&["vault", "escrow", "vault", "-i", "keys/old.pem"], None, Some(STRONG)).good();
    elsewhere(&place).run_with(&restore, Some(STRONG), None).good();
}

#[test]
fn a_vault_without_its_settings_is_not_restored() {
    let place = vault();
    std::fs::rename(place.path("vault/.sidekey/vault.json"), place.path("taken")).unwrap();
    let restore = "restore vault -i keys/old.pem back";
    let (here, other) = (place.sidekey(restore), elsewhere(&place).sidekey(restore));
    for run in [here, other] {
        assert_eq!(run.code, Some(3), "{run:?}");
        assert!(run.stderr.contains("holds no settings of a vault"), "{run:?}");
    }
    std::fs::remove_dir_all(place.path("vault/.sidekey")).unwrap();
    assert_eq!(place.sidekey(restore).code, Some(3));
    let named = format!("{restore} --fingerprint 1f2e");
    assert_eq!(elsewhere(&place).sidekey(&named).code, Some(3));
    assert!(!place.path("back").exists());

    // Another vault in its place is not the one that this machine knows.
    let place = vault();
    let other = elsewhere(&place);
    std::fs::remove_dir_all(other.path("vault")).unwrap();
    other.sidekey("init vault -r keys/old.pub.pem").good();
    std::fs::remove_dir_all(place.path("vault")).unwrap();
    other.shell(&format!("cp -a vault '{}/vault'", place.root().display())).good();
    let run = place.sidekey(restore);
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(run.stderr.contains("another vault than the one that was meant"), "{run:?}");
}

/// New file keys and new contents of containers, under the same names and with records of their own.
#[test]
fn reencrypt_keeps_names_and_writes_records() {
    let place = vault();
    let stored = |place: &Place| -> Vec<PathBuf> {
        let all = files(place, "vault").into_iter();
        let mut containers: Vec<_> = all
            .filter(|path| {
                path.to_str().is_some_and(|path| path.ends_with(".enc") && !path.ends_with(".key.enc"))
            })
            .collect();
        containers.sort();
        containers
    };
    let (names, listed) = (stored(&place), place.sidekey("ls -lR vault --json").good().stdout);
    let before: Vec<_> = names.iter().map(std::fs::read).map(Result::unwrap).collect();
    // One that was swapped is not given a good record by that.
    let swapped = place.read(&names[0]);
    place.write(&names[0], &before[1]);
    let run = place.sidekey("reencrypt vault -i keys/old.pem --to keys/new.pub.pem");
    assert_eq!(run.code, Some(3), "{run:?}");
    assert_eq!(place.read(&names[0]), before[1]);
    place.write(&names[0], &swapped);

    place
        .sidekey("reencrypt vault -i keys/old.pem --to keys/new.pub.pem")
        .code
        .filter(|code| *code == 0 || *code == 4)
        .unwrap();
    assert_eq!(stored(&place), names);
    for (name, before) in names.iter().zip(&before) {
        assert_ne!(&place.read(name), before, "{}", name.display());
    }
    let sizes = |listed: &str| {
        let mut sizes: Vec<_> = objects(listed)
            .iter()
            .map(|line| (line["name"].to_string(), line["size_max"].to_string(), line["problem"].to_string()))
            .collect();
        sizes.sort();
        sizes
    };
    assert_eq!(sizes(&place.sidekey("ls -lR vault --json").good().stdout), sizes(&listed));
    place.sidekey("get -i keys/new.pem vault/ back").good();
    same_trees(&place.tree("back"), &place.tree("tree"), false);
    assert_eq!(place.sidekey("cat -i keys/old.pem vault/server.key").code, Some(1));
    // Old envelopes are too young to go.
    assert_eq!(place.sidekey("verify -i keys/new.pem vault").code, Some(4));
    for file in files(&place, "vault") {
        assert_hidden(&std::fs::read(&file).unwrap(), &file.display().to_string());
    }
}

/// What ends a master key that a thief may have: another vault beside, with everything in it.
#[test]
fn a_vault_goes_into_another_one_and_nothing_of_the_first_opens_it() {
    let place = vault();
    place.mkdir("vault-2");
    place.sidekey("init vault-2 -r keys/new.pub.pem").good();
    let line = "sync -i keys/old.pem vault vault-2 --json";
    let first = objects(&place.sidekey(line).good().stdout).pop().unwrap();
    assert_eq!((&first["failed"], &first["deleted"]), (&0.into(), &0.into()), "{first:?}");
    place.sidekey("get -i keys/new.pem vault-2/ back").good();
    same_trees(&place.tree("back"), &place.tree("tree"), false);
    place.sidekey("verify --level full -i keys/new.pem vault-2").good();
    // No name, no envelope and no byte of contents is the same, and the old key opens nothing.
    let names = |folder: &str| -> std::collections::BTreeSet<_> {
        let of = files(&place, folder).into_iter();
        of.filter(|path| path.extension().is_some_and(|ending| ending == "enc"))
            .map(|path| path.file_name().unwrap().to_owned())
            .collect()
    };
    let (was, is) = (names("vault"), names("vault-2"));
    assert_eq!(was.intersection(&is).filter(|name| !name.to_string_lossy().contains("master")).count(), 0);
    place.sidekey("audit -i keys/old.pem vault-2").good();
    let other = elsewhere(&place);
    place.shell(&format!("cp -a vault-2 '{}'", other.root().display())).good();
    assert_eq!(other.sidekey("vault join vault-2 -i keys/old.pem").code, Some(1));
    other.sidekey("vault join vault-2 -i keys/new.pem").good();
    let again = objects(&place.sidekey(line).good().stdout).pop().unwrap();
    assert_eq!((&again["new"], &again["changed"], &again["bytes"]), (&0.into(), &0.into(), &0.into()));
}

#[test]
fn names_that_can_be_go_there_and_back_and_others_fail_before_anything_is_sent() {
    let place = Place::with_keys();
    place.mkdir("vault");
    place.mkdir("tree");
    place.sidekey("init vault -r keys/old.pub.pem").good();
    for byte in (1..=255u8).filter(|byte| *byte != b'/') {
        place.write(Path::new("tree").join(path_of(&[b'n', byte, b'.'])), [byte]);
    }
    for length in [1, 151, 152, 153, 254, 255] {
        place.write(Path::new("tree").join("l".repeat(length)), [length as u8]);
    }
    place.sidekey("put tree/ vault").good();
    place.sidekey("get -i keys/old.pem vault/ back").good();
    same_trees(&place.tree("back"), &place.tree("tree"), false);
    let before = place.fingerprint("vault");
    place.write("x", "x");
    let run = place.sidekey(&format!("put x vault/{}", "l".repeat(256)));
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("256 bytes"), "{run:?}");
    assert_eq!(place.fingerprint("vault"), before);
}

/// Synchronised and copied by plain names, whichever side is typed how.
#[test]
fn sync_mv_and_cp_keep_to_the_names_of_the_vault() {
    let place = planted();
    place.mkdir("vault");
    place.sidekey("init vault -r keys/old.pub.pem").good();
    place.sidekey("sync tree vault --delete").good();
    let counted = |line: &str| objects(&place.sidekey(line).good().stdout).pop().unwrap();
    let again = counted("sync tree vault --delete --json");
    let count = |what: &str| again[what].as_u64().unwrap();
    assert_eq!((count("new"), count("changed"), count("deleted")), (0, 0, 0), "{again:?}");
    place.sidekey("mv vault/Grundriss/Keller vault/Grundriss/Dach").good();
    place.sidekey("cp vault/Grundriss/Dach/Kontoauszug.pdf vault/kopiert/").good();
    place.sidekey("mv tree/a.enc vault/a.enc").code.filter(|code| *code != 0).expect("not of one location");
    for file in files(&place, "vault") {
        assert_hidden(file.strip_prefix(place.root()).unwrap().as_os_str().as_encoded_bytes(), "a name");
        assert!(!file.as_os_str().to_string_lossy().contains("kopiert"), "{}", file.display());
        assert_hidden(&std::fs::read(&file).unwrap(), &file.display().to_string());
    }
    let cat = |name: &str| place.sidekey(&format!("cat -q -i keys/old.pem vault/{name}")).good().stdout;
    assert_eq!(cat("Grundriss/Dach/Kontoauszug.pdf"), "Geheimnis zwei");
    assert_eq!(cat("kopiert/Kontoauszug.pdf"), "Geheimnis zwei");
    // What was moved away leaves its young envelope.
    assert_eq!(place.sidekey("verify -i keys/old.pem vault").code, Some(4));
    // The encrypted folder is a location, not a tree to encrypt.
    place.sidekey("sync vault/Grundriss back -i keys/old.pem").good();
    assert_eq!(place.text("back/Dach/Kontoauszug.pdf"), "Geheimnis zwei");
    place.sidekey("sync tree vault --delete").good();
    place.sidekey("get -i keys/old.pem vault/ all").good();
    same_trees(&place.tree("all"), &place.tree("tree"), false);
}

/// Both are kept; who lists or stores them is told so, once each time, with the letters told apart.
#[test]
fn names_that_only_look_alike_are_kept_and_reported() {
    let place = Place::with_keys();
    for folder in ["vault", "plain", "tree/d", "tree/e\u{301}", "tree/\u{e9}"] {
        place.mkdir(folder);
    }
    place.write("tree/d/caf\u{e9}", "composed");
    place.write("tree/d/cafe\u{301}", "decomposed");
    place.write("tree/e\u{301}/x", "x");
    place.write("tree/e\u{301}/y", "y");
    place.write("tree/\u{e9}/x", "x");
    place.sidekey("init vault -r keys/old.pub.pem").good();
    let all = |run: &Ended| {
        let (files, folders) = ("caf\\u{e9}", "cafe\\u{301}");
        let said = run.stderr.replace("\\\\", "\\");
        let alike = said.matches("differ by Unicode normalisation alone; both are kept").count();
        assert_eq!(alike, 2, "{run:?}");
        assert!(said.contains(files) && said.contains(folders), "{run:?}");
    };
    for vault in ["vault", "plain"] {
        let recipient = if vault == "plain" { " -r keys/old.pub.pem" } else { "" };
        all(&place.sidekey(&format!("put{recipient} tree/ {vault}")).good());
        all(&place.sidekey(&format!("ls -R {vault}")).good());
        all(&place.sidekey(&format!("ls -R {vault} --json")).good());
        all(&place.sidekey(&format!("sync{recipient} tree {vault}")).good());
        place.sidekey(&format!("get -i keys/old.pem {vault}/ back-{vault}")).good();
        same_trees(&place.tree(&format!("back-{vault}")), &place.tree("tree"), false);
    }
    all(&place.sidekey("sync -i keys/old.pem vault pulled").good());
    same_trees(&place.tree("pulled"), &place.tree("tree"), false);
    let one = place.sidekey("ls vault/d").good();
    assert_eq!(one.stderr.matches("differ by").count(), 1, "{one:?}");
}

fn on_b2(place: &Place, world: &World, line: &str) -> Ended {
    on_b2_with(place, world, &world.environment(), line)
}

fn on_b2_with(place: &Place, world: &World, environment: &[(&str, String)], line: &str) -> Ended {
    let location = format!("b2://{}/backup", world.bucket);
    let args: Vec<String> = line.split(' ').map(|word| word.replace('@', &location)).collect();
    ended(place.command(SIDEKEY, &args).envs(environment.iter().cloned()))
}

/// A host that backs up every night: whether the keys of the vault are still whole it cannot see, and what it does does not
/// fail for that.
#[test]
fn on_b2_who_may_only_write_uses_a_vault() {
    let (place, world) = (Place::with_keys(), World::new(&json!({})));
    place.write("x", "x");
    on_b2(&place, &world, "init @ -r keys/old.pub.pem").good();
    on_b2(&place, &world, "put x @/first").good();
    let writes = world.environment_of(&world.new_key(&["listFiles", "writeFiles"], ""));
    let run = |line: &str| on_b2_with(&place, &world, &writes, line);
    run("put x @/").good();
    run("ls @").good();
    assert!(run("vault show @").good().stdout.contains("encrypted"));
    for line in ["verify @", "get -i keys/old.pem @/x back"] {
        let refused = run(line);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("lacks readFiles"), "{refused:?}");
    }
}

/// Another machine, or one that lost its configuration: told what is there, and not shown names that mean nothing.
#[test]
fn on_b2_a_vault_of_others_is_noticed_by_what_reads() {
    let (place, world) = (planted(), World::new(&json!({})));
    place.write("x", "x");
    on_b2(&place, &world, "init @ -r keys/old.pub.pem").good();
    on_b2(&place, &world, "put tree/ @").good();
    on_b2(&place, &world, "ls @/Grundriss").good();
    std::fs::rename(place.path(".config"), place.path("config-elsewhere")).unwrap();
    for line in [
        "ls @",
        "ls -R @",
        "ls @/Grundriss",
        "get -i keys/old.pem @/ back",
        "get -i keys/old.pem @/Kontoauszug.pdf back",
        "cat -i keys/old.pem @/Kontoauszug.pdf",
        "verify @",
        "audit -i keys/old.pem @",
        "rm -r @",
        "rewrap @ -i keys/old.pem --to keys/new.pub.pem",
        "put -r keys/old.pub.pem x @/",
    ] {
        let run = on_b2(&place, &world, line);
        assert_eq!(run.code, Some(2), "{line}: {run:?}");
        assert!(
            run.stderr.contains("/backup: is a vault that this machine does not take part in"),
            "{run:?}"
        );
        assert_eq!(run.stderr.matches("sidekey vault join").count(), 1, "{line}: {run:?}");
        assert_eq!(run.stdout, "", "{line}");
    }
    assert!(!place.path("back").exists());
    // What is beside it costs nothing but its own listing.
    let beside = format!("put -r keys/old.pub.pem x b2://{}/beside/", world.bucket);
    on_b2(&place, &world, &beside).good();
    world.reset_calls();
    let listed = on_b2(&place, &world, &format!("ls b2://{}/beside", world.bucket)).good();
    assert_eq!(listed.stdout, "x\n");
    assert_eq!(world.calls().of("b2_download_file_by_name"), 0);
    on_b2(&place, &world, "vault join @ -i keys/old.pem").good();
    assert!(on_b2(&place, &world, "ls @").good().stdout.contains("Kontoauszug.pdf\n"));
}

#[test]
fn on_b2_details_are_in_the_listing_and_no_name_is_seen() {
    let (place, world) = (planted(), World::new(&json!({})));
    on_b2(&place, &world, "init @ -r keys/old.pub.pem").good();
    on_b2(&place, &world, "put tree/ @").good();
    for version in world.versions() {
        assert_hidden(version.name.as_bytes(), "a name");
        assert_hidden(format!("{:?}", version.info).as_bytes(), "the info of a file");
    }
    world.reset_calls();
    let listed = on_b2(&place, &world, "ls -l @/Grundriss/Keller --json").good();
    let calls = world.calls();
    assert_eq!(objects(&listed.stdout)[0]["size_max"], 14, "{listed:?}");
    // The settings of the vault are the one thing that is read.
    assert_eq!(calls.of("b2_download_file_by_name") + calls.of("b2_download_file_by_id"), 1, "{calls:?}");
    on_b2(&place, &world, "get -i keys/old.pem @/ back").good();
    same_trees(&place.tree("back"), &place.tree("tree"), false);
    // What is encrypted anew has its record in the listing again.
    let anew = on_b2(&place, &world, "reencrypt @/Grundriss -i keys/old.pem --to keys/new.pub.pem");
    assert!(matches!(anew.code, Some(0 | 4)), "{anew:?}");
    world.reset_calls();
    let listed = on_b2(&place, &world, "ls -l @/Grundriss/Keller --json").good();
    let calls = world.calls();
    assert_eq!(objects(&listed.stdout)[0]["size_max"], 14, "{listed:?}");
    assert_eq!(calls.of("b2_download_file_by_name") + calls.of("b2_download_file_by_id"), 1, "{calls:?}");
    let cat = on_b2(&place, &world, "cat -q -i keys/new.pem @/Grundriss/Keller/Kontoauszug.pdf").good();
    assert_eq!(cat.stdout, "Geheimnis zwei");
    on_b2(&place, &world, "rm @/null").good();
    let listed = on_b2(&place, &world, "ls @").good();
    assert!(!listed.stdout.contains("null"), "{listed:?}");
    assert_eq!(world.calls().violations, [""; 0]);
}

/// What a new machine needs is missed while there is time.
#[test]
fn keys_that_a_vault_lost_are_missed_before_they_are_needed() {
    let place = Place::with_keys();
    let init = ["init", "vault", "--passphrase-only"];
    place.run_with(&init, None, Some(STRONG)).good();
    place.sidekey("verify vault").good();
    let all = ["verify vault", "vault show vault", "doctor vault"];
    for (name, says) in [
        ("escrow.pem", "kept under a passphrase is gone"),
        ("master.1.key.enc", "there is no envelope of the vault's master key"),
    ] {
        let file = place.path(format!("vault/.sidekey/{name}"));
        let bytes = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        for line in all {
            let run = place.sidekey(line);
            let code = if line.starts_with("doctor") { 4 } else { 3 };
            assert_eq!(run.code, Some(code), "{name}: {line}: {run:?}");
            assert!(format!("{}{}", run.stdout, run.stderr).contains(says), "{name}: {line}: {run:?}");
        }
        place.write(&file, &bytes[..bytes.len() / 2]);
        for line in all {
            let run = place.sidekey(line);
            assert_ne!(run.code, Some(0), "{name}: {line}");
            assert!(!line.starts_with("doctor") || !is_well(&run), "{name}: {line}: {run:?}");
        }
        place.write(&file, bytes);
    }
    place.sidekey("verify vault").good();
    let doctor = place.sidekey("doctor vault");
    assert!(is_well(&doctor), "{doctor:?}");
}

/// Whether nothing needs attention but what is the machine's: where the folder is, and how much room there is.
fn is_well(doctor: &Ended) -> bool {
    let attention = doctor.stdout.lines().filter_map(|line| line.strip_prefix("attention  "));
    attention.filter(|line| !line.starts_with("disk ") && !line.starts_with("room ")).count() == 0
}
