//! `cat`: the contents of objects, or a range of them, as a stream. Every byte is authenticated before it is written, but
//! of long files that the service alone encrypts.

use std::io::{self, Seek as _, SeekFrom, Write};
use std::path::Path;

use tokio::runtime::Handle;

use crate::crypto::rsa::PrivateKey;
use crate::format::{FileType, HEADER_LEN};
use crate::location::Location;
use crate::location::cleartext::Cleartext;
use crate::location::read::{self, FRONT, Reader};
use crate::name::ObjectName;
use crate::open::Opener;
use crate::ops::events::{Counting, Event, Observer, Summary, Watched, Written};
use crate::ops::place::{Lookup, Place};
use crate::ops::recipe_objects::{RecipeObject, Recipes};
use crate::ops::{cleartext, restore, rights, runtime};
use crate::recipe::{Named, QUORUM};
use crate::store::{Object, Right};
use crate::{Error, ErrorKind, IoContext as _, Result};

pub use crate::ops::place::{Source, Which};

/// Which bytes of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ByteRange {
    /// All of them.
    #[default]
    All,
    /// From this one on, up to and with that one where there is one, or to the end.
    From(u64, Option<u64>),
    /// So many at the end.
    Last(u64),
}

impl ByteRange {
    /// The first byte and the length in a plaintext of `total` bytes; what passes the end is cut there.
    ///
    /// # Errors
    /// `Input` when it begins behind the end.
    pub fn within(&self, total: u64) -> Result<(u64, u64)> {
        let (start, stop) = match *self {
            Self::All => return Ok((0, total)),
            Self::Last(len) => return Ok((total.saturating_sub(len), len.min(total))),
            Self::From(start, last) => (start, last.map_or(total, |last| last.saturating_add(1).min(total))),
        };
        match stop.checked_sub(start).filter(|len| *len > 0) {
            Some(len) => Ok((start, len)),
            None => {
                Err(Error::input(format!("the range begins at byte {start}, and {total} bytes are there"))
                    .hint("bytes are counted from 0"))
            }
        }
    }
}

impl std::str::FromStr for ByteRange {
    type Err = Error;

    /// `A-B`, `A-` or `-N`, bytes counted from 0, as in HTTP (RFC 9110, section 14.1.2).
    fn from_str(text: &str) -> Result<Self> {
        let odd = || {
            Error::usage(
                "is not A-B, A- or -N: the first and the last byte, counted from 0, or how many at the end",
            )
        };
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<u64>().map_err(|_| odd()),
            false => Err(odd()),
        };
        let (first, last) = text.split_once('-').ok_or_else(odd)?;
        match (first, last) {
            ("", last) => number(last).map(Self::Last),
            (first, "") => Ok(Self::From(number(first)?, None)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                if last < first { Err(odd()) } else { Ok(Self::From(first, Some(last))) }
            }
        }
    }
}

/// How to print.
#[derive(Debug)]
pub struct CatOptions {
    /// The private keys at hand.
    pub identities: Vec<PrivateKey>,
    /// Which version.
    pub which: Which,
    /// Which bytes.
    pub range: ByteRange,
    /// Whether a name in the metadata that differs from the object's is an error.
    pub strict: bool,
    /// How files of the OpenSSL recipe were made, where the user says so.
    pub recipe: Named,
    /// How many threads work.
    pub jobs: usize,
}

