//! What settles a file's parameters: never wrong in silence.

use std::sync::Mutex;
use std::thread;

use sidekey::ErrorKind;
use sidekey::crypto::recipe::{Kdf, derive};
use sidekey::crypto::rsa::PrivateKey;
use sidekey::recipe::{
    Basis, ContainerEncoding, KeyFile, KeyFileForm, Named, NewPair, Parameters, PasswordBlock,
    PasswordReading, Settler,
};

use crate::support::{
    ECHOES, Echo, KDFS, MD5, PBKDF2, Pair, SHA256, Seeded, container, decide, decrypt, look, make_pair,
    settle,
};

const FOLDER: usize = 20;
const FOLDERS: usize = 100;
const ALONE: usize = 200;

#[test]
fn two_thousand_files_in_folders_of_one_variant_are_all_decided_right() {
    let identity = PrivateKey::generate(2048).unwrap();
    let variants: Vec<_> = KDFS.into_iter().flat_map(|kdf| ECHOES.map(|echo| (kdf, echo))).collect();
    let (right, warned) = (Mutex::new(0), Mutex::new(0));
    thread::scope(|scope| {
        for half in 0..2 {
            let (identity, variants, right, warned) = (&identity, &variants, &right, &warned);
            scope.spawn(move || {
                let random = Seeded::new(["folders, even", "folders, odd"][half]);
                for folder in (half..FOLDERS).step_by(2) {
                    let (kdf, echo) = variants[folder % variants.len()];
                    let pairs: Vec<_> = (0..FOLDER)
                        .map(|_| make_pair(&random, identity, kdf, echo, random.below(400) as usize))
                        .collect();
                    let settler = settle(&pairs, identity);
                    for pair in &pairs {
                        let decision = decide(&settler, pair, identity).unwrap();
                        assert_eq!(decision.parameters(), Parameters { kdf, reading: echo.reading() });
                        assert_eq!(decision.basis(), Basis::Agreed);
                        assert!(decrypt(&pair.container, decision.key()).unwrap() == pair.plaintext);
                        *right.lock().unwrap() += 1;
                        *warned.lock().unwrap() += usize::from(decision.warning().is_some());
                    }
                }
            });
        }
    });
    let (right, warned) = (right.into_inner().unwrap(), warned.into_inner().unwrap());
    println!("recipe: {right} files in {FOLDERS} folders: 0 wrong, 0 undecided, {warned} with a warning");
    assert_eq!(right, 2000);
}

#[test]
fn a_file_alone_is_right_or_undecided_and_never_without_a_warning() {
    let identity = PrivateKey::generate(2048).unwrap();
    let random = Seeded::new("alone");
    let (mut right, mut undecided) = (0, 0);
    for at in 0..ALONE {
        let (kdf, echo) = (KDFS[at % 3], ECHOES[at / 3 % 3]);
        let pair = make_pair(&random, &identity, kdf, echo, random.below(400) as usize);
        match decide(&Settler::default(), &pair, &identity) {
            Ok(decision) => {
                assert_eq!(decision.parameters(), Parameters { kdf, reading: echo.reading() });
                assert_eq!(decision.basis(), Basis::Alone);
                assert!(
                    decision
                        .warning()
                        .unwrap()
                        .starts_with("only its last block says that it was made with ")
                );
                assert!(decrypt(&pair.container, decision.key()).unwrap() == pair.plaintext);
                right += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Input, "{error}");
                assert!(error.to_string().starts_with("cannot tell how it was made: "), "{error}");
                assert!(
                    error.remedy().unwrap().starts_with("name what made it with --recipe-kdf"),
                    "{error}"
                );
                undecided += 1;
            }
        }
    }
    println!("recipe: {ALONE} files alone: 0 wrong, {undecided} undecided, {right} right with a warning");
    assert!(undecided < ALONE / 20);
}

