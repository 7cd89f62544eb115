//! The commands about keys, by the real binary: what they print, how they end, and what they leave behind.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sidekey::ErrorKind;
use sidekey::keys::{KeyFile, PublicKey};
use sidekey::ops::atomic::is_temporary_name;

use crate::common::{Killed, LIMIT, PASS, Place, SIDEKEY, failed, on_a_terminal};

#[test]
fn keygen_writes_a_private_pair_and_prints_the_key_id() {
    let place = Place::new();
    let made = place.run_with(&["keygen", "-o", "a", "--bits", "2048"], None, Some(PASS));
    assert_eq!(made.stderr, "sidekey: wrote a.pem and a.pub.pem; this is the key id:\n");
    assert_eq!(made.code, Some(0));
    assert_eq!(place.names(), ["a.pem", "a.pub.pem"]);
    assert_eq!(place.mode("a.pem"), 0o600);
    let public = PublicKey::from_pem(&std::fs::read(place.path("a.pub.pem")).unwrap()).unwrap();
    assert_eq!(made.stdout, format!("{}\n", public.id()));
    assert_eq!(place.opens("a.pem", PASS), Ok(public.id().to_string()));
    let file = KeyFile::parse(&std::fs::read(place.path("a.pem")).unwrap()).unwrap();
    assert_eq!(file.kdf().unwrap(), "PBKDF2-HMAC-SHA-256 with 600000 rounds");
}

#[test]
fn keygen_makes_3072_bits_by_default_and_no_passphrase_only_when_told() {
    let place = Place::new();
    let made = place.run(&["--json", "keygen", "--output", "a.pem", "--no-passphrase"]);
    assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""));
    let made: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    assert_eq!((&made["type"], &made["bits"]), (&"keygen".into(), &3072.into()));
    assert_eq!((&made["private"], &made["public"]), (&"a.pem".into(), &"a.pub.pem".into()));
    assert_eq!((&made["encrypted"], made["key_id"].as_str().unwrap().len()), (&false.into(), 64));
    assert_eq!(
        place.run(&["keygen", "-o", "b"]),
        failed(
            1,
            "sidekey: b.pem: there is no terminal to ask for a new passphrase\n\
             sidekey: hint: give it by --new-passphrase-file, --new-passphrase-fd, --new-passphrase-command or the \
             variable SIDEKEY_NEW_PASSPHRASE, or say --no-passphrase\n"
        )
    );
    assert_eq!(
        place.run_with(&["keygen", "-o", "b"], None, Some("")),
        failed(
            1,
            "sidekey: SIDEKEY_NEW_PASSPHRASE: an empty passphrase protects nothing\n\
             sidekey: hint: if that is what you want, say --no-passphrase\n"
        )
    );
    assert_eq!(place.names(), ["a.pem", "a.pub.pem"]);
}

#[test]
fn keygen_overwrites_neither_file() {
    for existing in ["a.pem", "a.pub.pem"] {
        let place = Place::new();
        place.write(existing, "mine");
        let message = format!("sidekey: {existing}: exists already\nsidekey: hint: choose another NAME\n");
        assert_eq!(place.run(&["keygen", "-o", "a", "--no-passphrase"]), failed(1, &message));
        assert_eq!(place.names(), [existing]);
        assert_eq!(std::fs::read(place.path(existing)).unwrap(), b"mine");
    }
    let place = Place::new();
    symlink("nowhere", place.path("a.pub.pem")).unwrap();
    assert_eq!(place.run(&["keygen", "-o", "a", "--no-passphrase"]).code, Some(1));
    assert_eq!(
        place.run(&["keygen", "-o", "none/a", "--no-passphrase"]),
        failed(
            1,
            "sidekey: none/a.pem: cannot create a file there: No such file or directory (os error 2)\n"
        )
    );
}

