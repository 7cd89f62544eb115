//! What has to be tried: rights that the store does not tell, conditions on writes, what a folder does to names.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::StreamExt as _;

use super::{Finding, word};
use crate::location::read;
use crate::random::{OsRandom, Random as _};
use crate::store::facts::{Facts, Lock, Told, Versions};
use crate::store::{GetOptions, ListOptions, PutOptions, Right, Store, VersionId};
use crate::{ErrorKind, Result};

/// What is written: nobody takes it for anything else.
const BODY: &[u8] = b"written by sidekey doctor, which removes it again\n";

/// What came of it.
pub(super) struct Tried {
    rights: BTreeMap<Right, bool>,
    pub(super) findings: Vec<Finding>,
}

impl Tried {
    pub(super) async fn new(
        store: &dyn Store,
        prefix: &str,
        probe: String,
        facts: &Facts,
        no_write: bool,
    ) -> Result<Self> {
        let mut number = [0; 8];
        OsRandom.fill(&mut number)?;
        let probe = format!("{probe}{:016x}", u64::from_be_bytes(number));
        let mut trying = Trying { store, prefix, probe, facts, tried: Self::nothing() };
        trying.told().await?;
        trying.list().await;
        match no_write || trying.keeps_what_is_written() {
            true => trying.without_writing(no_write).await,
            false => trying.by_writing().await,
        }
        Ok(trying.tried)
    }

    fn nothing() -> Self {
        Self { rights: BTreeMap::new(), findings: vec![] }
    }

    /// Whether the credentials have a right; nothing where it is not known.
    pub(super) fn may(&self, right: Right) -> Option<bool> {
        self.rights.get(&right).copied()
    }
}

struct Trying<'a> {
    store: &'a dyn Store,
    prefix: &'a str,
    probe: String,
    facts: &'a Facts,
    tried: Tried,
}

