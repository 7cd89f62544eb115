//! Nothing secret is said, logged or given on a command line, by any command at its most talkative.

use crate::common;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sidekey::keys::KeyFile;
use sidekey::secret::Passphrase;
use sidekey::wrap::unwrap;

use crate::common::{Killed, LIMIT, Place, SIDEKEY, ended};

const SECRET: &str = "Xylophon-Quarz-7719 <&> \"geheim\"";

/// Every way in which a text may give these bytes away.
fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<String> = secret.iter().map(u8::to_string).collect();
    let base64 = STANDARD.encode(secret);
    let json = serde_json::to_string(&String::from_utf8_lossy(secret)).unwrap();
    vec![
        secret.to_vec(),
        json.trim_matches('"').into(),
        base64.trim_end_matches('=').as_bytes()[..base64.len().min(40) - 4].to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        list.join(", ").into_bytes(),
    ]
}

/// Which of the secrets stands in `text`.
fn given_away<'s>(text: &[u8], secrets: &[(&'s str, Vec<u8>)]) -> Option<&'s str> {
    let holds = |spelling: &Vec<u8>| text.windows(spelling.len()).any(|window| window == spelling);
    secrets.iter().find(|(_, secret)| spellings(secret).iter().any(holds)).map(|(name, _)| *name)
}

#[track_caller]
fn silent(place: &str, text: &[u8], secrets: &[(&str, Vec<u8>)]) {
    assert_eq!(given_away(text, secrets), None, "{place}");
}

