//! Which names of a tree an operation works on: patterns as in gitignore(5), in the order in which they were given.
//!
//! - The last pattern that matches a name decides. What none matches is taken, unless the first one is an
//!   [`Rule::Include`]: who begins by saying what he wants wants nothing else.
//! - A pattern that matches a folder counts for all below it that no pattern matches by itself. What is below a folder
//!   that is left out stays out, as in git: nobody looks there.
//! - Names are those below the location, `/` between segments; a pattern with a slash at its start or within is matched
//!   from there, one without against the last segment.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder, Glob};

use crate::{Error, IoContext as _, Result};

/// One rule of a [`Filter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Leave out what matches this pattern.
    Exclude(String),
    /// Take what matches this pattern.
    Include(String),
    /// The lines of this file, in its place: patterns to leave out, with `!` before them to take.
    ExcludeFrom(PathBuf),
}

/// What to take of a tree.
#[derive(Clone, Debug)]
pub struct Filter {
    patterns: Gitignore,
    /// Whether what no pattern matches is left out.
    only_included: bool,
}

impl Default for Filter {
    /// Takes everything.
    fn default() -> Self {
        Self { patterns: Gitignore::empty(), only_included: false }
    }
}

impl Filter {
    /// The rules in their order.
    ///
    /// # Errors
    /// `Usage` for a pattern that is none; what reading a file of patterns fails with.
    pub fn new(rules: &[Rule]) -> Result<Self> {
        let mut builder = GitignoreBuilder::new(".");
        // The default is what braces and brackets mean to git; an unclosed one is a typing error.
        builder.allow_unclosed_class(false);
        for rule in rules {
            match rule {
                Rule::Exclude(pattern) => add(&mut builder, "", pattern)?,
                Rule::Include(pattern) => add(&mut builder, "!", pattern)?,
                Rule::ExcludeFrom(path) => add_file(&mut builder, path)?,
            }
        }
        let patterns = builder.build().map_err(|error| Error::usage("the patterns").because(error))?;
        Ok(Self { patterns, only_included: matches!(rules.first(), Some(Rule::Include(_))) })
    }

    /// Whether it takes everything.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Why the file or folder with this path is left out; nothing when it is taken. A folder may be taken only because
    /// something below it could be.
    pub fn leaves_out(&self, segments: &[Vec<u8>], is_folder: bool) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let (mut path, mut included) = (PathBuf::new(), false);
        for (number, segment) in segments.iter().enumerate() {
            path.push(OsStr::from_bytes(segment));
            let last = number + 1 == segments.len();
            match self.patterns.matched(&path, !last || is_folder) {
                Match::Ignore(glob) => return Some(excluded(glob)),
                Match::Whitelist(_) => included = true,
                Match::None => {}
            }
        }
        let wanted = included || is_folder || !self.only_included;
        (!wanted).then(|| "no --include matches it".to_owned())
    }
}

fn excluded(glob: &Glob) -> String {
    format!("is excluded by {}", glob.original())
}

fn add(builder: &mut GitignoreBuilder, sign: &str, pattern: &str) -> Result<()> {
    let odd = |what: &str| Error::usage(format!("is {what}")).about(format!("pattern {pattern:?}"));
    if pattern.trim().is_empty() || pattern == "/" {
        return Err(odd("empty").hint("patterns are those of gitignore(5)"));
    }
    if pattern.starts_with('!') {
        return Err(odd("not clear: ! turns a pattern round")
            .hint("use --include or --exclude without it, or \\! for a name that begins so"));
    }
    // On the command line nothing is a comment.
    let escape = if pattern.starts_with('#') { "\\" } else { "" };
    let added = builder.add_line(None, &format!("{sign}{escape}{pattern}")).map(drop);
    added.map_err(|error| odd("no pattern of gitignore(5)").because(error))
}