#[test]
fn permissions_do_not_depend_on_the_umask() {
    let place = Place::new();
    let made = place.shell(
        r#"umask 0; "$PROGRAM" keygen -q -o a --no-passphrase && "$PROGRAM" pubkey a.pem -q -o b.pem &&
           SIDEKEY_NEW_PASSPHRASE=x "$PROGRAM" passwd -q a.pem"#,
    );
    assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""));
    assert_eq!((place.mode("a.pem"), place.mode("a.pub.pem"), place.mode("b.pem")), (0o600, 0o666, 0o666));
    assert_eq!(place.opens("a.pem", "x").unwrap().len(), 64);
}

#[test]
fn a_passphrase_comes_from_every_source() {
    let place = Place::new();
    place.key("pkcs8-aes256.pem");
    place.write("pass", format!("{PASS}\nsecond line"));
    place.write("other", "wrong\n");
    let public = place.run_with(&["pubkey", "KEY"], Some(PASS), None);
    assert_eq!((public.code, public.stderr.as_str()), (Some(0), ""));
    PublicKey::from_pem(public.stdout.as_bytes()).unwrap();
    for script in [
        r#""$PROGRAM" pubkey KEY --passphrase-file pass"#,
        r#""$PROGRAM" pubkey KEY --passphrase-file KEY=pass --passphrase-file other"#,
        r#""$PROGRAM" pubkey KEY --passphrase-file other --passphrase-file pass"#,
        r#""$PROGRAM" pubkey KEY --passphrase-fd 0 < pass"#,
        r#"cat pass | "$PROGRAM" pubkey KEY --passphrase-fd 0"#,
        r#""$PROGRAM" pubkey KEY --passphrase-fd 7 7< pass"#,
        // A writer that does not close its end is not waited for.
        r#"mkfifo p; (cat pass; exec sleep 20) > p 2>/dev/null & "$PROGRAM" pubkey KEY --passphrase-fd 0 < p; kill $!"#,
        r#""$PROGRAM" pubkey KEY --passphrase-command 'cat pass'"#,
        r#"SIDEKEY_PASSPHRASE=wrong "$PROGRAM" pubkey KEY --passphrase-command 'cat pass'"#,
    ] {
        assert_eq!(place.shell(script), public, "{script}");
    }
    // What follows the passphrase on standard input is left for the next reader, here a second run.
    let both = r#"{ "$PROGRAM" pubkey KEY --passphrase-fd 0 > /dev/null; cat; } < pass"#;
    assert_eq!(place.shell(both).stdout, "second line");
}

