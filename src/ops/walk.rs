//! Which files an operation works on, found one at a time.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{FileType, Metadata};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use walkdir::WalkDir;

use crate::format::{envelope, header};
use crate::ops::atomic::is_temporary_name;
use crate::ops::events::{Event, Observer};
use crate::{Error, IoContext as _, Result, name, recipe};

/// Where results go.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Destination {
    /// Beside their sources.
    Beside,
    /// Below this folder, in the shape of the source tree.
    Folder(PathBuf),
    /// To this one file, device or pipe; `-` is standard output.
    File(PathBuf),
}

impl Destination {
    /// What `-o PATH` means: a folder when it is one, ends in a slash, or has to hold more than one result.
    pub fn from_argument(argument: Option<&Path>, inputs: &[PathBuf]) -> Self {
        let Some(path) = argument else { return Self::Beside };
        let single = matches!(inputs, [input] if !input.is_dir());
        let slash = path.as_os_str().as_bytes().ends_with(b"/");
        match single && !slash && !path.is_dir() {
            true => Self::File(path.into()),
            false => Self::Folder(path.into()),
        }
    }
}

/// One thing found below an argument.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its path as the user would write it.
    pub(crate) path: PathBuf,
    /// The segments below the destination's root: the argument's own name first, unless it ended in a slash.
    pub(crate) segments: Vec<Vec<u8>>,
    /// Whether it is an argument itself, not something below one.
    pub(crate) named: bool,
    /// What the file system says; of a symlink itself, unless links are followed.
    pub(crate) metadata: Metadata,
}

/// Whether a file is one that a run like this makes.
pub(crate) type IsResult = fn(&Path) -> bool;

/// What to find.
#[derive(Clone, Copy, Default)]
pub(crate) struct Walk<'a> {
    /// Whether symlinks are followed.
    pub(crate) follow: bool,
    /// Whether at least those that are arguments are.
    pub(crate) follow_arguments: bool,
    /// Which regular files below an argument are found, by name; all where there is nothing here.
    pub(crate) wanted: Option<fn(&OsStr) -> bool>,
    /// A folder to leave out: the one that the results go to. It may come up only later.
    pub(crate) except: Option<&'a Path>,
    /// When the run began, and which files of later are its results and left out. Any other file is found, however new
    /// it is: nobody's changes may go missing in silence.
    pub(crate) results: Option<(SystemTime, IsResult)>,
    /// Whether what is in a folder comes in the order of its names.
    pub(crate) sorted: bool,
    /// Whether to leave out what was found, and of a folder all below it. It sees everything in the order of the walk, and
    /// says itself why.
    pub(crate) leave_out: Option<&'a (dyn Fn(&Found) -> bool + Sync)>,
}

/// Everything at and below `arguments`; what cannot be read is an error in its place. Temporary files of ours are left
/// out.
pub(crate) fn find<'a>(
    arguments: &'a [PathBuf],
    options: Walk<'a>,
) -> impl Iterator<Item = Result<Found>> + Send + use<'a> {
    let Walk { follow, follow_arguments, wanted, except, results, sorted, leave_out } = options;
    let mut except_identity = except.and_then(identity);
    arguments.iter().flat_map(move |argument| {
        let root = root_segments(argument);
        let walk = WalkDir::new(argument).follow_links(follow).follow_root_links(follow || follow_arguments);
        let mut walk = if sorted { walk.sort_by_file_name() } else { walk }.into_iter();
        std::iter::from_fn(move || {
            loop {
                let entry = match walk.next()? {
                    Ok(entry) => entry,
                    Err(error) => return Some(Err(walk_error(error))),
                };
                let named = entry.depth() == 0;
                let unwanted = |wanted: fn(&OsStr) -> bool| !wanted(entry.file_name());
                if !named && entry.file_type().is_file() && wanted.is_some_and(unwanted) {
                    continue;
                }
                // The walk enters an argument that is a link, but says of it what it says of any link.
                let metadata = match named && follow_arguments {
                    true => std::fs::metadata(entry.path()).context("cannot read", entry.path()),
                    false => entry.metadata().map_err(walk_error),
                };
                let metadata = match metadata {
                    Ok(metadata) => metadata,
                    Err(error) => return Some(Err(error)),
                };
                if metadata.is_dir() && !named {
                    except_identity = except_identity.or_else(|| except.and_then(identity));
                    if except_identity == Some((metadata.dev(), metadata.ino())) {
                        walk.skip_current_dir();
                        continue;
                    }
                }
                let is_result = |(started, is_result): (_, IsResult)| {
                    !named && is_newer(&metadata, started) && is_result(entry.path())
                };
                if is_temporary_name(entry.file_name()) || results.is_some_and(is_result) {
                    continue;
                }
                let below = entry.path().strip_prefix(argument).unwrap_or(Path::new(""));
                let segments =
                    root.iter().cloned().chain(below.iter().map(|segment| segment.as_bytes().to_vec()));
                let (segments, enters) = (segments.collect(), entry.file_type().is_dir());
                let found = Found { path: entry.into_path(), segments, named, metadata };
                if leave_out.is_some_and(|leave_out| leave_out(&found)) {
                    if enters {
                        walk.skip_current_dir();
                    }
                    continue;
                }
                return Some(Ok(found));
            }
        })
    })
}

