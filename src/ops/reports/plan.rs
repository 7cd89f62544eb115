//! Finds ranges of names that hold about as many each, without listing all of a large location.
//!
//! A small location is listed whole. Of a large one pages are listed at chosen places: a page tells how dense names are
//! there, so places are chosen where most names seem to be, and in turn where nobody has looked yet. A place at which
//! nothing is found up to the next one shrinks what is left to look at.

use futures_util::StreamExt as _;

use crate::location::Location;
use crate::location::argument::Target;
use crate::location::range::Range;
use crate::ops::runtime;
use crate::store::{ListOptions, Listed, Right};
use crate::{Error, Result};

/// How many names a request lists.
const PAGE: usize = 1000;
/// How deep the last name is looked for.
const DEPTH: usize = 6;

/// How to plan.
#[derive(Clone, Copy, Debug)]
pub struct PlanOptions {
    /// How many ranges.
    pub shards: usize,
    /// A location with so many names is listed whole.
    pub exact: usize,
    /// How many pages of a larger one are listed at the most; by default 8 for each range and 128.
    pub pages: Option<usize>,
}

impl PlanOptions {
    /// So many ranges.
    pub fn new(shards: usize) -> Self {
        Self { shards, exact: 50_000, pages: None }
    }
}

/// One range, and how many names it holds or seems to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The stored names, relative to the target.
    pub range: Range,
    /// How many objects, older versions left out.
    pub names: u64,
}

/// Ranges that adjoin, the first without a start and the last without an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In the order of names. Where there are too few names, fewer than were asked for.
    pub shards: Vec<Shard>,
    /// Whether everything was listed; else the numbers of names are estimates.
    pub exact: bool,
    /// How many pages were listed.
    pub pages: u64,
}

/// Plans ranges of the stored names below a target.
///
/// # Errors
/// `Usage` for no range at all; what the store fails with.
pub fn plan_shards(target: &Target, options: &PlanOptions) -> Result<Plan> {
    if options.shards == 0 {
        return Err(Error::usage("no shard is no plan").hint("ask for one or more"));
    }
    let prefix = target.stored_prefix();
    let mut lister = Lister { location: &target.location, prefix, pages: 0, alphabet: Alphabet::default() };
    runtime::start()?.block_on(async {
        let key = lister.location.key(&lister.prefix);
        lister.location.store().require(&key, &[Right::List]).await?;
        let first = lister.names(None, options.exact + 1).await?;
        if first.len() <= options.exact {
            let shards = evenly(&first, options.shards);
            return Ok(Plan { shards, exact: true, pages: lister.pages });
        }
        let shards = lister.sample(&first, options).await?;
        Ok(Plan { shards, exact: false, pages: lister.pages })
    })
}

/// Ranges of a whole list.
fn evenly(names: &[String], shards: usize) -> Vec<Shard> {
    let mut borders: Vec<usize> = (1..shards).map(|number| number * names.len() / shards).collect();
    borders.retain(|at| *at > 0);
    borders.dedup();
    let ends = borders.iter().copied().chain([names.len()]);
    let starts = [0].into_iter().chain(borders.iter().copied());
    let border = |at: usize| names.get(at).filter(|_| at > 0).cloned();
    let shard = |(start, end): (usize, usize)| Shard {
        range: Range { from: border(start), until: border(end) },
        names: (end - start) as u64,
    };
    starts.zip(ends).map(shard).collect()
}

struct Lister<'a> {
    location: &'a Location,
    /// The folder that the names are below.
    prefix: String,
    pages: u64,
    alphabet: Alphabet,
}

/// Names from one that is there up to the next interval's.
struct Interval {
    first: String,
    /// How many were seen, and the last of these where there are more.
    seen: usize,
    last: Option<String>,
    /// Whether nothing can be between.
    whole: bool,
}

impl Interval {
    fn new(first: String, page: &[String], until: &str) -> Self {
        let here = page.iter().filter(|name| &***name < until).count();
        let more = here == page.len() && here >= PAGE;
        let last = page.last().filter(|_| more).cloned();
        Self { first, seen: here + 1, last, whole: false }
    }