#[test]
fn a_missing_or_wrong_passphrase_names_its_sources() {
    let place = Place::new();
    place.key("traditional-aes256.pem");
    place.write("empty", "");
    place.write("wrong", "wrong\n");
    assert_eq!(
        place.run(&["pubkey", "KEY"]),
        failed(
            1,
            "sidekey: KEY: is encrypted, and there is no terminal to ask for its passphrase\n\
             sidekey: hint: give it by --passphrase-file, --passphrase-fd, --passphrase-command or the variable \
             SIDEKEY_PASSPHRASE\n"
        )
    );
    assert_eq!(
        place.run_with(&["pubkey", "KEY", "--passphrase-file", "wrong"], Some("wrong too"), None),
        failed(1, "sidekey: KEY: wrong passphrase\nsidekey: hint: tried wrong, SIDEKEY_PASSPHRASE\n")
    );
    assert_eq!(
        place.run(&["pubkey", "KEY", "--passphrase-file", "KEY=wrong"]),
        failed(1, "sidekey: KEY: wrong passphrase\nsidekey: hint: tried wrong\n")
    );
    for (args, stderr) in [
        (["--passphrase-file", "empty"], "sidekey: empty: holds no passphrase\n"),
        (
            ["--passphrase-file", "none"],
            "sidekey: none: cannot read: No such file or directory (os error 2)\n",
        ),
        (["--passphrase-command", "exit 3"], "sidekey: the passphrase command: ended with exit status: 3\n"),
        (["--passphrase-command", "true"], "sidekey: the passphrase command: holds no passphrase\n"),
    ] {
        assert_eq!(place.run(&[&["pubkey", "KEY"], &args[..]].concat()), failed(1, stderr));
    }
    assert_eq!(
        place.shell(r#""$PROGRAM" pubkey KEY --passphrase-fd 7 7<&-"#),
        failed(1, "sidekey: file descriptor 7: cannot read: No such file or directory (os error 2)\n")
    );
}

#[test]
fn pubkey_says_what_is_not_a_private_key() {
    for (fixture, code, stderr) in [
        ("spki.pub.pem", 1, "sidekey: KEY: is a public key; a private one is needed\n"),
        (
            "refused-1024.pem",
            1,
            "sidekey: KEY: is an RSA key of 1024 bits; 2048 to 8192 are accepted\n\
             sidekey: hint: sidekey keygen -o NAME makes a key pair of 3072 bits\n",
        ),
        (
            "refused-ec.pem",
            1,
            "sidekey: KEY: is a key of another kind (EC); sidekey uses RSA\n\
             sidekey: hint: sidekey keygen -o NAME makes an RSA key pair\n",
        ),
        ("README.md", 1, "sidekey: KEY: is not a key file: no -----BEGIN line in it\n"),
        (
            "refused-rounds.pem",
            1,
            "sidekey: KEY: asks for 10000001 rounds of PBKDF2; at most 10000000 are accepted\n",
        ),
    ] {
        let place = Place::new();
        place.key(fixture);
        assert_eq!(place.run_with(&["pubkey", "KEY"], Some(PASS), None), failed(code, stderr), "{fixture}");
    }
    let place = Place::new();
    place.write("KEY", "-----BEGIN PRIVATE KEY-----\nAAAA\n");
    let stderr = "sidekey: KEY: is damaged: line 1: there is no -----END PRIVATE KEY-----\n";
    assert_eq!(place.run(&["pubkey", "KEY"]), failed(3, stderr));
    let stderr = "sidekey: .: is a folder; the file of a private key is needed\n";
    assert_eq!(place.run(&["pubkey", "."]), failed(2, stderr));
    let stderr = "sidekey: none: cannot read: No such file or directory (os error 2)\n";
    assert_eq!(place.run(&["pubkey", "none"]), failed(1, stderr));
    let stderr = r#"{"type":"error","kind":"not-found","subject":"none","message":"none: cannot read: No such file or directory (os error 2)","hint":null}"#;
    assert_eq!(place.run(&["pubkey", "none", "--json"]), failed(1, &format!("{stderr}\n")));
}

#[test]
fn pubkey_writes_a_new_file_and_warns_about_open_permissions() {
    let place = Place::new();
    place.key("pkcs8.pem");
    std::fs::set_permissions(place.path("KEY"), PermissionsExt::from_mode(0o644)).unwrap();
    let warning = "sidekey: warning: KEY: other users can use this private key (mode 0644)\n\
                   sidekey: hint: chmod 600 KEY\n";
    let wrote = place.run(&["pubkey", "KEY", "-o", "pub"]);
    assert_eq!(wrote, failed(0, &format!("{warning}sidekey: wrote pub\n")));
    let printed = place.run(&["pubkey", "KEY", "--quiet"]);
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), warning));
    assert_eq!(std::fs::read_to_string(place.path("pub")).unwrap(), printed.stdout);
    let again = place.run(&["pubkey", "KEY", "-o", "pub", "-q"]);
    let refused = "sidekey: pub: exists already\nsidekey: hint: choose another FILE\n";
    assert_eq!(again, failed(1, &format!("{warning}{refused}")));
    let full = place.run(&["pubkey", "KEY", "-q", "-o", "/dev/full"]);
    let refused = "sidekey: /dev/full: cannot write: No space left on device (os error 28)\n";
    assert_eq!(full, failed(1, &format!("{warning}{refused}")));
    let full = place.shell(r#"chmod 600 KEY; "$PROGRAM" pubkey KEY > /dev/full"#);
    let refused = "sidekey: standard output: cannot write: No space left on device (os error 28)\n";
    assert_eq!(full, failed(1, refused));
    assert_eq!(place.names(), ["KEY", "pub"]);
}

