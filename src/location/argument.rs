//! Locations as people type them: `DIR/x`, `file:///DIR/x`, `NAME:x` for a configured remote, `SCHEME://…` for a service.
//!
//! Only text is looked at here. Where a local path stops being folders of the disk and begins to be plain names is asked
//! of the caller ([`split`]), and what a remote's name stands for is the configuration's business.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{Location, RESERVED};
use crate::crypto::rsa::PrivateKey;
use crate::name::{ObjectName, RecipeSuffix};
use crate::{Error, Result};

/// A kind of service, by the scheme of its URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// Backblaze B2, by its own API: `b2://`.
    B2,
    /// S3 and what is like it: `s3://`.
    S3,
}

impl Service {
    /// The scheme of its URLs.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::B2 => "b2",
            Self::S3 => "s3",
        }
    }
}

/// What was typed, taken apart and not looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A path of this machine.
    Local(PathBuf),
    /// A bucket of a service, and the path in it.
    Service(Service, String, Vec<u8>),
    /// A path below a configured remote: its name, and what stands behind the colon.
    Remote(String, Vec<u8>),
}

impl Argument {
    /// Takes apart what was typed. `NAME:` wins over a file of that name, so that what a line means does not depend on
    /// what happens to lie in the folder where it is typed.
    ///
    /// # Errors
    /// `Usage` for an empty argument, a scheme that there is not, and a URL that is no local file's.
    pub fn parse(typed: &OsStr) -> Result<Self> {
        let bytes = typed.as_bytes();
        if bytes.is_empty() {
            return Err(Error::usage("a location is empty").hint("write . for the current folder"));
        }
        if let Some((scheme, rest)) = url(bytes) {
            return match scheme {
                "file" => file_url(rest).map(Self::Local).map_err(|error| error.at(typed)),
                "b2" => bucket_url(Service::B2, rest).map_err(|error| error.at(typed)),
                "s3" => bucket_url(Service::S3, rest).map_err(|error| error.at(typed)),
                _ => Err(unknown_scheme(scheme).at(typed)),
            };
        }
        Ok(match remote(bytes) {
            Some((name, path)) => Self::Remote(name.to_owned(), path.to_vec()),
            None => Self::Local(Path::new(typed).to_owned()),
        })
    }
}

/// The error about a remote that is not configured.
pub fn no_remote(name: &str) -> Error {
    Error::usage(format!("no remote {name}"))
        .hint(format!("for a file write ./{name}:…; sidekey remote ls shows the remotes there are"))
}

/// Whether remotes can be called so: letters, digits, `_` and `-`.
pub fn is_remote_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// A place in a location, for one command to work on.
#[derive(Clone, Debug)]
pub struct Target {
    /// The location.
    pub location: Location,
    /// The plain path below it, segment by segment; empty for the location itself.
    pub path: Vec<Vec<u8>>,
    /// Whether only a folder can be meant: it ends in `/`, is a folder of the disk, or is the location itself.
    pub folder: bool,
}

impl Target {
    /// The place at `path`, as it was typed behind the location's root: `/` between segments.
    ///
    /// # Errors
    /// `Usage` for `..`, for what is sidekey's own, and for what no file can be called.
    pub fn new(location: Location, path: &[u8]) -> Result<Self> {
        let segments = segments(path)?;
        let folder = segments.is_empty() || ends_as_folder(path);
        Ok(Self { location, path: segments, folder })
    }

    /// The file that is meant; nothing where only a folder can be.
    pub fn file(&self) -> Option<ObjectName> {
        if self.folder {
            return None;
        }
        ObjectName::file(&self.path).ok()
    }

    /// What the stored names of everything below it begin with: nothing, or stored segments with a `/` at the end.
    pub fn stored_prefix(&self) -> String {
        self.location.stored_folder(&self.path)
    }

    /// The same place, where a script gave the pairs of the OpenSSL recipe other names.
    #[must_use]
    pub fn with_recipe_suffix(self, suffix: Option<RecipeSuffix>) -> Self {
        Self { location: self.location.with_recipe_suffix(suffix), ..self }
    }

