//! A container in parts, which gets its name when all of them are there.

use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use sha1::{Digest as _, Sha1};

use super::{Begun, Content, PartSource, Putting, Reply, UploadMemory, head_of};
use crate::pair::IfExists;
use crate::store::{Capabilities, Part, PutOptions, Resumed, Unfinished, Upload};
use crate::{Error, ErrorKind, Result, hex};

/// A part where parts go out side by side.
const PARALLEL_PART: u64 = 8 << 20;
/// A part where they go out one after the other: it stays in the processor's cache.
const SERIAL_PART: u64 = 1 << 20;
/// A part of what has no known length: 10,000 of them are 156 GiB.
const UNKNOWN_PART: u64 = 16 << 20;
/// How many bytes of parts are under way at the most.
const IN_FLIGHT: u64 = 32 << 20;

impl Putting<'_, '_> {
    /// Sends all parts but the name. What turns out to be one part is kept, to be sent whole.
    pub(super) async fn send_parts(&mut self) -> Result<Reply> {
        if matches!(self.request.content, Content::Copy(_)) {
            return Ok(Reply::Done);
        }
        let taken = std::mem::replace(&mut self.request.content, Content::Whole(Bytes::new()));
        let Content::Parts { size, source } = taken else { return Ok(Reply::Failed) };
        let begun = self.request.memory.and_then(UploadMemory::begun);
        let len = match begun.as_ref().and_then(|begun| usize::try_from(begun.part_len).ok()) {
            Some(len) => len.max(1),
            None => part_len(&self.capabilities, size).map_err(|error| error.about(self.shown()))?,
        };
        let first = source.next(len).await?.unwrap_or_default();
        self.head = head_of(&first);
        let second = match first.len() < len {
            true => None,
            false => source.next(len).await?,
        };
        let Some(second) = second else {
            self.size = first.len() as u64;
            self.request.content = Content::Whole(first);
            return Ok(Reply::Done);
        };
        let options = PutOptions { size, ..self.options(self.request.if_exists == IfExists::Replace) };
        let Resumed { upload, parts: have } = self.begin(begun, len, &options).await?;
        match self.send(upload.as_ref(), &have, [first, second], source, len).await {
            Ok(parts) => {
                self.upload = Some((upload, parts));
                Ok(Reply::Done)
            }
            Err(error) => {
                // What is left of it is gone on with, where it is remembered, and found by `clean`.
                if !self.is_remembered(upload.as_ref(), &error) {
                    let _ = upload.abort().await;
                }
                Err(error)
            }
        }
    }

    /// Goes on with the upload of an earlier run, or begins one; whichever it is, it is remembered.
    async fn begin(&mut self, begun: Option<Begun>, len: usize, options: &PutOptions) -> Result<Resumed> {
        if let Some(begun) = begun {
            match self.store.resume(&begun.upload, options).await {
                Ok(resumed) => return Ok(resumed),
                // It was thrown away; its envelope is there all the same, and the file key serves the same bytes.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Refused) => {}
                Err(error) => return Err(error),
            }
        }
        let upload = self.store.upload(&self.container, options).await?;
        if let (Some(memory), Some(id)) = (self.request.memory, upload.id()) {
            let (key, id) = (self.container.clone(), id.to_owned());
            let unfinished = Unfinished { key, id, started: SystemTime::UNIX_EPOCH };
            if let Err(error) = memory.begin(&unfinished, len as u64) {
                let _ = upload.abort().await;
                return Err(error);
            }
        }
        Ok(Resumed { upload, parts: vec![] })
    }

    /// Whether another run can go on after this error: the source and the request are as good as they were.
    pub(super) fn is_remembered(&self, upload: &dyn Upload, error: &Error) -> bool {
        let passing = !matches!(
            error.kind(),
            ErrorKind::Auth | ErrorKind::Conflict | ErrorKind::Input | ErrorKind::Usage
        );
        passing && self.request.memory.is_some() && upload.id().is_some()
    }