    /// How many names there seem to be, as dense as what was seen.
    fn names(&self, until: &str, alphabet: &Alphabet) -> f64 {
        let seen = self.seen as f64;
        let Some(last) = self.last.as_deref() else { return seen };
        let scale = Scale::of(alphabet, &self.first, until);
        let (start, width) = (scale.place(&self.first), scale.place(until) - scale.place(&self.first));
        let share = (scale.place(last) - start) / width;
        if share.is_finite() && share > 0.0 { seen / share.max(1e-9) } else { seen }
    }

    /// Whether looking once more would tell no more.
    fn is_known(&self, until: &str) -> bool {
        self.whole || self.last.as_deref().is_none_or(|last| last >= until)
    }
}

impl Lister<'_> {
    /// So many names behind one, relative to the target.
    async fn names(&mut self, after: Option<&str>, most: usize) -> Result<Vec<String>> {
        let prefix = self.location.key(&self.prefix);
        let after = after.map(|after| format!("{prefix}{after}"));
        let options = ListOptions { prefix, after, ..ListOptions::default() };
        let mut listed = self.location.store().list(options);
        let mut names: Vec<String> = vec![];
        while names.len() < most
            && let Some(object) = listed.next().await
        {
            let Listed::Object(object) = object? else { continue };
            let stored =
                self.location.relative(&object.key).and_then(|stored| stored.strip_prefix(&self.prefix));
            names.extend(stored.map(ToOwned::to_owned));
        }
        self.pages += names.len().div_ceil(PAGE).max(1) as u64;
        // A few of them show what they are made of.
        names.iter().step_by(97).for_each(|name| self.alphabet.add(name));
        Ok(names)
    }

    async fn sample(&mut self, first: &[String], options: &PlanOptions) -> Result<Vec<Shard>> {
        let (Some(start), Some(known)) = (first.first(), first.last()) else { return Ok(vec![]) };
        let end = self.behind_the_last().await?.max(format!("{known}~"));
        // What was listed to see how large it is counts as it is.
        let listed = Interval { first: start.clone(), seen: first.len() - 1, last: None, whole: true };
        let page = self.names(Some(known), PAGE).await?;
        let mut intervals = vec![listed, Interval::new(known.clone(), &page, &end)];
        let most = options.pages.unwrap_or(8 * options.shards + 128) as u64;
        for turn in 0.. {
            if self.pages >= most {
                break;
            }
            let whole = Scale::of(&self.alphabet, start, &end);
            let until = |at: usize| intervals.get(at + 1).map_or(&*end, |next| &*next.first);
            // In turn where most names seem to be, and where nobody has looked for long.
            let worth = |at: usize| match turn % 3 {
                2 => whole.place(until(at)) - whole.place(&intervals[at].first),
                _ => intervals[at].names(until(at), &self.alphabet),
            };
            let open = (0..intervals.len()).filter(|at| !intervals[*at].is_known(until(*at)));
            let Some(at) = open.max_by(|one, other| worth(*one).total_cmp(&worth(*other))) else { break };
            let (first, until) = (intervals[at].first.clone(), until(at).to_owned());
            let middle = Scale::of(&self.alphabet, &first, &until).between(&first, &until, 0.5);
            // What was seen already needs no look.
            let middle =
                middle.filter(|middle| intervals[at].last.as_ref().is_some_and(|last| last < middle));
            let Some(middle) = middle else {
                intervals[at].whole = true;
                continue;
            };
            let page = self.names(Some(&middle), PAGE + 1).await?;
            match page.split_first() {
                Some((next, rest)) if *next < until => {
                    intervals.insert(at + 1, Interval::new(next.clone(), rest, &until));
                }
                // Nothing is between the middle and what comes next: an interval without names says so.
                _ => intervals.insert(at + 1, Interval { first: middle, seen: 0, last: None, whole: true }),
            }
        }
        Ok(divide(&intervals, &end, options.shards, &self.alphabet))
    }

    /// A name that nothing comes behind, and few before it.
    async fn behind_the_last(&mut self) -> Result<String> {
        let mut name = String::new();
        for _ in 0..DEPTH {
            let (mut low, mut high) = (b' ', b'~' + 1);
            // The greatest character behind which something is.
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                match self.names(Some(&format!("{name}{}", char::from(middle))), 1).await?.is_empty() {
                    true => high = middle,
                    false => low = middle,
                }
            }
            name.push(char::from(low));
        }
        name.push_str("~~~~");
        // Names may go on behind what people type.
        while !self.names(Some(&name), 1).await?.is_empty() {
            name = match name.pop() {
                Some('\u{10ffff}') | None => return Ok("\u{10ffff}".repeat(4)),
                Some(_) => format!("{}\u{10ffff}", name),
            };
        }
        Ok(name)
    }
}

