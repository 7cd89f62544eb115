//! Key files against the OpenSSL command line: its files open here, ours open there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::Encode as _;
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::pkcs5::pbes2;
use sidekey::keys::{Kdf, KeyFile, PrivateKey, PublicKey};
use sidekey::random::OsRandom;
use sidekey::secret::Passphrase;
use sidekey::{DataId, Error, ErrorKind};

const PASS: &str = "correct horse";

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/keys").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn pass(text: &str) -> Passphrase {
    Passphrase::new(text.into())
}

fn open(name: &str, passphrase: &str) -> Result<PrivateKey, Error> {
    KeyFile::parse(&fixture(name))?.open(Some(&pass(passphrase)))
}

fn said(error: &Error) -> (ErrorKind, String) {
    (error.kind(), error.line())
}

/// Every fixture, its passphrase, and what its key derivation is.
const READ: [(&str, &str, Option<&str>); 16] = [
    ("pkcs1.pem", "", None),
    ("pkcs8.pem", "", None),
    ("pkcs8-aes256.pem", PASS, Some("PBKDF2-HMAC-SHA-256 with 2048 rounds")),
    ("pkcs8-des3.pem", PASS, Some("PBKDF2-HMAC-SHA-256 with 2048 rounds")),
    ("pkcs8-aes-128-cbc.pem", PASS, Some("PBKDF2-HMAC-SHA-256 with 2048 rounds")),
    ("pkcs8-aes-192-cbc.pem", PASS, Some("PBKDF2-HMAC-SHA-256 with 2048 rounds")),
    ("pkcs8-hmacWithSHA1.pem", PASS, Some("PBKDF2-HMAC-SHA-1 with 2048 rounds")),
    ("pkcs8-hmacWithSHA512.pem", PASS, Some("PBKDF2-HMAC-SHA-512 with 2048 rounds")),
    ("pkcs8-scrypt.pem", PASS, Some("scrypt with N=16384 r=8 p=1")),
    ("pkcs8-utf8.pem", "zwölf ☕ Tassen", Some("PBKDF2-HMAC-SHA-256 with 50000 rounds")),
    ("pkcs8-empty.pem", "", Some("PBKDF2-HMAC-SHA-256 with 2048 rounds")),
    ("traditional-aes128.pem", PASS, Some("MD5 with 1 round")),
    ("traditional-aes192.pem", PASS, Some("MD5 with 1 round")),
    ("traditional-aes256.pem", PASS, Some("MD5 with 1 round")),
    ("traditional-des3.pem", PASS, Some("MD5 with 1 round")),
    ("pkcs1.pem", "ignored", None),
];

#[test]
fn every_form_that_openssl_writes_opens_to_the_same_key() {
    let id = PublicKey::from_pem(&fixture("spki.pub.pem")).unwrap().id();
    for (name, passphrase, kdf) in READ {
        let file = KeyFile::parse(&fixture(name)).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!((file.kdf().as_deref(), file.is_encrypted()), (kdf, kdf.is_some()), "{name}");
        let key = file.open(Some(&pass(passphrase))).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(key.id(), id, "{name}");
        let wrapped = key.public().wrap(&[9; 32], &DataId([1; 16])).unwrap();
        assert_eq!(key.unwrap(&wrapped, &DataId([1; 16])).unwrap().expose(), [9; 32], "{name}");
    }
    let read: BTreeSet<_> = READ.iter().map(|(name, ..)| name.to_string()).collect();
    let there: BTreeSet<_> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/keys"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| ["pkcs1", "pkcs8", "traditional"].iter().any(|form| name.starts_with(form)))
        .filter(|name| name.ends_with(".pem") && !name.ends_with(".pub.pem"))
        .collect();
    assert_eq!(read, there, "a fixture that no test opens, or a test without its fixture");
}

