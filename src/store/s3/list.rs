//! Listings, a page at a time.
//!
//! A bucket without versions is listed by `ListObjectsV2`. One with versions is listed by `ListObjectVersions`, of which a
//! list of what is current keeps that: the other listing gives no ids. Folders of what is current come from the other one
//! all the same, as a folder in which all is hidden is none.

use std::cmp::Reverse;
use std::collections::VecDeque;

use aws_sdk_s3::types::{
    CommonPrefix, DeleteMarkerEntry, EncodingType, MultipartUpload, Object as Current, ObjectVersion,
};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use super::fault::Doing;
use super::names::decoded;
use super::versions::{Versioning, bare, id, size, time};
use super::{S3Store, WAIT};
use crate::store::{ListOptions, Listed, Object, Store as _, Unfinished};
use crate::{Error, Result};

/// A line, with its ETag where it is an object.
pub(super) type Line = (Listed, String);

/// Which listing a service is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// `ListObjectsV2`.
    Current,
    /// `ListObjectVersions`.
    Versions,
}

/// Where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    First,
    Token(String),
    Markers(Option<String>, Option<String>),
    End,
}

impl Next {
    /// What a page says of the one behind it. Whoever does not say that it is the last has more, or is not understood.
    fn of(is_truncated: Option<bool>, place: Option<Self>) -> Result<Self> {
        match (is_truncated, place) {
            (Some(false), _) => Ok(Self::End),
            (Some(true), Some(place)) => Ok(place),
            (Some(true), None) => {
                Err(Error::integrity("the service says that a list goes on, and not where"))
            }
            (None, _) => Err(Error::integrity("the service does not say whether a list goes on")),
        }
    }

    fn markers(key: Option<String>, second: Option<&str>) -> Option<Self> {
        let key = key.filter(|key| !key.is_empty());
        key.is_some().then(|| Self::Markers(key, second.map(str::to_owned)))
    }

    /// This, unless it is where the list stands already.
    fn behind(self, now: &Self) -> Result<Self> {
        match self != Self::End && self == *now {
            true => Err(Error::integrity("the service lists the same page again and again")),
            false => Ok(self),
        }
    }
}

impl S3Store {
    pub(super) fn listing(&self, options: ListOptions) -> BoxStream<'_, Result<Listed>> {
        let prefix = options.prefix.clone();
        self.lines(options)
            .map(move |line| match line {
                Ok((listed, _)) => Ok(listed),
                Err(error) => Err(error.about(self.show(&prefix))),
            })
            .boxed()
    }

    /// The listing with ETags.
    pub(super) fn lines(&self, options: ListOptions) -> BoxStream<'_, Result<Line>> {
        stream::once(async move {
            match self.versioning().await {
                Ok(versioning) => self.lines_of(options, versioning),
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        })
        .flatten()
        .boxed()
    }

    fn lines_of(&self, options: ListOptions, versioning: Versioning) -> BoxStream<'_, Result<Line>> {
        if versioning == Versioning::Off {
            return self.pages(By::Current, options);
        }
        if options.versions {
            return self.pages(By::Versions, options);
        }
        let is_current = |line: &Result<Line>| match line {
            Ok((Listed::Object(object), _)) => object.latest && !object.marker,
            Ok((Listed::Folder(_), _)) => false,
            Err(_) => true,
        };
        let delimiter = options.delimiter;
        let objects = self.pages(By::Versions, options.clone());
        let objects = objects.filter(move |line| std::future::ready(is_current(line))).boxed();
        if !delimiter {
            return objects;
        }
        let is_folder = |line: &Result<Line>| !matches!(line, Ok((Listed::Object(_), _)));
        let folders = self.pages(By::Current, options);
        let folders = folders.filter(move |line| std::future::ready(is_folder(line))).boxed();
        merged(objects, folders)
    }

    fn pages(&self, by: By, options: ListOptions) -> BoxStream<'_, Result<Line>> {
        let pages = Pages { store: self, by, options, next: Next::First, ready: VecDeque::new() };
        stream::unfold(pages, |mut pages| async { pages.line().await.map(|line| (line, pages)) }).boxed()
    }

    pub(super) fn uploads(&self, prefix: &str) -> BoxStream<'_, Result<Unfinished>> {
        let uploads =
            Uploads { store: self, prefix: prefix.to_owned(), next: Next::First, ready: VecDeque::new() };
        stream::unfold(uploads, |mut uploads| async { uploads.upload().await.map(|found| (found, uploads)) })
            .boxed()
    }
}