/// Writes the contents of each object to `out`, one after the other. One that fails does not stop the others; the
/// observer is told of each.
///
/// # Errors
/// `Permission` when the credentials cannot do; what `out` fails with: nobody reads what would follow. What happens to single objects is in the summary.
pub fn cat(
    sources: &[Source],
    options: &CatOptions,
    out: &mut (impl Write + Send),
    observer: &dyn Observer,
) -> Result<Summary> {
    let runtime = runtime::start()?;
    runtime.block_on(rights::require_all(sources, &[Right::List, Right::Read]))?;
    let counting = Counting::new(observer);
    let recipes = Recipes::new(runtime.handle(), &options.identities, options.recipe, &counting);
    let run = Printing { options, observer: &counting, handle: runtime.handle(), recipes };
    // Enough of them can tell how they were made.
    if sources.len() as u64 >= QUORUM {
        sources.iter().for_each(|source| run.count(source));
    }
    for source in sources {
        let mut written = Written::new(&mut *out, Path::new("-"));
        if let Err(error) = run.one(source, &mut written) {
            if written.has_failed() {
                return Err(error);
            }
            counting.event(Event::Failed(&error));
        }
    }
    Ok(counting.summary())
}

struct Printing<'a> {
    options: &'a CatOptions,
    observer: &'a dyn Observer,
    handle: &'a Handle,
    recipes: Recipes<'a>,
}

impl Printing<'_> {
    /// Counts how a file of the OpenSSL recipe was made; what fails is told when it is printed.
    fn count(&self, source: &Source) {
        let Ok(source) = source.unlocked(&self.options.identities) else { return };
        if let Ok((location, _, version)) = self.find(&source)
            && let Ok(reader) = self.reader(location, &version)
            && location.cleartext(reader.object()).is_none()
            && RecipeObject::is_one(&reader)
            && let Ok(object) = RecipeObject::new(location, reader, self.options.which == Which::Current)
        {
            let _ = self.recipes.count(&object);
        }
    }

    fn find<'s>(&self, source: &'s Source) -> Result<(&'s Location, ObjectName, Object)> {
        let lookup = Lookup { which: &self.options.which, handle: self.handle };
        match lookup.find(source)? {
            Place::Object { location, name, version } => Ok((location, name, version)),
            Place::Folder { target, .. } => {
                Err(Error::usage("is a folder").about(target.show()).hint("sidekey get takes folders"))
            }
        }
    }

    fn reader(&self, location: &Location, version: &Object) -> Result<Reader> {
        let pinned = self.options.which != Which::Current;
        let pinned = pinned.then(|| version.version.clone());
        Reader::open(self.handle.clone(), location.shared_store(), &version.key, pinned, FRONT)
    }

    fn one(&self, source: &Source, out: &mut Written<'_, impl Write + Send>) -> Result<()> {
        let source = source.unlocked(&self.options.identities)?;
        let (location, name, version) = self.find(&source)?;
        let shown = location.show_key(&version.key);
        let reader = self.reader(location, &version)?;
        let printed = match location.cleartext(reader.object()) {
            Some(cleartext) => self.cleartext(&cleartext, location, reader, &name, &shown, out),
            None if RecipeObject::is_one(&reader) => self.recipe(location, reader, &version, out),
            None => self.print(location, reader, &name, &version, &shown, out),
        };
        printed.map_err(|error| out.blame(error).about(&*shown))?;
        self.observer.event(Event::Done { input: Path::new(&shown), output: Path::new("-") });
        Ok(())
    }

    /// A file of the OpenSSL recipe. Its sections are one chain: of a range all is read, and once before to know its length.
    fn recipe(
        &self,
        location: &Location,
        reader: Reader,
        version: &Object,
        out: &mut (impl Write + Send),
    ) -> Result<()> {
        let is_current = self.options.which == Which::Current;
        let object = RecipeObject::new(location, reader, is_current)?;
        let found = self.recipes.find(&object)?;
        if self.options.range == ByteRange::All {
            self.recipes.decrypt(object, &found, &mut *out)?;
        } else {
            let total = self.recipes.decrypt(object, &found, io::sink())?;
            let (start, len) = self.options.range.within(total)?;
            let again = RecipeObject::new(location, self.reader(location, version)?, is_current)?;
            self.recipes.decrypt_untold(again, &found, Slice { out: &mut *out, before: start, left: len })?;
        }
        out.flush().map_err(|source| Error::io("cannot write", source))
    }

    /// A file that the service alone encrypts. Only all of it can be checked: of a range all is read.
    fn cleartext(
        &self,
        cleartext: &Cleartext,
        location: &Location,
        reader: Reader,
        name: &ObjectName,
        shown: &str,
        out: &mut (impl Write + Send),
    ) -> Result<()> {
        restore::compare_name(
            location,
            name,
            &cleartext.metadata,
            shown,
            self.options.strict,
            self.observer,
        )?;
        let (before, left) = self.options.range.within(cleartext.size)?;
        let size = reader.object().size;
        let source = Watched { inner: reader, observer: self.observer };
        cleartext::copy(cleartext, size, source, &mut Slice { out, before, left })
    }

    fn print(
        &self,
        location: &Location,
        mut reader: Reader,
        name: &ObjectName,
        version: &Object,
        shown: &str,
        out: &mut (impl Write + Send),
    ) -> Result<()> {
        let header = reader.header()?;
        let file_key =
            read::file_key(self.handle, location, &version.key, &header, &self.options.identities)?;
        let opener = Opener::new(header, &file_key)?;
        let len = reader.object().size;
        let end = opener.end(&mut reader, len)?;
        reader.seek(SeekFrom::Start(HEADER_LEN as u64)).context("cannot read", shown)?;
        if let Some(metadata) = opener.metadata(&mut reader)? {
            if metadata.file_type != FileType::File {
                return Err(Error::new(
                    ErrorKind::Input,
                    format!("is a {}, and has no contents", metadata.file_type),
                ));
            }
            restore::compare_name(location, name, &metadata, shown, self.options.strict, self.observer)?;
        }
        if self.options.range == ByteRange::All {
            let source = Watched { inner: reader, observer: self.observer };
            return opener.copy(source, out, Some(&end), self.options.jobs).map(drop);
        }
        let (start, len) = self.options.range.within(end.total)?;
        if len > 0 {
            reader.only(opener.stored_range(start, len));
            let mut source = Watched { inner: reader, observer: self.observer };
            opener.copy_range(&mut source, &end, start, len, out)?;
        }
        out.flush().map_err(|source| Error::io("cannot write", source))
    }
}

