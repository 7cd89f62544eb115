//! Takes an envelope with a name of its own through the steps of [`Rewrap`].

use bytes::Bytes;

use super::examine::{Judged, ReadVersion, judge};
use super::fetch;
use super::rewrap::{
    Facts, Headers, RewrapOptions, Rewrapped, TextDigest, digest_of, is_current, overwrite, proofs_for,
    read_back, read_versions, recipients,
};
use crate::location::Location;
use crate::pair::{Finding, Rewrap, RewrapOutcome, RewrapReply, RewrapStep};
use crate::store::{Store, VersionId};
use crate::{Error, ErrorKind, Result};

/// What stands for the one version that a store without versions has: what replaces it has no older one to delete.
const ONLY: &str = "only";

/// What was read before the steps begin.
pub(super) struct First<'h> {
    pub(super) versions: Vec<ReadVersion>,
    pub(super) headers: Option<&'h Headers>,
}

/// Takes an envelope with a name of its own through the steps of [`Rewrap`].
pub(super) async fn located(
    location: &Location,
    stored: &str,
    first: Option<First<'_>>,
    options: &RewrapOptions<'_>,
) -> Result<Rewrapped> {
    let mut file = Located::new(location, stored, first, options).await?;
    let mut machine = Rewrap::new();
    let outcome = loop {
        let reply = match machine.step() {
            RewrapStep::Read => file.read().await,
            RewrapStep::Write { .. } if options.dry_run => break RewrapOutcome::Rewrapped,
            RewrapStep::Delete(_) if options.dry_run => break RewrapOutcome::Rewrapped,
            RewrapStep::Write { .. } => file.write().await,
            RewrapStep::ReadBack(_) => file.read_back().await,
            RewrapStep::Delete(version) => file.delete(version).await,
            RewrapStep::List => file.list().await,
            RewrapStep::Finished(outcome) => break *outcome,
        };
        machine.reply(file.note(reply));
    };
    file.finish(outcome)
}

/// The same for one of which nothing is known yet.
pub(super) async fn located_again(
    location: &Location,
    stored: &str,
    options: &RewrapOptions<'_>,
) -> Result<Rewrapped> {
    located(location, stored, None, options).await
}

struct Located<'a> {
    location: &'a Location,
    store: &'a dyn Store,
    stored: &'a str,
    key: String,
    options: &'a RewrapOptions<'a>,
    keeps_versions: bool,
    first: Option<First<'a>>,
    /// The newest version that was read.
    newest: VersionId,
    new: Bytes,
    judged: Option<Judged>,
    facts: Facts,
    error: Option<Error>,
}

impl<'a> Located<'a> {
    async fn new(
        location: &'a Location,
        stored: &'a str,
        first: Option<First<'a>>,
        options: &'a RewrapOptions<'a>,
    ) -> Result<Self> {
        let capabilities = location.store().capabilities().await?;
        Ok(Self {
            location,
            store: location.store(),
            stored,
            key: location.key(stored),
            options,
            keeps_versions: capabilities.versions,
            first,
            newest: VersionId::new(),
            new: Bytes::new(),
            judged: None,
            facts: Facts::default(),
            error: None,
        })
    }

    async fn read(&mut self) -> Result<RewrapReply> {
        let (versions, known) = match self.first.take() {
            Some(First { versions, headers }) => (versions, headers),
            None => (read_versions(self.location, self.stored).await?, None),
        };
        let proofs = proofs_for(self.location, self.stored, known, &versions, self.options).await?;
        let RewrapOptions { rotation, created, all, .. } = *self.options;
        let ours = self.is_ours(versions.first());
        let judged = judge(&versions, &proofs, rotation, created, all, ours.is_some())?;
        self.facts.remembered = ours.filter(|_| judged.finding == Finding::Done);
        if let Some(new) = judged.text()? {
            self.facts.after = recipients([&new]);
            self.new = new;
        }
        if let Some(newest) = versions.first() {
            self.newest.clone_from(&newest.object.version);
        }
        self.facts.seen = versions.iter().map(|version| version.object.version.clone()).collect();
        self.facts.before = recipients(versions.iter().map(|version| &version.bytes));
        let reply = RewrapReply::FoundSome {
            versions: versions.iter().map(|version| self.named(&version.object.version)).collect(),
            keep: judged.keep.iter().map(|version| self.named(version)).collect(),
            finding: judged.finding,
        };
        self.judged = Some(judged);
        Ok(reply)
    }