    /// Sends what was read already and what is left, several parts at a time where the store takes them.
    async fn send(
        &mut self,
        upload: &dyn Upload,
        have: &[Part],
        read: [Bytes; 2],
        source: &mut dyn PartSource,
        len: usize,
    ) -> Result<u32> {
        let most = self.capabilities.max_parts;
        let too_many = || {
            Error::input(format!("is longer than {most} parts of {len} bytes, the most that the store takes"))
                .about(self.store.show(&self.container))
                .hint("give its length before, so that longer parts are chosen, or split it")
        };
        let (mut parts, mut size, mut ended) = (0u32, 0u64, false);
        let bodies = stream::iter(read.map(Ok)).chain(rest(source, len)).map(|body| {
            let body = body?;
            if ended {
                return Err(Error::usage("a part of a container is shorter than it was to be"));
            }
            ended = body.len() != len;
            size += body.len() as u64;
            parts += 1;
            if parts > most { Err(too_many()) } else { Ok((parts, body)) }
        });
        let at_once = match self.capabilities.parallel_parts {
            true => usize::try_from(IN_FLIGHT / len as u64)
                .unwrap_or(1)
                .clamp(1, self.capabilities.concurrency.max(1)),
            false => 1,
        };
        bodies
            .map_ok(|(number, body)| async move {
                match have.iter().any(|part| is_part(part, number, &body)) {
                    true => Ok(()),
                    false => upload.part(number, body).await,
                }
            })
            .try_buffer_unordered(at_once)
            .try_for_each(|()| std::future::ready(Ok(())))
            .await?;
        self.size = size;
        Ok(parts)
    }
}

/// Whether a store has these bytes as this part. Whoever sends parts under the same upload sends the same bytes; where the
/// store tells a digest, it is compared all the same.
fn is_part(part: &Part, number: u32, body: &Bytes) -> bool {
    part.number == number
        && part.size == body.len() as u64
        && part.sha1.as_ref().is_none_or(|sha1| *sha1 == sha1_of(body))
}

fn sha1_of(body: &[u8]) -> String {
    hex(&Sha1::digest(body))
}

fn rest(source: &mut dyn PartSource, len: usize) -> impl Stream<Item = Result<Bytes>> + Send {
    stream::try_unfold(
        source,
        move |source| async move { Ok(source.next(len).await?.map(|body| (body, source))) },
    )
}

/// The length of all parts but the last.
fn part_len(capabilities: &Capabilities, size: Option<u64>) -> Result<usize> {
    let most = u64::from(capabilities.max_parts.max(1));
    let usual = match capabilities.parallel_parts {
        true => PARALLEL_PART,
        false => SERIAL_PART,
    };
    let usual = match size {
        None if usual.saturating_mul(most) < UNKNOWN_PART.saturating_mul(10_000) => UNKNOWN_PART,
        _ => usual,
    };
    let needed = size.unwrap_or(0).div_ceil(most).next_multiple_of(SERIAL_PART);
    let len = usual.max(needed).max(capabilities.min_part).min(capabilities.max_part);
    if size.is_some_and(|size| len.saturating_mul(most) < size) {
        return Err(Error::input(format!(
            "is longer than {most} parts of {len} bytes, the most that the store takes"
        ))
        .hint("split it"));
    }
    usize::try_from(len).map_err(|_| Error::input("needs parts that do not fit into memory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_long_enough_for_their_number() {
        let capabilities = |max_part, max_parts, parallel_parts| Capabilities {
            versions: true,
            info: true,
            info_in_list: true,
            customer_keys: false,
            parallel_parts,
            min_part: 5 << 20,
            max_part,
            max_parts,
            concurrency: 4,
            remote: true,
        };
        let service = capabilities(5 << 30, 10_000, true);
        assert_eq!(part_len(&service, None).unwrap(), 16 << 20);
        assert_eq!(part_len(&service, Some(1)).unwrap(), 8 << 20);
        assert_eq!(part_len(&service, Some(1 << 40)).unwrap(), 105 << 20);
        assert_eq!(part_len(&capabilities(1 << 30, u32::MAX, false), None).unwrap(), 5 << 20);
        let error = part_len(&capabilities(8 << 20, 10, true), Some(81 << 20)).unwrap_err();
        assert!(error.to_string().contains("10 parts of 8388608 bytes"), "{error}");
    }
}
