//! Ranges of stored names: a share of a location that one of many workers does.
//!
//! Every object belongs to exactly one of adjoining ranges, by its own stored name. A border may therefore stand between
//! the objects of one pair; who meets such a pair looks up what it does not see.

/// Names from one on, up to another that is no longer of it; both compared by their bytes, as stores list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    /// The first name; all from the first on where there is nothing here.
    pub from: Option<String>,
    /// The first name behind it; all to the last where there is nothing here.
    pub until: Option<String>,
}

/// More than any character that names commonly have, a few times over.
const HIGH: &str = "~~~~";

impl Range {
    /// Whether it is everything.
    pub fn is_all(&self) -> bool {
        self.from.is_none() && self.until.is_none()
    }

    /// Whether no name can be in it.
    pub fn is_empty(&self) -> bool {
        matches!((&self.from, &self.until), (Some(from), Some(until)) if from >= until)
    }

    /// Whether a name is in it.
    pub fn has(&self, stored: &str) -> bool {
        self.from.as_deref().is_none_or(|from| from <= stored) && !self.is_behind(stored)
    }

    /// Whether a name comes behind all that is in it.
    pub(crate) fn is_behind(&self, stored: &str) -> bool {
        self.until.as_deref().is_some_and(|until| until <= stored)
    }

    /// Whether one of its borders may stand between names of which `first` is the start and `last` the last.
    pub(crate) fn cuts(&self, first: &str, last: &str) -> bool {
        [&self.from, &self.until].into_iter().flatten().any(|border| first <= &**border && &**border <= last)
    }

    /// The same with `folder` in front of its borders.
    pub(crate) fn below(&self, folder: &str) -> Self {
        let whole = |border: &Option<String>| border.as_ref().map(|border| format!("{folder}{border}"));
        Self { from: whole(&self.from), until: whole(&self.until) }
    }

    /// A name that comes before the first of it, and before few others: stores list what is greater than a name.
    pub(crate) fn before(&self) -> Option<String> {
        let mut name = self.from.clone()?;
        let last = name.pop()?;
        let lower = (u32::from(last)).checked_sub(1).and_then(char::from_u32);
        if let Some(lower) = lower.filter(|lower| !lower.is_control() && last <= '~') {
            name.push(lower);
            name.push_str(HIGH);
        }
        (!name.is_empty()).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: &str, until: &str) -> Range {
        let border = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        Range { from: border(from), until: border(until) }
    }

    #[test]
    fn what_it_begins_with_is_in_it_and_what_it_ends_with_is_not() {
        assert!(range("b", "c").has("b") && range("b", "c").has("b/x") && !range("b", "c").has("c"));
        assert!(range("", "c").has("") && range("b", "").has("zz") && !range("b", "").has("a"));
        assert!(range("b", "b").is_empty() && !range("b", "").is_empty() && range("", "").is_all());
    }

    #[test]
    fn what_stores_are_asked_for_comes_close_before_it() {
        for from in ["b", "a/b.enc", " ", "~", "é", "a\u{1}", "abc0", "x."] {
            let before = range(from, "").before();
            assert!(
                before.as_deref().is_none_or(|before| before < from && !before.is_empty()),
                "{from} {before:?}"
            );
        }
        assert_eq!(range("a/b", "").before().unwrap(), "a/a~~~~");
        assert_eq!(range("aé", "").before().unwrap(), "a");
        assert_eq!(range("", "").before(), None);
    }
}
