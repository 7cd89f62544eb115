//! Published vectors for every primitive, and the kernel beside the crates that do one chain at a time.

use aes::Aes256;
use cipher::{BlockModeEncrypt, KeyIvInit};
use cmac::Mac;
use proptest::prelude::*;
use sidekey::DataId;
use sidekey::crypto::derive::Derivation;
use sidekey::crypto::lanes::{CbcDecryptor, CbcEncryptor, CbcLane, Cmac, MacLane, SealLane};
use sidekey::secret::FileKey;

fn hex(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn key32(text: &str) -> [u8; 32] {
    hex(text).try_into().unwrap()
}

const SP800_38A_KEY: &str = "603deb1015ca71be2b73aef0857d7781 1f352c073b6108d72d9810a30914dff4";
const SP800_38A_TEXT: &str = "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51
    30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710";

/// NIST SP 800-38A, F.2.5 and F.2.6: CBC-AES256.
#[test]
fn nist_sp_800_38a_cbc_aes256() {
    let cipher = hex("f58c4c04d6e5f1ba779eabfb5f7bfbd6 9cfc4e967edb808d679f777bc6702c7d
         39f23369a9d9bacfa530e26304231461 b2eb05e2c39be9fcda6c19078c6a9d1b");
    let iv: [u8; 16] = hex("000102030405060708090a0b0c0d0e0f").try_into().unwrap();
    let key = key32(SP800_38A_KEY);
    let mut lanes_text = vec![hex(SP800_38A_TEXT); 11];
    let mut lanes: Vec<_> =
        lanes_text.iter_mut().map(|text| CbcLane { iv, blocks: text.as_chunks_mut().0 }).collect();
    CbcEncryptor::new(&key).encrypt(&mut lanes);
    for text in &mut lanes_text {
        assert_eq!(*text, cipher);
        CbcDecryptor::new(&key).decrypt(&iv, text.as_chunks_mut().0);
        assert_eq!(*text, hex(SP800_38A_TEXT));
    }
}

/// NIST SP 800-38B, appendix D.3 (and its published examples): CMAC-AES256 of the 64-byte message.
#[test]
fn nist_sp_800_38b_cmac_aes256() {
    let text = hex(SP800_38A_TEXT);
    let (first, rest) = text.split_first_chunk::<16>().unwrap();
    let mut lanes = vec![];
    lanes.resize_with(9, || MacLane { state: *first, blocks: rest.as_chunks().0 });
    Cmac::new(&key32(SP800_38A_KEY)).tag(&mut lanes);
    for lane in lanes {
        assert_eq!(lane.state.to_vec(), hex("e1992190549f6ed5696a2c056c315410"));
    }
}

/// RFC 5869, A.1: HKDF-SHA-256.
#[test]
fn rfc_5869_hkdf_sha256() {
    let hkdf = hkdf::Hkdf::<sha2::Sha256>::new(Some(&hex("000102030405060708090a0b0c")), &[0x0b; 22]);
    let mut okm = [0; 42];
    hkdf.expand(&hex("f0f1f2f3f4f5f6f7f8f9"), &mut okm).unwrap();
    let expected = "3cb25f25faacd57a90434f64d0362f2a 2d2d0a90cf1a5a4c5db02d56ecc4c5bf 34007208d5b887185865";
    assert_eq!(okm.to_vec(), hex(expected));
}

/// RFC 7914, section 11: PBKDF2-HMAC-SHA-256.
#[test]
fn rfc_7914_pbkdf2_sha256() {
    let mut key = [0; 64];
    pbkdf2::pbkdf2_hmac::<sha2::Sha256>(b"passwd", b"salt", 1, &mut key);
    let expected = "55ac046e56e3089fec1691c22544b605 f94185216dde0465e68b9d57c20dacbc
        49ca9cccf179b645991664b39d77ef31 7c71b845b1e30bd509112041d3a19783";
    assert_eq!(key.to_vec(), hex(expected));
}

/// Made with `openssl kdf -keylen 32 -kdfopt digest:SHA2-256 … HKDF`.
/// RFC 7914, section 12: scrypt.
#[test]
fn rfc_7914_scrypt() {
    for (password, salt, log_n, r, p, key) in [
        (
            "",
            "",
            4,
            1,
            1,
            "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442
                           fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906",
        ),
        (
            "password",
            "NaCl",
            10,
            8,
            16,
            "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162
                                         2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640",
        ),
        (
            "pleaseletmein",
            "SodiumChloride",
            14,
            8,
            1,
            "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2
          d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887",
        ),
    ] {
        let mut derived = [0; 64];
        let params = scrypt::Params::new(log_n, r, p).unwrap();
        scrypt::scrypt(password.as_bytes(), salt.as_bytes(), &params, &mut derived).unwrap();
        assert_eq!(derived.to_vec(), hex(key), "{password}");
    }
}

#[test]
fn derived_keys_are_what_openssl_derives() {
    let file_key = FileKey::from_bytes(&[0x42; 32]);
    let derivation = Derivation::new(&file_key, &[0x24; 32]);
    let out = |salt: &str, info: &str| {
        let output = std::process::Command::new("openssl")
            .args(["kdf", "-keylen", "32", "-kdfopt", "digest:SHA2-256", "-binary"])
            .args(["-kdfopt", &format!("hexkey:{}", "42".repeat(32))])
            .args(["-kdfopt", &format!("hexsalt:{salt}")])
            .args(["-kdfopt", &format!("info:{info}"), "HKDF"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let header = "24".repeat(32);
    assert_eq!(derivation.enc_key().expose().to_vec(), out(&header, "sidekey/1 encrypt"));
    assert_eq!(derivation.mac_key().expose().to_vec(), out(&header, "sidekey/1 mac"));
    assert_eq!(derivation.commitment().to_vec(), out(&header, "sidekey/1 commit"));
    let sse_key = Derivation::sse_key(&file_key, &DataId([0x17; 16]));
    assert_eq!(sse_key.expose().to_vec(), out(&"17".repeat(16), "sidekey/1 sse-c"));
}

/// The value that the format document gives; made with HKDF of Python's `cryptography`.
#[test]
fn the_key_for_a_service_is_that_of_the_worked_example() {
    let file_key: [u8; 32] = std::array::from_fn(|at| at as u8);
    let data_id = DataId(std::array::from_fn(|at| 0xa0 + at as u8));
    let key = Derivation::sse_key(&FileKey::from_bytes(&file_key), &data_id);
    let expected = hex("86d352904852752188cf88c7f717442a32c468ca62ccb0b6a67fdad9e61d651a");
    assert_eq!(key.expose().to_vec(), expected);
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/format.md")).unwrap();
    let line = document.lines().find_map(|line| line.strip_prefix("SSE-C key          "));
    assert_eq!(hex(line.unwrap()), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The lockstep kernel is the `cbc` and `cmac` crates, whatever the lengths of the lanes.
    #[test]
    fn lanes_agree_with_single_chains(
        key in any::<[u8; 32]>(),
        lengths in prop::collection::vec(1usize..40, 1..20),
        seed in any::<u64>(),
    ) {
        let mut texts: Vec<Vec<u8>> = lengths
            .iter()
            .enumerate()
            .map(|(lane, len)| (0..len * 16).map(|at| (seed as usize ^ (lane * 7 + at * 13)) as u8).collect())
            .collect();
        let plain = texts.clone();
        let iv = |lane: usize| [lane as u8; 16];
        let mut lanes: Vec<_> = texts
            .iter_mut()
            .enumerate()
            .map(|(lane, text)| CbcLane { iv: iv(lane), blocks: text.as_chunks_mut().0 })
            .collect();
        CbcEncryptor::new(&key).encrypt(&mut lanes);
        let mut macs: Vec<_> =
            texts.iter().enumerate().map(|(lane, text)| MacLane { state: iv(lane), blocks: text.as_chunks().0 }).collect();
        Cmac::new(&key).tag(&mut macs);
        let mac_key = key.map(|byte| !byte);
        let mut sealed = plain.clone();
        let mut lanes: Vec<_> = sealed
            .iter_mut()
            .enumerate()
            .map(|(lane, text)| SealLane { state: [!7; 16], iv: iv(lane), blocks: text.as_chunks_mut().0 })
            .collect();
        CbcEncryptor::new(&key).seal(&Cmac::new(&mac_key), &mut lanes);
        let tags: Vec<_> = lanes.iter().map(|lane| lane.state).collect();
        prop_assert_eq!(&sealed, &texts);
        for (lane, ((text, mac), plain)) in texts.iter().zip(&macs).zip(&plain).enumerate() {
            let mut expected = plain.clone();
            let mut chain = cbc::Encryptor::<Aes256>::new(&key.into(), &iv(lane).into());
            chain.encrypt_blocks(cipher::array::Array::slice_as_chunks_mut(&mut expected).0);
            prop_assert_eq!(text, &expected);
            CbcDecryptor::new(&key).decrypt(&iv(lane), expected.as_chunks_mut().0);
            prop_assert_eq!(&expected, plain);
            let mut single = <cmac::Cmac<Aes256> as cmac::KeyInit>::new(&key.into());
            single.update(&iv(lane));
            single.update(text);
            prop_assert_eq!(mac.state.to_vec(), single.finalize().into_bytes().to_vec());
            let mut single = <cmac::Cmac<Aes256> as cmac::KeyInit>::new(&mac_key.into());
            for part in [&[!7; 16], &iv(lane), text.as_slice()] {
                single.update(part);
            }
            prop_assert_eq!(tags[lane].to_vec(), single.finalize().into_bytes().to_vec());
        }
    }
}
