//! What one file can have been made with, and which of it fits its last block.

use std::fmt;

use super::tally::Tally;
use super::{PasswordBlock, PasswordReading, Sample};
use crate::crypto::recipe::{Kdf, OPENSSL_ROUNDS, RecipeKey, WRITTEN_ROUNDS, derive};

/// How a file was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Parameters {
    /// The key derivation.
    pub kdf: Kdf,
    /// The reading of the password, or nothing when it is one line and all readings are the same.
    pub reading: Option<PasswordReading>,
}

impl Parameters {
    /// The flags of the command line that name them.
    pub(super) fn flags(&self) -> &'static str {
        self.reading.map_or(KDF_FLAG, |_| BOTH_FLAGS)
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reading {
            Some(reading) => write!(f, "{} {reading}", self.kdf),
            None => write!(f, "{}", self.kdf),
        }
    }
}

/// What the user says about all files: `--recipe-kdf` and `--recipe-password`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The only key derivation to try.
    pub kdf: Option<Kdf>,
    /// The only reading of the password to try.
    pub reading: Option<PasswordReading>,
}

/// The candidates of one file.
pub(super) struct Trial<'a> {
    pub(super) sample: &'a Sample,
    pub(super) blocks: &'a [PasswordBlock],
    pub(super) candidates: Vec<Candidate>,
    pub(super) several_lines: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Candidate {
    pub(super) block: usize,
    pub(super) parameters: Parameters,
    pub(super) declared: bool,
    /// Too dear to be tried on every file; never said of what the user names.
    pub(super) slow: bool,
}

/// A candidate whose key gives the file's last block a good padding.
pub(super) struct Fit {
    pub(super) block: usize,
    pub(super) parameters: Parameters,
    pub(super) padding: u8,
    pub(super) key: RecipeKey,
}

impl<'a> Trial<'a> {
    pub(super) fn new(named: Named, blocks: &'a [PasswordBlock], sample: &'a Sample) -> Self {
        let mut trial = Self { sample, blocks, candidates: Vec::new(), several_lines: false };
        for (at, block) in blocks.iter().enumerate() {
            if let Some(kdf) = block.declared_kdf() {
                let parameters = Parameters { kdf, reading: None };
                trial.candidates.push(Candidate { block: at, parameters, declared: true, slow: false });
                continue;
            }
            let differ = block.readings_differ();
            trial.several_lines |= differ;
            let readings = match named.reading {
                _ if !differ => vec![None],
                Some(reading) => vec![Some(reading)],
                None => vec![Some(PasswordReading::Joined), Some(PasswordReading::FirstLine)],
            };
            for kdf in named.kdf.as_ref().map_or(&KDFS[..], std::slice::from_ref) {
                let slow =
                    named.kdf.is_none() && matches!(kdf, Kdf::Pbkdf2 { rounds } if *rounds > SLOW_ROUNDS);
                trial.candidates.extend(readings.iter().map(|reading| {
                    let parameters = Parameters { kdf: *kdf, reading: *reading };
                    Candidate { block: at, parameters, declared: false, slow }
                }));
            }
        }
        trial
    }

    /// The candidates that are `wanted` and fit.
    pub(super) fn fits(&self, wanted: impl Fn(&Candidate) -> bool) -> Vec<Fit> {
        self.candidates.iter().filter(|candidate| wanted(candidate)).filter_map(|it| self.fit(it)).collect()
    }

    /// The settled ones that fit.
    pub(super) fn settled_fits(&self, settled: &[Parameters]) -> Vec<Fit> {
        self.fits(|candidate| settled.contains(&candidate.parameters))
    }

    /// Those beside the settled ones that fit; slow ones only where some file speaks for them.
    pub(super) fn other_fits(&self, settled: &[Parameters], tally: &Tally) -> Vec<Fit> {
        self.fits(|candidate| {
            !settled.contains(&candidate.parameters)
                && (!candidate.slow || tally.votes_for(&candidate.parameters) > 0)
        })
    }

    /// All that fit, and whether slow ones were tried: only where no quick one fits with a padding of `enough`, and
    /// not for ever where they never fit.
    pub(super) fn all_fits(&self, tally: &Tally, enough: u8) -> (Vec<Fit>, bool) {
        let mut fits = self.fits(|candidate| !candidate.slow);
        let affordable = |candidate: &Candidate| candidate.slow && tally.may_try_slow(&candidate.parameters);
        let try_slow = fits.iter().all(|fit| fit.padding < enough) && self.candidates.iter().any(affordable);
        if try_slow {
            fits.extend(self.fits(affordable));
        }
        (fits, try_slow)
    }

    fn fit(&self, candidate: &Candidate) -> Option<Fit> {
        let Candidate { block, parameters, .. } = *candidate;
        let reading = parameters.reading.unwrap_or(PasswordReading::FirstLine);
        let password = self.blocks.get(block)?.password(reading);
        let key = derive(parameters.kdf, password.expose(), self.sample.salt());
        let padding = self.sample.padding(&key)?;
        Some(Fit { block, parameters, padding, key })
    }
}

/// What is tried where nothing is named.
pub(super) const KDFS: [Kdf; 4] = [
    Kdf::EvpSha256,
    Kdf::EvpMd5,
    Kdf::Pbkdf2 { rounds: OPENSSL_ROUNDS },
    Kdf::Pbkdf2 { rounds: WRITTEN_ROUNDS },
];
/// A padding that is at least so many bytes long does not stand there by chance (once in 16 million files).
pub const STRONG: u8 = 3;
/// More PBKDF2 rounds than this are tried only where there is a reason.
const SLOW_ROUNDS: u32 = 100_000;
/// The flags that name parameters.
pub(super) const KDF_FLAG: &str = "--recipe-kdf";
const BOTH_FLAGS: &str = "--recipe-kdf and --recipe-password";