#[test]
fn every_form_of_the_public_key_is_the_same_key() {
    let spki = PublicKey::from_pem(&fixture("spki.pub.pem")).unwrap();
    assert_eq!(spki.to_pem().as_bytes(), fixture("spki.pub.pem"), "ours is OpenSSL's, byte for byte");
    for name in ["pkcs1.pub.pem", "text.pub.pem"] {
        assert_eq!(PublicKey::from_pem(&fixture(name)).unwrap().id(), spki.id(), "{name}");
    }
    let windows = String::from_utf8(fixture("spki.pub.pem")).unwrap().replace('\n', "\r\n");
    assert_eq!(PublicKey::from_pem(windows.as_bytes()).unwrap().id(), spki.id());
}

#[test]
fn a_wrong_passphrase_is_called_that_and_nothing_else() {
    for (name, right, kdf) in READ {
        if kdf.is_none() {
            continue;
        }
        let file = KeyFile::parse(&fixture(name)).unwrap();
        let error = file.open(None).unwrap_err();
        assert_eq!(
            said(&error),
            (ErrorKind::Auth, "is encrypted; its passphrase is needed".into()),
            "{name}"
        );
        for wrong in ["x", "correct horse ", "Correct horse", "correct horse\n"] {
            assert_ne!(wrong, right);
            let error = file.open(Some(&pass(wrong))).unwrap_err();
            assert_eq!(said(&error), (ErrorKind::Auth, "wrong passphrase".into()), "{name}");
        }
    }
}

#[test]
fn padding_that_happens_to_fit_does_not_turn_a_wrong_passphrase_into_damage() {
    // One in 256 wrong passphrases gives good padding; the cheap traditional form lets us meet some dozens.
    let file = KeyFile::parse(&fixture("traditional-aes256.pem")).unwrap();
    for wrong in 0..10_000 {
        let error = file.open(Some(&pass(&wrong.to_string()))).unwrap_err();
        assert_eq!(said(&error), (ErrorKind::Auth, "wrong passphrase".into()), "{wrong}");
    }
}

#[test]
fn what_is_refused_says_why() {
    let private = [
        ("refused-1024.pem", "is an RSA key of 1024 bits; 2048 to 8192 are accepted"),
        ("refused-ec.pem", "is a key of another kind (EC); sidekey uses RSA"),
        ("refused-ec-traditional.pem", "is a key of another kind (EC); sidekey uses RSA"),
        ("refused-ed25519.pem", "is a key of another kind (Ed25519); sidekey uses RSA"),
        ("refused-rounds.pem", "asks for 10000001 rounds of PBKDF2; at most 10000000 are accepted"),
        ("refused-pbes1.pem", "is encrypted in a way that sidekey does not read (1.2.840.113549.1.12.1.3)"),
        (
            "refused-camellia.pem",
            "is encrypted in a way that sidekey does not read (1.2.392.200011.61.1.1.1.4)",
        ),
        ("refused-traditional.pem", "is encrypted in a way that sidekey does not read (CAMELLIA-256-CBC)"),
        ("spki.pub.pem", "is a public key; a private one is needed"),
        ("certificate.pem", "holds no private key, only CERTIFICATE"),
        ("pkcs8.der", "is not a key file: no -----BEGIN line in it"),
        ("README.md", "is not a key file: no -----BEGIN line in it"),
    ];
    for (name, message) in private {
        assert_eq!(said(&open(name, PASS).unwrap_err()), (ErrorKind::Input, message.into()), "{name}");
    }
    let public = [
        ("pkcs8.pem", "is a private key; a public one is needed"),
        ("traditional-des3.pem", "is a private key; a public one is needed"),
        ("refused-1024.pub.pem", "is an RSA key of 1024 bits; 2048 to 8192 are accepted"),
        ("refused-ec.pub.pem", "is a key of another kind (EC); sidekey uses RSA"),
        ("certificate.pem", "holds no public key, only CERTIFICATE"),
        ("README.md", "is not a key file: no -----BEGIN line in it"),
    ];
    for (name, message) in public {
        let error = PublicKey::from_pem(&fixture(name)).unwrap_err();
        assert_eq!(said(&error), (ErrorKind::Input, message.into()), "{name}");
    }
    let hint = PublicKey::from_pem(&fixture("pkcs8.pem")).unwrap_err();
    assert_eq!(hint.remedy(), Some("sidekey pubkey KEY writes its public half"));
    let twice = [fixture("spki.pub.pem"), fixture("pkcs1.pub.pem")].concat();
    assert_eq!(PublicKey::from_pem(&twice).unwrap_err().to_string(), "holds 2 public keys; one is needed");
    let twice = [fixture("pkcs8.pem"), fixture("pkcs1.pem")].concat();
    assert_eq!(KeyFile::parse(&twice).unwrap_err().to_string(), "holds 2 private keys; one is needed");
    let long = KeyFile::parse(&vec![b'\n'; (1 << 20) + 1]).unwrap_err();
    assert_eq!(said(&long), (ErrorKind::Input, "is longer than a key file can be (1048576 bytes)".into()));
}

