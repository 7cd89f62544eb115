//! Names and file info: what the service takes, and how headers and URLs write it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::store::Info;
use crate::{Error, Result};

/// What stands for itself; `+` does not, as readers may take it for a space.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
const INFO_PREFIX: &str = "x-bz-info-";
const MAX_KEY: usize = 1024;
const MAX_SEGMENT: usize = 250;
/// What name and info of a file may take of the headers, and less where the service encrypts.
const MAX_HEADERS: usize = 7000;
const MAX_HEADERS_ENCRYPTED: usize = 2048;

/// A name in a header or URL.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// A name from a header. What is not UTF-8 cannot be.
pub(super) fn decode(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(String::from)
}

/// Whether an URL with this key in its path means this key: `.` and `..` are taken out of paths on their way.
pub(super) fn fits_in_path(key: &str) -> bool {
    !key.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// Whether a file can have this name.
///
/// # Errors
/// `Input`, with the rule that it breaks.
pub(super) fn check_key(key: &str) -> Result<()> {
    let longest = key.split('/').map(str::len).max().unwrap_or_default();
    let why = match key {
        "" => "a name cannot be empty".to_owned(),
        _ if key.len() > MAX_KEY => {
            format!("is {} bytes long; a name on B2 has at most {MAX_KEY}", key.len())
        }
        _ if longest > MAX_SEGMENT => {
            format!("has {longest} bytes between two /; on B2 there are at most {MAX_SEGMENT}")
        }
        _ if key.starts_with('/') || key.ends_with('/') => {
            "a name on B2 neither begins nor ends with /".to_owned()
        }
        _ if key.contains("//") => "a name on B2 has no //".to_owned(),
        _ if key.bytes().any(|byte| byte < 32 || byte == 127) => {
            "a name on B2 has no control characters".to_owned()
        }
        _ => return Ok(()),
    };
    Err(Error::input(why).hint("rename it, or choose a shorter place for it"))
}

/// The headers that keep `info` beside a file with the name `key`.
///
/// # Errors
/// `Input` for names of info that are no headers, and for more than headers have room for.
pub(super) fn info_headers(key: &str, info: &Info, encrypted: bool) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in info {
        let header = HeaderName::from_bytes(format!("{INFO_PREFIX}{name}").as_bytes());
        let value = HeaderValue::from_str(&encode(value));
        match (header, value) {
            (Ok(header), Ok(value)) if !name.is_empty() => drop(headers.insert(header, value)),
            _ => return Err(Error::input(format!("file info on B2 cannot have the name {name:?}"))),
        }
    }
    check_room(key, info, encrypted)?;
    Ok(headers)
}

/// Whether name and info of a file fit into headers.
///
/// # Errors
/// `Input` when they do not.
pub(super) fn check_room(key: &str, info: &Info, encrypted: bool) -> Result<()> {
    let most = if encrypted { MAX_HEADERS_ENCRYPTED } else { MAX_HEADERS };
    let info: usize =
        info.iter().map(|(name, value)| INFO_PREFIX.len() + name.len() + encode(value).len()).sum();
    match key.len() + info {
        len if len <= most => Ok(()),
        len => Err(Error::input(format!("name and file info are {len} bytes long; B2 keeps {most} of them"))
            .hint("keep less beside the object")),
    }
}

/// The info of a file, from the headers of a download.
pub(super) fn info_of(headers: &HeaderMap) -> Info {
    let pair = |(name, value): (&HeaderName, &HeaderValue)| {
        let name = name.as_str().strip_prefix(INFO_PREFIX)?;
        Some((name.to_owned(), decode(value.to_str().ok()?)?))
    };
    headers.iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn names_come_back_from_headers() {
        for (name, header) in [
            ("plain/name.enc", "plain/name.enc"),
            ("a b+c%20", "a%20b%2Bc%2520"),
            ("日本/ä", "%E6%97%A5%E6%9C%AC/%C3%A4"),
            ("?#&=\\\"'", "%3F%23%26%3D%5C%22%27"),
        ] {
            assert_eq!(encode(name), header);
            assert_eq!(decode(header).as_deref(), Some(name));
        }
        assert_eq!(decode("as+others%20write").as_deref(), Some("as others write"));
        assert_eq!(decode("%FF"), None);
    }

    #[test]
    fn names_keep_to_the_rules_of_the_service() {
        let segment = "s".repeat(MAX_SEGMENT);
        let long = format!("{segment}/{segment}/{segment}/{segment}/{}", &segment[..20]);
        for good in ["a", "a/b", "...", "a\\b", " ", "é", &segment, &long] {
            assert!(check_key(good).is_ok(), "{good}");
        }
        let too_long = format!("{long}x");
        let too_wide = "é".repeat(126);
        for bad in ["", "/a", "a/", "a//b", "a\nb", "a\u{7f}b", "\0", &too_long, &too_wide] {
            assert_eq!(check_key(bad).unwrap_err().kind(), ErrorKind::Input, "{bad:?}");
        }
        assert_eq!(long.len(), MAX_KEY);
    }

    #[test]
    fn info_comes_back_from_headers() {
        let info = Info::from([("sidekey-id".into(), "0011".into()), ("other".into(), "a+b c/%=&é".into())]);
        let headers = info_headers("key", &info, false).unwrap();
        assert_eq!(info_of(&headers), info);
        assert_eq!(headers["x-bz-info-other"], "a%2Bb%20c/%25%3D%26%C3%A9");
        let bad = Info::from([("no header".to_owned(), String::new())]);
        assert_eq!(info_headers("key", &bad, false).unwrap_err().kind(), ErrorKind::Input);
    }

    #[test]
    fn headers_have_little_room() {
        let info = |len| Info::from([("x".to_owned(), "v".repeat(len))]);
        let fixed = "key".len() + INFO_PREFIX.len() + 1;
        for (encrypted, most) in [(false, MAX_HEADERS), (true, MAX_HEADERS_ENCRYPTED)] {
            assert!(info_headers("key", &info(most - fixed), encrypted).is_ok());
            let error = info_headers("key", &info(most - fixed + 1), encrypted).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Input);
            assert!(error.line().contains(&most.to_string()), "{error:?}");
        }
    }

    #[test]
    fn dots_do_not_stand_in_paths() {
        assert!(fits_in_path("a/...b/c.d") && fits_in_path("..."));
        assert!(!fits_in_path("a/../b") && !fits_in_path(".") && !fits_in_path("a/."));
    }
}