    /// The same place, where private keys open what the service keeps under keys of its own (SSE-C).
    ///
    /// # Errors
    /// Those of [`Location::unlocked`].
    pub fn unlocked(&self, identities: &[PrivateKey]) -> Result<Self> {
        Ok(Self { location: self.location.unlocked(identities)?, ..self.clone() })
    }

    /// The same place as a folder.
    #[must_use]
    pub fn into_folder(self) -> Self {
        Self { folder: true, ..self }
    }

    /// How people write it, for messages.
    pub fn show(&self) -> String {
        match self.file() {
            Some(name) => self.location.show(&self.location.stored(&name)),
            None => self.location.show(&self.stored_prefix()),
        }
    }
}

/// Takes a local path apart: its longest leading part that is a folder of the disk, taken literally, and the plain names
/// behind it. So both `vault/a.enc~/` as the shell completes it and `vault/a.enc/x` as `ls` prints it are understood.
///
/// # Errors
/// `Usage` when the literal part leads into what is sidekey's own.
pub fn split(path: &Path, is_folder: impl Fn(&Path) -> bool) -> Result<(PathBuf, Vec<u8>)> {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().take_while(|byte| **byte == b'/').count();
    let literal = |end: usize| Path::new(OsStr::from_bytes(&bytes[..end]));
    let mut end = start;
    // Folder by folder: a part that is no folder has none below it.
    while end < bytes.len() {
        let segment = bytes[end..].iter().take_while(|byte| **byte != b'/').count();
        if !is_folder(literal(end + segment)) {
            break;
        }
        if &bytes[end..end + segment] == RESERVED.as_bytes() {
            return Err(reserved().at(path));
        }
        end += segment;
        end += bytes[end..].iter().take_while(|byte| **byte == b'/').count();
    }
    let root = match end {
        0 => Path::new(".").to_owned(),
        _ => without_slashes(literal(end)),
    };
    Ok((root, bytes[end..].to_vec()))
}

/// The plain segments of a path: empty ones and `.` are dropped.
fn segments(path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut segments: Vec<Vec<u8>> = vec![];
    for segment in path.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => {
                let error = Error::usage(".. leads out of a location").about(String::from_utf8_lossy(path));
                return Err(error.hint("write the path that it stands for"));
            }
            _ if segments.is_empty() && segment == RESERVED.as_bytes() => {
                return Err(reserved().about(String::from_utf8_lossy(path)));
            }
            _ if segment.contains(&0) => {
                return Err(
                    Error::usage("no file can have a NUL in its name").about(String::from_utf8_lossy(path))
                );
            }
            _ => segments.push(segment.to_vec()),
        }
    }
    Ok(segments)
}

/// `x/`, `x/.` and `.` can be folders only.
fn ends_as_folder(path: &[u8]) -> bool {
    matches!(path.rsplit(|byte| *byte == b'/').next(), Some(b"" | b"."))
}

fn reserved() -> Error {
    Error::usage(format!("{RESERVED} at the root of a location is sidekey's own"))
        .hint("name the location itself, or a folder of yours in it")
}

/// `SCHEME://REST` (RFC 3986, section 3.1), with nothing but a scheme in front.
fn url(typed: &[u8]) -> Option<(&str, &[u8])> {
    let at = typed.windows(3).position(|window| window == b"://")?;
    let scheme = std::str::from_utf8(&typed[..at]).ok()?;
    let first = scheme.bytes().next()?.is_ascii_alphabetic();
    let rest = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    (first && rest).then_some((scheme, &typed[at + 3..]))
}

/// `NAME:PATH`.
fn remote(typed: &[u8]) -> Option<(&str, &[u8])> {
    let at = typed.iter().position(|byte| *byte == b':')?;
    let name = std::str::from_utf8(&typed[..at]).ok()?;
    is_remote_name(name).then_some((name, &typed[at + 1..]))
}

fn unknown_scheme(scheme: &str) -> Error {
    Error::usage(format!("no store is called {scheme}://"))
        .hint("write a folder, b2://BUCKET/PATH, s3://BUCKET/PATH, or NAME:PATH for a configured remote")
}

