//! `sidekey rewrap`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use sidekey::location::argument::Argument;
use sidekey::location::range::Range;
use sidekey::name::RecipeSuffix;
use sidekey::ops::rewrap::{Prove, RewrapOptions, RewrapSummary, rewrap};
use sidekey::ops::rotate::{Journal, Ledger, RotateOptions, RotateSummary, rotate};
use sidekey::random::{OsRandom, Random as _};
use sidekey::recipe::Named;
use sidekey::rewrap::Rotation;
use sidekey::{Error, KeyId, Result, hex};

use super::identity::{load_identities, load_recipients};
use super::location::Place;
use super::passphrase::PassphraseArgs;
use super::report::Report;
use super::vaults;
use super::work::{self, RangeArgs, RecipeArgs, SuffixArgs, Watcher};
use super::{config, guard};

/// move envelopes from an old private key to new public keys
///
/// Rewrites only the small .key.enc files: each file's key is unwrapped with the old private key, compared with its
/// container where that is there, and wrapped for the new recipients; other recipients stay. At the end the old key is
/// tried on a random sample of 1,000 envelopes, or with --prove all on each. It can be stopped and run again.
///
/// In a location (a URL, or NAME:PATH for a configured remote) older versions of envelopes are deleted too, and everything
/// is listed again at the end.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey rewrap encrypted/ -i old.pem --to new.pub.pem --dry-run
  sidekey rewrap encrypted/ -i old.pem --to new.pub.pem --to escrow.pub.pem --prove all
  sidekey rewrap nas:photos -i old.pem --to new.pub.pem --report rotation.jsonl

exit code 4: it is done, but something remains for the old key or could not be judged; each is listed")]
pub(crate) struct Args {
    /// envelopes and folders of them, and locations
    #[arg(value_name = "PATH|LOCATION", required = true)]
    paths: Vec<PathBuf>,
    /// an old private key: its recipient is dropped (repeatable)
    #[arg(short, long, value_name = "FILE", required = true)]
    identity: Vec<PathBuf>,
    /// a new public key (repeatable)
    #[arg(long, value_name = "FILE", required = true)]
    to: Vec<PathBuf>,
    /// drop this recipient too, by its label: a key id of 64 hex digits (repeatable)
    #[arg(long, value_name = "ID")]
    drop: Vec<KeyId>,
    /// say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// leave older versions where they are: exit code 4, for the old key opens them still
    #[arg(long, help_heading = "In locations")]
    no_purge: bool,
    /// do not compare keys with their containers, which saves a request each
    #[arg(long, help_heading = "In locations")]
    trust_envelopes: bool,
    /// append what is done to each envelope, as JSON lines
    #[arg(long, value_name = "FILE", help_heading = "In locations")]
    report: Option<PathBuf>,
    /// look at everything again, also at what an earlier run did
    #[arg(long, help_heading = "In locations")]
    no_resume: bool,
    #[command(flatten)]
    range: RangeArgs,
    /// turn key files of the OpenSSL recipe into envelopes: OAEP instead of PKCS#1 v1.5, and several recipients
    #[arg(long, help_heading = "Files of the OpenSSL recipe")]
    adopt: bool,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    suffix: SuffixArgs,
    /// on which envelopes the old key is tried at the end
    #[arg(long, value_enum, default_value = "sample")]
    prove: Proof,
    /// how many threads work; by default one a processor, 16 at most
    #[arg(long, value_name = "N", value_parser = work::parse_jobs)]
    jobs: Option<usize>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Proof {
    /// on a random sample of 1,000
    Sample,
    /// on all
    All,
}

impl Proof {
    fn prove(self) -> Prove {
        match self {
            Self::Sample => Prove::Sample,
            Self::All => Prove::All,
        }
    }
}

#[derive(Serialize)]
struct Totals {
    r#type: &'static str,
    dry_run: bool,
    location: Option<String>,
    rewrapped: u64,
    late: u64,
    already: u64,
    not_ours: u64,
    resumed: u64,
    residue: u64,
    failed: u64,
    checked: u64,
    unchecked: u64,
    purged: u64,
    tried: u64,
    opened: u64,
    seed: String,
    #[serde(skip)]
    listed_again: bool,
    head: Option<String>,
}

/// What to do after an interrupt.
const AGAIN: &str = "run the same again: it goes on where it was stopped";

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        let (folders, locations): (Vec<_>, Vec<_>) =
            self.paths.iter().cloned().partition(|typed| !is_location(typed));
        if let Some(folder) = folders.first() {
            self.refuse_for_paths(folder)?;
        }
        let places: Vec<Place> =
            locations.iter().map(|typed| Place::open(typed.as_os_str())).collect::<Result<_>>()?;
        let new = load_recipients(&self.to)?;
        let old = load_identities(&self.identity, &self.passphrase, report)?;
        let mut seed = [0; 16];
        OsRandom.fill(&mut seed)?;
        guard::say_when_interrupted(report, AGAIN);
        let rotation = Rotation::new(old, new)?.dropping(self.drop.iter().copied())?;
        let ledger = self.report.as_deref().map(Ledger::open).transpose()?;
        let how = Locations {
            rotation: &rotation,
            range: self.range.range()?,
            dry_run: self.dry_run,
            purge: !self.no_purge,
            compare: !self.trust_envelopes,
            resume: !self.no_resume,
            jobs: self.jobs,
            prove: self.prove.prove(),
            seed,
            ledger: ledger.as_ref(),
            adopt: self.adopt,
            recipe: self.recipe.named(),
            suffix: self.suffix.suffix(),
        };
        for (place, typed) in places.iter().zip(&locations) {
            if let Err(error) = rotate_location(place, &typed.to_string_lossy(), &how, report) {
                report.failure(&error);
            }
        }
        match folders.is_empty() {
            true => Ok(()),
            false => self.folders(&folders, rotation, seed, report),
        }
    }

    /// What only locations have is not taken for done where it is not.
    fn refuse_for_paths(&self, path: &Path) -> Result<()> {
        let given = [
            (self.no_purge, "--no-purge"),
            (self.trust_envelopes, "--trust-envelopes"),
            (self.no_resume, "--no-resume"),
            (self.report.is_some(), "--report"),
            (self.suffix.suffix().is_some(), "--recipe-suffix"),
            (self.range.from.is_some(), "--from"),
            (self.range.until.is_some(), "--until"),
        ];
        match given.iter().find(|(given, _)| *given) {
            None => Ok(()),
            Some((_, option)) => Err(Error::usage(format!("{option} is for locations, and this is a path"))
                .at(path)
                .hint("write a folder as file:///FOLDER to treat it as a location")),
        }
    }

    fn folders(
        &self,
        folders: &[PathBuf],
        rotation: Rotation,
        seed: [u8; 16],
        report: &Report,
    ) -> Result<()> {
        let options = RewrapOptions {
            rotation,
            dry_run: self.dry_run,
            adopt: self.adopt,
            recipe: self.recipe.named(),
            jobs: work::jobs(self.jobs),
            prove: self.prove.prove(),
            seed,
            now: work::now(),
        };
        let watcher = Watcher::new(report, None, "rewrapped");
        let summary = rewrap(folders, &options, &watcher)?;
        drop(watcher);
        tell(report, &Totals::of_folders(&options, &summary));
        if summary.residue + summary.opened > 0 {
            report.remains();
        }
        Ok(())
    }
}

