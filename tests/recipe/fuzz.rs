//! The fuzz body of the recipe, run on 100,000 seeded mutations of good files.

use std::io::Cursor;

use sidekey::crypto::recipe::{RecipeKey, derive};
use sidekey::recipe::{Reader, Sample, detect_container, detect_key_file};

use crate::support::{ENCODINGS, FORMS, MD5, Seeded, container, decrypt};

/// Any bytes: nothing panics, and what one function says no other contradicts.
fn body(bytes: &[u8], key: &RecipeKey) -> bool {
    let key_file = detect_key_file(bytes);
    if let Some(key_file) = &key_file {
        assert!(detect_container(bytes).is_none());
        assert!((256..=1024).contains(&key_file.block_len()));
        let again = detect_key_file(&key_file.encode()).unwrap();
        assert_eq!(again.block_len(), key_file.block_len());
    }
    let plaintext = decrypt(bytes, key);
    let sample = Sample::read(&mut Cursor::new(bytes));
    if let Ok(plaintext) = &plaintext {
        let sample = sample.unwrap();
        assert_eq!(sample.padding(key), Some(16 - (plaintext.len() % 16) as u8));
        assert_eq!(sample.data_id(), Reader::new(bytes).unwrap().data_id());
    }
    key_file.is_some() || plaintext.is_ok()
}

#[test]
fn a_hundred_thousand_mutations() {
    let random = Seeded::new("fuzz");
    let key = derive(MD5, b"password", &[5; 8]);
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for (len, encoding) in
        [0, 30, 100, 4000].into_iter().flat_map(|len| ENCODINGS.map(|encoding| (len, encoding)))
    {
        seeds.push(container(&vec![len as u8; len], &key, &[5; 8], encoding));
    }
    let raw = detect_key_file(&[random.bytes::<256>(), random.bytes::<256>()].concat()).unwrap();
    let text = container(&random.bytes::<230>(), &key, &[5; 8], ENCODINGS[1]);
    assert_eq!(FORMS.len(), 3);
    seeds.extend([raw.encode(), text[20..].to_vec(), b"A".repeat(400)]);
    let mut accepted = 0;
    for _ in 0..100_000 {
        let mut bytes = seeds[random.below(seeds.len() as u64) as usize].clone();
        for _ in 0..random.below(3) {
            mutate(&mut bytes, &random);
        }
        accepted += usize::from(body(&bytes, &key));
    }
    println!("recipe: 100000 mutations, {accepted} of them still files of the recipe");
    assert!((30_000..90_000).contains(&accepted), "{accepted}");
}

fn mutate(bytes: &mut Vec<u8>, random: &Seeded) {
    let at = random.below(bytes.len() as u64 + 1) as usize;
    let characters = b"\n\r =*A+/\0\xFF";
    let character = characters[random.below(characters.len() as u64) as usize];
    match random.below(5) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, character),
        2 if at < bytes.len() => bytes[at] = character,
        3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        4 if at < bytes.len() => drop(bytes.remove(at)),
        _ => bytes.push(character),
    }
}