#[test]
fn a_secret_in_any_spelling_is_noticed() {
    let secrets = [("the passphrase", SECRET.as_bytes().to_vec()), ("a key", (7..39).collect())];
    assert_eq!(
        given_away(br#"{"x":"Xylophon-Quarz-7719 <&> \"geheim\""}"#, &secrets),
        Some("the passphrase")
    );
    for text in ["[7, 8, 9, 10,", "0708090A0B", &STANDARD.encode(&secrets[1].1)] {
        let whole = match text {
            "[7, 8, 9, 10," => format!("{:?}", secrets[1].1),
            "0708090A0B" => secrets[1].1.iter().map(|byte| format!("{byte:02X}")).collect(),
            text => text.to_owned(),
        };
        assert_eq!(given_away(format!("x{whole}x").as_bytes(), &secrets), Some("a key"), "{text}");
    }
    assert_eq!(given_away(b"nothing", &secrets), None);
}

/// Runs `line`, of which some must fail, and returns all that it said.
fn said(place: &Place, line: &str, code: i32) -> Vec<u8> {
    let mut command = place.command(SIDEKEY, &line.split_whitespace().collect::<Vec<_>>());
    command
        .env("SIDEKEY_PASSPHRASE", SECRET)
        .env("SIDEKEY_NEW_PASSPHRASE", SECRET)
        .env("RUST_BACKTRACE", "full");
    let run = ended(&mut command);
    assert_eq!(run.code, Some(code), "{line}: {run:?}");
    [run.stdout, run.stderr].concat().into_bytes()
}

#[test]
fn no_command_says_a_passphrase_a_file_key_or_a_private_key() {
    let place = Place::new();
    let mut output = Vec::new();
    for format in ["-v", "--json", "-v --json"] {
        for folder in ["in", "stored", "back"] {
            let _ = std::fs::remove_dir_all(place.path(folder));
        }
        place.mkdir("in");
        place.write("in/a", "contents that are no secret here");
        place.write("in/b", "other contents");
        for name in ["one", "two"] {
            for end in ["pem", "pub.pem"] {
                let _ = std::fs::remove_file(place.path(format!("{name}.{end}")));
            }
            output.push(said(&place, &format!("keygen --bits 2048 -o {name} {format}"), 0));
        }
        let open = |name: &str| {
            let file = KeyFile::parse(&place.read(format!("{name}.pem"))).unwrap();
            file.open(Some(&Passphrase::new(SECRET.into()))).unwrap()
        };
        let (one, two) = (open("one"), open("two"));
        for (line, code) in [
            ("pubkey one.pem", 0),
            ("passwd one.pem", 0),
            ("encrypt -r one.pub.pem in -o stored", 0),
            ("encrypt -r one.pub.pem in -o stored", 1),
            ("inspect stored/in/a.enc stored/in/a.key.enc one.pem", 1),
            ("decrypt -i one.pem stored -o back", 0),
            ("decrypt -i two.pem stored -o back --force", 1),
            ("rewrap stored -i one.pem --to two.pub.pem --dry-run", 0),
        ] {
            output.push(said(&place, &format!("{line} {format}"), code));
        }
        let mut secrets = vec![("the passphrase", SECRET.as_bytes().to_vec())];
        for name in ["stored/in/a", "stored/in/b"] {
            let envelope = [place.envelope(format!("{name}.key.enc"))];
            let key =
                unwrap(&place.header(format!("{name}.enc")), &envelope, std::slice::from_ref(&one)).unwrap();
            secrets.push(("a file key", key.expose().to_vec()));
        }
        output.push(said(
            &place,
            &format!("rewrap stored -i one.pem --to two.pub.pem --prove all {format}"),
            0,
        ));
        output.push(said(&place, &format!("decrypt -i two.pem stored -o back --force {format}"), 0));
        // Damage in every place that holds a key.
        let container = place.read("stored/in/a.enc");
        place.write("stored/in/a.enc", [&container[..40], &[!container[40]], &container[41..]].concat());
        place.write("stored/in/b.key.enc", place.text("stored/in/b.key.enc").replace("\n\n", "\n\nAAAA"));
        output.push(said(&place, &format!("decrypt -i two.pem stored -o back --force {format}"), 3));
        output.push(said(&place, &format!("rewrap stored -i two.pem --to one.pub.pem {format}"), 4));
        let damaged = place.text("one.pem").replacen("MII", "MIJ", 1);
        place.write("damaged.pem", damaged);
        output.push(said(&place, &format!("pubkey damaged.pem {format}"), 3));
        for key in [&one, &two] {
            let der = key.to_pkcs8_der().unwrap();
            // The key's own numbers begin after the frame that all keys have, and its public half is public.
            let private = &der.expose()[320..360];
            secrets.push(("a private key", private.to_vec()));
            secrets.push(("a private key", der.expose()[der.expose().len() - 40..].to_vec()));
        }
        for text in &output {
            silent("the output", text, &secrets);
        }
        for path in ["one.pem", "two.pem"] {
            silent(path, &place.read(path), &secrets);
        }
        for path in place.names_in("stored/in") {
            let bytes = place.read(format!("stored/in/{path}"));
            silent(&path, &bytes, &secrets);
        }
    }
    assert!(output.iter().map(Vec::len).sum::<usize>() > 5000);
}

#[test]
fn a_running_process_has_no_secret_on_its_command_line() {
    let place = Place::with_keys();
    place.key("pkcs8-aes256.pem");
    place.write("pass", common::PASS);
    let line = "decrypt -i KEY --passphrase-file pass - --envelope F -o out";
    place.sidekey("encrypt -q -r keys/old.pub.pem KEY -o x.enc --envelope F").good();
    let mut command = Command::new(SIDEKEY);
    command.args(line.split_whitespace()).current_dir(place.root());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = Killed::spawn(&mut command);
    let mut stdin = run.0.stdin.take().unwrap();
    let container = place.read("x.enc");
    std::io::Write::write_all(&mut stdin, &container[..container.len() - 10]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(LIMIT);
    let mut unfinished = vec![];
    while unfinished.is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
        unfinished = place.unfinished(run.0.id());
    }
    // It has the passphrase, the private key and the file key in its memory now.
    assert_eq!(unfinished.len(), 1);
    let process = format!("/proc/{}", run.0.id());
    let envelope = [place.envelope("F")];
    let key = unwrap(&place.header("x.enc"), &envelope, &[place.private("old")]).unwrap();
    let secrets = [
        ("the passphrase", common::PASS.as_bytes().to_vec()),
        ("the file key", key.expose().to_vec()),
        ("the private key", place.private("old").to_pkcs8_der().unwrap().expose()[320..360].to_vec()),
    ];
    for file in ["cmdline", "environ", "comm"] {
        silent(file, &std::fs::read(format!("{process}/{file}")).unwrap(), &secrets);
    }
    let threads = std::fs::read_dir(format!("{process}/task")).unwrap();
    for thread in threads {
        silent("a thread", &std::fs::read(thread.unwrap().path().join("comm")).unwrap(), &secrets);
    }
    // What is on the disk so far is for its owner alone.
    let mode = std::fs::metadata(&unfinished[0]).unwrap().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

#[test]
fn private_keys_are_0600_whatever_the_umask() {
    let place = Place::new();
    let run = place.shell(
        r#"umask 000; SIDEKEY_NEW_PASSPHRASE=x "$PROGRAM" keygen -q --bits 2048 -o a &&
        SIDEKEY_PASSPHRASE=x SIDEKEY_NEW_PASSPHRASE=y "$PROGRAM" passwd -q a.pem &&
        "$PROGRAM" encrypt -q -r a.pub.pem a.pem &&
        chmod 644 a.pem && mv a.pem b.pem &&
        SIDEKEY_PASSPHRASE=y "$PROGRAM" decrypt -q -i b.pem a.pem.enc 2>/dev/null"#,
    );
    assert_eq!(run.code, Some(0), "{run:?}");
    // Encrypted and restored, too: its container keeps the mode.
    assert_eq!(place.mode("a.pem"), 0o600);
    assert_eq!((place.mode("a.pem.enc"), place.mode("a.pem.key.enc")), (0o666, 0o666));
}
