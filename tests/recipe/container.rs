//! Containers: every length and encoding, truncation and damage.

use std::io::{self, Cursor, Write};

use sidekey::ErrorKind;
use sidekey::crypto::recipe::{self, RecipeKey};
use sidekey::recipe::{ContainerEncoding, Reader, Sample, detect_container};

use crate::support::{ENCODINGS, Trickle, container, decrypt};

fn key() -> RecipeKey {
    let payload: Vec<u8> = (0..48).collect();
    RecipeKey::from_payload(&payload).unwrap()
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 241) as u8).collect()
}

const SALT: [u8; 8] = *b"\x00\xFF34567\n";

#[test]
fn every_length_reads_back_in_every_encoding_and_by_any_step() {
    let chunk = 64 * 1024;
    let lengths = (0..100).chain(chunk - 66..chunk + 34).chain([2 * chunk - 1, 2 * chunk, 3 * chunk + 5]);
    for len in lengths {
        let plaintext = text(len);
        for encoding in ENCODINGS {
            let bytes = container(&plaintext, &key(), &SALT, encoding);
            assert_eq!(decrypt(&bytes, &key()).unwrap(), plaintext, "{len} {encoding:?}");
            let sample = Sample::read(&mut Cursor::new(&bytes)).unwrap();
            assert_eq!((sample.salt(), sample.padding(&key())), (&SALT, Some(16 - (len % 16) as u8)));
            let reader = Reader::new(&bytes[..]).unwrap();
            assert_eq!(sample.data_id(), reader.data_id());
            // A short file without a line end may be either form of base64.
            if len > 100 || encoding != ContainerEncoding::Base64OneLine {
                assert_eq!((sample.encoding(), reader.encoding()), (encoding, encoding));
            }
        }
    }
    for step in [1, 2, 3, 7, 65] {
        for encoding in ENCODINGS {
            let plaintext = text(1000);
            let bytes = container(&plaintext, &key(), &SALT, encoding);
            let mut out = Vec::new();
            Reader::new(Trickle(&bytes, step)).unwrap().decrypt(&key(), &mut out).unwrap();
            assert_eq!(out, plaintext, "{encoding:?} by {step}");
        }
    }
}

#[test]
fn other_line_forms_read_as_well_and_have_the_same_ends() {
    for len in [0, 20, 5000, 9999, 10_000] {
        let plaintext = text(len);
        let one = String::from_utf8(container(&plaintext, &key(), &SALT, ContainerEncoding::Base64OneLine))
            .unwrap();
        let lf = String::from_utf8(container(&plaintext, &key(), &SALT, ContainerEncoding::Base64Wrapped))
            .unwrap();
        let wide: Vec<&str> =
            one.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let long: Vec<&str> =
            one.as_bytes().chunks(3000).map(|line| std::str::from_utf8(line).unwrap()).collect();
        for form in [
            lf.replace('\n', "\r\n"),
            lf.trim_end().into(),
            format!("{lf}\n\n"),
            format!("{one}\r\n"),
            wide.join("\n"),
            wide.join("\r\n") + "\r\n",
            long.join("\n"),
        ] {
            assert_eq!(decrypt(form.as_bytes(), &key()).unwrap(), plaintext, "{form}");
            let sample = Sample::read(&mut Cursor::new(form.as_bytes())).unwrap();
            assert_eq!(sample.padding(&key()), Some(16 - (len % 16) as u8), "{form}");
        }
    }
}

#[test]
fn a_container_cut_anywhere_is_an_error() {
    for (len, encoding) in [200, 5000].into_iter().flat_map(|len| ENCODINGS.map(|encoding| (len, encoding))) {
        let bytes = container(&text(len), &key(), &SALT, encoding);
        let whole = String::from_utf8_lossy(&bytes).trim_end().len();
        let end = if encoding == ContainerEncoding::Raw { bytes.len() } else { whole };
        for cut in (0..end.min(300)).chain(end.saturating_sub(300)..end) {
            let error = decrypt(&bytes[..cut], &key()).unwrap_err();
            let text = error.to_string();
            match error.kind() {
                ErrorKind::Input => assert!(cut < 11, "{cut} {encoding:?}: {text}"),
                kind => assert_eq!(kind, ErrorKind::Integrity, "{cut} {encoding:?}: {text}"),
            }
            if cut >= 24 {
                assert!(
                    text.starts_with(&format!("truncated at byte {cut}: "))
                        || text.starts_with(&format!(
                            "the last block, which ends at byte {cut}, has no valid padding"
                        )),
                    "{cut} {encoding:?}: {text}"
                );
            }
            // The two ends never show more than all of it: where they see no fault, the padding is wrong.
            if let Ok(sample) = Sample::read(&mut Cursor::new(&bytes[..cut])) {
                assert_eq!(sample.padding(&key()), None, "{cut} {encoding:?}");
            }
        }
    }
}

