//! What the user gets to see: results on standard output, everything else on standard error, and the exit code.
//!
//! A batch goes on after a failure: [`Report::failure`] prints it and remembers the exit code.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use sidekey::{Error, ErrorKind};
use tracing::{Level, debug, enabled, error, info, warn};

/// The name of what is logged here.
const LOG: &str = "sidekey";

/// How to report.
#[derive(Clone, Copy, Default)]
pub(crate) struct Settings {
    /// One JSON object a line.
    pub(crate) json: bool,
    /// Errors and warnings only.
    pub(crate) quiet: bool,
    /// Details too.
    pub(crate) verbose: bool,
}

/// Where remarks for people who asked for more go, to keep: it outlives the report.
#[derive(Clone)]
pub(crate) struct Details {
    wanted: bool,
    json: bool,
    stalled: Arc<AtomicBool>,
    bar: ProgressBar,
}

impl Details {
    /// One remark; beside progress where there is any.
    pub(crate) fn tell(&self, text: impl Display) {
        if self.wanted {
            print_stderr(&self.bar, &format!("sidekey: {text}"));
        }
    }

    /// For everybody, and once a run: nobody is to look at a screen where nothing happens.
    pub(crate) fn stalled(&self, text: impl Display) {
        if !self.wanted && !self.json && !self.stalled.swap(true, Ordering::Relaxed) {
            print_stderr(&self.bar, &format!("sidekey: warning: {text}"));
            print_stderr(&self.bar, "sidekey: hint: -v shows every try; Ctrl-C ends it");
        }
    }
}

/// The report of one run; threads may share it.
pub(crate) struct Report {
    settings: Settings,
    state: Mutex<State>,
    bar: ProgressBar,
}

#[derive(Default)]
struct State {
    status: Status,
    failures: u64,
    warnings: u64,
    /// Whether standard output carries the data itself.
    data: bool,
    /// The hints given so far.
    hints: BTreeSet<String>,
    /// Whether the reader of standard output went away.
    gone: bool,
}

/// The better the exit code tells what to do next, the higher: the worst one of a batch wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    #[default]
    Done,
    Remains,
    Failed,
    Usage,
    Integrity,
    Interrupted,
}

