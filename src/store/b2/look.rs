//! Looks for single files, by listing: that takes no right but `listFiles`, and no customer's key.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::failure::Failure;
use super::session::Session;
use super::wire::{Action, File, Files, LIST_FILE_NAMES, LIST_FILE_VERSIONS};
use crate::store::{Info, Object, Written};
use crate::{Error, Result};

/// How many versions of a name are looked at in one call.
const VERSIONS: usize = 100;
/// The service's clock is read in whole seconds, and may differ from machine to machine. That the same bytes were put under
/// the same name so short before would do no harm: they are there.
const CLOCKS_APART: Duration = Duration::from_secs(60);

/// What an upload without an answer would have made.
pub(super) struct Expected<'a> {
    pub(super) key: &'a str,
    pub(super) size: u64,
    /// Where it is known.
    pub(super) sha1: Option<&'a str>,
    pub(super) info: &'a Info,
    /// By the service's clock.
    pub(super) since: Option<SystemTime>,
}

impl Expected<'_> {
    fn is(&self, file: &File) -> bool {
        let info = |name: &str| {
            let mut pairs = file.file_info.iter().flatten();
            pairs.find(|(kept, _)| kept.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        file.action() == Action::Upload
            && file.content_length == Some(self.size)
            && self.sha1.zip(file.sha1()).is_none_or(|(ours, theirs)| ours.eq_ignore_ascii_case(theirs))
            && self.info.iter().all(|(name, value)| info(name) == Some(value))
            && self.since.is_none_or(|since| file.modified() + CLOCKS_APART >= since)
    }
}

impl Session {
    /// The current file of this name.
    pub(super) async fn current(&self, key: &str) -> Result<File> {
        let arguments = json!({
            "bucketId": self.bucket_id().await?,
            "startFileName": key,
            "maxFileCount": 1,
            "prefix": key,
        });
        let page: Files = self.call(&LIST_FILE_NAMES, &arguments).await?;
        let found = page.files.into_iter().next();
        found.filter(|file| file.file_name == key && file.action() == Action::Upload).ok_or_else(nothing)
    }

    /// One version of a name, and whether it is the newest.
    pub(super) async fn version(&self, key: &str, id: &str) -> Result<(File, bool)> {
        let (versions, more) = self.versions(key, None, VERSIONS).await?;
        let newest = versions.iter().find(|file| file.action() != Action::Start);
        let is_newest = newest.is_some_and(|file| file.id() == id);
        let mut found = versions.into_iter().find(|file| file.id() == id);
        if found.is_none() && more {
            found = self.versions(key, Some(id), 1).await?.0.into_iter().find(|file| file.id() == id);
        }
        match found {
            Some(file) if file.action() == Action::Upload => Ok((file, is_newest)),
            _ => Err(nothing()),
        }
    }

    /// The versions of a name, the newest first: so many at most, and only from `id` on where one is given. And whether
    /// there are more.
    pub(super) async fn versions(
        &self,
        key: &str,
        id: Option<&str>,
        most: usize,
    ) -> Result<(Vec<File>, bool), Failure> {
        let mut arguments = json!({
            "bucketId": self.bucket_id().await?,
            "startFileName": key,
            "maxFileCount": most,
            "prefix": key,
        });
        if let Some(id) = id {
            arguments["startFileId"] = id.into();
        }
        let page: Files = self.call(&LIST_FILE_VERSIONS, &arguments).await?;
        let more = page.next_file_name.as_deref() == Some(key);
        Ok((page.files.into_iter().take_while(|file| file.file_name == key).collect(), more))
    }

    /// What came of an upload without an answer, if it is there.
    pub(super) async fn arrived(&self, expected: &Expected<'_>) -> Result<Option<Written>> {
        let (versions, _) = self.versions(expected.key, None, VERSIONS).await?;
        let found = versions.into_iter().find(|file| expected.is(file));
        Ok(found.and_then(|file| file.file_id).map(|version| Written { version }))
    }

    /// What a large file has become, if it is a file by now.
    pub(super) async fn finished(&self, key: &str, id: &str) -> Result<Option<Written>> {
        let found = self.versions(key, Some(id), 1).await?.0.into_iter().next();
        let found = found.filter(|file| file.id() == id && file.action() == Action::Upload);
        Ok(found.and_then(|file| file.file_id).map(|version| Written { version }))
    }

    /// [`crate::store::Store::stat`].
    pub(super) async fn stat(&self, key: &str, version: Option<&str>) -> Result<Object> {
        let (file, latest) = match version {
            None => (self.current(key).await?, true),
            Some(id) => self.version(key, id).await?,
        };
        Ok(file.into_object(latest))
    }
}

pub(super) fn nothing() -> Error {
    Error::not_found("there is nothing under that name")
}
