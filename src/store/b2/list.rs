//! Listings, a page at a time.

use std::collections::VecDeque;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use serde_json::{Value, json};

use super::session::Session;
use super::wire::{Action, Api, File, Files, LIST_FILE_NAMES, LIST_FILE_VERSIONS, LIST_UNFINISHED};
use crate::store::{ListOptions, Listed, Unfinished};
use crate::{Error, Result};

/// One call of the price list.
const PAGE: usize = 1000;
/// The service has no larger page of these.
const PAGE_OF_UNFINISHED: usize = 100;
const MAX_KEY: usize = 1024;

/// [`crate::store::Store::list`].
pub(super) fn list(session: &Session, options: ListOptions) -> BoxStream<'_, Result<Listed>> {
    let ended = options
        .after
        .as_ref()
        .is_some_and(|after| *after > options.prefix && !after.starts_with(&options.prefix));
    let listing = Listing { session, options, next: None, page: VecDeque::new(), newest_of: None, ended };
    stream::unfold(listing, |mut listing| async { listing.next().await.map(|item| (item, listing)) }).boxed()
}

struct Listing<'a> {
    session: &'a Session,
    options: ListOptions,
    /// Where the next page begins; nothing before the first.
    next: Option<(String, Option<String>)>,
    page: VecDeque<File>,
    /// Of which key the newest version was listed last.
    newest_of: Option<String>,
    ended: bool,
}

impl Listing<'_> {
    async fn next(&mut self) -> Option<Result<Listed>> {
        loop {
            while let Some(file) = self.page.pop_front() {
                if let Some(listed) = self.listed(file) {
                    return Some(Ok(listed));
                }
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.turn().await {
                self.ended = true;
                return Some(Err(error));
            }
        }
    }

    fn listed(&mut self, file: File) -> Option<Listed> {
        let begun = self.options.after.as_ref().is_none_or(|after| match file.action() {
            Action::Folder => file.file_name >= *after || after.starts_with(&file.file_name),
            _ => file.file_name > *after,
        });
        if !begun || !file.file_name.starts_with(&self.options.prefix) {
            return None;
        }
        match file.action() {
            Action::Start => None,
            Action::Folder => Some(Listed::Folder(file.file_name)),
            Action::Hide if !self.options.versions => None,
            _ => {
                let latest = self.newest_of.as_ref() != Some(&file.file_name);
                if latest {
                    self.newest_of = Some(file.file_name.clone());
                }
                Some(Listed::Object(file.into_object(latest)))
            }
        }
    }

    /// Gets the next page.
    async fn turn(&mut self) -> Result<()> {
        let (api, arguments) = self.arguments(self.session.bucket_id().await?);
        let page: Files = self.session.call(api, &arguments).await?;
        let next = page.next_file_name.map(|name| (name, page.next_file_id));
        if next.is_some() && next == self.next {
            return Err(Error::integrity("the service lists the same page again"));
        }
        self.ended = next.is_none();
        self.next = next;
        self.page = page.files.into();
        Ok(())
    }

    fn arguments(&self, bucket_id: &str) -> (&'static Api, Value) {
        let mut arguments =
            json!({"bucketId": bucket_id, "maxFileCount": PAGE, "prefix": self.options.prefix});
        if self.options.delimiter {
            arguments["delimiter"] = "/".into();
        }
        match &self.next {
            Some((name, id)) => {
                arguments["startFileName"] = name.as_str().into();
                if let Some(id) = id {
                    arguments["startFileId"] = id.as_str().into();
                }
            }
            None => {
                let after =
                    self.options.after.as_deref().filter(|after| after.starts_with(&self.options.prefix));
                if let Some(after) = after.filter(|after| !after.is_empty()) {
                    arguments["startFileName"] = behind(after).into();
                }
            }
        }
        let api = if self.options.versions { &LIST_FILE_VERSIONS } else { &LIST_FILE_NAMES };
        (api, arguments)
    }
}

/// The least name that is greater, as there are no control characters in names; of the longest names themselves, which
/// are left out when they come.
fn behind(after: &str) -> String {
    match after.len() {
        MAX_KEY.. => after.to_owned(),
        _ => format!("{after} "),
    }
}

/// [`crate::store::Store::unfinished`].
pub(super) fn unfinished<'a>(session: &'a Session, prefix: &str) -> BoxStream<'a, Result<Unfinished>> {
    let pages = stream::unfold(Some((prefix.to_owned(), None)), move |place| async move {
        let (prefix, from) = place?;
        match unfinished_page(session, &prefix, from.as_deref()).await {
            Ok((found, next)) => {
                let next = next.filter(|next| from.as_ref() != Some(next)).map(|next| (prefix, Some(next)));
                Some((found.into_iter().map(Ok).collect(), next))
            }
            Err(error) => Some((vec![Err(error)], None)),
        }
    });
    pages.map(stream::iter).flatten().boxed()
}

async fn unfinished_page(
    session: &Session,
    prefix: &str,
    from: Option<&str>,
) -> Result<(Vec<Unfinished>, Option<String>)> {
    let mut arguments = json!({"bucketId": session.bucket_id().await?, "maxFileCount": PAGE_OF_UNFINISHED});
    if !prefix.is_empty() {
        arguments["namePrefix"] = prefix.into();
    }
    if let Some(from) = from {
        arguments["startFileId"] = from.into();
    }
    let page: Files = session.call(&LIST_UNFINISHED, &arguments).await?;
    let unfinished = |file: File| Unfinished {
        started: file.modified(),
        id: file.file_id.unwrap_or_default(),
        key: file.file_name,
    };
    let found = page.files.into_iter().filter(|file| file.file_name.starts_with(prefix));
    Ok((found.map(unfinished).collect(), page.next_file_id))
}