/// Two listings in the order of their keys as one. A line without a key comes at once.
fn merged<'a>(
    left: BoxStream<'a, Result<Line>>,
    right: BoxStream<'a, Result<Line>>,
) -> BoxStream<'a, Result<Line>> {
    let both = (Box::pin(left.peekable()), Box::pin(right.peekable()));
    stream::unfold(both, |(mut left, mut right)| async {
        let takes_left = match (left.as_mut().peek().await, right.as_mut().peek().await) {
            (None, None) => return None,
            (Some(_), None) | (Some(Err(_)), _) => true,
            (None, Some(_)) | (_, Some(Err(_))) => false,
            (Some(Ok(left)), Some(Ok(right))) => name(left) <= name(right),
        };
        let line = if takes_left { left.next().await } else { right.next().await };
        line.map(|line| (line, (left, right)))
    })
    .boxed()
}

fn name(line: &Line) -> &str {
    match &line.0 {
        Listed::Object(object) => &object.key,
        Listed::Folder(folder) => folder,
    }
}

struct Pages<'a> {
    store: &'a S3Store,
    by: By,
    options: ListOptions,
    next: Next,
    ready: VecDeque<Result<Line>>,
}

impl Pages<'_> {
    async fn line(&mut self) -> Option<Result<Line>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.next == Next::End {
                return None;
            }
            let page = match self.by {
                By::Current => self.current().await,
                By::Versions => self.versions().await,
            };
            if let Err(error) = page {
                self.next = Next::End;
                return Some(Err(error));
            }
        }
    }

    async fn current(&mut self) -> Result<()> {
        let request = self
            .store
            .client()
            .await?
            .list_objects_v2()
            .bucket(self.store.bucket_name())
            .prefix(&self.options.prefix)
            .set_delimiter(self.options.delimiter.then(|| "/".into()))
            .encoding_type(EncodingType::Url);
        let request = match &self.next {
            Next::Token(token) => request.continuation_token(token),
            _ => request.set_start_after(self.options.after.clone()),
        };
        let page =
            self.store.answer(WAIT, request.send()).await.map_err(|fault| fault.error(Doing::Reading))?;
        let encoded = page.encoding_type().is_some();
        let objects = page.contents().iter().map(|found| current(found, encoded));
        self.take(objects.collect(), page.common_prefixes(), encoded);
        let token = page.next_continuation_token().filter(|token| !token.is_empty());
        let token = token.map(|token| Next::Token(token.to_owned()));
        // Who knows only version 1 gives a marker, or leaves it to be the last key.
        let next = Next::of(page.is_truncated(), token)
            .map_err(|error| error.hint("sidekey needs a service that knows ListObjectsV2"));
        self.next = next?.behind(&self.next)?;
        Ok(())
    }

    async fn versions(&mut self) -> Result<()> {
        let (key, version) = match &self.next {
            Next::Markers(key, version) => (key.clone(), version.clone()),
            _ => (self.options.after.clone(), None),
        };
        let request = self
            .store
            .client()
            .await?
            .list_object_versions()
            .bucket(self.store.bucket_name())
            .prefix(&self.options.prefix)
            .set_delimiter(self.options.delimiter.then(|| "/".into()))
            .set_key_marker(key)
            .set_version_id_marker(version)
            .encoding_type(EncodingType::Url);
        let page = self.store.answer(WAIT, request.send()).await.map_err(|fault| {
            let is_denied = fault.is_denied();
            let error = fault.error(Doing::Reading);
            if is_denied { error.hint("allow s3:ListBucketVersions on the bucket") } else { error }
        })?;
        let encoded = page.encoding_type().is_some();
        let versions = page.versions().iter().map(|found| version_line(found, encoded));
        let markers = page.delete_markers().iter().map(|found| marker_line(found, encoded));
        self.take(versions.chain(markers).collect(), page.common_prefixes(), encoded);
        let key = page.next_key_marker().map(|key| decoded(key, encoded)).transpose()?;
        let markers = Next::markers(key, page.next_version_id_marker());
        self.next = Next::of(page.is_truncated(), markers)?.behind(&self.next)?;
        Ok(())
    }

    /// Puts a page in order: of one key the newest version first. Services list versions, markers and folders apart.
    fn take(&mut self, objects: Vec<Result<Line>>, folders: &[CommonPrefix], encoded: bool) {
        let folders = folders
            .iter()
            .filter_map(CommonPrefix::prefix)
            .map(|folder| Ok((Listed::Folder(decoded(folder, encoded)?), String::new())));
        let mut page: Vec<Result<Line>> = objects.into_iter().chain(folders).collect();
        page.retain(|line| line.as_ref().map_or(true, |line| self.is_wanted(line)));
        // A stable order leaves what the service put one behind the other. What has no name is told first.
        page.sort_by(|a, b| order(a).cmp(&order(b)));
        self.ready.extend(page);
    }

    /// Whether it is behind where the list begins: not every service looks.
    fn is_wanted(&self, line: &Line) -> bool {
        let Some(after) = &self.options.after else { return true };
        match &line.0 {
            Listed::Object(object) => object.key > *after,
            Listed::Folder(folder) => folder > after || after.starts_with(&**folder),
        }
    }
}

