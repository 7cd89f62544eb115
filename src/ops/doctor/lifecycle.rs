//! Rules by which a bucket removes objects by itself. Those that take what is hidden or replaced do no harm, as long as
//! they take both halves of a pair; those that take one half, or go by age, lose keys: a rewrapped envelope is younger
//! than its container.

use super::Finding;
use crate::store::facts::Rule;

const CHECK: &str = "lifecycle";
const BY_AGE: &str = "end the rule, or keep it from this prefix: an envelope is as old as its last rewrap and not as its \
                      container, so one half of a pair goes without the other";
const HALF: &str =
    "let the rule end in a folder and leave sizes out: containers and envelopes must come under it together";
const ARCHIVE: &str = "keep the rule from this prefix: nobody can rewrap or open what cannot be read";

pub(super) fn judged(rules: &[Rule], prefix: &str) -> Vec<Finding> {
    let findings: Vec<Finding> = rules.iter().filter_map(|rule| judge(rule, prefix)).collect();
    match findings.is_empty() {
        true => vec![Finding::fine(CHECK, "no rule touches what is here")],
        false => findings,
    }
}

fn judge(rule: &Rule, prefix: &str) -> Option<Finding> {
    let concerns = rule.prefix.starts_with(prefix) || prefix.starts_with(&*rule.prefix);
    // What sidekey writes bears no tags.
    if !concerns || rule.by_tag {
        return None;
    }
    // A folder of the location has both halves of all its pairs.
    let splits = rule.by_size || !(prefix.starts_with(&*rule.prefix) || rule.prefix.ends_with('/'));
    let name = named(rule);
    if let Some(when) = &rule.removes {
        return Some(Finding::attention(CHECK, format!("{name} removes what is current {when}"), BY_AGE));
    }
    if let Some(how) = &rule.archives {
        return Some(Finding::attention(CHECK, format!("{name} moves objects {how}"), ARCHIVE));
    }
    let when = rule.removes_old.as_ref()?;
    match splits {
        true => Some(Finding::attention(
            CHECK,
            format!("{name} removes what is hidden or replaced {when}, and may match one half of a pair"),
            HALF,
        )),
        false => Some(Finding::fine(
            CHECK,
            format!("{name} removes what is hidden or replaced {when}, which does no harm"),
        )),
    }
}

fn named(rule: &Rule) -> String {
    match (&*rule.name, &*rule.prefix) {
        ("", "") => "the rule of the whole bucket".into(),
        ("", prefix) => format!("the rule of {prefix:?}"),
        (name, _) => format!("the rule {name:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::doctor::State;

    fn states(rule: &Rule) -> Vec<State> {
        judged(std::slice::from_ref(rule), "backup/").into_iter().map(|found| found.state).collect()
    }

    fn rule(prefix: &str) -> Rule {
        Rule { prefix: prefix.into(), ..Rule::default() }
    }

    #[test]
    fn what_goes_by_age_endangers_keys() {
        for prefix in ["", "backup/", "back", "backup/2024/"] {
            let by_age = Rule { removes: Some("after 30 days".into()), ..rule(prefix) };
            assert_eq!(states(&by_age), [State::Attention], "{prefix}");
            let archive = Rule { archives: Some("to GLACIER after 30 days".into()), ..rule(prefix) };
            assert_eq!(states(&archive), [State::Attention], "{prefix}");
            let old = Rule { removes_old: Some("after 30 days".into()), ..rule(prefix) };
            assert_eq!(states(&old), [State::Fine], "{prefix}");
        }
    }

    #[test]
    fn what_takes_one_half_of_a_pair_endangers_keys() {
        let old = |prefix| Rule { removes_old: Some("after a day".into()), ..rule(prefix) };
        assert_eq!(states(&old("backup/x.0")), [State::Attention]);
        assert_eq!(states(&Rule { by_size: true, ..old("") }), [State::Attention]);
    }

    #[test]
    fn other_rules_are_left_alone() {
        let by_age = |prefix| Rule { removes: Some("after a day".into()), ..rule(prefix) };
        for rule in [by_age("logs/"), Rule { by_tag: true, ..by_age("") }, rule("")] {
            let found = judged(&[rule], "backup/");
            assert_eq!((found.len(), &*found[0].value), (1, "no rule touches what is here"));
        }
        assert_eq!(judged(&[], "").len(), 1);
    }
}
