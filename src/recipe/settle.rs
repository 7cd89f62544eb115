//! Which derivation and which reading of the password made a file: settled by agreement, never guessed.
//!
//! A file of the recipe does not say how it was made, and the only check is its padding: `n` bytes of it stand behind a
//! wrong key by chance once in 256^n times, most often a single byte. So one file alone proves little. A [`Settler`]
//! is shown the files of a folder or a bucket first ([`add`](Settler::add)): what fits at least [`QUORUM`] of them, and
//! more than chance would, is settled. Then it decides file by file ([`decide`](Settler::decide)):
//!
//! - a file that fits what is settled is taken. When its padding is short, so that it may fit by chance, the other
//!   candidates are tried too, and one that fits better, or fits another file here, makes the file undecided; where
//!   some files fit nothing, a padding of one byte is taken with a warning;
//! - a file that does not fit what is settled is an error, even when another candidate fits: one foreign or damaged
//!   file neither breaks its folder nor comes out wrong;
//! - where nothing is settled, a file is taken only when exactly one candidate fits it, and with a warning.
//!
//! What is left to chance: a single odd file of a way that is not tried, or a damaged one, among files that all agree
//! passes as one of them once in 256 times, as it does with OpenSSL.
//!
//! A folder may hold files of several ways; each is settled by a quorum of its own. Files with a one-line password,
//! where both readings are one, and those with several lines are counted apart.

use std::fmt::Display;

use super::tally::{CHANCE, QUORUM, Tally};
use super::trial::{Fit, KDF_FLAG, KDFS, STRONG, Trial};
use super::{Named, Parameters, PasswordBlock, Sample};
use crate::crypto::recipe::RecipeKey;
use crate::{Error, Result};

/// Why a decision holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// At least [`QUORUM`] files agree.
    Agreed,
    /// Nothing else fits this file; its padding is all that says so.
    Alone,
    /// The password says so itself: sidekey wrote it.
    Declared,
    /// The user said so.
    Named,
}

/// How one file was made, and its key.
#[derive(Debug)]
pub struct Decision {
    parameters: Parameters,
    basis: Basis,
    block: usize,
    key: RecipeKey,
    warning: Option<String>,
}

impl Decision {
    /// How the file was made; `parameters().kdf` is what an envelope's `Recipe-Kdf` header records.
    pub fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// Why this holds.
    pub fn basis(&self) -> Basis {
        self.basis
    }

    /// Which of the blocks given is the password.
    pub fn block(&self) -> usize {
        self.block
    }

    /// The file's AES key and IV.
    pub fn key(&self) -> &RecipeKey {
        &self.key
    }

    /// The file's AES key and IV, by value.
    pub fn into_key(self) -> RecipeKey {
        self.key
    }

    /// What the user must be told before relying on it.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}

/// Counts what the files of a folder or bucket agree on, then decides for each.
///
/// ```
/// # use std::io::Cursor;
/// # use sidekey::crypto::recipe::{Kdf, derive};
/// # use sidekey::recipe::{Basis, ContainerEncoding, PasswordBlock, Sample, Settler, encrypt};
/// # let files: Vec<_> = (0..8u8).map(|at| {
/// #     let mut file = Vec::new();
/// #     let key = derive(Kdf::EvpSha256, &[b'a' + at], &[at; 8]);
/// #     encrypt(&b"hello"[..], &key, &[at; 8], ContainerEncoding::Raw, &mut file).unwrap();
/// #     let sample = Sample::read(&mut Cursor::new(file)).unwrap();
/// #     (vec![PasswordBlock::from_bytes(vec![b'a' + at, b'\n'])], sample)
/// # }).collect();
/// let mut settler = Settler::default();
/// for (blocks, sample) in &files {
///     settler.add(blocks, sample);
/// }
/// for (blocks, sample) in &files {
///     let decision = settler.decide(blocks, sample)?;
///     assert_eq!(decision.basis(), Basis::Agreed);
///     assert_eq!(decision.parameters().to_string(), "sha256");
/// }
/// # Ok::<(), sidekey::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Settler {
    named: Named,
    one_line: Tally,
    several_lines: Tally,
}

/// What one file has to say; made apart from the counting, so that several threads can.
#[derive(Clone, Debug)]
pub struct Ballot {
    several_lines: bool,
    tried_slow: bool,
    vote: Vote,
}

