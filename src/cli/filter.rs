//! `--include`, `--exclude` and `--exclude-from`, whose order counts.

use std::path::PathBuf;

use clap::{ArgMatches, Command};
use sidekey::Result;
use sidekey::ops::filter::{Filter, Rule};

const HEADING: &str = "Which files";

// Not a doc comment: clap would make it the description of the command that takes these options.
// As clap reads them, each option by itself.
#[derive(clap::Args, Debug, Default)]
struct Typed {
    /// leave out what matches this pattern of gitignore(5) (repeatable)
    #[arg(long, value_name = "PATTERN", help_heading = HEADING)]
    exclude: Vec<String>,
    /// take what matches this pattern; first of all patterns, it leaves out everything else (repeatable)
    #[arg(long, value_name = "PATTERN", help_heading = HEADING)]
    include: Vec<String>,
    /// patterns to leave out, one a line as in .gitignore (repeatable)
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    exclude_from: Vec<PathBuf>,
}

/// The rules as they were typed, in their order.
#[derive(Debug, Default)]
pub(super) struct FilterArgs {
    rules: Vec<Rule>,
}

impl FilterArgs {
    /// The filter that they make.
    pub(super) fn filter(&self) -> Result<Filter> {
        Filter::new(&self.rules)
    }

    /// Whether they may leave anything out.
    pub(super) fn leaves_out(&self) -> bool {
        !self.rules.is_empty()
    }
}

impl clap::Args for FilterArgs {
    fn augment_args(command: Command) -> Command {
        Typed::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Typed::augment_args_for_update(command)
    }
}

impl clap::FromArgMatches for FilterArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let typed = Typed::from_arg_matches(matches)?;
        let at = |option: &str| matches.indices_of(option).into_iter().flatten().collect::<Vec<_>>();
        let exclude = at("exclude").into_iter().zip(typed.exclude.into_iter().map(Rule::Exclude));
        let include = at("include").into_iter().zip(typed.include.into_iter().map(Rule::Include));
        let from = at("exclude_from").into_iter().zip(typed.exclude_from.into_iter().map(Rule::ExcludeFrom));
        let mut rules: Vec<(usize, Rule)> = exclude.chain(include).chain(from).collect();
        rules.sort_by_key(|(index, _)| *index);
        Ok(Self { rules: rules.into_iter().map(|(_, rule)| rule).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        filter: FilterArgs,
    }

    #[test]
    fn the_order_is_the_one_that_was_typed() {
        let rules = |line: &str| Command::try_parse_from(line.split(' ')).unwrap().filter.rules;
        assert_eq!(rules("x"), []);
        assert_eq!(
            rules("x --include a --exclude b --exclude-from c --include d --exclude=e"),
            [
                Rule::Include("a".into()),
                Rule::Exclude("b".into()),
                Rule::ExcludeFrom("c".into()),
                Rule::Include("d".into()),
                Rule::Exclude("e".into()),
            ]
        );
    }
}