#[test]
fn passwd_changes_the_passphrase_and_raises_the_rounds() {
    let place = Place::new();
    for (fixture, old) in [
        ("pkcs8-aes256.pem", "PBKDF2-HMAC-SHA-256 with 2048 rounds"),
        ("traditional-des3.pem", "MD5 with 1 round"),
        ("pkcs8-scrypt.pem", "scrypt with N=16384 r=8 p=1"),
    ] {
        place.key(fixture);
        std::fs::set_permissions(place.path("KEY"), PermissionsExt::from_mode(0o400)).unwrap();
        let id = place.opens("KEY", PASS).unwrap();
        assert_eq!(
            place.run_with(&["passwd", "KEY"], Some(PASS), Some("new")),
            failed(
                0,
                &format!(
                    "sidekey: KEY: passphrase changed\n\
                     sidekey: KEY: was {old}, now PBKDF2-HMAC-SHA-256 with 600000 rounds\n"
                )
            )
        );
        assert_eq!(place.opens("KEY", "new"), Ok(id));
        assert_eq!(place.opens("KEY", PASS), Err(ErrorKind::Auth));
        assert_eq!(place.mode("KEY"), 0o400);
        assert_eq!(place.names(), ["KEY"]);
    }
    let again = place.run_with(&["passwd", "KEY"], Some("new"), Some("newer"));
    assert_eq!(again, failed(0, "sidekey: KEY: passphrase changed\n"));
    let removed = place.run_with(&["passwd", "KEY", "--no-passphrase"], Some("newer"), None);
    assert_eq!(removed, failed(0, "sidekey: KEY: has no passphrase any more\n"));
    let given = place.run_with(&["passwd", "KEY"], None, Some("last"));
    assert_eq!(given, failed(0, "sidekey: KEY: has a passphrase now\n"));
    let json = place.run_with(&["passwd", "KEY", "--json"], Some("last"), Some("json"));
    let id = place.opens("KEY", "json").unwrap();
    let expected = format!(
        r#"{{"type":"passwd","key":"KEY","key_id":"{id}","encrypted":true,"rounds":600000,"kdf":"PBKDF2-HMAC-SHA-256 with 600000 rounds"}}"#
    );
    assert_eq!((json.stdout, json.stderr, json.code), (format!("{expected}\n"), String::new(), Some(0)));
}

#[test]
fn scrypt_is_taken_when_asked_for_and_not_given_up_unasked() {
    let place = Place::new();
    let kdf = |name: &str| KeyFile::parse(&place.read(name)).unwrap().kdf().unwrap();
    let (strong, rounds) = ("scrypt with N=131072 r=8 p=1", "PBKDF2-HMAC-SHA-256 with 600000 rounds");
    place.run_with(&["keygen", "-o", "KEY", "--bits", "2048", "--kdf", "scrypt"], None, Some("a")).good();
    assert_eq!(kdf("KEY.pem"), strong);
    let id = place.opens("KEY.pem", "a").unwrap();
    for (old, new, option, expected) in
        [("a", "b", None, strong), ("b", "c", Some("pbkdf2"), rounds), ("c", "d", Some("scrypt"), strong)]
    {
        let mut args = vec!["passwd", "KEY.pem", "-q"];
        args.extend(option.into_iter().flat_map(|option| ["--kdf", option]));
        place.run_with(&args, Some(old), Some(new)).good();
        assert_eq!(kdf("KEY.pem"), expected, "{option:?}");
        assert_eq!(place.opens("KEY.pem", new).as_ref(), Ok(&id));
        assert_eq!(place.opens("KEY.pem", old), Err(ErrorKind::Auth));
    }
    for bad in [
        &["keygen", "-o", "x", "--kdf", "bcrypt"][..],
        &["keygen", "-o", "x", "--kdf", "scrypt", "--no-passphrase"],
    ] {
        assert_eq!(place.run(bad).code, Some(2), "{bad:?}");
    }
    assert_eq!(place.names(), ["KEY.pem", "KEY.pub.pem"]);
}

