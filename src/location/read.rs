//! Reads what stands in a location: a container version by ranges, and the envelopes that may open it.
//!
//! A version is found through both names that its envelope may have, in all their versions, and none hides another: what
//! an envelope belongs to is decided by the data id in it and by the header's commitment.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::runtime::Handle;

use crate::crypto::rsa::PrivateKey;
use crate::format::{Envelope, HEADER_LEN, Header, envelope};
use crate::location::{Location, vault};
use crate::name::envelope_name;
use crate::open;
use crate::pair::Form;
use crate::secret::FileKey;
use crate::store::{Body, Download, GetOptions, ListOptions, Listed, Object, Store, VersionId};
use crate::wrap::unwrap;
use crate::{DataId, Error, ErrorKind, Result};

/// How much of an object the first request fetches unless the whole of it is wanted: header and metadata of all but odd
/// containers.
pub const FRONT: u64 = 4 << 10;

/// How often reading goes on after a failure, if nothing came in between.
const TRIES: u32 = 3;

/// An envelope as it stands in a store.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which version of which object.
    pub object: Object,
    /// Which name it has.
    pub form: Form,
    /// Its text.
    pub bytes: Bytes,
    /// The same, parsed.
    pub envelope: Envelope,
}

/// What stands under the names that the envelope of a container may have.
#[derive(Debug, Default)]
pub struct Envelopes {
    /// Those that are envelopes, the first form first, of each the newest version first.
    pub found: Vec<Found>,
    /// What could not be read, or is none.
    pub faults: Vec<Error>,
}

impl Envelopes {
    /// Adds what reading one of them came to.
    fn add(&mut self, form: Form, read: Result<(Object, Bytes)>) {
        let parsed = read.and_then(|(object, bytes)| {
            let envelope = Envelope::parse(&bytes)?;
            Ok(Found { object, form, bytes, envelope })
        });
        match parsed {
            Ok(found) => self.found.push(found),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => self.faults.push(error),
        }
    }

    fn parsed(&self) -> Vec<Envelope> {
        self.found.iter().map(|found| found.envelope.clone()).collect()
    }
}

/// Reads every version of every envelope that may belong to the container `container` with this data id.
///
/// # Errors
/// What listing fails with; what single versions fail with is in the result.
pub async fn envelopes(store: &dyn Store, container: &str, data_id: &DataId) -> Result<Envelopes> {
    let versions = store.capabilities().await?.versions;
    let mut all = Envelopes::default();
    for (form, key) in envelope_keys(container, data_id) {
        if !versions {
            all.add(form, small(store, &key, None).await);
            continue;
        }
        let options = ListOptions { prefix: key.clone(), versions: true, ..ListOptions::default() };
        let mut listed = store.list(options);
        while let Some(next) = listed.next().await {
            match next? {
                Listed::Object(object) if object.key == key => {
                    if !object.marker {
                        all.add(form, small(store, &key, Some(object.version)).await);
                    }
                }
                // Keys come in order: those that only begin alike are behind it.
                _ => break,
            }
        }
    }
    Ok(all)
}

/// The file key of the container `container`: the usual envelope is tried first, then all there are. In a vault one of
/// them must hold a valid info record.
///
/// # Errors
/// Those of [`unwrap`] and [`vault::check`]; `Integrity` when there is no envelope; what reading fails with when none could be read.
pub fn file_key(
    handle: &Handle,
    location: &Location,
    container: &str,
    header: &Header,
    identities: &[PrivateKey],
) -> Result<FileKey> {
    let (store, data_id) = (location.store(), header.data_id());
    let mut tried = Envelopes::default();
    for (form, key) in envelope_keys(container, &data_id) {
        tried.add(form, handle.block_on(small(store, &key, None)));
        if let Some(Found { envelope, .. }) = tried.found.last().filter(|found| found.object.key == key)
            && let Ok(file_key) = unwrap(header, std::slice::from_ref(envelope), identities)
            && vault::check(location, container, header, [envelope]).is_ok()
        {
            return Ok(file_key);
        }
    }
    if handle.block_on(store.capabilities())?.versions {
        tried = handle.block_on(envelopes(store, container, &data_id))?;
    }
    match (tried.found.is_empty(), tried.faults.pop()) {
        (false, _) => {
            let envelopes = tried.parsed();
            vault::check(location, container, header, &envelopes)?;
            unwrap(header, &envelopes, identities)
        }
        (true, Some(fault)) => Err(fault),
        (true, None) => Err(Error::integrity("has no envelope").hint(format!(
            "without it nothing opens the container; look for one with the data id {data_id} in other copies"
        ))),
    }
}