/// `BUCKET/PATH`; the path is taken as it stands, as the tools of these services take it, so a `%` is a `%`.
fn bucket_url(service: Service, rest: &[u8]) -> Result<Argument> {
    let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    let path = rest.get(end + 1..).unwrap_or_default().to_vec();
    match std::str::from_utf8(&rest[..end]) {
        Ok(bucket) if !bucket.is_empty() => Ok(Argument::Service(service, bucket.to_owned(), path)),
        _ => {
            let scheme = service.scheme();
            Err(Error::usage("no bucket is named").hint(format!("write {scheme}://BUCKET/PATH")))
        }
    }
}

/// The path of `file://HOST/PATH` (RFC 8089): the host is this one, `%20` is a blank.
fn file_url(rest: &[u8]) -> Result<PathBuf> {
    let path = rest.strip_prefix(b"localhost").unwrap_or(rest);
    if path.first() != Some(&b'/') {
        return Err(Error::usage("a file URL names a file of this machine, from its root")
            .hint("write three slashes: file:///FOLDER"));
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let hex = behind.get(..2).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let value = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        let value = value.filter(|value| !matches!(value, 0 | b'/'));
        decoded.push(value.ok_or_else(|| {
            Error::usage("% in a URL stands before two hex digits").hint("write %25 for a % of the name")
        })?);
        rest = &behind[2..];
    }
    Ok(PathBuf::from(OsStr::from_bytes(&decoded)))
}