#[test]
fn damage_is_never_a_key_and_never_a_panic() {
    for (name, passphrase, kdf) in READ {
        if name == "pkcs8-utf8.pem" {
            continue; // 50,000 rounds for each damaged byte would take too long
        }
        let good = fixture(name);
        let step = if kdf.is_some_and(|kdf| kdf.starts_with("scrypt")) { 101 } else { 7 };
        for at in (0..good.len()).step_by(step) {
            let mut bad = good.clone();
            bad[at] = if bad[at] == b'Q' { b'R' } else { b'Q' };
            let opened = KeyFile::parse(&bad).and_then(|file| file.open(Some(&pass(passphrase))));
            if let Err(error) = opened {
                let expected = [ErrorKind::Integrity, ErrorKind::Input, ErrorKind::Auth];
                assert!(expected.contains(&error.kind()), "{name} byte {at}: {error:?}");
            } else {
                // Only a changed name of a header or a byte outside the block can leave the key as it was.
                assert_eq!(opened.unwrap().id(), open(name, passphrase).unwrap().id(), "{name} byte {at}");
            }
        }
        for len in (0..good.len()).step_by(97) {
            let opened = KeyFile::parse(&good[..len]).and_then(|file| file.open(Some(&pass(passphrase))));
            assert!(opened.is_err(), "{name} cut to {len}");
        }
    }
}