/// Keys in the order of their bytes; of one key the newest first.
fn order(line: &Result<Line>) -> (&str, bool, Reverse<std::time::SystemTime>) {
    match line {
        Ok((Listed::Object(object), _)) => (&object.key, !object.latest, Reverse(object.modified)),
        Ok((Listed::Folder(folder), _)) => (folder, false, Reverse(std::time::SystemTime::UNIX_EPOCH)),
        Err(_) => ("", false, Reverse(std::time::SystemTime::UNIX_EPOCH)),
    }
}

fn current(found: &Current, encoded: bool) -> Result<Line> {
    let etag = found.e_tag().map(bare).unwrap_or_default().to_owned();
    let object = Object {
        key: decoded(found.key().unwrap_or_default(), encoded)?,
        version: id(None, found.e_tag()),
        latest: true,
        marker: false,
        size: size(found.size()),
        modified: time(found.last_modified()),
        info: None,
    };
    Ok((Listed::Object(object), etag))
}

fn version_line(found: &ObjectVersion, encoded: bool) -> Result<Line> {
    let etag = found.e_tag().map(bare).unwrap_or_default().to_owned();
    let object = Object {
        key: decoded(found.key().unwrap_or_default(), encoded)?,
        version: id(found.version_id(), found.e_tag()),
        latest: found.is_latest() == Some(true),
        marker: false,
        size: size(found.size()),
        modified: time(found.last_modified()),
        info: None,
    };
    Ok((Listed::Object(object), etag))
}

fn marker_line(found: &DeleteMarkerEntry, encoded: bool) -> Result<Line> {
    let object = Object {
        key: decoded(found.key().unwrap_or_default(), encoded)?,
        version: id(found.version_id(), None),
        latest: found.is_latest() == Some(true),
        marker: true,
        size: 0,
        modified: time(found.last_modified()),
        info: None,
    };
    Ok((Listed::Object(object), String::new()))
}

struct Uploads<'a> {
    store: &'a S3Store,
    prefix: String,
    next: Next,
    ready: VecDeque<Result<Unfinished>>,
}

impl Uploads<'_> {
    async fn upload(&mut self) -> Option<Result<Unfinished>> {
        loop {
            if let Some(found) = self.ready.pop_front() {
                return Some(found);
            }
            if self.next == Next::End {
                return None;
            }
            if let Err(error) = self.page().await {
                self.next = Next::End;
                return Some(Err(error.about(self.store.show(&self.prefix))));
            }
        }
    }

    async fn page(&mut self) -> Result<()> {
        let (key, upload) = match &self.next {
            Next::Markers(key, upload) => (key.clone(), upload.clone()),
            _ => (None, None),
        };
        let request = self
            .store
            .client()
            .await?
            .list_multipart_uploads()
            .bucket(self.store.bucket_name())
            .prefix(&self.prefix)
            .set_key_marker(key)
            .set_upload_id_marker(upload)
            .encoding_type(EncodingType::Url);
        let page =
            self.store.answer(WAIT, request.send()).await.map_err(|fault| fault.error(Doing::Reading))?;
        let encoded = page.encoding_type().is_some();
        let found = page.uploads().iter().map(|found| unfinished(found, encoded));
        // Some services list by the whole key and not by how it begins.
        let found =
            found.filter(|found| found.as_ref().map_or(true, |found| found.key.starts_with(&self.prefix)));
        self.ready.extend(found);
        let key = page.next_key_marker().map(|key| decoded(key, encoded)).transpose()?;
        let markers = Next::markers(key, page.next_upload_id_marker());
        self.next = Next::of(page.is_truncated(), markers)?.behind(&self.next)?;
        Ok(())
    }
}

fn unfinished(found: &MultipartUpload, encoded: bool) -> Result<Unfinished> {
    Ok(Unfinished {
        key: decoded(found.key().unwrap_or_default(), encoded)?,
        id: found.upload_id().unwrap_or_default().to_owned(),
        started: time(found.initiated()),
    })
}