/// How locations are rewrapped.
pub(super) struct Locations<'a> {
    pub(super) rotation: &'a Rotation,
    pub(super) range: Range,
    pub(super) dry_run: bool,
    pub(super) purge: bool,
    pub(super) compare: bool,
    pub(super) resume: bool,
    pub(super) jobs: Option<usize>,
    pub(super) prove: Prove,
    pub(super) seed: [u8; 16],
    pub(super) ledger: Option<&'a Ledger>,
    /// What becomes of files of the OpenSSL recipe.
    pub(super) adopt: bool,
    pub(super) recipe: Named,
    pub(super) suffix: Option<RecipeSuffix>,
}

/// Rewraps one location, and tells what it came to.
///
/// # Errors
/// Those of [`rotate`].
pub(super) fn rotate_location(
    place: &Place,
    typed: &str,
    how: &Locations<'_>,
    report: &Report,
) -> Result<()> {
    let journal = match how.resume {
        true => open_journal(place, how.rotation, &how.range, how.compare, report),
        false => None,
    };
    let options = RotateOptions {
        rotation: how.rotation,
        range: &how.range,
        dry_run: how.dry_run,
        purge: how.purge,
        compare: how.compare,
        adopt: how.adopt,
        recipe: how.recipe,
        jobs: place.jobs(how.jobs),
        prove: how.prove,
        seed: how.seed,
        now: work::now(),
        journal: journal.as_ref(),
        ledger: how.ledger,
    };
    let watcher = Watcher::new(report, None, "rewrapped");
    let target = place.target.clone().with_recipe_suffix(how.suffix.clone());
    let summary = rotate(&target, &options, &watcher)?;
    drop(watcher);
    tell(report, &Totals::of_location(typed, &options, &summary));
    if !how.dry_run {
        vaults::follow(place, how.rotation, report)?;
        vaults::mind_escrow(place, report)?;
    }
    if summary.residue + summary.opened > 0 {
        report.remains();
    }
    Ok(())
}