#[test]
fn a_damaged_file_under_the_right_passphrase_is_damaged() {
    for name in ["pkcs8-aes256.pem", "traditional-aes256.pem"] {
        let mut bad = fixture(name);
        let at = bad.len() - 60; // in the last blocks
        bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
        let error = KeyFile::parse(&bad).unwrap().open(Some(&pass(PASS))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{name}: {error:?}");
        assert!(error.line().starts_with("is damaged: "), "{name}: {error:?}");
        let error = KeyFile::parse(&bad).unwrap().open(Some(&pass("wrong"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Auth, "{name}");
    }
}

#[test]
fn scrypt_that_asks_for_too_much_is_refused_before_it_runs() {
    for (n, r, p, message) in [
        (1 << 20, 8, 2, ""), // 1 GiB: the most that is accepted
        (1 << 20, 9, 1, "asks for 1207959552 bytes of memory for scrypt; at most 1073741824 are accepted"),
        (
            1 << 62,
            8,
            1,
            "asks for 4722366482869645213696 bytes of memory for scrypt; at most 1073741824 are accepted",
        ),
        (1 << 20, 8, 17, "asks for scrypt over 1073741824 bytes 17 times; that is not accepted"),
        (16_385, 8, 1, "is damaged: its scrypt parameters make no sense"),
        (0, 8, 1, "is damaged: its scrypt parameters make no sense"),
        (16_384, 0, 1, "is damaged: its scrypt parameters make no sense"),
        (16_384, 8, 0, "is damaged: its scrypt parameters make no sense"),
    ] {
        let kdf = pbes2::ScryptParams {
            salt: pbes2::Salt::new([1; 8]).unwrap(),
            cost_parameter: n,
            block_size: r,
            parallelization: p,
            key_length: None,
        };
        let info = EncryptedPrivateKeyInfoRef {
            encryption_algorithm: pbes2::Parameters {
                kdf: kdf.into(),
                encryption: pbes2::EncryptionScheme::Aes256Cbc { iv: [0; 16] },
            }
            .into(),
            encrypted_data: OctetStringRef::new(&[0; 64]).unwrap(),
        };
        let text = pem::encode(&pem::Pem::new("ENCRYPTED PRIVATE KEY", info.to_der().unwrap()));
        let parsed = KeyFile::parse(text.as_bytes());
        if message.is_empty() {
            assert_eq!(parsed.unwrap().kdf().unwrap(), format!("scrypt with N={n} r={r} p={p}"));
        } else {
            assert_eq!(parsed.unwrap_err().line(), message);
        }
    }
}

/// The OpenSSL command line, its passphrase in the environment.
fn openssl(args: &[&str], passphrase: &str) -> Vec<u8> {
    let output = Command::new("openssl")
        .args(args)
        .env("PASS", passphrase)
        .stdin(Stdio::null())
        .output()
        .expect("the openssl command line is needed for this test");
    assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn written(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    #[expect(clippy::disallowed_methods, reason = "tests make their own files")]
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn openssl_opens_what_is_written_here() {
    let dir = tempfile::tempdir().unwrap();
    let key = PrivateKey::generate(2048).unwrap();
    for passphrase in [PASS, "zwölf ☕ Tassen", " leading and trailing ", "x"] {
        let text = key.to_encrypted_pem(&pass(passphrase), Kdf::Pbkdf2 { rounds: 2048 }, &OsRandom).unwrap();
        let path = written(&dir, "key.pem", &text);
        let public =
            openssl(&["pkey", "-in", path.to_str().unwrap(), "-passin", "env:PASS", "-pubout"], passphrase);
        assert_eq!(String::from_utf8(public).unwrap(), key.public().to_pem(), "{passphrase}");
    }
    let path = written(&dir, "plain.pem", &key.to_plain_pem().unwrap());
    openssl(&["rsa", "-in", path.to_str().unwrap(), "-check", "-noout"], "");

    let text = key.to_encrypted_pem(&pass(PASS), Kdf::PBKDF2, &OsRandom).unwrap();
    let path = written(&dir, "default.pem", &text);
    let parsed = openssl(&["asn1parse", "-in", path.to_str().unwrap()], "");
    let parsed = String::from_utf8(parsed).unwrap();
    for part in ["PBES2", "PBKDF2", "hmacWithSHA256", "aes-256-cbc", "INTEGER           :0927C0"] {
        assert!(parsed.contains(part), "{part} in {parsed}");
    }
}

/// The tool itself stops at 32 MiB of scrypt; what fills more is derived and decrypted by its parts.
#[test]
fn openssl_opens_scrypt_that_is_written_here() {
    let dir = tempfile::tempdir().unwrap();
    let key = PrivateKey::generate(2048).unwrap();
    let cheap = Kdf::Scrypt { log_n: 14, r: 8, p: 1 };
    for passphrase in [PASS, "zwölf ☕ Tassen", "x"] {
        let text = key.to_encrypted_pem(&pass(passphrase), cheap, &OsRandom).unwrap();
        assert_eq!(KeyFile::parse(text.as_bytes()).unwrap().derivation(), Some(cheap));
        let path = written(&dir, "key.pem", &text);
        let public =
            openssl(&["pkey", "-in", path.to_str().unwrap(), "-passin", "env:PASS", "-pubout"], passphrase);
        assert_eq!(String::from_utf8(public).unwrap(), key.public().to_pem(), "{passphrase}");
    }

    let text = key.to_encrypted_pem(&pass(PASS), Kdf::SCRYPT, &OsRandom).unwrap();
    let file = KeyFile::parse(text.as_bytes()).unwrap();
    assert_eq!(file.kdf().unwrap(), "scrypt with N=131072 r=8 p=1");
    assert_eq!(file.open(Some(&pass(PASS))).unwrap().id(), key.id());
    assert_eq!(file.open(Some(&pass("wrong"))).unwrap_err().kind(), ErrorKind::Auth);
    let block = pem::parse(&text).unwrap();
    let info = EncryptedPrivateKeyInfoRef::try_from(block.contents()).unwrap();
    let scheme = info.encryption_algorithm.pbes2().unwrap();
    let (Some(scrypt), pbes2::EncryptionScheme::Aes256Cbc { iv }) = (scheme.kdf.scrypt(), scheme.encryption)
    else {
        panic!("{scheme:?}");
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (password, salt) = (format!("pass:{PASS}"), format!("hexsalt:{}", hex(scrypt.salt.as_ref())));
    let mut args = vec!["kdf", "-keylen", "32"];
    for option in [&*password, &salt, "n:131072", "r:8", "p:1", "maxmem_bytes:268435456"] {
        args.extend(["-kdfopt", option]);
    }
    args.push("SCRYPT");
    let derived = String::from_utf8(openssl(&args, "")).unwrap().replace([':', '\n'], "");
    let sealed = dir.path().join("sealed");
    #[expect(clippy::disallowed_methods, reason = "tests make their own files")]
    std::fs::write(&sealed, info.encrypted_data.as_bytes()).unwrap();
    let sealed = sealed.to_str().unwrap();
    let plain = openssl(&["enc", "-d", "-aes-256-cbc", "-K", &derived, "-iv", &hex(&iv), "-in", sealed], "");
    let opened = pem::encode(&pem::Pem::new("PRIVATE KEY", plain));
    assert_eq!(KeyFile::parse(opened.as_bytes()).unwrap().open(None).unwrap().id(), key.id());
}

#[test]
fn costs_that_would_not_be_read_are_not_written() {
    let key = PrivateKey::generate(2048).unwrap();
    for (log_n, r, p) in [(0, 8, 1), (20, 9, 1), (20, 8, 17), (17, 0, 1), (17, 8, 0), (64, 8, 1), (255, 1, 1)]
    {
        let kdf = Kdf::Scrypt { log_n, r, p };
        let error = key.to_encrypted_pem(&pass(PASS), kdf, &OsRandom).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{kdf}");
        assert!(error.line().starts_with(&format!("{kdf} is not possible: ")), "{}", error.line());
    }
}

#[test]
fn the_stronger_of_two_derivations_of_one_kind_is_kept() {
    let scrypt = |log_n, r, p| Kdf::Scrypt { log_n, r, p };
    let pbkdf2 = |rounds| Kdf::Pbkdf2 { rounds };
    for (kdf, least, kept) in [
        (pbkdf2(1), pbkdf2(2), pbkdf2(2)),
        (pbkdf2(3), pbkdf2(2), pbkdf2(3)),
        (scrypt(14, 8, 1), Kdf::SCRYPT, Kdf::SCRYPT),
        (scrypt(16, 8, 2), Kdf::SCRYPT, scrypt(16, 8, 2)),
        (scrypt(18, 8, 1), Kdf::SCRYPT, scrypt(18, 8, 1)),
        (scrypt(14, 8, 1), pbkdf2(2), scrypt(14, 8, 1)),
    ] {
        assert_eq!(kdf.at_least(least), kept);
    }
}

#[test]
fn what_is_written_is_read_back_and_never_the_same_twice() {
    let key = PrivateKey::generate(2048).unwrap();
    let kdf = Kdf::Pbkdf2 { rounds: 1000 };
    for passphrase in ["", "x", PASS] {
        let text = key.to_encrypted_pem(&pass(passphrase), kdf, &OsRandom).unwrap();
        let file = KeyFile::parse(text.as_bytes()).unwrap();
        assert_eq!((file.rounds(), file.derivation()), (Some(1000), Some(kdf)));
        assert_eq!(file.open(Some(&pass(passphrase))).unwrap().id(), key.id());
        assert_ne!(text, key.to_encrypted_pem(&pass(passphrase), kdf, &OsRandom).unwrap());
    }
    for rounds in [0, 10_000_001] {
        let error = key.to_encrypted_pem(&pass(PASS), Kdf::Pbkdf2 { rounds }, &OsRandom).unwrap_err();
        assert_eq!(said(&error), (ErrorKind::Usage, "the rounds of PBKDF2 are 1 to 10000000".into()));
    }
    let plain = key.to_plain_pem().unwrap();
    assert_eq!(KeyFile::parse(plain.as_bytes()).unwrap().open(None).unwrap().id(), key.id());
    let debug = format!("{:?}", KeyFile::parse(plain.as_bytes()).unwrap());
    assert_eq!(debug, "KeyFile(in plain)");
}
