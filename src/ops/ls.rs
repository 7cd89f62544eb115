//! `ls`: what stands in a location, name by name, as its store lists it.
//!
//! A plain listing opens nothing. Details are the first 128 bytes of each container and its envelope; no key is needed.

use std::collections::VecDeque;
use std::fmt;

use futures_util::StreamExt as _;
use futures_util::stream::{self, Stream};

use crate::format::{Header, section};
use crate::location::argument::Target;
use crate::location::listing::{self, Entry, PairEntry, Scope};
use crate::location::recipe::{key_files, sample};
use crate::location::vault;
use crate::ops::look::{self, Front, Text};
use crate::ops::{rights, runtime};
use crate::recipe::plain_len;
use crate::store::{Object, Right};
use crate::vault::Info;
use crate::{DataId, Error, ErrorKind, KeyId, Result};

/// What to list, and how much of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct LsOptions {
    /// Whether what is in folders is listed, and not only the folders.
    pub recursive: bool,
    /// Whether older versions and delete markers are listed too.
    pub versions: bool,
    /// Whether sizes and recipients are read.
    pub long: bool,
}

/// What one line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file, by its container.
    File,
    /// A folder.
    Folder,
    /// An envelope without a container.
    Envelope,
    /// An object that no file of ours is called like.
    Foreign,
}

/// What is wrong with it.
#[derive(Debug)]
pub enum Problem {
    /// Nothing opens the container.
    NoEnvelope,
    /// There is no container for the envelope.
    NoContainer,
    /// It is not ours.
    Foreign,
    /// Something of it could not be listed.
    Unlisted,
    /// It could not be read, or is not what it is called like.
    Unreadable(Error),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEnvelope => f.write_str("no envelope"),
            Self::NoContainer => f.write_str("no container"),
            Self::Foreign => f.write_str("foreign object"),
            Self::Unlisted => f.write_str("cannot be listed whole"),
            Self::Unreadable(error) => f.write_str(&error.line()),
        }
    }
}

/// One line of a listing.
#[derive(Debug)]
pub struct Line {
    /// What it is about.
    pub kind: Kind,
    /// The plain path, raw, segment by segment: below the target, or with [`Self::from_parent`] from its own name on.
    pub path: Vec<Vec<u8>>,
    /// Whether the path begins with the target's own name.
    pub from_parent: bool,
    /// The object; nothing for a folder without metadata of its own.
    pub object: Option<Object>,
    /// The shortest and the longest plaintext that it may have, in bytes, where details were read.
    pub size: Option<(u64, u64)>,
    /// Whom its envelope says it is for, where details were read.
    pub recipients: Vec<KeyId>,
    /// What the info record of a vault says, where details were read.
    pub info: Option<Info>,
    /// Whether it is a file of the OpenSSL recipe, where details were read.
    pub is_recipe: bool,
    /// What is wrong with it.
    pub problem: Option<Problem>,
}

/// What a listing came to. Everything is a number of lines but the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LsSummary {
    /// Files, or versions of them.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Containers that nothing opens.
    pub no_envelope: u64,
    /// Names of which there are only envelopes.
    pub no_container: u64,
    /// Objects that are not ours.
    pub foreign: u64,
    /// What could not be listed or read.
    pub failed: u64,
    /// Names that were left out: of a store that keeps versions, they have envelopes and no current container.
    pub hidden: u64,
}

/// Lists a target; `tell` gets each line in the order of the listing, or what could not be listed.
///
/// # Errors
/// `NotFound` when nothing is there; what starting threads and the store's capabilities fail with. What single objects
/// fail with is told.
pub fn ls(target: &Target, options: LsOptions, tell: &mut dyn FnMut(Result<Line>)) -> Result<LsSummary> {
    runtime::start()?.block_on(async {
        let capabilities = target.location.store().capabilities().await?;
        let is_listed = target.location.vault().is_some() && capabilities.info_in_list;
        let rights: &[Right] =
            if options.long && !is_listed { &[Right::List, Right::Read] } else { &[Right::List] };
        rights::require(target, rights).await?;
        let lister = Lister {
            target,
            options,
            keeps_versions: capabilities.versions,
            at_once: capabilities.concurrency.max(1),
        };
        let mut told = Told { tell, summary: LsSummary::default() };
        lister.list(&mut told).await;
        match told.summary == LsSummary::default() && !target.path.is_empty() {
            true => Err(look::nothing_at(target)),
            false => Ok(told.summary),
        }
    })
}

