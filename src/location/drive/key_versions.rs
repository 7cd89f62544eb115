//! Writes versions of a key file of the OpenSSL recipe anew, and deletes what they replace when all were read back.

use bytes::Bytes;

use super::fetch;
use super::rewrap::{Facts, RewrapOptions, is_current, overwrite, read_back};
use crate::location::Location;
use crate::pair::{Finding, Rewrap, RewrapOutcome, RewrapReply, RewrapStep};
use crate::store::VersionId;
use crate::{Error, ErrorKind, Result};

/// Writes versions of one key file, and deletes those that they replace when the last of them was read back.
pub(super) struct Writing<'a> {
    location: &'a Location,
    stored: &'a str,
    key: String,
    options: &'a RewrapOptions<'a>,
    keeps_versions: bool,
    replace_if: bool,
    /// All versions that are there as far as this run knows, the newest first.
    versions: Vec<VersionId>,
    /// Those that were read and are written anew.
    pub(super) replaced: Vec<VersionId>,
    facts: Facts,
    residue: Vec<String>,
}

impl<'a> Writing<'a> {
    pub(super) async fn new(
        location: &'a Location,
        stored: &'a str,
        options: &'a RewrapOptions<'a>,
        versions: Vec<VersionId>,
    ) -> Result<Self> {
        let capabilities = location.store().capabilities().await?;
        Ok(Self {
            location,
            stored,
            key: location.key(stored),
            options,
            keeps_versions: capabilities.versions,
            replace_if: location.store().conditions().await?.replace_if,
            facts: Facts { seen: versions.clone(), ..Facts::default() },
            versions,
            replaced: vec![],
            residue: vec![],
        })
    }

    /// Takes one text through the steps of [`Rewrap`]; with the `last` one what was replaced goes.
    pub(super) async fn version(&mut self, text: Bytes, last: bool) -> Result<()> {
        let mut machine = Rewrap::new();
        let mut fault = None;
        loop {
            let reply = match machine.step() {
                RewrapStep::Read if fault.is_none() => Ok(self.found(last)),
                RewrapStep::Read => Ok(RewrapReply::Failed),
                RewrapStep::Write { .. } => self.write(&text).await,
                RewrapStep::ReadBack(version) => {
                    let written = if self.keeps_versions { version.clone() } else { self.written() };
                    read_back(self.location.store(), &self.key, &written, &text)
                        .await
                        .map(|()| RewrapReply::Same)
                }
                RewrapStep::Delete(version) => self.delete(version).await,
                RewrapStep::List => Ok(RewrapReply::Versions(vec![])),
                RewrapStep::Finished(RewrapOutcome::Failed) => {
                    let changed = || Error::conflict("was changed by another writer; the same again goes on");
                    return Err(fault.unwrap_or_else(changed).about(self.location.show(self.stored)));
                }
                RewrapStep::Finished(_) => return Ok(()),
            };
            let is_delete = matches!(machine.step(), RewrapStep::Delete(_));
            machine.reply(match reply {
                Ok(RewrapReply::Changed) => {
                    fault = Some(Error::conflict("was changed by another writer; the same again goes on"));
                    RewrapReply::Changed
                }
                Ok(reply) => reply,
                Err(error) if is_delete => {
                    self.residue.push(format!("an older version of it is still there: {}", error.line()));
                    RewrapReply::Failed
                }
                Err(error) => {
                    fault = Some(error);
                    RewrapReply::Failed
                }
            });
        }
    }

    /// What was replaced comes in the order in which it goes: that of the current container last, for as long as that is
    /// there another run can do all of this again.
    fn found(&self, last: bool) -> RewrapReply {
        let named = |version: &VersionId| if self.keeps_versions { version.clone() } else { ONLY.into() };
        let keep: Vec<VersionId> = match last {
            true => {
                self.versions.iter().filter(|version| !self.replaced.contains(version)).map(named).collect()
            }
            false => self.versions.iter().map(named).collect(),
        };
        let goes = self.replaced.iter().filter(|_| last).map(named);
        let versions = goes.chain(keep.iter().cloned()).collect();
        RewrapReply::FoundSome { versions, keep, finding: Finding::Opens }
    }

    async fn write(&mut self, text: &Bytes) -> Result<RewrapReply> {
        let store = self.location.store();
        let newest = self.versions.first().cloned().unwrap_or_default();
        // What a store with versions replaces is not lost, and shows in the listing.
        if !self.replace_if && !self.keeps_versions && !is_current(store, &self.key, &newest).await? {
            return Ok(RewrapReply::Changed);
        }
        match overwrite(store, &self.key, text.clone(), &newest).await {
            Ok(version) => {
                self.facts.written = Some(version.clone());
                if !self.keeps_versions {
                    self.versions.clear();
                }
                self.versions.insert(0, version.clone());
                Ok(RewrapReply::Written(if self.keeps_versions { version } else { ONLY.into() }))
            }
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(RewrapReply::Changed),
            Err(error) => Err(error),
        }
    }

    async fn delete(&mut self, version: &VersionId) -> Result<RewrapReply> {
        if !self.options.purge {
            let why = "its older versions were not to be deleted".to_owned();
            if !self.residue.contains(&why) {
                self.residue.push(why);
            }
            return Ok(RewrapReply::Failed);
        }
        fetch::delete(self.location.store(), &self.key, version).await?;
        self.versions.retain(|other| other != version);
        self.facts.purged.push(version.clone());
        Ok(RewrapReply::Deleted)
    }

    fn written(&self) -> VersionId {
        self.facts.written.clone().unwrap_or_default()
    }

    /// What is left, as far as this run knows or as it is listed.
    pub(super) async fn finish(mut self) -> Result<(Vec<String>, Facts)> {
        if self.options.list_again {
            let listed = fetch::versions(self.location.store(), &self.key).await?;
            let listed = listed.into_iter().filter(|object| !object.marker);
            let listed: Vec<VersionId> = listed.map(|object| object.version).collect();
            if listed.iter().any(|version| !self.versions.contains(version)) {
                self.residue.push("another version of it came meanwhile".into());
            }
            self.versions = listed;
        }
        self.facts.left = self.versions;
        Ok((self.residue, self.facts))
    }
}

/// What stands for the one version that a store without versions has: what replaces it has no older one to delete.
const ONLY: &str = "only";