#[test]
fn files_that_nothing_fits_are_never_taken_where_they_are_many() {
    let identity = PrivateKey::generate(2048).unwrap();
    let random = Seeded::new("foreign");
    let foreign = Kdf::Pbkdf2 { rounds: 7 };
    let pairs: Vec<_> = (0..300).map(|_| make_pair(&random, &identity, foreign, Echo::Joined, 40)).collect();
    let settler = settle(&pairs, &identity);
    assert_eq!(settler.settled(), []);
    let mut by_chance = 0;
    for pair in &pairs {
        let error = decide(&settler, pair, &identity).unwrap_err();
        by_chance += usize::from(error.kind() == ErrorKind::Input);
    }
    println!("recipe: 300 files of a way that is not tried: 0 taken, {by_chance} fitted by chance");
    assert!(by_chance > 0);
    let named = Settler::new(Named { kdf: Some(foreign), reading: None });
    for pair in &pairs {
        let decision = decide(&named, pair, &identity).unwrap();
        assert_eq!((decision.basis(), decision.warning()), (Basis::Named, None));
        assert!(decrypt(&pair.container, decision.key()).unwrap() == pair.plaintext);
    }
}

#[test]
fn a_folder_of_two_ways_settles_both_and_is_never_wrong() {
    let identity = PrivateKey::generate(2048).unwrap();
    let random = Seeded::new("mixed");
    let pairs: Vec<_> = (0..1200)
        .map(|at| {
            let kdf = if at % 3 == 0 { MD5 } else { SHA256 };
            (kdf, make_pair(&random, &identity, kdf, Echo::Joined, random.below(400) as usize))
        })
        .collect();
    let settler = settle(pairs.iter().map(|(_, pair)| pair), &identity);
    let settled: Vec<_> = settler.settled().into_iter().map(|(parameters, _)| parameters.kdf).collect();
    assert_eq!(settled, [SHA256, MD5]);
    let mut undecided = 0;
    for (kdf, pair) in &pairs {
        match decide(&settler, pair, &identity) {
            Ok(decision) => assert_eq!((decision.parameters().kdf, decision.basis()), (*kdf, Basis::Agreed)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Input);
                undecided += 1;
            }
        }
    }
    println!("recipe: 1200 files of two ways in one folder: 0 wrong, {undecided} undecided");
    assert!((1..30).contains(&undecided), "{undecided}");
}

#[test]
fn a_few_files_of_another_way_are_reported_and_never_wrong_in_silence() {
    let identity = PrivateKey::generate(2048).unwrap();
    let random = Seeded::new("few");
    let make = |kdf| make_pair(&random, &identity, kdf, Echo::Joined, random.below(400) as usize);
    let most: Vec<_> = (0..40).map(|_| make(MD5)).collect();
    let (mut refused, mut fitting, mut told) = (0, 0, 0);
    // Each odd file joins the folder alone, so that nothing else speaks for it: the hardest case.
    let base = settle(&most, &identity);
    for at in 0..400 {
        let odd = make(if at % 8 == 0 { PBKDF2 } else { SHA256 });
        let mut settler = base.clone();
        let (blocks, sample) = look(&odd, &identity);
        settler.add(&blocks, &sample);
        match settler.decide(&blocks, &sample) {
            Ok(decision) => {
                // Both fit with one byte of padding, and the folder's word counts; but it is said.
                assert_eq!(decision.parameters().kdf, MD5);
                assert!(decision.warning().unwrap().contains("would fit it too; taken as md5, as "));
                told += 1;
            }
            Err(error) if error.kind() == ErrorKind::Input => fitting += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Integrity);
                assert!(error.to_string().starts_with("it does not fit md5, which "), "{error}");
                assert!(error.remedy().unwrap().contains("would fit, perhaps by chance"), "{error}");
                refused += 1;
            }
        }
    }
    println!(
        "recipe: 400 odd files: 0 wrong in silence, {refused} refused, {fitting} undecided, {told} told"
    );
    assert!(fitting > 0 && refused > 380);
}