#[test]
fn passwd_that_fails_changes_nothing() {
    let place = Place::new();
    place.key("pkcs8-aes256.pem");
    let before = std::fs::read(place.path("KEY")).unwrap();
    for (passphrase, new, args, code) in [
        (Some("wrong"), Some("new"), &["passwd", "KEY"][..], 1),
        (Some(PASS), Some(""), &["passwd", "KEY"], 1),
        (Some(PASS), None, &["passwd", "KEY"], 1),
        (None, Some("new"), &["passwd", "KEY"], 1),
        (None, None, &["passwd", "KEY", "--passphrase-fd", "5", "--new-passphrase-fd", "5"], 2),
        (Some(PASS), None, &["passwd", "KEY", "--no-passphrase", "--new-passphrase-file", "x"], 2),
    ] {
        assert_eq!(place.run_with(args, passphrase, new).code, Some(code), "{args:?}");
        assert_eq!(std::fs::read(place.path("KEY")).unwrap(), before);
        assert_eq!(place.names(), ["KEY"]);
    }
    let replaced = place.run_with(
        &["passwd", "KEY", "--new-passphrase-command", "echo other > KEY; echo new"],
        Some(PASS),
        None,
    );
    assert_eq!(replaced, failed(1, "sidekey: KEY: changed in the meantime; nothing was written\n"));
    assert_eq!(std::fs::read(place.path("KEY")).unwrap(), b"other\n");
    assert_eq!(place.names(), ["KEY"]);
}

#[test]
fn passwd_follows_a_symlink_and_takes_two_lines_of_standard_input() {
    let place = Place::new();
    place.key("pkcs8-aes256.pem");
    symlink("KEY", place.path("link")).unwrap();
    let script = r#"printf 'correct horse\nnew\n' |
        "$PROGRAM" passwd -q link --passphrase-fd 0 --new-passphrase-fd 0"#;
    assert_eq!(place.shell(script), failed(0, ""));
    assert!(place.path("link").symlink_metadata().unwrap().is_symlink());
    assert!(place.opens("KEY", "new").is_ok());
    assert_eq!(place.names(), ["KEY", "link"]);
}

#[test]
fn a_mistyped_command_line_says_what_was_meant() {
    let place = Place::new();
    for (args, error, hint) in [
        (&[][..], "a command is missing", "sidekey --help shows what there is"),
        (&["keygn"], "unknown command keygn", "did you mean keygen?"),
        (&["keygen", "--no-passphras"], "unknown option --no-passphras", "did you mean --no-passphrase?"),
        (&["keygen"], "--output NAME is missing", "sidekey keygen --help shows what there is"),
        (&["keygen", "-o"], "--output needs a value", "sidekey keygen --help shows what there is"),
        (
            &["keygen", "-o", "a", "-o", "b"],
            "--output is given twice",
            "sidekey keygen --help shows what there is",
        ),
        (
            &["keygen", "-o", "a", "--bits", "1024"],
            "--bits 1024: is not 2048, 3072, 4096 or 8192",
            "sidekey keygen --help shows what there is",
        ),
        (
            &["keygen", "-o", "a", "--no-passphrase", "--new-passphrase-fd", "3"],
            "--no-passphrase and --new-passphrase-fd exclude each other",
            "sidekey keygen --help shows what there is",
        ),
        (&["pubkey", "a", "b"], "one argument too many: b", "sidekey pubkey --help shows what there is"),
        (
            &["-q", "-v", "man"],
            "--quiet and --verbose exclude each other",
            "sidekey man --help shows what there is",
        ),
        (
            &["completions", "zssh"],
            "SHELL: zssh is not one of bash, elvish, fish, powershell, zsh",
            "did you mean zsh?",
        ),
    ] {
        let stderr = format!("sidekey: {error}\nsidekey: hint: {hint}\n");
        assert_eq!(place.run(args), failed(2, &stderr), "{args:?}");
    }
    assert!(place.names().is_empty());
}

