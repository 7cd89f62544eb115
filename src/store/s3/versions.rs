//! Ids of versions. A bucket that keeps versions gives each a name of its own. What was written without that, in a bucket
//! that never kept any, does not yet, or no more, is known by its ETag: `etag:…`. The same bytes again may have the same
//! ETag, and then it does not matter which of the two is meant. An ETag is compared, and never taken for an MD5.

use std::time::SystemTime;

use aws_smithy_types::DateTime;

use crate::store::VersionId;

const BY_ETAG: &str = "etag:";
/// How the service calls the version that was written without versions.
pub(super) const NULL: &str = "null";

/// What a bucket does with what is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Versioning {
    /// It is gone.
    Off,
    /// It stays as an older version.
    On,
    /// It is gone, but for what was kept while versions were on.
    Suspended,
}

/// What an id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which<'a> {
    /// The version of this name.
    Named(&'a str),
    /// What has no name and this ETag.
    Null(&'a str),
}

/// The version that a request is about, in its words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) version_id: Option<String>,
    pub(super) if_match: Option<String>,
}

impl<'a> Which<'a> {
    pub(super) fn parse(id: &'a VersionId) -> Self {
        match id.strip_prefix(BY_ETAG) {
            Some(etag) => Self::Null(etag),
            None => Self::Named(id),
        }
    }
}

impl Asked {
    pub(super) fn new(version: Option<&VersionId>, versioning: Versioning) -> Self {
        match version.map(Which::parse) {
            None => Self::default(),
            Some(Which::Named(name)) => Self { version_id: Some(name.to_owned()), if_match: None },
            Some(Which::Null(etag)) => Self {
                version_id: (versioning != Versioning::Off).then(|| NULL.to_owned()),
                if_match: Some(quoted(etag)),
            },
        }
    }
}

/// The id of what has this name and ETag, where the service gives them.
pub(super) fn id(name: Option<&str>, etag: Option<&str>) -> VersionId {
    match (name, etag) {
        (Some(name), _) if name != NULL => name.to_owned(),
        (_, Some(etag)) => format!("{BY_ETAG}{}", bare(etag)),
        (_, None) => NULL.to_owned(),
    }
}

pub(super) fn quoted(etag: &str) -> String {
    format!("\"{}\"", bare(etag))
}

pub(super) fn bare(etag: &str) -> &str {
    etag.trim_matches('"')
}

/// A time of the service.
pub(super) fn time(time: Option<&DateTime>) -> SystemTime {
    time.and_then(|time| SystemTime::try_from(*time).ok()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A length, which the client knows as a signed number.
pub(super) fn size(size: Option<i64>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_a_version_or_an_etag() {
        assert_eq!(id(Some("abc"), Some("\"e\"")), "abc");
        assert_eq!(id(Some("null"), Some("\"e\"")), "etag:e");
        assert_eq!(id(None, Some("e-3")), "etag:e-3");
        assert_eq!(id(Some("null"), None), "null", "a delete marker without a name has no ETag");
        assert_eq!(Which::parse(&"etag:e".to_owned()), Which::Null("e"));
        assert_eq!(Which::parse(&"null".to_owned()), Which::Named("null"));
    }

    #[test]
    fn what_has_no_name_is_asked_for_by_its_etag() {
        let id = "etag:e".to_owned();
        let off = Asked { version_id: None, if_match: Some("\"e\"".into()) };
        assert_eq!(Asked::new(Some(&id), Versioning::Off), off);
        let on = Asked { version_id: Some("null".into()), ..off };
        assert_eq!(Asked::new(Some(&id), Versioning::On), on);
        assert_eq!(Asked::new(Some(&id), Versioning::Suspended), on);
        assert_eq!(Asked::new(None, Versioning::On), Asked::default());
    }
}