    async fn write(&mut self) -> Result<RewrapReply> {
        // What a store with versions replaces is not lost, and shows in the listing.
        let unguarded = !self.keeps_versions && !self.store.conditions().await?.replace_if;
        if unguarded && !is_current(self.store, &self.key, &self.newest).await? {
            return Ok(RewrapReply::Changed);
        }
        self.remember();
        match overwrite(self.store, &self.key, self.new.clone(), &self.newest).await {
            Ok(version) => {
                let reply = RewrapReply::Written(self.named(&version));
                self.facts.written = Some(version);
                Ok(reply)
            }
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(RewrapReply::Changed),
            Err(error) => Err(error),
        }
    }

    /// The digest of a version that runs of this change wrote.
    fn is_ours(&self, version: Option<&ReadVersion>) -> Option<TextDigest> {
        let (memory, version) = (self.options.memory?, version?);
        let digest = digest_of(&version.bytes);
        memory.has(self.stored, &version.object.version, &digest).then_some(digest)
    }

    /// What is not proven is not remembered: it could be what somebody planted.
    fn remember(&mut self) {
        let whole = |judged: &&Judged| {
            judged.unchecked == 0 && judged.checked > 0 && judged.keep.is_empty() && judged.residue.is_empty()
        };
        self.facts.remembered = None;
        if let (Some(memory), Some(_)) = (self.options.memory, self.judged.as_ref().filter(whole)) {
            let digest = digest_of(&self.new);
            memory.begin(self.stored, &digest);
            self.facts.remembered = Some(digest);
        }
    }

    async fn read_back(&mut self) -> Result<RewrapReply> {
        let written = self.facts.written.clone().unwrap_or_default();
        read_back(self.store, &self.key, &written, &self.new).await.map(|()| RewrapReply::Same)
    }

    async fn delete(&mut self, version: &VersionId) -> Result<RewrapReply> {
        if !self.options.purge {
            return Ok(RewrapReply::Failed);
        }
        fetch::delete(self.store, &self.key, version).await?;
        self.facts.purged.push(version.clone());
        Ok(RewrapReply::Deleted)
    }

    async fn list(&mut self) -> Result<RewrapReply> {
        if !self.options.list_again {
            let left = self.left();
            return Ok(RewrapReply::Versions(left.iter().map(|version| self.named(version)).collect()));
        }
        let versions = fetch::versions(self.store, &self.key).await?;
        let versions = versions.into_iter().filter(|version| !version.marker);
        self.facts.left = versions.map(|version| version.version).collect();
        Ok(RewrapReply::Versions(self.facts.left.iter().map(|version| self.named(version)).collect()))
    }

    /// The versions that are there as far as this run knows.
    fn left(&self) -> Vec<VersionId> {
        let replaced = !self.keeps_versions && self.facts.written.is_some();
        let kept = self.facts.seen.iter().filter(|version| !replaced && !self.facts.purged.contains(version));
        self.facts.written.iter().chain(kept).cloned().collect()
    }

    fn named(&self, version: &VersionId) -> VersionId {
        if self.keeps_versions { version.clone() } else { ONLY.into() }
    }

    fn note(&mut self, reply: Result<RewrapReply>) -> RewrapReply {
        reply.unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            RewrapReply::Failed
        })
    }

    fn finish(mut self, outcome: RewrapOutcome) -> Result<Rewrapped> {
        let left = self.left();
        let Some(judged) = self.judged.filter(|_| outcome != RewrapOutcome::Failed) else {
            let changed = "other writers changed it again and again; nothing was deleted";
            return Err(self
                .error
                .unwrap_or_else(|| Error::conflict(changed))
                .about(self.location.show(self.stored)));
        };
        let mut residue = judged.residue;
        if outcome == RewrapOutcome::Residue {
            residue.push(match self.error {
                Some(error) => format!("another version of it is still there: {}", error.line()),
                None if !self.options.purge => "its older versions were not to be deleted".into(),
                None => "another version of it is still there".into(),
            });
        }
        if self.facts.left.is_empty() {
            self.facts.left = left;
        }
        let Judged { checked, unchecked, .. } = judged;
        let (stored, notes) = (self.stored.into(), vec![]);
        Ok(Rewrapped { stored, outcome, residue, notes, checked, unchecked, facts: self.facts })
    }
}