/// Borders where the sum of all estimates is divided.
fn divide(intervals: &[Interval], end: &str, shards: usize, alphabet: &Alphabet) -> Vec<Shard> {
    let until = |at: usize| intervals.get(at + 1).map_or(end, |next| &*next.first);
    let names: Vec<f64> =
        intervals.iter().enumerate().map(|(at, interval)| interval.names(until(at), alphabet)).collect();
    let total: f64 = names.iter().sum();
    let each = total / shards as f64;
    let (mut borders, mut sum): (Vec<String>, f64) = (vec![], 0.0);
    for ((at, interval), names) in intervals.iter().enumerate().zip(names) {
        let until = until(at);
        while borders.len() + 1 < shards {
            let wanted = each * (borders.len() + 1) as f64 - sum;
            if wanted >= names {
                break;
            }
            let share = wanted / names;
            let scale = Scale::of(alphabet, &interval.first, until);
            let border =
                scale.between(&interval.first, until, share).unwrap_or_else(|| interval.first.clone());
            if borders.last().is_some_and(|last| *last >= border) {
                break;
            }
            borders.push(border);
        }
        sum += names;
    }
    let starts = [None].into_iter().chain(borders.iter().cloned().map(Some));
    let ends = borders.iter().cloned().map(Some).chain([None]);
    let names = each.round() as u64;
    starts.zip(ends).map(|(from, until)| Shard { range: Range { from, until }, names }).collect()
}

/// What names are made of: the characters that people type, as far as they were seen.
#[derive(Default)]
struct Alphabet {
    characters: Vec<u8>,
}

impl Alphabet {
    fn add(&mut self, name: &str) {
        for byte in name.bytes().filter(|byte| matches!(byte, b' '..=b'~')) {
            if let Err(at) = self.characters.binary_search(&byte) {
                self.characters.insert(at, byte);
            }
        }
    }

    /// One digit for the end of a name, one for each character, and one for all behind them.
    fn base(&self) -> f64 {
        self.characters.len() as f64 + 2.0
    }

    fn digit(&self, byte: u8) -> f64 {
        match self.characters.binary_search(&byte) {
            Ok(at) => at as f64 + 1.0,
            Err(at) => at as f64 + 0.5,
        }
    }

    fn character(&self, digit: f64) -> char {
        let at = (digit as usize).saturating_sub(1);
        self.characters.get(at).map_or('~', |byte| char::from(*byte))
    }
}

/// Names as numbers: what stands behind what two of them begin with alike, as digits.
struct Scale<'a> {
    alphabet: &'a Alphabet,
    common: usize,
}

/// As many as a number can hold.
const DIGITS: i32 = 8;

impl<'a> Scale<'a> {
    fn of(alphabet: &'a Alphabet, one: &str, other: &str) -> Self {
        let alike = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
        let common = (0..=alike).rev().find(|at| one.is_char_boundary(*at)).unwrap_or(0);
        Self { alphabet, common }
    }

    /// Where a name stands between 0 and 1.
    fn place(&self, name: &str) -> f64 {
        let rest = name.as_bytes().get(self.common..).unwrap_or_default();
        let digits = rest.iter().map(|byte| self.alphabet.digit(*byte));
        digits.zip(1..=DIGITS).map(|(digit, at)| digit / self.alphabet.base().powi(at)).sum()
    }