#[test]
fn files_of_a_way_that_is_not_tried_pass_as_others_only_with_a_warning() {
    let identity = PrivateKey::generate(2048).unwrap();
    let random = Seeded::new("untried");
    let foreign = Kdf::Pbkdf2 { rounds: 7 };
    let make = |kdf| make_pair(&random, &identity, kdf, Echo::Joined, 100);
    let most: Vec<_> = (0..320).map(|at| make(if at % 16 == 0 { foreign } else { MD5 })).collect();
    let settler = settle(&most, &identity);
    let mut passed = 0;
    for odd in (0..600).map(|_| make(foreign)) {
        if let Ok(decision) = decide(&settler, &odd, &identity) {
            assert!(
                decision.warning().unwrap().starts_with("only one byte says that it was made with md5, as ")
            );
            passed += 1;
        }
    }
    println!(
        "recipe: 600 files of a way that is not tried, among others: {passed} passed, each with a warning"
    );
    assert!(passed > 0);
}

#[test]
fn damaged_and_foreign_files_do_not_break_their_folder() {
    let identity = PrivateKey::generate(2048).unwrap();
    let random = Seeded::new("damaged");
    let mut pairs: Vec<_> =
        (0..12).map(|_| make_pair(&random, &identity, SHA256, Echo::Newlines, 100)).collect();
    let stranger = make_pair(&random, &identity, SHA256, Echo::Newlines, 100);
    pairs[3].key_file = stranger.key_file;
    let len = pairs[7].container.len();
    pairs[7].container = container(b"cut", &derive(MD5, b"other", &[3; 8]), &[3; 8], ContainerEncoding::Raw);
    assert_ne!(len, pairs[7].container.len());
    let settler = settle(&pairs, &identity);
    for (at, pair) in pairs.iter().enumerate() {
        let decided = decide(&settler, pair, &identity);
        if at != 3 && at != 7 {
            assert!(decrypt(&pair.container, decided.unwrap().key()).unwrap() == pair.plaintext);
            continue;
        }
        let error = decided.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity);
        assert_eq!(
            error.to_string(),
            "it does not fit sha256 first-line, which 10 others agree on: it is damaged, its key file belongs to another \
             file, or it was made in another way"
        );
    }
}

#[test]
fn what_is_named_is_all_that_is_tried() {
    let identity = PrivateKey::generate(2048).unwrap();
    let random = Seeded::new("named");
    let pair = make_pair(&random, &identity, MD5, Echo::Newlines, 100);
    let named = |kdf, reading| {
        let (blocks, sample) = look(&pair, &identity);
        Settler::new(Named { kdf, reading }).decide(&blocks, &sample)
    };
    let first = Some(PasswordReading::FirstLine);
    assert_eq!(named(Some(MD5), first).unwrap().basis(), Basis::Named);
    // One of the two leaves two candidates or more, and then only the padding tells.
    assert_eq!(named(Some(MD5), None).unwrap().basis(), Basis::Alone);
    assert_eq!(named(None, first).unwrap().basis(), Basis::Alone);
    let error = named(Some(SHA256), first).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(
        error.to_string().starts_with("its password does not open it with sha256 first-line: "),
        "{error}"
    );
    let error = named(None, Some(PasswordReading::Joined)).unwrap_err();
    assert!(error.to_string().starts_with("its password does not open it: "), "{error}");
    assert_eq!(
        error.remedy(),
        Some(
            "if it was made with -iter N, say so: --recipe-kdf pbkdf2:N \
             (tried: sha256, md5, pbkdf2:10000 and pbkdf2:600000)"
        )
    );
}

