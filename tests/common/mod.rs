//! What the tests of the command line share: a place to run in, keys, terminals, and how a run ended.
#![allow(dead_code, clippy::disallowed_methods, reason = "every test file uses its own part of this")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use sidekey::ErrorKind;
use sidekey::format::{Envelope, Header};
use sidekey::keys::{KeyFile, PrivateKey, PublicKey};
use sidekey::ops::atomic::is_temporary_name;
use sidekey::secret::{FileKey, Passphrase};
use sidekey::wrap::unwrap;

pub(crate) const SIDEKEY: &str = env!("CARGO_BIN_EXE_sidekey");

/// How long a command may take, in seconds; a machine may be very busy.
pub(crate) const LIMIT: u64 = 240;
pub(crate) const PASS: &str = "correct horse";

/// How a run ended.
#[derive(Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The code and what was said.
    pub(crate) fn said(&self) -> (Option<i32>, &str) {
        (self.code, &self.stderr)
    }

    /// The run did all of it.
    #[track_caller]
    pub(crate) fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }
}

pub(crate) fn failed(code: i32, stderr: &str) -> Ended {
    Ended { code: Some(code), stdout: String::new(), stderr: stderr.to_owned() }
}

/// An empty folder to run in.
pub(crate) struct Place(pub(crate) tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With the pairs `old`, `new` and `escrow` in the folder `keys`.
    pub(crate) fn with_keys() -> Self {
        let place = Self::new();
        place.mkdir("keys");
        for (name, fixture) in [("old", "pkcs8.pem"), ("new", "c-worked-example.pem")] {
            let pem = fixture_bytes(fixture);
            place.write(format!("keys/{name}.pem"), &pem);
            let key = KeyFile::parse(&pem).unwrap().open(None).unwrap();
            place.write(format!("keys/{name}.pub.pem"), key.public().to_pem());
        }
        let (private, public) = escrow();
        place.write("keys/escrow.pem", private);
        place.write("keys/escrow.pub.pem", public);
        place
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a folder and those above it.
    pub(crate) fn mkdir(&self, name: impl AsRef<Path>) {
        std::fs::create_dir_all(self.path(name)).unwrap();
    }

    pub(crate) fn write(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        self.chmod(&path, 0o600);
    }

    pub(crate) fn read(&self, name: impl AsRef<Path>) -> Vec<u8> {
        let path = self.path(name);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub(crate) fn text(&self, name: impl AsRef<Path>) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    pub(crate) fn chmod(&self, name: impl AsRef<Path>, mode: u32) {
        std::fs::set_permissions(self.path(name), PermissionsExt::from_mode(mode)).unwrap();
    }

    /// A copy of a fixture as KEY.
    pub(crate) fn key(&self, fixture: &str) {
        self.write("KEY", fixture_bytes(fixture));
    }

    pub(crate) fn names(&self) -> Vec<String> {
        names_in(self.root())
    }

    pub(crate) fn names_in(&self, folder: &str) -> Vec<String> {
        names_in(&self.path(folder))
    }

    pub(crate) fn mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o7777
    }

    /// `program` here, without a terminal and without anybody's passphrases.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, program: &str, args: &[A]) -> Command {
        self.command_within(LIMIT, program, args)
    }

    /// The same that may take so many seconds.
    pub(crate) fn command_within<A: AsRef<OsStr>>(&self, seconds: u64, program: &str, args: &[A]) -> Command {
        let mut command = Command::new("setsid");
        command
            .args(["-w", "timeout", &seconds.to_string(), program])
            .args(args)
            .current_dir(self.root())
            .stdin(Stdio::null());
        alone(&mut command, self.root());
        command.env("PROGRAM", SIDEKEY);
        command
    }

    /// The program itself, to be killed: nothing ends it but the test.
    pub(crate) fn program<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(SIDEKEY);
        command.args(args).current_dir(self.root()).stdin(Stdio::null());
        alone(&mut command, self.root());
        command
    }

    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Ended {
        ended(&mut self.command(SIDEKEY, args))
    }

    /// The command line as one text, split at blanks.
    pub(crate) fn sidekey(&self, line: &str) -> Ended {
        self.run(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// With passphrases in the environment.
    pub(crate) fn run_with(&self, args: &[&str], passphrase: Option<&str>, new: Option<&str>) -> Ended {
        let mut command = self.command(SIDEKEY, args);
        command.envs(passphrase.map(|text| ("SIDEKEY_PASSPHRASE", text)));
        command.envs(new.map(|text| ("SIDEKEY_NEW_PASSPHRASE", text)));
        ended(&mut command)
    }

    pub(crate) fn shell(&self, script: &str) -> Ended {
        ended(&mut self.command("sh", &["-c", script]))
    }

    /// As a user whom permissions bind: root is not, so root becomes nobody, who gets everything here but the keys.
    pub(crate) fn run_bound(&self, line: &str) -> Ended {
        if !rustix::process::geteuid().is_root() {
            return self.sidekey(line);
        }
        // The build folder may be closed to others.
        let program = self.path("sidekey-for-all");
        if !program.exists() {
            std::fs::copy(SIDEKEY, &program).unwrap();
        }
        self.chmod(&program, 0o755);
        let owned = self.shell("chown -hR 65534:65534 .");
        assert_eq!(owned.code, Some(0), "{owned:?}");
        let mut args = vec!["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];
        args.push(program.to_str().unwrap());
        args.extend(line.split_whitespace());
        let ended = ended(&mut self.command("setpriv", &args));
        std::fs::remove_file(&program).unwrap();
        ended
    }

    pub(crate) fn opens(&self, name: &str, passphrase: &str) -> Result<String, ErrorKind> {
        KeyFile::parse(&std::fs::read(self.path(name)).unwrap())
            .and_then(|file| file.open(Some(&Passphrase::new(passphrase.into()))))
            .map(|key| key.id().to_string())
            .map_err(|error| error.kind())
    }

    pub(crate) fn private(&self, name: &str) -> PrivateKey {
        KeyFile::parse(&self.read(format!("keys/{name}.pem"))).unwrap().open(None).unwrap()
    }

    pub(crate) fn public(&self, name: &str) -> PublicKey {
        PublicKey::from_pem(&self.read(format!("keys/{name}.pub.pem"))).unwrap()
    }

    pub(crate) fn header(&self, container: impl AsRef<Path>) -> Header {
        let bytes = self.read(container);
        Header::parse(bytes[..64].try_into().unwrap()).unwrap()
    }

    pub(crate) fn envelope(&self, name: impl AsRef<Path>) -> Envelope {
        Envelope::parse(&self.read(name)).unwrap()
    }

    /// The key of `NAME.enc`, by the private key `key`.
    pub(crate) fn file_key(&self, name: &str, key: &str) -> FileKey {
        let envelope = self.envelope(format!("{name}.key.enc"));
        unwrap(&self.header(format!("{name}.enc")), &[envelope], &[self.private(key)]).unwrap()
    }

    /// Everything below `folder`, by its path.
    pub(crate) fn tree(&self, folder: &str) -> Tree {
        let mut tree = Tree::new();
        let root = self.path(folder);
        for entry in walkdir::WalkDir::new(&root).min_depth(1) {
            let entry = entry.unwrap();
            let found = entry.metadata().unwrap();
            let content = if found.is_symlink() {
                Content::Link(std::fs::read_link(entry.path()).unwrap())
            } else if found.is_dir() {
                Content::Folder(std::fs::read_dir(entry.path()).unwrap().next().is_none())
            } else {
                Content::File(std::fs::read(entry.path()).unwrap())
            };
            let path = entry.path().strip_prefix(&root).unwrap().to_owned();
            let mode = if found.is_symlink() { 0o777 } else { found.mode() & 0o777 };
            tree.insert(path, Node { content, mode, mtime: (found.mtime(), found.mtime_nsec()) });
        }
        tree
    }

    /// What must not change: contents, inode and times of every file below `folder`.
    pub(crate) fn fingerprint(&self, folder: &str) -> BTreeMap<PathBuf, (Vec<u8>, u64, i64, i64)> {
        let files = walkdir::WalkDir::new(self.path(folder)).into_iter().map(Result::unwrap);
        files
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| {
                let found = entry.metadata().unwrap();
                let bytes = std::fs::read(entry.path()).unwrap();
                (entry.into_path(), (bytes, found.ino(), found.ctime(), found.ctime_nsec()))
            })
            .collect()
    }

    /// The results that a process is writing: what it has open below here that has no name, by way of its descriptors, and what
    /// has a temporary one.
    pub(crate) fn unfinished(&self, pid: u32) -> Vec<PathBuf> {
        let root = self.root().canonicalize().unwrap();
        let nameless = |path: &PathBuf| {
            let leads_to = std::fs::read_link(path).unwrap_or_default();
            leads_to.starts_with(&root) && leads_to.as_os_str().as_bytes().ends_with(b" (deleted)")
        };
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.map(|descriptor| descriptor.path()).filter(nameless).chain(self.temporary()).collect()
    }

    /// The temporary files below here.
    pub(crate) fn temporary(&self) -> Vec<PathBuf> {
        let all = walkdir::WalkDir::new(self.root()).into_iter().map(Result::unwrap);
        all.filter(|entry| is_temporary_name(entry.file_name())).map(walkdir::DirEntry::into_path).collect()
    }
}

impl Drop for Place {
    /// What a test closed to its owner could not be removed.
    fn drop(&mut self) {
        let _ = Command::new("chmod").args(["-R", "u+rwX"]).arg(self.root()).stderr(Stdio::null()).status();
    }
}

pub(crate) type Tree = BTreeMap<PathBuf, Node>;

/// What a container keeps of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) content: Content,
    pub(crate) mode: u32,
    pub(crate) mtime: (i64, i64),
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Content {
    File(Vec<u8>),
    Link(PathBuf),
    /// Whether it is empty.
    Folder(bool),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(bytes) if bytes.len() > 40 => write!(f, "file of {} bytes", bytes.len()),
            Self::File(bytes) => write!(f, "file {:?}", bytes.escape_ascii().to_string()),
            Self::Link(target) => write!(f, "link to {target:?}"),
            Self::Folder(empty) => write!(f, "folder, empty: {empty}"),
        }
    }
}

