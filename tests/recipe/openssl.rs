//! Against OpenSSL: files that it made once (`fixtures/recipe`), files that it makes now, and our files in its hands.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use sidekey::crypto::recipe::{Kdf, derive};
use sidekey::crypto::rsa::PrivateKey;
use sidekey::random::OsRandom;
use sidekey::recipe::{
    Basis, ContainerEncoding, KeyFile, KeyFileForm, Named, NewPair, Parameters, PasswordReading, Reader,
    Sample, Settler, detect_container, detect_key_file,
};

use crate::support::{ENCODINGS, FORMS, KDFS, Pair, container, decide, decrypt, look, settle};

/// One line of `cases.tsv`.
struct Case {
    name: String,
    parameters: Parameters,
    encoding: ContainerEncoding,
    form: KeyFileForm,
    pair: Pair,
}

#[test]
fn every_variant_that_openssl_made_is_read() {
    assert_eq!(check_variants(&fixtures()), 55);
}

#[test]
fn every_variant_that_the_openssl_of_this_machine_makes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/make-recipe-fixtures");
    let output = Command::new(script).arg(&made).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(check_variants(&made), 55);
}

#[test]
fn a_folder_of_each_variant_is_settled_by_agreement() {
    let identity = identity(&fixtures());
    let mut folders: BTreeMap<_, Vec<Case>> = BTreeMap::new();
    for case in cases(&fixtures()) {
        folders.entry(case.parameters).or_default().push(case);
    }
    folders.retain(|_, cases| cases.len() > 1);
    assert_eq!(folders.len(), 6);
    for (parameters, cases) in folders {
        assert_eq!(cases.len(), 9, "{parameters}");
        let settler = settle(cases.iter().map(|case| &case.pair), &identity);
        assert_eq!(settler.settled().first().map(|(settled, _)| *settled), Some(parameters));
        for case in cases {
            let decision = decide(&settler, &case.pair, &identity).unwrap();
            assert_eq!(
                (decision.parameters(), decision.basis()),
                (parameters, Basis::Agreed),
                "{}",
                case.name
            );
            assert_eq!(decrypt(&case.pair.container, decision.key()).unwrap(), case.pair.plaintext);
        }
    }
}

#[test]
fn two_commands_of_openssl_decrypt_what_we_write() {
    let dir = tempfile::tempdir().unwrap();
    let identity = identity(&fixtures());
    let private = fixtures().join("private.pk8.der");
    let mut count = 0;
    for (at, len) in [0, 1, 16, 47, 48, 70_000].into_iter().enumerate() {
        for encoding in ENCODINGS {
            let rounds = if len == 47 { 600_000 } else { 1000 + at as u32 };
            let plaintext: Vec<u8> = (0..len).map(|at| (at % 239) as u8).collect();
            let pair = NewPair::generate(&OsRandom, rounds).unwrap();
            for form in FORMS {
                let bytes = pair.key_file(identity.public(), form).unwrap().encode();
                fs::File::create_new(dir.path().join(format!("{count}-{form:?}")))
                    .unwrap()
                    .write_all(&bytes)
                    .unwrap();
            }
            let mut bytes = Vec::new();
            assert_eq!(pair.encrypt(&plaintext[..], encoding, &mut bytes).unwrap(), len as u64);
            fs::File::create_new(dir.path().join(format!("{count}.enc"))).unwrap().write_all(&bytes).unwrap();
            let decode = match encoding {
                ContainerEncoding::Raw => "",
                ContainerEncoding::Base64Wrapped => "-a",
                ContainerEncoding::Base64OneLine => "-a -A",
            };
            for key in [
                format!("cat {count}-Raw"),
                format!("openssl base64 -d -A -in {count}-Base64OneLine"),
                format!("openssl base64 -d -in {count}-Base64Wrapped"),
            ] {
                let out = sh(
                    dir.path(),
                    &format!(
                        "{key} | openssl pkeyutl -decrypt -keyform DER -inkey '{}' | \
                         openssl enc -aes-256-cbc -d {decode} -pbkdf2 -iter {rounds} -pass stdin -in {count}.enc",
                        private.display()
                    ),
                );
                assert!(out == plaintext, "{len} bytes, {encoding:?}, {key}");
            }
            count += 1;
        }
    }
    assert_eq!(count, 18);
}

#[test]
fn our_containers_are_those_of_openssl_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let salt = [1, 2, 3, 4, 5, 6, 7, 8];
    for kdf in KDFS {
        let key = derive(kdf, b"a b c", &salt);
        for len in [0, 1, 15, 16, 17, 31, 32, 33, 65_535, 65_536, 65_537] {
            let plaintext: Vec<u8> = (0..len).map(|at| (at % 199) as u8).collect();
            let _ = fs::remove_file(dir.path().join("plain"));
            fs::File::create_new(dir.path().join("plain")).unwrap().write_all(&plaintext).unwrap();
            let flags = match kdf {
                Kdf::EvpMd5 => "-md md5",
                Kdf::EvpSha256 => "-md sha256",
                Kdf::Pbkdf2 { .. } => "-pbkdf2",
            };
            // With -S, OpenSSL 3 writes the ciphertext alone and older ones write the head too.
            let command = format!(
                "openssl enc -aes-256-cbc -S 0102030405060708 -pass pass:'a b c' {flags} -in plain 2>/dev/null"
            );
            let theirs = sh(dir.path(), &command);
            let ours = container(&plaintext, &key, &salt, ContainerEncoding::Raw);
            assert!(ours == theirs || ours[16..] == theirs[..], "{len} bytes, {kdf}");
        }
    }
}