impl Report {
    /// An empty report.
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, state: Mutex::default(), bar: ProgressBar::hidden() }
    }

    /// Whether results are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.settings.json
    }

    /// From now on standard output carries data: results go to standard error instead.
    pub(crate) fn stdout_is_data(&self) {
        self.state().data = true;
    }

    /// A result: `lines` on standard output, or `value` as a JSON line. Each line is escaped whole, so a name in it cannot
    /// begin a line of its own.
    pub(crate) fn result<L: Display>(&self, value: &impl Serialize, lines: impl IntoIterator<Item = L>) {
        if self.settings.json {
            return self.json(value);
        }
        let data = self.state().data;
        for line in lines {
            match data {
                true => self.stderr(&format!("sidekey: {line}")),
                false => self.stdout(&shown(&line.to_string(), io::stdout().is_terminal())),
            }
        }
    }

    /// Something done that leaves nothing to print on standard output but, when asked, `value` as a JSON line.
    pub(crate) fn done(&self, value: &impl Serialize, text: impl Display) {
        if self.settings.json {
            info!(target: LOG, "{}", shown(&text.to_string(), true));
            self.json(value);
        } else {
            self.note(text);
        }
    }

    /// One of many things done: a line for people who asked for more, `value` as a JSON line for programs.
    pub(crate) fn each(&self, value: &impl Serialize, text: impl Display) {
        if enabled!(target: LOG, Level::INFO) {
            info!(target: LOG, "{}", shown(&text.to_string(), true));
        }
        if self.settings.json {
            self.json(value);
        } else {
            self.details().tell(text);
        }
    }

    /// Data for standard output, as it is. A reader that has seen enough (`| head`) is no failure.
    pub(crate) fn data(&self, bytes: &[u8]) {
        let written = self.bar.suspend(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        });
        let Err(error) = written else { return };
        let gone = std::mem::replace(&mut self.state().gone, true);
        if !gone && error.kind() != io::ErrorKind::BrokenPipe {
            self.failure(&Error::io("cannot write", error).about("standard output"));
        }
    }

    /// A remark for people.
    pub(crate) fn note(&self, text: impl Display) {
        if enabled!(target: LOG, Level::INFO) {
            info!(target: LOG, "{}", shown(&text.to_string(), true));
        }
        if !self.settings.quiet && !self.settings.json {
            self.stderr(&format!("sidekey: {text}"));
        }
    }

    /// A remark for people who asked for more.
    pub(crate) fn detail(&self, text: impl Display) {
        if enabled!(target: LOG, Level::DEBUG) {
            debug!(target: LOG, "{}", shown(&text.to_string(), true));
        }
        self.details().tell(text);
    }

    /// The same for those who keep it.
    pub(crate) fn details(&self) -> Details {
        let Settings { json, verbose, .. } = self.settings;
        Details { wanted: verbose && !json, json, stalled: Arc::default(), bar: self.bar.clone() }
    }

    /// Something to look at that is no failure.
    pub(crate) fn warning(&self, warning: &Error) {
        self.state().warnings += 1;
        self.problem("warning", warning);
    }

    /// A warning that programs get as `value`, a JSON line of its own.
    pub(crate) fn warning_with(&self, value: &impl Serialize, warning: &Error) {
        match self.settings.json {
            true => {
                self.state().warnings += 1;
                self.json(value);
            }
            false => self.warning(warning),
        }
    }

    /// A failure; the run goes on, its exit code will tell.
    pub(crate) fn failure(&self, failure: &Error) {
        let status = match failure.kind() {
            ErrorKind::Usage => Status::Usage,
            ErrorKind::Integrity => Status::Integrity,
            ErrorKind::Interrupted => Status::Interrupted,
            _ => Status::Failed,
        };
        {
            let mut state = self.state();
            state.status = state.status.max(status);
            state.failures += 1;
        }
        if status != Status::Interrupted {
            self.problem("error", failure);
        }
    }

    /// What to say when a signal ends the process: it is written as it is, over a line of progress where there is one.
    pub(crate) fn interrupted(&self, hint: &str) -> String {
        if self.settings.json {
            let error = Error::new(ErrorKind::Interrupted, "interrupted").hint(hint);
            return json_problem("error", &error) + "\n";
        }
        let start = if io::stderr().is_terminal() { "\r\u{1b}[K" } else { "" };
        format!("{start}sidekey: interrupted\nsidekey: hint: {hint}\n")
    }

    /// All was done, but something remains that the user has to know about: exit code 4 unless something failed.
    #[allow(dead_code, reason = "for rewrap")]
    pub(crate) fn remains(&self) {
        let mut state = self.state();
        state.status = state.status.max(Status::Remains);
    }

    /// How many failures there were so far.
    #[allow(dead_code, reason = "for summaries of batches")]
    pub(crate) fn failures(&self) -> u64 {
        self.state().failures
    }

    /// How many warnings there were so far.
    #[allow(dead_code, reason = "for summaries of batches")]
    pub(crate) fn warnings(&self) -> u64 {
        self.state().warnings
    }

    /// Shows progress on a terminal, in files and bytes; `total` when it is known.
    pub(crate) fn progress(&self, total: Option<u64>) -> Progress {
        let bar = self.bar.clone();
        if !self.settings.quiet && !self.settings.json && io::stderr().is_terminal() {
            bar.reset();
            expect(&bar, total);
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        Progress {
            bar,
            files: AtomicU64::new(0),
            spared: AtomicU64::new(0),
            over: Arc::default(),
            counter: None,
        }
    }

    /// The run is over: the exit code of all that was reported.
    pub(crate) fn end(&self) -> ExitCode {
        let (status, failures, warnings) = {
            let state = self.state();
            (state.status, state.failures, state.warnings)
        };
        info!(target: LOG, failures, warnings, "ends: {status:?}");
        self.exit_code()
    }

    /// The exit code of all that was reported.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.state().status {
            Status::Done => 0,
            Status::Failed => 1,
            Status::Usage => 2,
            Status::Integrity => 3,
            Status::Remains => 4,
            Status::Interrupted => 130,
        })
    }

    fn problem(&self, kind: &'static str, error: &Error) {
        let line = error.line();
        match kind {
            "warning" => warn!(target: LOG, "{}", shown(&line, true)),
            _ => error!(target: LOG, kind = kind_name(error.kind()), "{}", shown(&line, true)),
        }
        if self.settings.json {
            self.stderr(&json_problem(kind, error));
            return;
        }
        let prefix = if kind == "warning" { "warning: " } else { "" };
        // Line by line: each is escaped whole, so that a line end within a name cannot begin a line of its own.
        self.stderr(&format!("sidekey: {prefix}{}", error.line()));
        // In a batch the same remedy is worth saying once.
        if let Some(hint) = error.remedy()
            && self.state().hints.insert(hint.to_owned())
        {
            self.stderr(&format!("sidekey: hint: {hint}"));
        }
    }

    fn json(&self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(line) if self.state().data => self.stderr(&line),
            Ok(line) => self.stdout(&line),
            Err(error) => self.failure(&Error::new(ErrorKind::Io, "cannot make JSON").because(error)),
        }
    }

    fn stdout(&self, line: &str) {
        self.data(format!("{line}\n").as_bytes());
    }

    fn stderr(&self, line: &str) {
        print_stderr(&self.bar, line);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn print_stderr(bar: &ProgressBar, line: &str) {
    // Where standard error is closed there is nowhere left to say so.
    let line = shown(line, io::stderr().is_terminal());
    bar.suspend(|| drop(writeln!(io::stderr(), "{line}")));
}

/// Progress in files and bytes; gone from the terminal when dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    files: AtomicU64,
    /// What is to be taken from the total, once that is known.
    spared: AtomicU64,
    over: Arc<AtomicBool>,
    counter: Option<JoinHandle<()>>,
}