/// Refuses two arguments whose results would have the same names below one folder, so that with `--force` one does not
/// replace the other in silence.
///
/// # Errors
/// `Usage`, naming both.
pub(crate) fn refuse_same_names(arguments: &[PathBuf]) -> Result<()> {
    let mut seen = BTreeMap::new();
    for argument in arguments {
        let name = root_segments(argument);
        if !name.is_empty()
            && let Some(before) = seen.insert(name, argument)
        {
            return Err(Error::usage(format!(
                "{} and {} have the same name, and so would their results",
                before.display(),
                argument.display()
            ))
            .hint("run them one by one, each with an --output of its own"));
        }
    }
    Ok(())
}

/// Minds links among the arguments, of which only the links are kept. One that leads to a stream, as `/dev/stdin` and the
/// shell's `<(COMMAND)` do, is refused: nobody means the link.
///
/// # Errors
/// `Usage`, naming it.
pub(crate) fn mind_links(arguments: &[PathBuf], follow: bool, observer: &dyn Observer) -> Result<()> {
    for path in arguments.iter().filter(|path| path.is_symlink() && !root_segments(path).is_empty()) {
        let leads_to = path.metadata();
        let is_stream = |found: &Metadata| !found.is_file() && !found.is_dir();
        if path.starts_with("/dev") || path.starts_with("/proc") || leads_to.as_ref().is_ok_and(is_stream) {
            return Err(Error::usage("leads to a stream, and only the link would be kept")
                .at(path)
                .hint("write - for standard input: COMMAND | sidekey put - LOCATION/NAME"));
        }
        if !follow {
            let message = "is a symlink, and the link alone is kept: --follow takes what it leads to";
            observer.event(Event::Warning { path, message });
        }
    }
    Ok(())
}

/// The name under which an argument's files stand below the destination: none for `DIR/`, `.` and `..`.
pub(crate) fn root_segments(argument: &Path) -> Vec<Vec<u8>> {
    let bytes = argument.as_os_str().as_bytes();
    let contents = bytes.ends_with(b"/") || bytes.ends_with(b"/.");
    match argument.components().next_back() {
        Some(Component::Normal(name)) if !contents => vec![name.as_bytes().to_vec()],
        _ => vec![],
    }
}

/// The kernel's clock for files lags behind by a tick.
const TICK: Duration = Duration::from_millis(20);

/// Whether something other than a folder came up or changed since this run began.
fn is_newer(metadata: &Metadata, started: SystemTime) -> bool {
    let since = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(TICK);
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    !metadata.is_dir() && changed > (since.as_secs().cast_signed(), i64::from(since.subsec_nanos()))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

fn walk_error(error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(Path::new("")).to_owned();
    match error.loop_ancestor() {
        Some(ancestor) => Error::input(format!("is a symlink loop back to {}", ancestor.display())).at(path),
        None => match error.into_io_error() {
            Some(source) => Error::io("cannot read", source).at(path),
            None => Error::input("cannot read").at(path),
        },
    }
}

/// What something is that is neither a file, a folder nor a symlink.
pub(crate) fn special(kind: FileType) -> &'static str {
    match () {
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}

/// The first bytes of a file: enough to tell a container or an envelope.
pub(crate) fn sniff(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::new();
    std::fs::File::open(path)?.take(64).read_to_end(&mut start)?;
    Ok(start)
}

/// Whether a file is something that `encrypt` made: by name and by content a container, an envelope, or a pair that
/// OpenSSL can decrypt.
pub(crate) fn is_ours(path: &Path) -> bool {
    let last = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    if !last.ends_with(".enc") {
        return false;
    }
    let starts = |path: &Path, is: fn(&[u8]) -> bool| sniff(path).is_ok_and(|start| is(&start));
    let recipe = |path: &Path| starts(path, |start| recipe::detect_container(start).is_some());
    let beside =
        |name: Option<String>| name.map(|name| path.with_file_name(name)).filter(|path| path.exists());
    starts(path, |start| start.starts_with(header::MAGIC) || envelope::looks_like_envelope(start))
        || (recipe(path) && beside(name::envelope_name(&last, None)).is_some())
        || name::containers_of(&last)
            .into_iter()
            .any(|name| beside(Some(name)).is_some_and(|path| recipe(&path)))
}