impl Trying<'_> {
    /// What the store knows beforehand: which rights are missing, and where it knows them all, which are there.
    async fn told(&mut self) -> Result<()> {
        for right in [Right::List, Right::Read, Right::Write, Right::Delete] {
            match self.store.require(self.prefix, &[right]).await {
                Ok(()) if self.facts.tells_rights => self.set(right, true),
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Permission => self.set(right, false),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn list(&mut self) {
        let options = ListOptions { prefix: self.prefix.to_owned(), ..ListOptions::default() };
        let first = self.store.list(options).next().await.transpose();
        self.learn(Right::List, &first.map(drop));
    }

    /// Whether what is written could not be removed at once.
    fn keeps_what_is_written(&self) -> bool {
        matches!(&self.facts.lock, Told::Is(Some(Lock { default: Some(_) })))
    }

    async fn without_writing(&mut self, wanted: bool) {
        // Who may list is told that a name is not there; who may not, that he may not read it.
        if self.tried.may(Right::List) == Some(true) {
            let looked = self.store.get(&self.probe, &GetOptions::default()).await;
            match looked {
                Err(error) if error.kind() == ErrorKind::NotFound => self.set(Right::Read, true),
                looked => self.learn(Right::Read, &looked.map(drop)),
            }
        }
        match self.facts.folder.is_some() || self.facts.tells_rights {
            true => self.conditions().await, // Known, without trying.
            false => {
                let why =
                    if wanted { "not tried" } else { "not tried: what is written could not be removed" };
                self.tried.findings.push(Finding::unknown("conditions", why));
            }
        }
    }

    async fn by_writing(&mut self) {
        self.delete_nothing().await;
        if self.tried.may(Right::Delete) != Some(true) {
            self.without_writing(false).await;
            return;
        }
        match self.store.put(&self.probe, Bytes::from_static(BODY), &PutOptions::default()).await {
            Ok(written) => {
                self.set(Right::Write, true);
                self.read_back().await;
                self.names().await;
                self.remove(&written.version).await;
                self.conditions().await;
            }
            failed => {
                self.learn(Right::Write, &failed.map(drop));
                // Whoever may not write in a folder removes nothing from it.
                if self.facts.folder.is_some() {
                    self.set(Right::Delete, false);
                }
                self.without_writing(true).await;
            }
        }
    }

    /// Whether something may be deleted is asked before anything is written that has to be.
    async fn delete_nothing(&mut self) {
        let version = match self.facts.versions {
            Told::Is(Versions::On | Versions::Suspended) => VersionId::from("no-such-version"),
            _ => VersionId::from("etag:00000000000000000000000000000000"),
        };
        if self.tried.may(Right::Delete).is_none() {
            let deleted = self.store.delete(&self.probe, &version).await;
            match deleted {
                Err(error) if error.kind() == ErrorKind::NotFound => self.set(Right::Delete, true),
                deleted => self.learn(Right::Delete, &deleted),
            }
        }
    }

    async fn read_back(&mut self) {
        match read::small(self.store, &self.probe, None).await {
            Ok((_, bytes)) if bytes == BODY => self.set(Right::Read, true),
            Ok(_) => self.tried.findings.push(Finding::attention(
                "bytes",
                "what is read is not what was written",
                "do not use this store before it is known why",
            )),
            Err(error) => self.learn(Right::Read, &Err(error)),
        }
    }

    /// What a folder does to names that others keep apart.
    async fn names(&mut self) {
        if self.facts.folder.is_none() {
            return;
        }
        let upper = self.probe.replace("doctor-", "DOCTOR-");
        let same = self.store.stat(&upper, None).await.is_ok();
        self.tried.findings.push(match same {
            true => Finding::attention(
                "names",
                "upper and lower case are the same here",
                "two names that differ only so cannot both be put: the second replaces the first",
            ),
            false => Finding::fine("names", "upper and lower case are kept apart"),
        });
        let (composed, decomposed) = (format!("{}-\u{e9}", self.probe), format!("{}-e\u{301}", self.probe));
        match self.store.put(&composed, Bytes::from_static(BODY), &PutOptions::default()).await {
            Ok(written) => {
                if self.store.stat(&decomposed, None).await.is_ok() {
                    self.tried.findings.push(Finding::attention(
                        "names",
                        "two ways to write an accent (NFC, NFD) are the same here",
                        "two names that differ only so cannot both be put",
                    ));
                }
                let removed = self.store.delete(&composed, &written.version).await;
                self.told_if_left(&composed, &removed);
            }
            Err(error) => self.tried.findings.push(Finding::attention(
                "names",
                format!("names that are not ASCII are refused: {}", error.line()),
                "mount it with an encoding of UTF-8",
            )),
        }
    }

    async fn remove(&mut self, version: &VersionId) {
        let removed = self.store.delete(&self.probe, version).await;
        let probe = self.probe.clone();
        self.told_if_left(&probe, &removed);
        self.learn(Right::Delete, &removed);
    }

    fn told_if_left(&mut self, key: &str, removed: &Result<()>) {
        if let Err(error) = removed {
            self.tried.findings.push(Finding::attention(
                "left behind",
                format!("{}: {}", self.store.show(key), error.line()),
                "remove it by hand",
            ));
        }
    }

    /// Which conditions are honoured. Where none are to be tried, the store says so itself.
    async fn conditions(&mut self) {
        let finding = match self.store.conditions().await {
            Ok(honoured) => {
                let kept = [
                    (honoured.create_new, "creating"),
                    (honoured.replace_if, "replacing"),
                    (honoured.delete_if, "deleting"),
                ];
                let kept: Vec<&str> = kept.iter().filter(|(kept, _)| *kept).map(|(_, name)| *name).collect();
                match kept.is_empty() {
                    true => Finding::fine("conditions", "none are honoured; nothing depends on them"),
                    false => Finding::fine("conditions", format!("honoured when {}", kept.join(", "))),
                }
            }
            Err(error) => Finding::unknown("conditions", error.line()),
        };
        self.tried.findings.push(finding);
    }

    fn set(&mut self, right: Right, allowed: bool) {
        self.tried.rights.insert(right, allowed);
    }

    /// What an attempt tells of a right, unless the store told it before.
    fn learn(&mut self, right: Right, attempt: &Result<()>) {
        match attempt {
            Ok(()) => {
                self.tried.rights.entry(right).or_insert(true);
            }
            Err(error) if error.kind() == ErrorKind::Permission => self.set(right, false),
            // What the operating system refuses in a folder of this machine it says in words of its own.
            Err(error) if self.facts.folder.is_some() => {
                self.set(right, false);
                self.tried.findings.push(Finding::unknown(word(right), error.line()));
            }
            Err(error) => self.tried.findings.push(Finding::unknown(word(right), error.line())),
        }
    }
}