#[test]
fn a_rewrapped_key_file_serves_the_recipes_own_decryption() {
    let dir = tempfile::tempdir().unwrap();
    let old = identity(&fixtures());
    let new = PrivateKey::generate(2048).unwrap();
    let der = new.to_pkcs8_der().unwrap();
    fs::File::create_new(dir.path().join("new.der")).unwrap().write_all(der.expose()).unwrap();
    let mut count = 0;
    // The recipe's own pipe reads raw key files and -a containers.
    for case in cases(&fixtures()).filter(|case| case.encoding == ContainerEncoding::Base64Wrapped) {
        let blocks = detect_key_file(&case.pair.key_file).unwrap().open([&old]).unwrap();
        assert!(blocks[0].is_text());
        let key_file = KeyFile::wrap(&blocks[0], new.public(), case.form).unwrap();
        let decode = match case.form {
            KeyFileForm::Raw => "cat",
            KeyFileForm::Base64OneLine => "openssl base64 -d -A",
            KeyFileForm::Base64Wrapped => "openssl base64 -d",
        };
        let flags = match case.parameters.kdf {
            Kdf::EvpMd5 => "-md md5".into(),
            Kdf::EvpSha256 => "-md sha256".into(),
            Kdf::Pbkdf2 { rounds } => format!("-pbkdf2 -iter {rounds}"),
        };
        fs::File::create_new(dir.path().join(&case.name)).unwrap().write_all(&key_file.encode()).unwrap();
        let out = sh(
            dir.path(),
            &format!(
                "{decode} <{0} | openssl pkeyutl -decrypt -keyform DER -inkey new.der | \
                 openssl enc -aes-256-cbc -d -a {flags} -pass stdin -in '{1}/{0}.enc' 2>/dev/null",
                case.name,
                fixtures().display()
            ),
        );
        assert!(out == case.pair.plaintext, "{}", case.name);
        assert!(key_file.open([&old]).is_err());
        count += 1;
    }
    assert_eq!(count, 19);
}

/// Reads every pair of a folder that `scripts/make-recipe-fixtures` made, and counts them.
fn check_variants(dir: &Path) -> usize {
    let identity = identity(dir);
    cases(dir)
        .map(|case| {
            let name = &case.name;
            let detected = detect_container(&case.pair.container);
            // On one line and shorter than a line, both forms of base64 differ only in the line end.
            assert_eq!(detected, Some(case.encoding), "{name}");
            assert_eq!(detect_key_file(&case.pair.key_file).unwrap().form(), case.form, "{name}");
            let named = Named { kdf: Some(case.parameters.kdf), reading: case.parameters.reading };
            let (blocks, sample) = look(&case.pair, &identity);
            let decision = Settler::new(named).decide(&blocks, &sample).unwrap();
            assert_eq!((decision.parameters(), decision.basis()), (case.parameters, Basis::Named), "{name}");
            assert_eq!(decision.warning(), None);
            assert_eq!(decrypt(&case.pair.container, decision.key()).unwrap(), case.pair.plaintext, "{name}");
            // What is adopted opens it as well, without the password.
            let payload = decision.key().payload();
            let adopted = sidekey::crypto::recipe::RecipeKey::from_payload(payload.expose()).unwrap();
            assert_eq!(decrypt(&case.pair.container, &adopted).unwrap(), case.pair.plaintext, "{name}");
            let again = Sample::read(&mut Cursor::new(&case.pair.container)).unwrap();
            assert_eq!(again.data_id(), Reader::new(&case.pair.container[..]).unwrap().data_id());
        })
        .count()
}

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/recipe")
}

fn identity(dir: &Path) -> PrivateKey {
    PrivateKey::from_pkcs8_der(&fs::read(dir.join("private.pk8.der")).unwrap()).unwrap()
}

fn cases(dir: &Path) -> impl Iterator<Item = Case> {
    let table = fs::read_to_string(dir.join("cases.tsv")).unwrap();
    let cases: Vec<_> = table.lines().map(|line| case(dir, line)).collect();
    cases.into_iter()
}

fn case(dir: &Path, line: &str) -> Case {
    let [name, kdf, encoding, reading, form, len]: [&str; 6] =
        line.split('\t').collect::<Vec<_>>().try_into().unwrap();
    let reading = match reading {
        "joined" => None,
        "newlines" => Some(PasswordReading::FirstLine),
        other => panic!("{other}"),
    };
    let encoding = match encoding {
        "raw" => ContainerEncoding::Raw,
        "wrapped" => ContainerEncoding::Base64Wrapped,
        "one-line" => ContainerEncoding::Base64OneLine,
        other => panic!("{other}"),
    };
    let form = match form {
        "raw" => KeyFileForm::Raw,
        "wrapped" => KeyFileForm::Base64Wrapped,
        "one-line" => KeyFileForm::Base64OneLine,
        other => panic!("{other}"),
    };
    let text = b"sidekey reads what the OpenSSL recipe made\n";
    let pair = Pair {
        container: fs::read(dir.join(format!("{name}.enc"))).unwrap(),
        key_file: fs::read(dir.join(format!("{name}.key.enc"))).unwrap(),
        plaintext: text.iter().copied().cycle().take(len.parse().unwrap()).collect(),
    };
    let parameters = Parameters { kdf: kdf.parse().unwrap(), reading };
    Case { name: name.into(), parameters, encoding, form, pair }
}

/// The standard output of a pipe, which must succeed.
fn sh(dir: &Path, command: &str) -> Vec<u8> {
    let output =
        Command::new("sh").args(["-c", command]).current_dir(dir).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