#[test]
fn a_pair_of_ours_needs_no_agreement() {
    let identity = PrivateKey::generate(2048).unwrap();
    let random = Seeded::new("ours");
    let new = NewPair::generate(&random, 1234).unwrap();
    let key_file = new.key_file(identity.public(), KeyFileForm::Base64OneLine).unwrap().encode();
    let mut bytes = Vec::new();
    new.encrypt(&b"hello"[..], ContainerEncoding::Base64Wrapped, &mut bytes).unwrap();
    let mut pair = Pair { container: bytes, key_file, plaintext: b"hello".to_vec() };
    // Not even in a folder of another way, and whatever is named for the others.
    let others: Vec<_> = (0..10).map(|_| make_pair(&random, &identity, MD5, Echo::Joined, 100)).collect();
    let (blocks, sample) = look(&pair, &identity);
    let named = Settler::new(Named { kdf: Some(MD5), reading: None });
    for settler in [Settler::default(), settle(&others, &identity), named] {
        let decision = settler.decide(&blocks, &sample).unwrap();
        assert_eq!((decision.basis(), decision.warning()), (Basis::Declared, None));
        assert_eq!(decision.parameters().to_string(), "pbkdf2:1234");
        assert_eq!(blocks[decision.block()].opened_by(), Some(identity.id()));
        assert_eq!(decrypt(&pair.container, decision.key()).unwrap(), pair.plaintext);
    }
    pair.container = others[0].container.clone();
    let error = decide(&Settler::default(), &pair, &identity).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(error.to_string().starts_with("its password does not open it with pbkdf2:1234: "), "{error}");
}

#[test]
fn a_user_of_600000_rounds_is_found_too() {
    let identity = PrivateKey::generate(2048).unwrap();
    let random = Seeded::new("600000");
    let kdf = Kdf::Pbkdf2 { rounds: 600_000 };
    let pairs: Vec<_> = (0..9).map(|_| make_pair(&random, &identity, kdf, Echo::Joined, 60)).collect();
    let settler = settle(&pairs, &identity);
    let decision = decide(&settler, &pairs[0], &identity).unwrap();
    assert_eq!((decision.parameters().kdf, decision.basis()), (kdf, Basis::Agreed));
}

#[test]
fn folders_add_up_to_a_bucket() {
    let identity = PrivateKey::generate(2048).unwrap();
    let random = Seeded::new("bucket");
    let pairs: Vec<_> = (0..12).map(|_| make_pair(&random, &identity, SHA256, Echo::Mixed, 33)).collect();
    let mut bucket = Settler::default();
    for folder in pairs.chunks(3) {
        let folder = settle(folder, &identity);
        assert_eq!(folder.settled(), []);
        bucket.absorb(&folder);
    }
    let reading = Some(PasswordReading::Joined);
    assert_eq!(bucket.settled(), [(Parameters { kdf: SHA256, reading }, 12)]);
    assert_eq!(decide(&bucket, &pairs[0], &identity).unwrap().basis(), Basis::Agreed);
}

#[test]
fn two_private_keys_that_both_give_bytes_are_told_apart() {
    let identity = PrivateKey::generate(2048).unwrap();
    let random = Seeded::new("two");
    let pair = make_pair(&random, &identity, SHA256, Echo::Joined, 100);
    let (mut blocks, sample) = look(&pair, &identity);
    blocks.insert(0, PasswordBlock::from_bytes(random.bytes::<90>().to_vec()));
    let decision = Settler::default().decide(&blocks, &sample).unwrap();
    assert_eq!(decision.block(), 1);
    assert!(!blocks[0].is_text() && blocks[1].is_text());
}

#[test]
fn debug_output_shows_no_secret() {
    let identity = PrivateKey::generate(2048).unwrap();
    let random = Seeded::new("debug");
    let pair = make_pair(&random, &identity, MD5, Echo::Joined, 100);
    let (blocks, sample) = look(&pair, &identity);
    let decision = Settler::new(Named { kdf: Some(MD5), reading: None }).decide(&blocks, &sample).unwrap();
    let shown = format!("{decision:?} {blocks:?}");
    assert!(shown.contains("RecipeKey(..)") && shown.contains("SecretBytes(..)"), "{shown}");
    let password = String::from_utf8(blocks[0].expose().to_vec()).unwrap();
    assert!(!shown.contains(&password[..8]), "{shown}");
    let small =
        KeyFile::wrap(&PasswordBlock::from_bytes(vec![b'x'; 246]), identity.public(), KeyFileForm::Raw);
    assert_eq!(small.unwrap_err().kind(), ErrorKind::Input);
}