/// Both names that an envelope of this container may have, the usual one of a location first.
fn envelope_keys(container: &str, data_id: &DataId) -> Vec<(Form, String)> {
    let forms = [(Form::Located, Some(data_id)), (Form::Beside, None)];
    forms.into_iter().filter_map(|(form, id)| Some((form, envelope_name(container, id)?))).collect()
}

/// A whole object of the size of an envelope; of a longer one a byte more than that, which its parser refuses.
pub(crate) async fn small(
    store: &dyn Store,
    key: &str,
    version: Option<VersionId>,
) -> Result<(Object, Bytes)> {
    let most = envelope::MAX_BYTES as u64 + 1;
    let read = async {
        let Download { object, body } =
            store.get(key, &GetOptions { version, range: Some(0..most), ..GetOptions::default() }).await?;
        Ok((object, collect_at_most(body, most).await?))
    };
    read.await.map_err(|error: Error| error.about(store.show(key)))
}

/// The first bytes: a store that sends more than it was asked for must not fill the memory.
///
/// # Errors
/// What reading fails with.
pub(crate) async fn collect_at_most(body: Body, most: u64) -> Result<Bytes> {
    let mut stream = match body {
        Body::File(file, left) => return read_file(&file, left.min(most)).map(Bytes::from),
        // Of an empty object the first look is the last one.
        Body::Stream(stream) => stream.fuse(),
    };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut bytes = stream.next().await.transpose()?.unwrap_or_default();
    // One piece, as most come, is not copied.
    if bytes.len() < most
        && let Some(second) = stream.next().await.transpose()?
    {
        let mut all = [bytes, second].concat();
        while all.len() < most
            && let Some(next) = stream.next().await.transpose()?
        {
            all.extend_from_slice(&next);
        }
        bytes = all.into();
    }
    bytes.truncate(most);
    Ok(bytes)
}

fn read_file(mut file: &File, left: u64) -> Result<Vec<u8>> {
    // Its length is known: reading on until nothing comes would be one more system call.
    let mut bytes = vec![0; usize::try_from(left).map_err(|_| Error::input("is too large"))?];
    let len =
        crate::seal::read_full(&mut file, &mut bytes).map_err(|source| Error::io("cannot read", source))?;
    bytes.truncate(len);
    Ok(bytes)
}

/// One version of an object as `Read + Seek`, for threads on which futures may be waited for.
///
/// Requests name the version that the first one found, so that nothing is put together from two versions. Reading forward
/// is one request, unless [`Self::only`] says how little is wanted.
pub struct Reader {
    handle: Handle,
    store: Arc<dyn Store>,
    object: Object,
    /// The first bytes, kept: they are read again and again.
    front: Bytes,
    at: u64,
    /// What the next requests may fetch.
    wanted: Range<u64>,
    source: Source,
    fetched: u64,
    failures: u32,
}

