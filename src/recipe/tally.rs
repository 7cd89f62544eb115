//! What the files of a folder or bucket agree on.

use std::collections::BTreeMap;

use super::Parameters;

/// How many files must agree.
pub const QUORUM: u64 = 8;

/// The votes of one kind of file.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) votes: BTreeMap<Parameters, u64>,
    /// Files that no candidate fits.
    pub(super) unexplained: u64,
    pub(super) slow_tries: u64,
}

impl Tally {
    /// What a quorum agrees on, the most frequent first. A wrong candidate fits one file in 256 by chance, so it takes
    /// one in 16 of the files that nothing before explains, too.
    pub(super) fn settled(&self) -> Vec<Parameters> {
        let mut ranking: Vec<_> = self.votes.iter().collect();
        ranking.sort_by_key(|(_, votes)| std::cmp::Reverse(**votes));
        let mut left = self.unexplained + self.votes.values().sum::<u64>();
        let mut settled = Vec::new();
        for (parameters, votes) in ranking {
            if *votes < QUORUM || votes * CHANCE < left {
                break;
            }
            settled.push(*parameters);
            left -= votes;
        }
        settled
    }

    pub(super) fn votes_for(&self, parameters: &Parameters) -> u64 {
        self.votes.get(parameters).copied().unwrap_or_default()
    }

    /// Whether a slow candidate is worth trying on a file that quick ones leave in doubt.
    pub(super) fn may_try_slow(&self, parameters: &Parameters) -> bool {
        self.slow_tries < SLOW_TRIES || self.votes_for(parameters) > 0
    }

    pub(super) fn absorb(&mut self, other: &Self) {
        for (parameters, votes) in &other.votes {
            *self.votes.entry(*parameters).or_default() += votes;
        }
        self.unexplained += other.unexplained;
        self.slow_tries += other.slow_tries;
    }
}

/// By chance a wrong candidate fits one file in 256; sixteen times as many are not chance.
pub(super) const CHANCE: u64 = 16;
/// On how many files slow candidates are tried that never fit one.
const SLOW_TRIES: u64 = 16;