impl Ballot {
    /// Whether the file needs no others to tell how it was made: it says so itself, or the user does.
    pub fn is_decided(&self) -> bool {
        matches!(self.vote, Vote::Abstained)
    }
}

#[derive(Clone, Debug)]
enum Vote {
    For(Parameters),
    /// More than one candidate fits.
    Several,
    Nothing,
    /// There is but one candidate; it needs no agreement.
    Abstained,
}

impl Settler {
    /// Tries only what is `named`.
    pub fn new(named: Named) -> Self {
        Self { named, ..Self::default() }
    }

    /// Tries the candidates on one file and counts what fits. Cheap once something is settled.
    pub fn add(&mut self, blocks: &[PasswordBlock], sample: &Sample) {
        let ballot = self.examine(blocks, sample);
        self.count(&ballot);
    }

    /// The first half of [`Settler::add`], which takes the time.
    pub fn examine(&self, blocks: &[PasswordBlock], sample: &Sample) -> Ballot {
        let trial = Trial::new(self.named, blocks, sample);
        let tally = self.tally(&trial);
        let settled = tally.settled();
        let (mut vote, mut tried_slow) = (Vote::Abstained, false);
        if trial.candidates.len() > 1 {
            let known = trial.settled_fits(&settled);
            vote = match known.as_slice() {
                [only] if only.padding >= STRONG => Vote::For(only.parameters),
                _ => {
                    let fits;
                    (fits, tried_slow) = trial.all_fits(tally, 1);
                    match fits.as_slice() {
                        [] => Vote::Nothing,
                        [only] => Vote::For(only.parameters),
                        _ => Vote::Several,
                    }
                }
            };
        }
        Ballot { several_lines: trial.several_lines, tried_slow, vote }
    }

    /// The second half of [`Settler::add`].
    pub fn count(&mut self, ballot: &Ballot) {
        let tally = match ballot.several_lines {
            true => &mut self.several_lines,
            false => &mut self.one_line,
        };
        tally.slow_tries += u64::from(ballot.tried_slow);
        match ballot.vote {
            Vote::For(parameters) => *tally.votes.entry(parameters).or_default() += 1,
            Vote::Nothing => tally.unexplained += 1,
            Vote::Several | Vote::Abstained => {}
        }
    }

    /// Counts everything that `other` counted too: how the folders of a bucket add up to the bucket.
    pub fn absorb(&mut self, other: &Self) {
        self.one_line.absorb(&other.one_line);
        self.several_lines.absorb(&other.several_lines);
    }

    /// What is settled so far, with the number of files that agree.
    pub fn settled(&self) -> Vec<(Parameters, u64)> {
        [&self.one_line, &self.several_lines]
            .into_iter()
            .flat_map(|tally| {
                tally.settled().into_iter().map(|parameters| (parameters, tally.votes_for(&parameters)))
            })
            .collect()
    }

    /// Decides how a file was made, from what the private keys made of its key file and from its two ends.
    ///
    /// # Errors
    /// `Integrity` when it does not fit what the user named, what its password says, what is settled here, or anything
    /// at all; `Input` when several candidates fit and nothing tells which is right.
    pub fn decide(&self, blocks: &[PasswordBlock], sample: &Sample) -> Result<Decision> {
        let trial = Trial::new(self.named, blocks, sample);
        let tally = self.tally(&trial);
        if let [only] = trial.candidates.as_slice() {
            let basis = if only.declared { Basis::Declared } else { Basis::Named };
            let fit = trial.fits(|_| true).pop();
            return fit.map(|fit| fit.decision(basis)).ok_or_else(|| does_not_open_with(&only.parameters));
        }
        match tally.settled() {
            settled if settled.is_empty() => decide_alone(&trial, tally),
            settled => decide_among(&trial, tally, &settled),
        }
    }

    fn tally(&self, trial: &Trial<'_>) -> &Tally {
        match trial.several_lines {
            true => &self.several_lines,
            false => &self.one_line,
        }
    }
}

