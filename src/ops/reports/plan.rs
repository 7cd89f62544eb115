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
    let mut lister = Lister { location: &target.location, prefix, pages: 0 };
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
}

/// Names from one that is there up to the next interval's.
struct Interval {
    first: String,
    /// How many, as far as is known.
    names: f64,
    /// Whether looking once more would tell no more.
    known: bool,
}

impl Lister<'_> {
    /// So many names behind one, relative to the target.
    async fn names(&mut self, after: Option<&str>, most: usize) -> Result<Vec<String>> {
        let prefix = self.location.key(&self.prefix);
        let after = after.map(|after| format!("{prefix}{after}"));
        let options = ListOptions { prefix, after, ..ListOptions::default() };
        let mut listed = self.location.store().list(options);
        let mut names = vec![];
        while names.len() < most
            && let Some(object) = listed.next().await
        {
            let Listed::Object(object) = object? else { continue };
            let stored =
                self.location.relative(&object.key).and_then(|stored| stored.strip_prefix(&self.prefix));
            names.extend(stored.map(ToOwned::to_owned));
        }
        self.pages += names.len().div_ceil(PAGE).max(1) as u64;
        Ok(names)
    }

    async fn sample(&mut self, first: &[String], options: &PlanOptions) -> Result<Vec<Shard>> {
        let (Some(start), Some(known)) = (first.first(), first.last()) else { return Ok(vec![]) };
        let end = self.behind_the_last().await?.max(format!("{known}~"));
        let whole = Scale::of(start, &end);
        // What was listed to see how large it is counts as it is.
        let mut intervals = vec![
            Interval { first: start.clone(), names: first.len() as f64 - 1.0, known: true },
            self.look(known.clone(), &end).await?,
        ];
        let most = options.pages.unwrap_or(8 * options.shards + 128) as u64;
        for turn in 0.. {
            if self.pages >= most {
                break;
            }
            let until = |at: usize| intervals.get(at + 1).map_or(&end, |next| &next.first);
            let worth = |at: usize| match turn % 2 {
                0 => intervals[at].names,
                _ => whole.place(until(at)) - whole.place(&intervals[at].first),
            };
            let open = (0..intervals.len()).filter(|at| !intervals[*at].known);
            let Some(at) = open.max_by(|one, other| worth(*one).total_cmp(&worth(*other))) else { break };
            let (first, until) = (intervals[at].first.clone(), until(at).clone());
            let Some(middle) = Scale::of(&first, &until).between(&first, &until, 0.5) else {
                intervals[at].known = true;
                continue;
            };
            let found = self.names(Some(&middle), PAGE).await?;
            let left = Interval { names: intervals[at].names / 2.0, ..self.look(first, &middle).await? };
            intervals[at] = left;
            if let Some(next) = found.first().filter(|next| **next < until) {
                intervals.insert(at + 1, estimate(next.clone(), &until, &found[1..]));
            }
        }
        Ok(divide(&intervals, &end, options.shards))
    }

    /// How many names there seem to be from one that is there on.
    async fn look(&mut self, first: String, until: &str) -> Result<Interval> {
        let page = self.names(Some(&first), PAGE).await?;
        Ok(estimate(first, until, &page))
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

/// What a page behind a name tells of the names up to another one.
fn estimate(first: String, until: &str, page: &[String]) -> Interval {
    let here = page.iter().filter(|name| &***name < until).count();
    match page.last() {
        Some(last) if here == page.len() && here >= PAGE - 1 => {
            let scale = Scale::of(&first, until);
            let (start, seen) = (scale.place(&first), scale.place(last));
            let share = ((seen - start) / (scale.place(until) - start)).clamp(1e-12, 1.0);
            Interval { first, names: here as f64 / share, known: false }
        }
        _ => Interval { first, names: here as f64 + 1.0, known: true },
    }
}

/// Borders where the sum of all estimates is divided.
fn divide(intervals: &[Interval], end: &str, shards: usize) -> Vec<Shard> {
    let total: f64 = intervals.iter().map(|interval| interval.names).sum();
    let each = total / shards as f64;
    let (mut borders, mut sum): (Vec<String>, f64) = (vec![], 0.0);
    for (at, interval) in intervals.iter().enumerate() {
        let until = intervals.get(at + 1).map_or(end, |next| &next.first);
        while borders.len() + 1 < shards {
            let wanted = each * (borders.len() + 1) as f64 - sum;
            if wanted >= interval.names {
                break;
            }
            let share = wanted / interval.names;
            let scale = Scale::of(&interval.first, until);
            let border =
                scale.between(&interval.first, until, share).unwrap_or_else(|| interval.first.clone());
            if borders.last().is_some_and(|last| *last >= border) {
                break;
            }
            borders.push(border);
        }
        sum += interval.names;
    }
    let starts = [None].into_iter().chain(borders.iter().cloned().map(Some));
    let ends = borders.iter().cloned().map(Some).chain([None]);
    let names = each.round() as u64;
    starts.zip(ends).map(|(from, until)| Shard { range: Range { from, until }, names }).collect()
}

/// Names as numbers: what stands behind what two of them begin with alike, as digits.
struct Scale {
    common: usize,
}

/// One digit for the end, the characters that people type, and one for all behind them.
const BASE: f64 = 97.0;
const DIGITS: i32 = 7;

impl Scale {
    fn of(one: &str, other: &str) -> Self {
        let alike = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
        let common = (0..=alike).rev().find(|at| one.is_char_boundary(*at)).unwrap_or(0);
        Self { common }
    }

    /// Where a name stands between 0 and 1.
    fn place(&self, name: &str) -> f64 {
        let rest = name.as_bytes().get(self.common..).unwrap_or_default();
        let digits = rest.iter().map(|byte| f64::from(byte.clamp(&0x1f, &0x7f) - 0x1f));
        digits.zip(1..=DIGITS).map(|(digit, at)| digit / BASE.powi(at)).sum()
    }

    /// The name at this share of the way from one to another; nothing where none is between.
    fn between(&self, from: &str, until: &str, share: f64) -> Option<String> {
        let (start, end) = (self.place(from), self.place(until));
        let mut rest = start + (end - start) * share;
        let mut name = from.get(..self.common)?.to_owned();
        for _ in 0..DIGITS {
            rest *= BASE;
            let digit = rest.floor().clamp(0.0, BASE - 1.0);
            rest -= digit;
            let byte = (digit as u8 + 0x1f).clamp(b' ', b'~');
            name.push(char::from(byte));
            if from < &*name && &*name < until && name.len() > self.common + 2 {
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
        let mut lister = Lister { location: &target.location, prefix: target.stored_prefix(), pages: 0 };
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
            assert!(plan.pages <= 160, "{sample}: {}", plan.pages);
            assert!(held.iter().all(|count| *count < 2 * all / 8), "{sample}: {held:?}");
        }
    }
}