/// Passes on some bytes of all that is written.
struct Slice<W> {
    out: W,
    /// How many come before.
    before: u64,
    left: u64,
}

impl<W: Write> Write for Slice<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = self.before.min(bytes.len() as u64);
        self.before -= skipped;
        let wanted = &bytes[usize::try_from(skipped).unwrap_or(bytes.len())..];
        let taken = self.left.min(wanted.len() as u64);
        self.left -= taken;
        self.out.write_all(&wanted[..usize::try_from(taken).unwrap_or(wanted.len())])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_http() {
        let parse = |text: &str| text.parse::<ByteRange>().unwrap().within(100).map_err(|error| error.kind());
        assert_eq!(parse("0-0"), Ok((0, 1)));
        assert_eq!(parse("10-19"), Ok((10, 10)));
        assert_eq!(parse("90-1000"), Ok((90, 10)));
        assert_eq!(parse("90-"), Ok((90, 10)));
        assert_eq!(parse("-10"), Ok((90, 10)));
        assert_eq!(parse("-1000"), Ok((0, 100)));
        assert_eq!(parse("100-"), Err(ErrorKind::Input));
        assert_eq!(parse("0-18446744073709551615"), Ok((0, 100)));
        for bad in ["", "-", "5", "a-b", "5-4", "1-2-3", "+1-2", " 1-2", "99999999999999999999-"] {
            assert_eq!(bad.parse::<ByteRange>().unwrap_err().kind(), ErrorKind::Usage, "{bad:?}");
        }
        assert_eq!("-5".parse::<ByteRange>().unwrap().within(0).unwrap(), (0, 0));
    }
}
