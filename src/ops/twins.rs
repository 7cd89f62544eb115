//! Names that differ by Unicode normalisation alone: `café` with one code point for its last letter, and with two. Both
//! are kept, byte for byte; people see one name twice, and some systems cannot hold both.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use icu_normalizer::ComposingNormalizerBorrowed;
use sha2::{Digest as _, Sha256};

/// The names that were noted so far. Of a name that has no twin in any form nothing is kept, which is most of what is
/// ASCII; of others, some 50 bytes.
#[derive(Debug, Default)]
pub struct Twins {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// What was first met in each folder under each normalised name, where it was not the normalised name itself.
    first: HashMap<[u8; 16], Option<Box<[u8]>>>,
    told: HashSet<[u8; 16]>,
}

/// A name, and one that was met before it in the same folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    /// The segment that was noted.
    pub name: Vec<u8>,
    /// The segment that it looks like.
    pub other: Vec<u8>,
}

impl Twins {
    /// Notes a path, and tells which of its segments have a twin: each once.
    pub fn note(&self, path: &[Vec<u8>]) -> Vec<Twin> {
        let normalizer = const { ComposingNormalizerBorrowed::new_nfc() };
        let mut twins = vec![];
        for (at, segment) in path.iter().enumerate() {
            // What is no text has no normalised form.
            let Ok(text) = std::str::from_utf8(segment) else { continue };
            if !may_have_a_twin(text) {
                continue;
            }
            let normal = normalizer.normalize(text);
            let folder = path.get(..at).unwrap_or_default();
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let first = seen.first.entry(digest(folder, normal.as_bytes())).or_insert_with(|| {
                (normal.as_bytes() != segment).then(|| segment.clone().into_boxed_slice())
            });
            let other = first.as_deref().unwrap_or(normal.as_bytes());
            if other != segment {
                let other = other.to_vec();
                if seen.told.insert(digest(folder, segment)) {
                    twins.push(Twin { name: segment.clone(), other });
                }
            }
        }
        twins
    }
}

/// With each code point beyond ASCII by its number, so that the two can be told apart.
impl fmt::Display for Twin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name: &[u8]| -> String {
            let text = String::from_utf8_lossy(name);
            let escaped = text.chars().map(|letter| match letter {
                ' '..='~' if letter != '\\' => letter.to_string(),
                _ => letter.escape_default().to_string(),
            });
            escaped.collect()
        };
        write!(
            f,
            "{} and {} differ by Unicode normalisation alone; both are kept",
            shown(&self.name),
            shown(&self.other)
        )
    }
}

/// Whether another text has the same normalised form as this one, or it is not known. Three characters beyond ASCII become
/// ASCII ones: U+212A, U+037E and U+1FEF.
fn may_have_a_twin(text: &str) -> bool {
    !text.is_ascii() || text.contains(['K', ';', '`'])
}

fn digest(folder: &[Vec<u8>], name: &[u8]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for segment in folder {
        hash.update(segment);
        hash.update(b"/");
    }
    hash.update(name);
    let mut short = [0; 16];
    short.copy_from_slice(&hash.finalize()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<Vec<u8>> {
        text.split('/').map(|segment| segment.as_bytes().to_vec()).collect()
    }

    fn told(twins: &Twins, text: &str) -> Vec<(String, String)> {
        let string = |bytes| String::from_utf8(bytes).unwrap();
        twins.note(&path(text)).into_iter().map(|twin| (string(twin.name), string(twin.other))).collect()
    }

    #[test]
    fn each_twin_is_told_once_whichever_came_first() {
        const ONE: &str = "caf\u{e9}";
        const TWO: &str = "cafe\u{301}";
        for (first, second) in [(ONE, TWO), (TWO, ONE)] {
            let twins = Twins::default();
            let twin = (second.to_owned(), first.to_owned());
            assert_eq!(told(&twins, first), []);
            assert_eq!(told(&twins, first), []);
            assert_eq!(told(&twins, second), std::slice::from_ref(&twin));
            assert_eq!(told(&twins, second), []);
            // Folders are told by what is in them, and other folders have names of their own.
            assert_eq!(told(&twins, &format!("{second}/x")), []);
            assert_eq!(told(&twins, &format!("d/{first}/x")), []);
            assert_eq!(told(&twins, &format!("e/{second}/x")), []);
            assert_eq!(told(&twins, &format!("d/{second}/{first}")), std::slice::from_ref(&twin));
            assert_eq!(told(&twins, &format!("d/{second}/{second}")), [twin]);
        }
    }

    #[test]
    fn three_forms_of_one_name_are_two_twins() {
        let twins = Twins::default();
        let forms = ["\u{212b}", "A\u{30a}", "\u{c5}"];
        let count: Vec<usize> = forms.iter().map(|form| told(&twins, form).len()).collect();
        assert_eq!(count, [0, 1, 1]);
    }

    #[test]
    fn other_names_are_no_twins() {
        let twins = Twins::default();
        for name in ["cafe", "caf\u{e8}", "CAF\u{c9}", "\u{ff21}", "A", "ﬁ", "fi", "K", "k", "x"] {
            assert_eq!(told(&twins, name), [], "{name}");
        }
        assert_eq!(twins.note(&[b"\xffe\xcc\x81".to_vec()]), []);
        assert_eq!(twins.note(&[b"\xff\xc3\xa9".to_vec()]), []);
        assert_eq!(told(&twins, "\u{212a}"), [("\u{212a}".into(), "K".into())]);
    }

    /// Which ASCII characters are the normalised form of others.
    #[test]
    fn no_other_ascii_name_has_a_twin() {
        let normalizer = const { ComposingNormalizerBorrowed::new_nfc() };
        let mut ascii: Vec<String> = (char::from(0x80)..=char::MAX)
            .map(|letter| normalizer.normalize(&letter.to_string()).into_owned())
            .filter(|normal| normal.is_ascii())
            .collect();
        ascii.sort_unstable();
        assert_eq!(ascii, [";", "K", "`"]);
    }

    #[test]
    fn both_can_be_told_apart_and_do_nothing_to_a_terminal() {
        let twin = Twin { name: "e\u{301}\u{1b}\\".into(), other: "\u{e9} \u{1b}\\".into() };
        assert_eq!(
            twin.to_string(),
            "e\\u{301}\\u{1b}\\\\ and \\u{e9} \\u{1b}\\\\ differ by Unicode normalisation alone; both are kept"
        );
    }
}