struct Lister<'a> {
    target: &'a Target,
    options: LsOptions,
    keeps_versions: bool,
    at_once: usize,
}

struct Told<'t> {
    tell: &'t mut dyn FnMut(Result<Line>),
    summary: LsSummary,
}

impl Told<'_> {
    fn line(&mut self, line: Result<Line>) {
        let summary = &mut self.summary;
        let count = match &line {
            Err(_) => &mut summary.failed,
            Ok(Line { kind: Kind::File, .. }) => &mut summary.files,
            Ok(Line { kind: Kind::Folder, .. }) => &mut summary.folders,
            Ok(Line { kind: Kind::Envelope, .. }) => &mut summary.no_container,
            Ok(Line { kind: Kind::Foreign, .. }) => &mut summary.foreign,
        };
        *count += 1;
        match line.as_ref().map(|line| &line.problem) {
            Ok(Some(Problem::NoEnvelope)) => summary.no_envelope += 1,
            Ok(Some(Problem::Unreadable(_) | Problem::Unlisted)) => summary.failed += 1,
            _ => {}
        }
        (self.tell)(line);
    }
}

/// A line for people; nothing for a name that is left out, but counted.
type Shown = Option<Result<Line>>;

impl Lister<'_> {
    /// The object of the target's name, then what is below the folder of that name. Where both are there and folders are
    /// not entered, the folder is one line.
    async fn list(&self, told: &mut Told<'_>) {
        for name in look::names(self.target) {
            let scope = Scope::pair(&self.target.location, &name).with_versions(self.options.versions);
            self.tell_all(&scope, true, told).await;
        }
        let is_object = told.summary != LsSummary::default();
        let scope = Scope::below(&self.target.location, &self.target.path)
            .with_one_level(!self.options.recursive)
            .with_versions(self.options.versions);
        if !is_object || self.options.recursive {
            return self.tell_all(&scope, is_object, told).await;
        }
        if let Some(Ok(_)) = listing::list(&self.target.location, &scope).next().await {
            let path = self.target.path.last().cloned().into_iter().collect();
            told.line(Ok(Line { from_parent: true, ..folder(path) }));
        }
    }

    async fn tell_all(&self, scope: &Scope, from_parent: bool, told: &mut Told<'_>) {
        let shown = listing::list(&self.target.location, scope)
            .map(|entry| self.shown(entry, from_parent))
            .buffered(self.at_once);
        let mut shown = std::pin::pin!(shown.flat_map(in_order));
        while let Some(shown) = shown.next().await {
            match shown {
                Some(line) => told.line(line),
                None => told.summary.hidden += 1,
            }
        }
    }

    /// The lines of one entry.
    async fn shown(&self, entry: Result<Entry>, from_parent: bool) -> VecDeque<Shown> {
        let base = self.target.path.len() - usize::from(from_parent);
        let below = |segments: &[Vec<u8>]| segments.get(base..).unwrap_or_default().to_vec();
        let line = match entry {
            Err(error) => Err(error),
            Ok(Entry::Pair(pair)) => return self.pair(&pair, below(pair.name.segments()), from_parent).await,
            Ok(Entry::Folder(stored)) => Ok(folder(below(&self.target.location.plain_folder(&stored)))),
            Ok(Entry::Foreign(object)) => {
                let stored = self.target.location.relative(&object.key).unwrap_or(&object.key);
                let segments: Vec<Vec<u8>> =
                    stored.split('/').map(|segment| segment.as_bytes().to_vec()).collect();
                Ok(Line {
                    kind: Kind::Foreign,
                    object: Some(object),
                    problem: Some(Problem::Foreign),
                    ..folder(below(&segments))
                })
            }
        };
        [Some(line.map(|line| Line { from_parent, ..line }))].into()
    }

    async fn pair(&self, pair: &PairEntry, path: Vec<Vec<u8>>, from_parent: bool) -> VecDeque<Shown> {
        let containers: Vec<&Object> = match self.options.versions {
            true => pair.containers.iter().collect(),
            false => pair.current().into_iter().collect(),
        };
        let mut shown = VecDeque::new();
        for object in &containers {
            let line = self.container(pair, object, path.clone()).await;
            // A folder's own metadata says nothing that its folder's line does not.
            if !line.path.is_empty() || line.problem.is_some() || self.options.versions {
                shown.push_back(Some(Ok(Line { from_parent, ..line })));
            }
        }
        match pair.envelopes.first() {
            // Where versions are kept, what was overwritten and removed is still there.
            Some(_) if containers.is_empty() && self.keeps_versions && !self.options.versions => {
                shown.push_back(None);
            }
            Some(envelope) if containers.is_empty() => {
                let problem = if pair.incomplete { Problem::Unlisted } else { Problem::NoContainer };
                shown.push_back(Some(Ok(Line {
                    kind: Kind::Envelope,
                    object: Some(envelope.object.clone()),
                    problem: Some(problem),
                    from_parent,
                    ..folder(path)
                })));
            }
            _ => {}
        }
        shown
    }

    async fn container(&self, pair: &PairEntry, object: &Object, path: Vec<Vec<u8>>) -> Line {
        let kind = if pair.name.is_folder() { Kind::Folder } else { Kind::File };
        let line = Line { kind, object: Some(object.clone()), ..folder(path) };
        if object.marker || (!self.options.long && !pair.envelopes.is_empty()) {
            return line;
        }
        if pair.envelopes.is_empty() && pair.incomplete {
            return Line { problem: Some(Problem::Unlisted), ..line };
        }
        if pair.envelopes.is_empty() && !self.keeps_versions && !self.options.long {
            return Line { problem: Some(Problem::NoEnvelope), ..line };
        }
        if let Some((_, info)) = vault::listed(&self.target.location, object) {
            return Line { size: info.size.map(|size| (size, size)), info: Some(info), ..line };
        }
        match look::front(&self.target.location, object).await {
            Ok(Front::Ours(header)) => {
                let size = section::plain_len(object.size, &header).ok();
                match self.details(pair, object, &header).await {
                    Ok(Some((recipients, info))) => {
                        let exact = info.as_ref().and_then(|info| info.size).map(|size| (size, size));
                        Line { size: exact.or(size), recipients, info, ..line }
                    }
                    Ok(None) => Line { size, problem: Some(Problem::NoEnvelope), ..line },
                    Err(error) => Line { size, problem: Some(Problem::Unreadable(error)), ..line },
                }
            }
            Ok(Front::Cleartext(cleartext)) => {
                let (size, data_id) = (Some((cleartext.size, cleartext.size)), cleartext.data_id);
                match self.recipients(pair, object, data_id).await {
                    Ok(Some(recipients)) => Line { size, recipients, ..line },
                    Ok(None) => Line { size, problem: Some(Problem::NoEnvelope), ..line },
                    Err(error) => Line { size, problem: Some(Problem::Unreadable(error)), ..line },
                }
            }
            Ok(Front::Locked(Some(data_id))) => match self.recipients(pair, object, data_id).await {
                Ok(Some(recipients)) => Line { recipients, ..line },
                Ok(None) => Line { problem: Some(Problem::NoEnvelope), ..line },
                Err(error) => Line { problem: Some(Problem::Unreadable(error)), ..line },
            },
            Ok(Front::Recipe(encoding)) => {
                let (problem, recipients) = match self.recipe(pair, object).await {
                    Ok(recipients) => (None, recipients),
                    Err(problem) => (Some(problem), vec![]),
                };
                Line { is_recipe: true, size: plain_len(object.size, encoding), recipients, problem, ..line }
            }
            Ok(Front::Locked(None)) => {
                let problem = pair.envelopes.is_empty().then_some(Problem::NoEnvelope);
                Line { problem, ..line }
            }
            Err(error) => Line { problem: Some(Problem::Unreadable(error)), ..line },
        }
    }

    /// Whom the envelope is for, and in a vault what its info record says: one envelope is read.
    async fn details(
        &self,
        pair: &PairEntry,
        container: &Object,
        header: &Header,
    ) -> Result<Option<(Vec<KeyId>, Option<Info>)>> {
        let (location, data_id) = (&self.target.location, header.data_id());
        if location.vault().is_none() {
            let recipients = self.recipients(pair, container, data_id).await?;
            return Ok(recipients.map(|recipients| (recipients, None)));
        }
        let mut wrong = None;
        for listed in &pair.envelopes {
            if listed.object.marker || listed.short.as_ref().is_none_or(|short| *short != data_id.short()) {
                continue;
            }
            if let Text::Ours(envelope) = look::text(location, &listed.object).await? {
                match vault::check(location, &container.key, header, [&envelope]) {
                    Ok(info) => return Ok(Some((look::recipients(&envelope, &data_id), info))),
                    Err(error) => wrong = Some(error),
                }
            }
        }
        wrong.map_or(Ok(None), Err)
    }

    /// Whom the envelope of a file of the OpenSSL recipe is for, if it was adopted: its key file does not say.
    async fn recipe(&self, pair: &PairEntry, container: &Object) -> Result<Vec<KeyId>, Problem> {
        let location = &self.target.location;
        if pair.envelopes.iter().any(|listed| listed.short.is_some() && !listed.object.marker) {
            let data_id = match sample(location, container).await {
                Ok(sample) => sample.data_id(),
                Err(error) => return Err(Problem::Unreadable(error)),
            };
            match self.recipients(pair, container, data_id).await {
                Ok(Some(recipients)) => return Ok(recipients),
                Ok(None) => {}
                Err(error) => return Err(Problem::Unreadable(error)),
            }
        }
        let has_key_file =
            pair.envelopes.iter().any(|listed| listed.short.is_none() && !listed.object.marker);
        match has_key_file
            || key_files(location, &container.key, true).await.is_ok_and(|found| !found.is_empty())
        {
            true => Ok(vec![]),
            false => Err(Problem::NoEnvelope),
        }
    }

    /// Whom the envelope is for: those that the listing showed are tried first, and older versions after them.
    async fn recipients(
        &self,
        pair: &PairEntry,
        container: &Object,
        data_id: DataId,
    ) -> Result<Option<Vec<KeyId>>> {
        let location = &self.target.location;
        let mut fault = None;
        let may_be_ours =
            |short: &Option<String>| short.as_ref().is_none_or(|short| *short == data_id.short());
        for listed in pair.envelopes.iter().filter(|listed| may_be_ours(&listed.short)) {
            match look::text(location, &listed.object).await {
                Ok(Text::Ours(envelope)) => {
                    let recipients = look::recipients(&envelope, &data_id);
                    if !recipients.is_empty() {
                        return Ok(Some(recipients));
                    }
                }
                Ok(Text::Recipe(_) | Text::Container) => {}
                Err(error) => fault = Some(error),
            }
        }
        if self.keeps_versions {
            return look::recipients_of(location, container, &data_id).await;
        }
        fault.filter(|fault| fault.kind() != ErrorKind::NotFound).map_or(Ok(None), Err)
    }
}

fn folder(path: Vec<Vec<u8>>) -> Line {
    Line {
        kind: Kind::Folder,
        path,
        from_parent: false,
        object: None,
        size: None,
        recipients: vec![],
        info: None,
        is_recipe: false,
        problem: None,
    }
}

fn in_order<T>(items: VecDeque<T>) -> impl Stream<Item = T> {
    stream::iter(items)
}
