//! Keys: what can be one, and how requests and listings write them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{Error, Result};

const MOST: usize = 1024;

/// All but what RFC 3986 leaves as it is, and the `/` between segments.
const IN_SOURCE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Whether an object can have this key, and keeps it on its way through clients, proxies and services.
pub(super) fn check(key: &str) -> Result<()> {
    let refused = |why: String| Err(Error::input(why).hint("choose another name"));
    match key.len() {
        0 => return refused("has no name".into()),
        1..=MOST => {}
        len => return refused(format!("has a name of {len} bytes; S3 keeps {MOST}")),
    }
    if key.chars().any(char::is_control) {
        return refused("has a control character in its name, which the listings of S3 cannot hold".into());
    }
    if key.starts_with('/') || key.contains("//") {
        return refused("has an empty segment in its name, which services and proxies take away".into());
    }
    if key.split('/').any(|segment| matches!(segment, "." | "..")) {
        return refused(
            "has `.` or `..` as a segment of its name, which services and proxies take away".into(),
        );
    }
    Ok(())
}

/// A key in a listing that was asked to encode them: with `+` for spaces, as in forms.
pub(super) fn decoded(text: &str, encoded: bool) -> Result<String> {
    if !encoded {
        return Ok(text.to_owned());
    }
    let spaced = text.replace('+', " ");
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(key) => Ok(key.into_owned()),
        Err(_) => Err(Error::integrity("has a name that is not UTF-8").about(text)),
    }
}

/// What a copy is made of, as its header has it.
pub(super) fn copy_source(bucket: &str, key: &str, version: Option<&str>) -> String {
    let source = format!("{bucket}/{}", utf8_percent_encode(key, IN_SOURCE));
    match version {
        Some(version) => format!("{source}?versionId={}", utf8_percent_encode(version, IN_SOURCE)),
        None => source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_would_not_come_back_are_refused() {
        let long = "x".repeat(1024);
        for good in ["a", "a/b c+%25.enc", "...", "日本/🗝", "a/.b/..c", &long] {
            check(good).unwrap();
        }
        let longer = "é".repeat(513);
        for bad in ["", "/a", "a//b", "a/./b", "..", "a/..", "a\nb", "a\u{7f}", "a\u{85}", &longer] {
            assert_eq!(check(bad).unwrap_err().kind(), crate::ErrorKind::Input, "{bad:?}");
        }
    }

    #[test]
    fn listed_keys_are_decoded_when_they_are_encoded() {
        assert_eq!(decoded("a+b%2Bc%20d%25/%C3%A9", true).unwrap(), "a b+c d%/é");
        assert_eq!(decoded("a+b%2B", false).unwrap(), "a+b%2B");
        assert_eq!(decoded("%FF", true).unwrap_err().kind(), crate::ErrorKind::Integrity);
    }

    #[test]
    fn sources_of_copies_are_encoded() {
        assert_eq!(
            copy_source("bucket", "a b/é+%", Some("x=1")),
            "bucket/a%20b/%C3%A9%2B%25?versionId=x%3D1"
        );
        assert_eq!(copy_source("bucket", "a-b_c.d~e", None), "bucket/a-b_c.d~e");
    }
}