#[test]
fn a_cut_shows_at_the_ends_of_a_long_container_unless_it_falls_between_blocks() {
    for encoding in ENCODINGS {
        let bytes = container(&text(9000), &key(), &SALT, encoding);
        for cut in bytes.len() - 200..bytes.len() - 2 {
            let unseen = Sample::read(&mut Cursor::new(&bytes[..cut])).is_ok();
            let decoded = match encoding {
                ContainerEncoding::Raw => cut,
                ContainerEncoding::Base64Wrapped => (cut / 65 * 64 + (cut % 65).min(64)) / 4 * 3,
                ContainerEncoding::Base64OneLine => cut / 4 * 3,
            };
            let characters = if encoding == ContainerEncoding::Base64Wrapped {
                cut / 65 * 64 + (cut % 65).min(64)
            } else {
                cut
            };
            let between = decoded % 16 == 0 && (encoding == ContainerEncoding::Raw || characters % 4 == 0);
            assert_eq!(unseen, between, "{cut} of {} {encoding:?}", bytes.len());
        }
    }
}

#[test]
fn damage_is_named() {
    let bytes = container(&text(300), &key(), &SALT, ContainerEncoding::Base64Wrapped);
    let mut star = bytes.clone();
    star[200] = b'*';
    let error = decrypt(&star, &key()).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Integrity, "damaged base64 at byte 200".into())
    );
    let error = decrypt(&[&bytes[..], b"QUJD"].concat(), &key()).unwrap_err();
    assert_eq!(error.to_string(), format!("damaged base64 at byte {}", bytes.len()));

    let raw = container(&text(300), &key(), &SALT, ContainerEncoding::Raw);
    let wrong = RecipeKey::from_payload(&[9; 48]).unwrap();
    let error = decrypt(&raw, &wrong).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert_eq!(
        error.to_string(),
        "the last block, which ends at byte 320, has no valid padding: the key is wrong or the container is damaged"
    );
    for head in [&b"Salted__"[..], b"Salted__1234567", b"Salted__12345678", b"U2FsdGVkX18="] {
        let error = Reader::new(head).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity);
        let expected = format!("truncated at byte {}: the container ends before its first block", head.len());
        assert_eq!(error.to_string(), expected);
    }
    for other in [&b""[..], b"Salted_", b"SIDEKEY\0\x01\x01\x10", b"U2FsdGVkX1", b"U2FsdGVkX1A="] {
        let error = Reader::new(other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        assert_eq!(
            error.to_string(),
            "not a container of the OpenSSL recipe: it does not begin with Salted__"
        );
    }
}

#[test]
fn the_last_block_is_not_written_before_its_padding_is_good() {
    let mut raw = container(&text(300), &key(), &SALT, ContainerEncoding::Raw);
    let last = raw.len() - 1;
    raw[last] ^= 1;
    let mut out = Vec::new();
    assert!(Reader::new(&raw[..]).unwrap().decrypt(&key(), &mut out).is_err());
    assert!(out.len() < 300 - 300 % 16 + 1, "{}", out.len());
}

#[test]
fn a_failing_reader_or_writer_is_reported() {
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("unplugged"))
        }
    }
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("full"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    assert_eq!(Reader::new(Broken).unwrap_err().line(), "cannot read: unplugged");
    let bytes = container(&text(300), &key(), &SALT, ContainerEncoding::Raw);
    assert_eq!(
        Reader::new(&bytes[..]).unwrap().decrypt(&key(), Broken).unwrap_err().line(),
        "cannot write: full"
    );
    let later = io::Read::chain(&bytes[..64], Broken);
    let mut out = Vec::new();
    let error = Reader::new(later).and_then(|reader| reader.decrypt(&key(), &mut out)).unwrap_err();
    assert_eq!((error.kind(), error.line()), (ErrorKind::Io, "cannot read: unplugged".into()));
}

#[test]
fn detection_needs_the_whole_magic() {
    assert_eq!(detect_container(b"Salted__"), Some(ContainerEncoding::Raw));
    assert_eq!(detect_container(b"U2FsdGVkX1+"), Some(ContainerEncoding::Base64OneLine));
    assert_eq!(detect_container(b"U2FsdGVkX18AAAA\n"), Some(ContainerEncoding::Base64Wrapped));
    for other in [&b""[..], b"Salted_", b"salted__", b"U2FsdGVkX1", b"U2FsdGVkX1A", b" U2FsdGVkX18"] {
        assert_eq!(detect_container(other), None, "{other:?}");
    }
}

#[test]
fn the_data_id_is_the_digest_of_the_decoded_head() {
    let head: Vec<u8> = (0..80).collect();
    assert_eq!(recipe::data_id(&head), recipe::data_id(&head[..64]));
    assert_ne!(recipe::data_id(&head), recipe::data_id(&head[..63]));
    // printf 'sidekey/1 recipe%s' "$(printf 'Salted__12345678abcdefghijklmnop')" | sha256sum
    let id = recipe::data_id(b"Salted__12345678abcdefghijklmnop");
    assert_eq!(id.to_string(), "932453a19a7f9facc311b98069ebe6ce");
    for encoding in ENCODINGS {
        let bytes = container(&text(100), &key(), &SALT, encoding);
        let raw = container(&text(100), &key(), &SALT, ContainerEncoding::Raw);
        assert_eq!(Reader::new(&bytes[..]).unwrap().data_id(), recipe::data_id(&raw));
    }
}