/// Compares two trees node by node, so that a difference is readable. The modes and times of folders that are not empty
/// count only with `folders`.
#[track_caller]
pub(crate) fn same_trees(is: &Tree, was: &Tree, folders: bool) {
    let paths = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(is), paths(was));
    for (path, was) in was {
        let is = &is[path];
        match was.content {
            Content::Folder(false) if !folders => assert_eq!(is.content, was.content, "{path:?}"),
            _ => assert_eq!(is, was, "{path:?}"),
        }
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

pub(crate) fn fixture_bytes(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/keys").join(name)).unwrap()
}

/// A third pair, made once a test program.
fn escrow() -> &'static (String, String) {
    static ESCROW: OnceLock<(String, String)> = OnceLock::new();
    ESCROW.get_or_init(|| {
        let key = PrivateKey::generate(2048).unwrap();
        (key.to_plain_pem().unwrap().to_string(), key.public().to_pem())
    })
}

pub(crate) fn ended(command: &mut Command) -> Ended {
    let output = command.output().expect("sidekey, setsid and timeout run");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Bytes without a pattern, the same ones for the same seed.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Other bytes in the file that is there.
pub(crate) fn overwrite(path: &Path, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// The JSON objects of `lines`.
pub(crate) fn objects(lines: &str) -> Vec<serde_json::Map<String, serde_json::Value>> {
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

pub(crate) fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Runs the shell command `line` on a terminal of its own and answers each prompt when it comes; returns what the
/// terminal showed.
pub(crate) fn on_a_terminal(place: &Place, line: &str, answers: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new("timeout");
    command.args(["--foreground", &LIMIT.to_string(), "script", "-q", "-e", "-c", line, "/dev/null"]);
    alone(&mut command, place.root());
    command.env("PROGRAM", SIDEKEY);
    // The shell that script(1) runs, on a terminal on which progress can be shown.
    command.env("SHELL", "/bin/sh").env("TERM", "xterm");
    command.current_dir(place.0.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("timeout (coreutils) and script (bsdutils) run");
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = Vec::new();
    let mut seen = 0;
    for (prompt, answer) in answers {
        while !shown[seen..].ends_with(prompt.as_bytes()) {
            let mut byte = [0];
            assert_eq!(
                stdout.read(&mut byte).unwrap(),
                1,
                "no {prompt:?}: {}",
                String::from_utf8_lossy(&shown)
            );
            shown.push(byte[0]);
        }
        seen = shown.len();
        stdin.write_all(format!("{answer}\n").as_bytes()).unwrap();
    }
    stdout.read_to_end(&mut shown).unwrap();
    (child.wait().unwrap().code(), String::from_utf8(shown).unwrap().replace('\r', ""))
}

/// Without anybody's passphrases and settings; the configuration is that of the place.
pub(crate) fn alone(command: &mut Command, root: &Path) {
    for name in ["PASSPHRASE", "NEW_PASSPHRASE", "CONFIG", "JOBS", "IF_EXISTS"] {
        command.env_remove(format!("SIDEKEY_{name}"));
    }
    command.env("HOME", root).env("XDG_CONFIG_HOME", root.join(".config")).env_remove("XDG_STATE_HOME");
}

/// A child that is killed when the test fails.
pub(crate) struct Killed(pub(crate) Child);

impl Killed {
    /// Starts the program itself: what is killed must not be a program that only runs it, which would go on then.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        assert!(
            ![OsStr::new("setsid"), OsStr::new("timeout")].contains(&command.get_program()),
            "{command:?}"
        );
        Self(command.spawn().unwrap())
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