/// How far it is: with a total the time that is left, without one what is done.
fn expect(bar: &ProgressBar, total: Option<u64>) {
    let template = match total {
        Some(_) => "{wide_bar} {msg}{bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left",
        None => "{spinner} {msg}{bytes}, {binary_bytes_per_sec}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    match total {
        Some(total) => bar.set_length(total),
        None => bar.unset_length(),
    }
}

impl Progress {
    /// Finds out the total beside the work, where anybody sees it; `count` gives up when it is told that all is over.
    pub(crate) fn count(&mut self, count: impl FnOnce(&AtomicBool) -> Option<u64> + Send + 'static) {
        if self.bar.is_hidden() {
            return;
        }
        let (bar, over) = (self.bar.clone(), Arc::clone(&self.over));
        self.counter = Some(std::thread::spawn(move || {
            if let Some(total) = count(&over) {
                expect(&bar, Some(total));
            }
        }));
    }

    /// `bytes` more are done.
    pub(crate) fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// So many bytes there are altogether, those that are spared included.
    pub(crate) fn expect(&self, bytes: u64) {
        let spared = self.spared.swap(0, Ordering::Relaxed);
        expect(&self.bar, Some(bytes.saturating_sub(spared)));
    }

    /// `bytes` of what there is need not be done.
    pub(crate) fn spare(&self, bytes: u64) {
        match self.bar.length() {
            Some(total) => self.bar.set_length(total.saturating_sub(bytes)),
            None => drop(self.spared.fetch_add(bytes, Ordering::Relaxed)),
        }
    }

    /// One more file is done.
    pub(crate) fn file(&self) {
        if !self.bar.is_hidden() {
            let files = self.files.fetch_add(1, Ordering::Relaxed) + 1;
            self.bar.set_message(if files == 1 { "1 file, ".into() } else { format!("{files} files, ") });
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(counter) = self.counter.take() {
            let _ = counter.join();
        }
        self.bar.finish_and_clear();
    }
}

/// `text` as it may stand on a terminal: control characters and those that turn the direction of writing are escaped,
/// so that a hostile name cannot move the cursor, hide itself or look like another one. On a pipe it stays as it is.
pub(crate) fn shown(text: &str, terminal: bool) -> Cow<'_, str> {
    let hostile = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    if !terminal || !text.contains(hostile) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().map(|c| match hostile(c) {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    });
    Cow::Owned(escaped.collect())
}

/// The JSON of a warning or an error.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    kind: &'static str,
    subject: Option<&'a str>,
    message: &'a str,
    hint: Option<&'a str>,
}

fn json_problem(kind: &'static str, error: &Error) -> String {
    let problem = Problem {
        r#type: kind,
        kind: kind_name(error.kind()),
        subject: error.subject(),
        message: &error.line(),
        hint: error.remedy(),
    };
    serde_json::to_string(&problem).unwrap_or_default()
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Auth => "auth",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Foreign => "foreign",
        ErrorKind::Input => "input",
        ErrorKind::Integrity => "integrity",
        ErrorKind::Interrupted => "interrupted",
        ErrorKind::Io => "io",
        ErrorKind::NotFound => "not-found",
        ErrorKind::Permission => "permission",
        ErrorKind::Refused => "refused",
        ErrorKind::Transient => "transient",
        ErrorKind::Unsure => "unsure",
        ErrorKind::Usage => "usage",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_escaped_on_a_terminal_and_raw_on_a_pipe() {
        for (name, escaped) in [
            ("plain ö 名", "plain ö 名"),
            ("a\u{1b}]52;c;x\u{7}", "a\\u{1b}]52;c;x\\u{7}"),
            ("a\nsidekey: all is well", "a\\nsidekey: all is well"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("\u{9b}2J\u{7f}", "\\u{9b}2J\\u{7f}"),
        ] {
            assert_eq!(shown(name, true), escaped);
            assert_eq!(shown(name, false), name);
        }
    }

    #[test]
    fn the_exit_code_is_the_worst_of_a_batch() {
        let code = |errors: &[Error]| {
            let report = Report::new(Settings::default());
            report.state().status = Status::Remains;
            errors.iter().for_each(|error| report.failure(error));
            format!("{:?}", report.exit_code())
        };
        let expect = |code: u8| format!("{:?}", ExitCode::from(code));
        assert_eq!(code(&[]), expect(4));
        assert_eq!(code(&[Error::auth("a")]), expect(1));
        assert_eq!(code(&[Error::integrity("a"), Error::auth("b")]), expect(3));
        assert_eq!(code(&[Error::auth("b"), Error::usage("a")]), expect(2));
        assert_eq!(code(&[Error::new(ErrorKind::Interrupted, "i"), Error::integrity("a")]), expect(130));
    }
}