/// Whether it is worked on through a store: a URL, `NAME:PATH`, or a folder in a vault. Another bare path is worked on as
/// files.
fn is_location(typed: &Path) -> bool {
    let is_url = typed.as_os_str().as_encoded_bytes().windows(3).any(|window| window == b"://");
    match Argument::parse(typed.as_os_str()) {
        // The files of a vault are not all there is: its master key is in what is sidekey's own.
        Ok(Argument::Local(path)) => (is_url && path != typed) || vaults::refuse_folder(&path).is_err(),
        Ok(Argument::Service(..) | Argument::Remote(..)) | Err(_) => true,
    }
}

/// The journal saves work and nothing else: a run without one is as good.
fn open_journal(
    place: &Place,
    rotation: &Rotation,
    range: &Range,
    compare: bool,
    report: &Report,
) -> Option<Journal> {
    let folder = config::state_folder()?;
    match Journal::open(&folder, place.target.location.store(), rotation, range, compare) {
        Ok(journal) => Some(journal),
        Err(error) => {
            report.warning(&error.hint("without a journal a second run looks at everything again"));
            None
        }
    }
}

impl Totals {
    fn of_location(typed: &str, options: &RotateOptions<'_>, summary: &RotateSummary) -> Self {
        Self {
            r#type: "summary",
            dry_run: options.dry_run,
            location: Some(typed.to_owned()),
            rewrapped: summary.rewrapped,
            late: summary.late,
            already: summary.already,
            not_ours: summary.not_ours,
            resumed: summary.resumed,
            residue: summary.residue,
            failed: summary.failed,
            checked: summary.checked,
            unchecked: summary.unchecked,
            purged: summary.purged,
            tried: summary.tried,
            opened: summary.opened,
            seed: hex(&options.seed),
            listed_again: summary.listed_again,
            head: summary.head.clone(),
        }
    }

    fn of_folders(options: &RewrapOptions, summary: &RewrapSummary) -> Self {
        Self {
            r#type: "summary",
            dry_run: options.dry_run,
            location: None,
            rewrapped: summary.rewrapped,
            late: 0,
            already: summary.already,
            not_ours: summary.not_ours,
            resumed: 0,
            residue: summary.residue,
            failed: summary.failed,
            checked: summary.checked,
            unchecked: summary.unchecked,
            purged: 0,
            tried: summary.tried,
            opened: summary.opened,
            seed: hex(&options.seed),
            listed_again: false,
            head: None,
        }
    }
}

fn tell(report: &Report, totals: &Totals) {
    let verb = if totals.dry_run { "would rewrap" } else { "rewrapped" };
    let place = totals.location.as_ref().map(|location| format!("{location}: ")).unwrap_or_default();
    report.done(
        totals,
        format_args!(
            "{place}{verb} {} envelopes; {} were done already, {} are not for the old key, {} have residue, {} failed",
            totals.rewrapped,
            totals.already + totals.resumed,
            totals.not_ours,
            totals.residue,
            totals.failed
        ),
    );
    report.note(format_args!(
        "compared {} keys with their containers; for {} the container was not there",
        totals.checked, totals.unchecked
    ));
    if totals.resumed > 0 {
        report.note(format_args!(
            "{} were not read: an earlier run did them (--no-resume reads all)",
            totals.resumed
        ));
    }
    if totals.dry_run {
        return;
    }
    if totals.location.is_some() {
        let listed = match totals.listed_again {
            true => format!(
                "all was listed again at the end, and {} envelopes had come for the old key meanwhile",
                totals.late
            ),
            false => "what came for the old key meanwhile was not looked for".into(),
        };
        report.note(format_args!("deleted {} older versions; {listed}", totals.purged));
    }
    report.note(format_args!(
        "every rewritten envelope was read back; the old key was tried on {} of {} and opened {} (sample seed {})",
        totals.tried,
        totals.rewrapped + totals.already + totals.resumed,
        totals.opened,
        totals.seed
    ));
    if let Some(head) = &totals.head {
        report
            .note(format_args!("the report's last line has the hash {head}: keep it apart from the report"));
    }
    if totals.rewrapped > 0 {
        report.note(
            "whoever copied an envelope before now still opens its container with that copy and the old private key. Where \
             that may have happened, run sidekey reencrypt, which gives the files new keys",
        );
        report.note(
            "keep the old private key until a second run, at least 7 days from now, finds nothing to do",
        );
    }
}