/// Where the next bytes come from.
enum Source {
    /// A request is needed.
    None,
    /// A request that is being answered: at this position, with these bytes at hand.
    Stream { at: u64, chunk: Bytes, stream: BoxStream<'static, Result<Bytes>> },
    /// A file of this machine, which stays the same version: its position, and how far that is ahead of the object's.
    File { at: u64, base: u64, file: File },
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("object", &self.object).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens a version, or the current one, and fetches its first `front` bytes.
    ///
    /// # Errors
    /// What the store says, about the object.
    pub fn open(
        handle: Handle,
        store: Arc<dyn Store>,
        key: &str,
        version: Option<VersionId>,
        front: u64,
    ) -> Result<Self> {
        let options = GetOptions { version, range: Some(0..front), ..GetOptions::default() };
        let opened = handle.block_on(async {
            let Download { object, body } = store.get(key, &options).await?;
            let (bytes, source) = match body {
                Body::File(mut file, left) => {
                    let base = file.stream_position().map_err(|source| Error::io("cannot read", source))?;
                    let bytes = Bytes::from(read_file(&file, left)?);
                    let at = bytes.len() as u64;
                    (bytes, Source::File { at, base, file })
                }
                body => (collect_at_most(body, front).await?, Source::None),
            };
            Ok((object, bytes, source))
        });
        let (object, front, source) = opened.map_err(|error: Error| error.about(store.show(key)))?;
        let fetched = front.len() as u64;
        let wanted = 0..object.size;
        Ok(Self { handle, store, object, front, at: 0, wanted, source, fetched, failures: 0 })
    }

    /// Which version it reads.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// The store that it reads from.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// The first bytes of it.
    pub fn front(&self) -> &[u8] {
        &self.front
    }

    /// How many bytes were asked of the store so far, of a file: read.
    pub fn fetched(&self) -> u64 {
        self.fetched
    }

    /// From now on no request fetches more than these bytes, unless others are read.
    pub fn only(&mut self, wanted: Range<u64>) {
        if let Source::Stream { .. } = self.source {
            self.source = Source::None;
        }
        self.wanted = wanted;
    }

    /// The header of the container that it is.
    ///
    /// # Errors
    /// `Integrity` when it is none.
    pub fn header(&mut self) -> Result<Header> {
        self.at = 0;
        let header =
            open::read_header(self).map_err(|error| error.about(self.store.show(&self.object.key)))?;
        self.at = HEADER_LEN as u64;
        Ok(header)
    }

    /// Bytes of the front, when the position is there.
    fn take_front(&mut self, into: &mut [u8]) -> Option<usize> {
        let front = self.front.get(usize::try_from(self.at).ok()?..).filter(|front| !front.is_empty())?;
        let len = front.len().min(into.len());
        into[..len].copy_from_slice(&front[..len]);
        Some(len)
    }

    /// Bytes of a file or of the answer to a request; 0 when that has ended.
    fn take_answer(&mut self, into: &mut [u8]) -> Result<usize> {
        let io = |source| Error::io("cannot read", source);
        match &mut self.source {
            Source::File { at, base, file } => {
                if *at != self.at {
                    file.seek(SeekFrom::Start(base.saturating_add(self.at))).map_err(io)?;
                    *at = self.at;
                }
                let len = file.read(into).map_err(io)?;
                *at += len as u64;
                self.fetched += len as u64;
                Ok(len)
            }
            Source::Stream { at, chunk, stream } if *at == self.at => {
                while chunk.is_empty() {
                    let Some(next) = self.handle.block_on(stream.next()) else { return Ok(0) };
                    *chunk = next?;
                    self.fetched += chunk.len() as u64;
                }
                let bytes = chunk.split_to(chunk.len().min(into.len()));
                into[..bytes.len()].copy_from_slice(&bytes);
                *at += bytes.len() as u64;
                Ok(bytes.len())
            }
            _ => Ok(0),
        }
    }

    /// Asks the store for what comes next.
    fn request(&mut self, len: usize) -> Result<()> {
        let end = match self.wanted.contains(&self.at) {
            true => self.wanted.end,
            false => self.at.saturating_add(len as u64),
        };
        let options = GetOptions {
            version: Some(self.object.version.clone()),
            range: Some(self.at..end.min(self.object.size)),
            ..GetOptions::default()
        };
        let download = self.handle.block_on(self.store.get(&self.object.key, &options))?;
        self.source = match download.body {
            Body::Stream(stream) => Source::Stream { at: self.at, chunk: Bytes::new(), stream },
            Body::File(mut file, _) => {
                let position = file.stream_position().map_err(|source| Error::io("cannot read", source))?;
                Source::File { at: self.at, base: position.saturating_sub(self.at), file }
            }
        };
        Ok(())
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<usize> {
        if into.is_empty() || self.at >= self.object.size {
            return Ok(0);
        }
        if let Some(len) = self.take_front(into) {
            return Ok(len);
        }
        let len = self.take_answer(into)?;
        if len > 0 {
            return Ok(len);
        }
        self.request(into.len())?;
        match self.take_answer(into)? {
            0 => Err(Error::new(ErrorKind::Transient, "ended before its length")),
            len => Ok(len),
        }
    }
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.fill(into) {
                Ok(len) => {
                    self.failures = 0;
                    self.at += len as u64;
                    return Ok(len);
                }
                // An answer that broke off is asked for again from where it did.
                Err(error) if error.kind() == ErrorKind::Transient && self.failures < TRIES => {
                    self.failures += 1;
                    self.source = Source::None;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.object.size.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "before the first byte"))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use futures_util::stream;

    use super::*;

    #[test]
    fn an_empty_object_is_asked_once_for_what_it_has() {
        let empty = stream::unfold((), |()| std::future::ready(None::<(Result<Bytes>, ())>)).boxed();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(collect_at_most(Body::Stream(empty), 250)).unwrap(), [0; 0][..]);
    }

    #[test]
    fn a_store_that_sends_without_end_fills_no_memory() {
        let endless = stream::repeat_with(|| Ok(Bytes::from_static(&[7; 100]))).boxed();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime.block_on(collect_at_most(Body::Stream(endless), 250)).unwrap();
        assert_eq!(bytes, [7; 250][..]);
    }
}