    /// The name at this share of the way from one to another; nothing where none is between.
    fn between(&self, from: &str, until: &str, share: f64) -> Option<String> {
        let (start, end) = (self.place(from), self.place(until));
        let mut rest = start + (end - start) * share;
        let mut name = from.get(..self.common)?.to_owned();
        for _ in 0..DIGITS {
            rest *= self.alphabet.base();
            let digit = rest.floor().clamp(0.0, self.alphabet.base() - 1.0);
            rest -= digit;
            name.push(self.alphabet.character(digit));
            if from < &*name && &*name < until && name.len() > self.common + 3 {
                break;
            }
        }
        (from < &*name && &*name < until).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::store::memory::{Features, MemoryStore};
    use crate::store::{Info, OnlyIf};

    fn target(names: impl IntoIterator<Item = String>) -> Target {
        let store = MemoryStore::new(Features { versions: false, conditions: true });
        for name in names {
            let key = format!("p/q/{name}");
            store.state().put(&key, Bytes::new(), &OnlyIf::Always, &Info::new()).unwrap();
        }
        Target::new(Location::new(Arc::new(store), "p").unwrap(), b"q/").unwrap()
    }

    /// How many names each range holds; together they hold all.
    fn held(target: &Target, plan: &Plan, all: usize) -> Vec<usize> {
        let mut lister = Lister {
            location: &target.location,
            prefix: target.stored_prefix(),
            pages: 0,
            alphabet: Alphabet::default(),
        };
        let names = runtime::start().unwrap().block_on(lister.names(None, usize::MAX)).unwrap();
        let count = |shard: &Shard| names.iter().filter(|name| shard.range.has(name)).count();
        let held: Vec<usize> = plan.shards.iter().map(count).collect();
        assert_eq!((held.iter().sum::<usize>(), names.len()), (all, all), "{plan:?}");
        for pair in plan.shards.windows(2) {
            assert_eq!(pair[0].range.until, pair[1].range.from);
        }
        held
    }

    #[test]
    fn a_small_location_is_divided_exactly() {
        let target = target((0..1000).map(|number| format!("f{number:04}.enc")));
        let plan = plan_shards(&target, &PlanOptions::new(7)).unwrap();
        assert!(plan.exact && plan.shards.len() == 7, "{plan:?}");
        let held = held(&target, &plan, 1000);
        assert!(held.iter().all(|count| (142..=143).contains(count)), "{held:?}");
        assert_eq!(
            held.iter().map(|count| *count as u64).collect::<Vec<_>>(),
            plan.shards.iter().map(|shard| shard.names).collect::<Vec<_>>()
        );
    }

    #[test]
    fn few_names_make_few_ranges_that_hold_everything() {
        for (names, shards, expected) in [(0, 3, 1), (1, 3, 1), (2, 5, 2), (3, 3, 3), (9, 1, 1)] {
            let target = target((0..names).map(|number| format!("{number}")));
            let plan = plan_shards(&target, &PlanOptions::new(shards)).unwrap();
            assert_eq!(plan.shards.len(), expected, "{names} {shards}");
            held(&target, &plan, names);
        }
        assert!(plan_shards(&target([]), &PlanOptions::new(0)).is_err());
    }

    #[test]
    fn a_large_location_is_sampled_and_divided_about_evenly() {
        // Numbers, folders by date with more in later years, and hashes.
        let numbers = || (0..30_000).map(|number| format!("img{number:06}.enc")).collect::<Vec<_>>();
        let years = || -> Vec<String> {
            let year = |year: usize| {
                (0..year * 2000).map(move |at| format!("20{:02}/{:02}/{at:06}.enc", year + 10, at % 12))
            };
            (1..6).flat_map(year).collect()
        };
        let hashes = || -> Vec<String> {
            (0..30_000_u64).map(|at| format!("{:016x}.enc", at.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect()
        };
        for names in [numbers(), years(), hashes()] {
            let (all, sample) = (names.len(), names[7].clone());
            let target = target(names);
            let options = PlanOptions { shards: 8, exact: 2000, pages: Some(150) };
            let plan = plan_shards(&target, &options).unwrap();
            let held = held(&target, &plan, all);
            assert!(!plan.exact && plan.shards.len() == 8, "{sample}: {plan:?}");
            assert!(plan.pages <= 155, "{sample}: {}", plan.pages);
            assert!(held.iter().all(|count| *count < 2 * all / 8), "{sample}: {held:?}");
        }
    }
}
