//! RSA against a second, independent implementation: the `rsa` crate opens what the product wrapped and the reverse.
//!
//! That crate takes an OAEP label as text only. For data ids that are no text, the bare RSA operation on its numbers is used, and
//! the encoding (RFC 8017, section 7.1) is written out here.

use rsa::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use rsa::rand_core::OsRng;
use rsa::traits::{PrivateKeyParts as _, PublicKeyParts as _};
use rsa::{BigUint, Oaep, Pkcs1v15Encrypt, RsaPrivateKey, RsaPublicKey};
use sha2::{Digest as _, Sha256};
use sidekey::crypto::rsa::{PrivateKey, PublicKey, oaep_label};
use sidekey::{DataId, KeyId};

/// Data ids whose bytes are text, and the same for any bytes.
const TEXT: DataId = DataId(*b"0123456789abcdef");
const RAW: DataId = DataId([0x80, 0xff, 0, 1, 2, 3, 0xfe, 0xc0, 0xaf, 0, 10, 13, 0xed, 0xa0, 0x80, 0x7f]);
const OTHER: DataId = DataId(*b"fedcba9876543210");

const LENGTHS: [usize; 5] = [0, 1, 32, 48, 100];

/// One key in both implementations.
struct Both {
    ours: PrivateKey,
    theirs: RsaPrivateKey,
}

impl Both {
    fn ours_first(bits: usize) -> Self {
        let ours = PrivateKey::generate(bits).unwrap();
        let theirs = RsaPrivateKey::from_pkcs8_der(ours.to_pkcs8_der().unwrap().expose()).unwrap();
        theirs.validate().unwrap();
        Self { ours, theirs }
    }

    fn theirs_first(bits: usize) -> Self {
        let theirs = RsaPrivateKey::new(&mut OsRng, bits).unwrap();
        let ours = PrivateKey::from_pkcs8_der(theirs.to_pkcs8_der().unwrap().as_bytes()).unwrap();
        Self { ours, theirs }
    }
}

fn keys() -> Vec<Both> {
    let mut keys: Vec<_> = [2048, 3072, 4096].into_iter().map(Both::ours_first).collect();
    keys.extend([2048, 3072].into_iter().map(Both::theirs_first));
    keys
}

fn oaep(data_id: &DataId) -> Oaep {
    Oaep::new_with_label::<rsa::sha2::Sha256, _>(std::str::from_utf8(&oaep_label(data_id)).unwrap())
}

fn secret(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 37 + 5) as u8).collect()
}

#[test]
fn each_opens_what_the_other_wrapped() {
    let mut operations = 0;
    for Both { ours, theirs } in keys() {
        let public = theirs.to_public_key();
        for secret in LENGTHS.map(secret) {
            let wrapped = ours.public().wrap(&secret, &TEXT).unwrap();
            assert_eq!(theirs.decrypt(oaep(&TEXT), &wrapped).unwrap(), secret);
            assert!(theirs.decrypt(oaep(&OTHER), &wrapped).is_err());
            assert!(theirs.decrypt(Oaep::new::<rsa::sha2::Sha256>(), &wrapped).is_err());

            let wrapped = public.encrypt(&mut OsRng, oaep(&TEXT), &secret).unwrap();
            assert_eq!(ours.unwrap(&wrapped, &TEXT).unwrap().expose(), secret);
            assert!(ours.unwrap(&wrapped, &OTHER).is_none());

            let wrapped = ours.public().wrap_pkcs1(&secret).unwrap();
            assert_eq!(theirs.decrypt(Pkcs1v15Encrypt, &wrapped).unwrap(), secret);
            let wrapped = public.encrypt(&mut OsRng, Pkcs1v15Encrypt, &secret).unwrap();
            assert_eq!(ours.unwrap_pkcs1(&wrapped).unwrap().expose(), secret);
            operations += 7;
        }
    }
    println!("{operations} operations compared");
}

#[test]
fn data_ids_of_any_bytes_are_the_label() {
    for Both { ours, theirs } in keys() {
        for secret in LENGTHS.map(secret) {
            let wrapped = ours.public().wrap(&secret, &RAW).unwrap();
            let number = BigUint::from_bytes_be(&wrapped).modpow(theirs.d(), theirs.n());
            assert_eq!(decode(&left_padded(&number, theirs.size()), &oaep_label(&RAW)).unwrap(), secret);

            for label in [oaep_label(&RAW).to_vec(), vec![]] {
                let number = BigUint::from_bytes_be(&encode(&secret, &label, theirs.size()));
                let wrapped = left_padded(&number.modpow(theirs.e(), theirs.n()), theirs.size());
                let opened = ours.unwrap(&wrapped, &RAW);
                assert_eq!(opened.is_some(), !label.is_empty(), "{} bits", theirs.size() * 8);
                assert!(opened.is_none_or(|opened| opened.expose() == secret));
            }
        }
    }
}