/// A file among others that agree on `settled`.
fn decide_among(trial: &Trial<'_>, tally: &Tally, settled: &[Parameters]) -> Result<Decision> {
    let mut fits = trial.settled_fits(settled);
    if fits.len() > 1 {
        return Err(undecided(&fits));
    }
    let Some(fit) = fits.pop() else {
        let others = trial.other_fits(settled, tally);
        return Err(fits_no_agreement(tally, settled, &others));
    };
    if fit.padding >= STRONG {
        return Ok(fit.decision(Basis::Agreed));
    }
    let rivals = trial.other_fits(settled, tally);
    if rivals.iter().any(|rival| rival.padding > fit.padding || tally.votes_for(&rival.parameters) > 0) {
        fits.push(fit);
        fits.extend(rivals);
        return Err(undecided(&fits));
    }
    let single = fit.padding == 1;
    let mut decision = fit.decision(Basis::Agreed);
    let (parameters, votes) = (decision.parameters, tally.votes_for(&decision.parameters));
    if !rivals.is_empty() {
        let rivals = list(rivals.iter().map(|rival| &rival.parameters));
        decision.warning =
            Some(format!("{rivals} would fit it too; taken as {parameters}, as {votes} others are"));
    } else if single && tally.unexplained > 0 {
        // What made those may have made this one too, and one byte of padding is often chance.
        decision.warning = Some(format!(
            "only one byte says that it was made with {parameters}, as {votes} others are, and {} here fit nothing; \
             look at the result",
            tally.unexplained
        ));
    }
    Ok(decision)
}

/// A file where nothing is settled.
fn decide_alone(trial: &Trial<'_>, tally: &Tally) -> Result<Decision> {
    let (mut fits, _) = trial.all_fits(tally, STRONG);
    if fits.len() > 1 {
        return Err(undecided(&fits));
    }
    let Some(fit) = fits.pop() else {
        return Err(does_not_open());
    };
    // Among many files that nothing fits, some fit by chance.
    if tally.unexplained >= CHANCE * tally.votes_for(&fit.parameters).max(1) {
        return Err(undecided(&[fit]));
    }
    let mut decision = fit.decision(Basis::Alone);
    decision.warning = Some(format!(
        "only its last block says that it was made with {}; look at the result, or name what made it with {}",
        decision.parameters,
        decision.parameters.flags()
    ));
    Ok(decision)
}

impl Fit {
    fn decision(self, basis: Basis) -> Decision {
        Decision { parameters: self.parameters, basis, block: self.block, key: self.key, warning: None }
    }
}

fn does_not_open_with(parameters: &Parameters) -> Error {
    Error::integrity(format!(
        "its password does not open it with {parameters}: the container is damaged or cut short, the key file belongs to \
         another file, or it was not made with {parameters}"
    ))
}

fn does_not_open() -> Error {
    Error::integrity(
        "its password does not open it: the container is damaged or cut short, the key file belongs to another file, or \
         it was made in another way than those that are tried",
    )
    .hint(format!("if it was made with -iter N, say so: --recipe-kdf pbkdf2:N (tried: {})", list(KDFS.iter())))
}

fn fits_no_agreement(tally: &Tally, settled: &[Parameters], others: &[Fit]) -> Error {
    let agreed = list(settled.iter());
    let count: u64 = settled.iter().map(|parameters| tally.votes_for(parameters)).sum();
    let error = Error::integrity(format!(
        "it does not fit {agreed}, which {count} others agree on: it is damaged, its key file belongs to another file, \
         or it was made in another way"
    ));
    match others {
        [] => error.hint("if it was made in another way, decrypt it apart and name that with --recipe-kdf"),
        others => error.hint(format!(
            "{} would fit, perhaps by chance; to try, decrypt it apart and name that with {}",
            list(others.iter().map(|fit| &fit.parameters)),
            settled.first().map_or(KDF_FLAG, Parameters::flags)
        )),
    }
}

fn undecided(fits: &[Fit]) -> Error {
    let candidates = list(fits.iter().map(|fit| &fit.parameters));
    Error::input(format!("cannot tell how it was made: {candidates} would fit, perhaps by chance")).hint(format!(
        "name what made it with {}, or give it together with at least {QUORUM} files made in the same way",
        fits.first().map_or(KDF_FLAG, |fit| fit.parameters.flags())
    ))
}

fn list(items: impl Iterator<Item = impl Display>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    match items.as_slice() {
        [init @ .., last] if !init.is_empty() => format!("{} and {last}", init.join(", ")),
        _ => items.concat(),
    }
}