/// `a//` is `a`; `/` stays.
fn without_slashes(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(1, |last| last + 1);
    PathBuf::from(OsStr::from_bytes(&bytes[..end]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ErrorKind;
    use crate::store::memory::{Features, MemoryStore};

    fn location() -> Location {
        let store = MemoryStore::new(Features { versions: false, conditions: true });
        Location::new(Arc::new(store), "").unwrap()
    }

    fn refused(typed: &str) -> (ErrorKind, String) {
        let error = Argument::parse(OsStr::new(typed)).unwrap_err();
        (error.kind(), error.line())
    }

    #[test]
    fn arguments_are_paths_remotes_and_urls() {
        let parse = |typed: &str| Argument::parse(OsStr::new(typed)).unwrap();
        let local = |path: &str| Argument::Local(PathBuf::from(path));
        let remote = |name: &str, path: &str| Argument::Remote(name.to_owned(), path.as_bytes().to_vec());
        let bucket =
            |service, path: &str| Argument::Service(service, "bucket".to_owned(), path.as_bytes().to_vec());
        for (typed, expected) in [
            ("vault", local("vault")),
            ("./b2:x", local("./b2:x")),
            ("/a/b:c", local("/a/b:c")),
            ("my file:x", local("my file:x")),
            (":x", local(":x")),
            ("a/b://c", local("a/b://c")),
            ("file:///a/b%20c%25", local("/a/b c%")),
            ("file://localhost/a/", local("/a/")),
            ("home:", remote("home", "")),
            ("home:a/b/", remote("home", "a/b/")),
            ("home-2_x:a:b", remote("home-2_x", "a:b")),
            ("c:/x", remote("c", "/x")),
            ("b2://bucket", bucket(Service::B2, "")),
            ("b2://bucket/", bucket(Service::B2, "")),
            ("s3://bucket/a%20b/", bucket(Service::S3, "a%20b/")),
        ] {
            assert_eq!(parse(typed), expected, "{typed}");
        }
        let raw = OsStr::from_bytes(b"h\xff:x");
        assert_eq!(Argument::parse(raw).unwrap(), Argument::Local(PathBuf::from(raw)));
    }

    #[test]
    fn urls_that_lead_nowhere_say_so() {
        for (typed, says) in [
            ("", "a location is empty"),
            ("b2://", "b2://: no bucket is named"),
            ("s3:///x", "s3:///x: no bucket is named"),
            ("ftp://host/x", "ftp://host/x: no store is called ftp://"),
            ("file://host/x", "file://host/x: a file URL names a file of this machine, from its root"),
            ("file://", "file://: a file URL names a file of this machine, from its root"),
            ("file:///a%2", "file:///a%2: % in a URL stands before two hex digits"),
            ("file:///a%2Fb", "file:///a%2Fb: % in a URL stands before two hex digits"),
            ("file:///a%zz", "file:///a%zz: % in a URL stands before two hex digits"),
        ] {
            assert_eq!(refused(typed), (ErrorKind::Usage, says.to_owned()));
        }
    }

    #[test]
    fn a_target_is_a_file_or_a_folder() {
        for (path, segments, folder, prefix) in [
            ("", &[][..], true, ""),
            (".", &[], true, ""),
            ("x", &["x"], false, "x/"),
            ("/x", &["x"], false, "x/"),
            ("x/", &["x"], true, "x/"),
            ("x/.", &["x"], true, "x/"),
            ("./a.enc//b", &["a.enc", "b"], false, "a.enc~/b/"),
            ("a/.sidekey", &["a", ".sidekey"], false, "a/.sidekey/"),
        ] {
            let target = Target::new(location(), path.as_bytes()).unwrap();
            let found: Vec<_> =
                target.path.iter().map(|segment| std::str::from_utf8(segment).unwrap()).collect();
            assert_eq!((found.as_slice(), target.folder), (segments, folder), "{path}");
            assert_eq!(target.stored_prefix(), prefix, "{path}");
            assert_eq!(target.file().is_none(), folder, "{path}");
        }
        let target = Target::new(location(), b"a.enc/server.key").unwrap();
        assert_eq!(target.show(), "memory:a.enc~/server.key~.enc");
        assert_eq!(target.into_folder().show(), "memory:a.enc~/server.key/");
    }

    #[test]
    fn paths_that_leave_the_location_or_enter_its_own_folder_are_refused() {
        for (path, says) in [
            ("../x", "../x: .. leads out of a location"),
            ("a/..", "a/..: .. leads out of a location"),
            (".sidekey", ".sidekey: .sidekey at the root of a location is sidekey's own"),
            ("./.sidekey/x", "./.sidekey/x: .sidekey at the root of a location is sidekey's own"),
            ("a\0b", "a\0b: no file can have a NUL in its name"),
        ] {
            let error = Target::new(location(), path.as_bytes()).unwrap_err();
            assert_eq!((error.kind(), error.line()), (ErrorKind::Usage, says.to_owned()));
        }
    }

    /// What was typed, where the folders `vault`, `vault/a.enc~`, `vault/photos`, `up` and `/srv` are on the disk.
    #[test]
    fn the_longest_part_that_is_a_folder_is_the_root() {
        let disk = [
            "/",
            ".",
            "..",
            "vault",
            "vault/a.enc~",
            "vault/photos",
            "vault/..",
            "vault/../up",
            "/srv",
            "./vault",
        ];
        let is_folder = |path: &Path| {
            let text = path.to_str().unwrap().replace("//", "/");
            disk.contains(&text.as_str())
        };
        for (typed, root, rest) in [
            ("vault", "vault", ""),
            ("vault/", "vault", ""),
            ("vault//", "vault", ""),
            ("vault/x", "vault", "x"),
            ("vault/photos/2024/x.jpg", "vault/photos", "2024/x.jpg"),
            ("vault/a.enc~/x", "vault/a.enc~", "x"),
            ("vault/a.enc/x", "vault", "a.enc/x"),
            ("./vault/x/", "./vault", "x/"),
            ("new/x", ".", "new/x"),
            ("new", ".", "new"),
            (".", ".", ""),
            ("..", "..", ""),
            ("vault/../up/x", "vault/../up", "x"),
            ("/", "/", ""),
            ("/srv/x", "/srv", "x"),
            ("//srv//x//y", "//srv", "x//y"),
        ] {
            let (found, left) = split(Path::new(typed), is_folder).unwrap();
            assert_eq!(
                (found.to_str().unwrap(), std::str::from_utf8(&left).unwrap()),
                (root, rest),
                "{typed}"
            );
        }
        let error = split(Path::new("vault/.sidekey/names"), |_| true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}