/// Every way in which an encoded message can be wrong is refused, and the right one beside it is not.
#[test]
fn a_malformed_encoding_is_refused() {
    let Both { ours, theirs } = Both::ours_first(2048);
    let (size, label) = (theirs.size(), oaep_label(&RAW));
    let open = |encoded: &[u8]| {
        let number = BigUint::from_bytes_be(encoded).modpow(theirs.e(), theirs.n());
        let wrapped = left_padded(&number, size);
        ours.unwrap(&wrapped, &RAW).map(|opened| opened.expose().to_vec())
    };
    let good = block(&secret(32), &label, size);
    assert_eq!(open(&mask(&good, size)), Some(secret(32)));
    // The data block is lHash (32), zeros, 0x01, the secret (32).
    let one = good.len() - 33;
    for (what, at, value) in [
        ("label hash, first byte", 0, good[0] ^ 1),
        ("label hash, last byte", 31, good[31] ^ 1),
        ("first padding byte", 32, 1 << 7),
        ("last padding byte", one - 1, 2),
        ("separator is 0", one, 0),
        ("separator is 2", one, 2),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        let opened = open(&mask(&bad, size));
        // Without a separator of its own a secret may still have a byte 1: this one has not.
        assert_eq!(opened, None, "{what}");
    }
    let mut zeros = good.clone();
    zeros[32..].fill(0);
    assert_eq!(open(&mask(&zeros, size)), None, "no separator at all");
    let mut first = mask(&good, size);
    first[0] = 1;
    assert_eq!(open(&first), None, "first byte of the encoded message");
    // With nothing between label hash and separator the secret is as long as it can be.
    let longest = secret(size - 66);
    assert_eq!(open(&encode(&longest, &label, size)), Some(longest.clone()));
    assert_eq!(ours.public().wrap(&longest, &RAW).unwrap().len(), size);
    assert!(ours.public().wrap(&secret(size - 65), &RAW).is_err());
}

#[test]
fn key_ids_and_encodings_agree() {
    for Both { ours, theirs } in keys() {
        let spki = theirs.to_public_key().to_public_key_der().unwrap();
        assert_eq!(ours.public().spki_der(), spki.as_bytes());
        assert_eq!(ours.id(), KeyId(Sha256::digest(spki.as_bytes()).into()));
        assert_eq!(ours.public().bits(), theirs.size() * 8);
        let again = PublicKey::from_spki_der(spki.as_bytes()).unwrap();
        assert_eq!(again.id(), ours.id());
        let back = RsaPublicKey::from_public_key_der(ours.public().spki_der()).unwrap();
        assert_eq!(back, theirs.to_public_key());
        assert_eq!(RsaPrivateKey::from_pkcs8_der(ours.to_pkcs8_der().unwrap().expose()).unwrap(), theirs);
    }
}

/// EME-OAEP, RFC 8017, section 7.1.1, step 2, with a fixed seed.
fn encode(secret: &[u8], label: &[u8], size: usize) -> Vec<u8> {
    mask(&block(secret, label, size), size)
}

fn block(secret: &[u8], label: &[u8], size: usize) -> Vec<u8> {
    [Sha256::digest(label).as_slice(), &vec![0; size - 66 - secret.len()], &[1], secret].concat()
}

fn mask(block: &[u8], size: usize) -> Vec<u8> {
    let seed = [0x5e; 32];
    let masked = xor(block, &mgf1(&seed, size - 33));
    [&[0][..], &xor(&seed, &mgf1(&masked, 32)), &masked].concat()
}

/// EME-OAEP, RFC 8017, section 7.1.2, step 3.
fn decode(encoded: &[u8], label: &[u8]) -> Option<Vec<u8>> {
    let (seed, masked) = encoded.strip_prefix(&[0])?.split_at(32);
    let block = xor(masked, &mgf1(&xor(seed, &mgf1(masked, 32)), masked.len()));
    let rest = block.strip_prefix(Sha256::digest(label).as_slice())?;
    let one = rest.iter().position(|byte| *byte != 0)?;
    (rest[one] == 1).then(|| rest[one + 1..].to_vec())
}

/// MGF1 with SHA-256, RFC 8017, appendix B.2.1.
fn mgf1(seed: &[u8], len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for counter in 0u32.. {
        if out.len() >= len {
            break;
        }
        out.extend_from_slice(
            &Sha256::new().chain_update(seed).chain_update(counter.to_be_bytes()).finalize(),
        );
    }
    out.truncate(len);
    out
}

fn xor(left: &[u8], right: &[u8]) -> Vec<u8> {
    left.iter().zip(right).map(|(left, right)| left ^ right).collect()
}

fn left_padded(number: &BigUint, size: usize) -> Vec<u8> {
    let bytes = number.to_bytes_be();
    [vec![0; size - bytes.len()], bytes].concat()
}