fn add_file(builder: &mut GitignoreBuilder, path: &Path) -> Result<()> {
    let text = std::fs::read(path).context("cannot read", path)?;
    let text = std::str::from_utf8(&text).map_err(|error| {
        Error::input("is not UTF-8, which a file of patterns must be").at(path).because(error)
    })?;
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        if let Err(error) = builder.add_line(None, line) {
            return Err(Error::usage(format!("line {}: is no pattern of gitignore(5)", number + 1))
                .at(path)
                .because(error));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(rules: &[Rule], paths: &[&str]) -> Vec<String> {
        let filter = Filter::new(rules).unwrap();
        let taken = paths.iter().filter(|path| {
            let bare = path.trim_end_matches('/');
            let segments: Vec<Vec<u8>> = bare.split('/').map(|segment| segment.as_bytes().to_vec()).collect();
            filter.leaves_out(&segments, bare.len() < path.len()).is_none()
        });
        taken.map(ToString::to_string).collect()
    }

    fn exclude(pattern: &str) -> Rule {
        Rule::Exclude(pattern.into())
    }

    fn include(pattern: &str) -> Rule {
        Rule::Include(pattern.into())
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let all =
            ["a.log", "keep.log", "x", "d/", "d/a.log", "d/x", "d/cache/", "d/cache/keep.log", "e/x.log/y"];
        for (rules, expected) in [
            (vec![], &all[..]),
            (vec![exclude("*.log")], &["x", "d/", "d/x", "d/cache/"]),
            (
                vec![exclude("/*.log")],
                &["x", "d/", "d/a.log", "d/x", "d/cache/", "d/cache/keep.log", "e/x.log/y"],
            ),
            (
                vec![exclude("*.log"), include("keep.log")],
                &["keep.log", "x", "d/", "d/x", "d/cache/", "d/cache/keep.log"],
            ),
            (vec![include("keep.log"), exclude("*.log")], &["d/", "d/cache/"]),
            (
                vec![include("*.log")],
                &["a.log", "keep.log", "d/", "d/a.log", "d/cache/", "d/cache/keep.log", "e/x.log/y"],
            ),
            // Below a folder that is left out nothing comes back.
            (
                vec![exclude("cache/"), include("keep.log")],
                &["a.log", "keep.log", "x", "d/", "d/a.log", "d/x", "e/x.log/y"],
            ),
            // A folder counts for what is below it.
            (vec![include("d/")], &["d/", "d/a.log", "d/x", "d/cache/", "d/cache/keep.log"]),
            (vec![include("d/"), exclude("x")], &["d/", "d/a.log", "d/cache/", "d/cache/keep.log"]),
            (vec![include("d/cache")], &["d/", "d/cache/", "d/cache/keep.log"]),
            (
                vec![exclude("d/**/keep.log")],
                &["a.log", "keep.log", "x", "d/", "d/a.log", "d/x", "d/cache/", "e/x.log/y"],
            ),
            (
                vec![exclude("*.log/")],
                &["a.log", "keep.log", "x", "d/", "d/a.log", "d/x", "d/cache/", "d/cache/keep.log"],
            ),
            (vec![exclude("*"), include("x")], &["x"]),
        ] {
            assert_eq!(taken(&rules, &all), expected, "{rules:?}");
        }
    }

    #[test]
    fn the_reason_names_the_pattern() {
        let filter = Filter::new(&[exclude("#*"), exclude("*.[ch]")]).unwrap();
        let why = |name: &str| filter.leaves_out(&[name.into()], false);
        assert_eq!(why("#auto#").unwrap(), "is excluded by \\#*");
        assert_eq!(why("a.c").unwrap(), "is excluded by *.[ch]");
        assert_eq!(why("a.d"), None);
        let filter = Filter::new(&[include("*.c")]).unwrap();
        assert_eq!(filter.leaves_out(&[b"\xff".to_vec()], false).unwrap(), "no --include matches it");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "tests make their own files")]
    fn a_file_of_patterns_stands_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("patterns");
        std::fs::write(&path, "\u{feff}# a comment\n\n*.o\n!main.o\r\n/target/\n").unwrap();
        let all = ["main.o", "x.o", "target/", "target/x", "src/target/", "a"];
        let from = Rule::ExcludeFrom(path.clone());
        assert_eq!(taken(std::slice::from_ref(&from), &all), ["main.o", "src/target/", "a"]);
        assert_eq!(taken(&[from.clone(), exclude("main.o")], &all), ["src/target/", "a"]);
        assert_eq!(taken(&[exclude("main.o"), from], &all), ["main.o", "src/target/", "a"]);

        std::fs::write(&path, "fine\n[a\n").unwrap();
        let error = Filter::new(&[Rule::ExcludeFrom(path.clone())]).unwrap_err();
        assert!(error.line().starts_with(&format!("{}: line 2: is no pattern", path.display())), "{error:?}");
        std::fs::write(&path, b"\xff").unwrap();
        assert!(Filter::new(&[Rule::ExcludeFrom(path)]).unwrap_err().line().contains("not UTF-8"));
    }

    #[test]
    fn odd_patterns_are_refused() {
        for (rule, says) in [
            (exclude(""), "pattern \"\": is empty"),
            (include("/"), "pattern \"/\": is empty"),
            (exclude("!a"), "pattern \"!a\": is not clear"),
            (include("[z-a]"), "pattern \"[z-a]\": is no pattern of gitignore(5)"),
        ] {
            let error = Filter::new(std::slice::from_ref(&rule)).unwrap_err().line();
            assert!(error.starts_with(says), "{rule:?}: {error}");
        }
    }
}
