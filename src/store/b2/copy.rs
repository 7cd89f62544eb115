//! Copies within the bucket, by the service itself.

use serde_json::{Value, json};

use super::failure::Failure;
use super::large::{cancel, start};
use super::look::Expected;
use super::put::{ANY_BYTES, MAX_PIECE, info};
use super::session::Session;
use super::wire::{Api, COPY_FILE, COPY_PART, FINISH_LARGE_FILE, File, PartAnswer};
use super::{sse, text};
use crate::store::{PutOptions, Written};
use crate::{Error, ErrorKind, Result};

/// How much of a file that is too large for one copy is copied at a time.
const PIECE: u64 = 1_000_000_000;

/// [`crate::store::Store::copy`], once.
pub(super) async fn copy(
    session: &Session,
    from: &str,
    version: Option<&str>,
    to: &str,
    options: &PutOptions,
) -> Result<Written> {
    text::check_key(to)?;
    let source = match version {
        None => session.current(from).await?,
        Some(id) => session.version(from, id).await?.0,
    };
    let since = session.account().await?.now();
    let info = info(options);
    text::check_room(to, &info, options.encryption.is_some())?;
    let size = source.content_length.unwrap_or_default();
    let copied = match size {
        ..=MAX_PIECE => whole(session, &source, to, options).await,
        _ => in_parts(session, &source, to, options).await,
    };
    match copied {
        Err(error) if error.kind() == ErrorKind::Unsure => {
            let expected = Expected { key: to, size, sha1: source.sha1(), info: &info, since };
            match session.arrived(&expected).await {
                Ok(Some(written)) => Ok(written),
                Ok(None) => Err(error.of_kind(ErrorKind::Transient)),
                Err(_) => Err(error),
            }
        }
        other => other,
    }
}

async fn whole(session: &Session, source: &File, to: &str, options: &PutOptions) -> Result<Written> {
    let mut arguments = json!({
        "sourceFileId": source.id(),
        "fileName": to,
        "metadataDirective": "REPLACE",
        "contentType": ANY_BYTES,
        "fileInfo": info(options),
    });
    encryption(&mut arguments, options)?;
    let copied: File = call(session, &COPY_FILE, &arguments, options).await?;
    match copied.file_id {
        Some(version) => Ok(Written { version }),
        None => Err(Error::new(ErrorKind::Unsure, "the service gave the copy no id")),
    }
}

async fn in_parts(session: &Session, source: &File, to: &str, options: &PutOptions) -> Result<Written> {
    let id = start(session, to, options).await?;
    match parts(session, source, &id, options).await {
        Ok(()) => Ok(Written { version: id }),
        Err(error) => match session.finished(to, &id).await {
            Ok(Some(written)) => Ok(written),
            _ => {
                // What cannot be thrown away now is found by `clean`.
                let _ = cancel(session, &id).await;
                Err(error)
            }
        },
    }
}

async fn parts(session: &Session, source: &File, id: &str, options: &PutOptions) -> Result<()> {
    let size = source.content_length.unwrap_or_default();
    let mut sha1s = Vec::new();
    for (number, at) in (1..).zip((0..size).step_by(PIECE as usize)) {
        let mut arguments = json!({
            "sourceFileId": source.id(),
            "largeFileId": id,
            "partNumber": number,
            "range": format!("bytes={at}-{}", (at + PIECE).min(size) - 1),
        });
        encryption(&mut arguments, options)?;
        let part: PartAnswer = call(session, &COPY_PART, &arguments, options).await?;
        sha1s.push(part.content_sha1.unwrap_or_default());
    }
    let finished = json!({"fileId": id, "partSha1Array": sha1s});
    session.call::<File>(&FINISH_LARGE_FILE, &finished).await?;
    Ok(())
}

fn encryption(arguments: &mut Value, options: &PutOptions) -> Result<()> {
    if let Some(key) = &options.source_key {
        arguments["sourceServerSideEncryption"] = sse::key_json(key);
    }
    if let Some(encryption) = &options.encryption {
        arguments["destinationServerSideEncryption"] = sse::json(encryption)?;
    }
    Ok(())
}

/// A call that reads the source, with what is wrong about its key.
async fn call<T: serde::de::DeserializeOwned>(
    session: &Session,
    api: &'static Api,
    arguments: &Value,
    options: &PutOptions,
) -> Result<T> {
    session.call(api, arguments).await.map_err(|failure: Failure| {
        let about_key = failure.refusal().is_some_and(|refusal| match refusal.status {
            400 => refusal.is_about_encryption(),
            403 => refusal.code == "access_denied",
            _ => false,
        });
        let message = match options.source_key {
            _ if !about_key => return failure.into(),
            Some(_) => "the key for SSE-C is not the one that the source was written with",
            None => "the source was written with a key of the customer's (SSE-C), and none is given",
        };
        Error::auth(message).hint("give the key of the source").because(Error::from(failure))
    })
}