#[test]
fn help_has_examples_and_the_pages_and_completions_know_every_command() {
    let place = Place::new();
    assert_eq!(place.run(&["man", "-o", "man", "-q"]), failed(0, ""));
    let help = place.run(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    let commands = help.stdout.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands: Vec<_> = commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert!(commands.len() >= 5 && commands.contains(&"keygen"), "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(&["completions", shell]);
        assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""));
        assert!(commands.iter().all(|command| script.stdout.contains(command)), "{shell}");
    }
    for command in commands {
        let help = place.run(&[command, "--help"]);
        assert_eq!(help.code, Some(0));
        assert!(help.stdout.contains(&format!("examples:\n  sidekey {command}")), "{command}");
        let page = std::fs::read_to_string(place.path("man").join(format!("sidekey-{command}.1"))).unwrap();
        assert!(
            page.contains(&format!(".TH sidekey-{command} 1")) && page.contains("examples:"),
            "{command}"
        );
    }
    let page = std::fs::read_to_string(place.path("man/sidekey.1")).unwrap();
    assert_eq!(place.run(&["man"]).stdout, page);
    let version = place.run(&["--version"]);
    assert_eq!(version.stdout, format!("sidekey {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::new();
    place.key("pkcs8.pem");
    for command in ["pubkey KEY", "man", "--help", "completions zsh"] {
        let script = format!(r#"{{ "$PROGRAM" {command}; echo $? >&2; }} | true"#);
        // The pipe may or may not be closed already when sidekey writes; both are no failure.
        assert_eq!(place.shell(&script).stderr, "0\n", "{command}");
        let closed = format!(
            r#"mkfifo p; sleep 5 < p & exec 3> p; kill $!; wait $! 2>/dev/null; "$PROGRAM" {command} >&3; echo $? >&2; rm p"#
        );
        assert_eq!(place.shell(&closed).stderr, "0\n", "{command}");
    }
}

#[test]
fn no_core_is_ever_dumped() {
    let place = Place::new();
    place.key("pkcs8-aes256.pem");
    let command = "grep 'core file' /proc/self/limits >&2; echo correct horse";
    let run = place.run(&["pubkey", "KEY", "-q", "--passphrase-command", command]);
    let words: Vec<_> = run.stderr.split_whitespace().collect();
    assert_eq!(words, ["Max", "core", "file", "size", "0", "0", "bytes"]);
}

#[test]
fn a_terminal_is_asked_twice_for_a_new_passphrase_and_escapes_names() {
    let place = Place::new();
    let (new, again) = ("new passphrase of a.pem: ", "the same again for a.pem: ");
    let answers = [(new, "one"), (again, "two"), (new, "three"), (again, "three")];
    let (code, shown) = on_a_terminal(&place, r#""$PROGRAM" keygen -o a --bits 2048"#, &answers);
    assert_eq!(code, Some(0), "{shown}");
    assert!(place.opens("a.pem", "three").is_ok());

    let old = "passphrase of a.pem: ";
    let answers = [(old, "wrong"), (old, "three")];
    let (code, shown) = on_a_terminal(&place, r#""$PROGRAM" pubkey a.pem"#, &answers);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("sidekey: wrong passphrase, try again\n"), "{shown}");
    assert!(shown.contains("-----BEGIN PUBLIC KEY-----\nMII"), "{shown}");

    // The interrupt reaches the shell too, which has to live on to show the terminal's settings.
    let script = r#"trap : INT; "$PROGRAM" passwd a.pem; stty | grep -c -e -echo"#;
    let (code, shown) = on_a_terminal(&place, script, &[(old, "\u{3}")]);
    assert_eq!((code, shown.lines().last()), (Some(1), Some("0")), "the echo is not back: {shown}");

    let hostile = "\u{1b}]0;x\u{7}\u{202e}\nsidekey: all is well";
    let line = format!(r#""$PROGRAM" pubkey '{hostile}'"#);
    let (code, shown) = on_a_terminal(&place, &line, &[]);
    assert_eq!(code, Some(1));
    assert_eq!(
        shown,
        "sidekey: \\u{1b}]0;x\\u{7}\\u{202e}\\nsidekey: all is well: cannot read: No such file or directory (os error 2)\n"
    );
}

fn spawn(place: &Place, args: &[&str], passphrase: &str, new: &str) -> Killed {
    let mut command = Command::new(SIDEKEY);
    command.args(args).current_dir(place.0.path()).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.env("SIDEKEY_PASSPHRASE", passphrase).env("SIDEKEY_NEW_PASSPHRASE", new);
    Killed::spawn(&mut command)
}

/// No name but `allowed` ones and temporary ones; the latter are removed.
fn only(place: &Place, allowed: &[&str]) {
    for name in place.names() {
        match is_temporary_name(name.as_ref()) {
            true => std::fs::remove_file(place.path(&name)).unwrap(),
            false => assert!(allowed.contains(&name.as_str()), "{name}"),
        }
    }
}

#[test]
fn a_killed_passwd_leaves_the_old_or_the_new_file_whole() {
    let place = Place::new();
    place.key("pkcs8-aes256.pem");
    let old = std::fs::read(place.path("KEY")).unwrap();
    let start = Instant::now();
    assert!(spawn(&place, &["passwd", "KEY"], PASS, "new").0.wait().unwrap().success());
    let mut whole = start.elapsed();
    let (mut killed, mut finished) = (0, 0);
    for at in 0..20 {
        place.key("pkcs8-aes256.pem");
        let mut run = spawn(&place, &["passwd", "KEY"], PASS, "new");
        std::thread::sleep(whole * (at + 3) / 20);
        run.0.kill().unwrap();
        match run.0.wait().unwrap().signal() {
            Some(_) => killed += 1,
            // The first run may have met a busy machine.
            None => (finished, whole) = (finished + 1, whole * 3 / 4),
        }
        if std::fs::read(place.path("KEY")).unwrap() != old {
            assert_eq!(place.opens("KEY", "new").unwrap().len(), 64, "kill {at}");
        }
        only(&place, &["KEY"]);
    }
    println!("{killed} killed, {finished} finished before");
    assert!(killed >= 3, "{killed} killed, {finished} finished before");
}

#[test]
fn a_killed_keygen_leaves_nothing_or_a_whole_private_key() {
    let place = Place::new();
    let args = ["keygen", "-o", "a", "--bits", "2048"];
    let start = Instant::now();
    assert!(spawn(&place, &args, "", "new").0.wait().unwrap().success());
    let whole = start.elapsed();
    for at in 0..20 {
        for name in place.names() {
            std::fs::remove_file(place.path(&name)).unwrap();
        }
        let mut run = spawn(&place, &args, "", "new");
        std::thread::sleep(whole * (at + 3) / 20);
        run.0.kill().unwrap();
        run.0.wait().unwrap();
        only(&place, &["a.pem", "a.pub.pem"]);
        let names = place.names();
        if names.contains(&"a.pub.pem".to_owned()) {
            let public = PublicKey::from_pem(&std::fs::read(place.path("a.pub.pem")).unwrap()).unwrap();
            assert_eq!(place.opens("a.pem", "new"), Ok(public.id().to_string()), "kill {at}");
        } else if !names.is_empty() {
            assert!(place.opens("a.pem", "new").is_ok(), "kill {at}");
        }
    }
}

#[test]
fn a_signal_leaves_no_file_and_ends_with_130() {
    for signal in ["INT", "TERM", "HUP"] {
        let place = Place::new();
        place.key("pkcs8-aes256.pem");
        let before = std::fs::read(place.path("KEY")).unwrap();
        // The passphrase command says that the handler is in place, prints no line until the signal has come, and
        // ends with its reader.
        let command = "echo up > up; while printf x; do sleep 0.05; done";
        let mut run = spawn(&place, &["passwd", "KEY", "--new-passphrase-command", command], PASS, "");
        let deadline = Instant::now() + Duration::from_secs(LIMIT);
        while !place.path("up").exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let pid = run.0.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        assert_eq!(run.0.wait().unwrap().code(), Some(130), "{signal}");
        assert_eq!(std::fs::read(place.path("KEY")).unwrap(), before);
        assert_eq!(place.names(), ["KEY", "up"]);
    }
}
