//! Stores a pair.

mod parts;
mod request;

use std::time::{Duration, Instant};

use bytes::Bytes;

pub use self::request::{Begun, Content, Copied, PartSource, PutRequest, Stored, UploadMemory};

use super::fetch;
use crate::format::envelope::MAX_BYTES;
use crate::format::{Envelope, HEADER_LEN};
use crate::location::{Location, vault};
use crate::name::envelope_name;
use crate::pair::{
    IfExists, LATEST, LocatedPut, LocatedPutOutcome as Outcome, LocatedPutReply as Reply,
    LocatedPutStep as Step,
};
use crate::store::{
    Capabilities, Conditions, DATA_ID_INFO, Encryption, Info, OnlyIf, PutOptions, Store, Upload, VersionId,
    Written,
};
use crate::vault::info::INFO_INFO;
use crate::{DataId, Error, ErrorKind, Result};

/// Stores a pair: the envelope first, the container when that is confirmed. Nothing is ever deleted.
///
/// # Errors
/// `Conflict` when something has one of the names that is not ours to replace; `Input` when the container is larger than
/// the store can take; `Unsure` when it is not known whether the container is there or still comes (its envelope is);
/// else what the store or the source fails with, and no container was stored.
pub async fn put(location: &Location, request: PutRequest<'_>) -> Result<Stored> {
    store(location, request, None).await
}

/// The same in place of one version, as far as the store can tell: where that is not the current one any more, nothing is
/// stored, and that is [`Stored::Exists`]. A store without such conditions is asked right before, and something may still
/// come between.
///
/// # Errors
/// Those of [`put`].
pub async fn put_over(location: &Location, request: PutRequest<'_>, over: &VersionId) -> Result<Stored> {
    let request = PutRequest { if_exists: IfExists::Replace, ..request };
    store(location, request, Some(over.clone())).await
}

async fn store(location: &Location, request: PutRequest<'_>, over: Option<VersionId>) -> Result<Stored> {
    // An envelope that was there already may be old: before a copy gets its name, too, it is confirmed.
    let in_parts = !matches!(request.content, Content::Whole(_));
    let (if_exists, begun) = (request.if_exists, request.memory.and_then(UploadMemory::begun));
    let mut put = Putting::new(location, request).await?;
    put.over = over;
    put.unseen = begun.is_none() && put.may_create_unseen();
    let mut machine = match begun {
        Some(_) => LocatedPut::resumed(if_exists),
        None if put.unseen => LocatedPut::most_likely_new(),
        None => LocatedPut::new(if_exists, in_parts),
    };
    loop {
        let reply = match machine.step() {
            Step::Look => put.look().await,
            Step::CreateEnvelope => put.create_envelope().await,
            Step::ReadEnvelope => put.read_envelope().await,
            Step::SendParts => put.send_parts().await,
            Step::ConfirmEnvelope => put.confirm_envelope().await,
            Step::WriteContainer { replace } => put.write_container(replace).await,
            Step::FindContainer => put.find_container().await,
            Step::Finished(outcome) => return put.finish(outcome).await,
        };
        let reply = put.note(reply);
        machine.reply(reply);
    }
}

/// Whether a container has this stored name.
///
/// # Errors
/// `Conflict` when something has it that is none; what reading its first bytes fails with.
pub async fn exists(location: &Location, stored: &str) -> Result<bool> {
    let key = location.key(stored);
    match is_ours(location, &key).await {
        Ok(None) => Ok(false),
        Ok(Some(true)) => Ok(true),
        Err(error) if error.kind() == ErrorKind::Auth => {
            match fetch::is_locked_container(location.store(), &key).await? {
                true => Ok(true),
                false => Err(foreign(location, stored)),
            }
        }
        Ok(Some(false)) => Err(foreign(location, stored)),
        Err(error) => Err(error),
    }
}

/// Whether what has the name begins as a container does; nothing when nothing has it.
async fn is_ours(location: &Location, key: &str) -> Result<Option<bool>> {
    match fetch::start(location.store(), key, None, fetch::TELLING).await {
        Ok((object, start)) => Ok(Some(fetch::is_container(&start) || location.cleartext(&object).is_some())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn foreign(location: &Location, stored: &str) -> Error {
    Error::conflict("is there and not a container of sidekey; it was not replaced")
        .about(location.show(stored))
        .hint("move it away, or store under another name")
}

/// Whether the envelope of a container is there; whoever may only write is trusted to have written it.
///
/// # Errors
/// What asking the store fails with.
pub async fn has_envelope(location: &Location, stored: &str, data_id: &DataId) -> Result<bool> {
    let Some(envelope) = envelope_name(stored, Some(data_id)) else { return Ok(false) };
    match is_there(location.store(), &location.key(&envelope)).await {
        Err(error) if error.kind() == ErrorKind::Permission => Ok(true),
        asked => asked,
    }
}

/// What the steps of a put need to know of each other.
struct Putting<'l, 'r> {
    location: &'l Location,
    request: PutRequest<'r>,
    store: &'l dyn Store,
    capabilities: Capabilities,
    conditions: Conditions,
    /// The only version that may be replaced.
    over: Option<VersionId>,
    /// Whether nothing was looked at before the envelope was written.
    unseen: bool,
    container: String,
    envelope: String,
    /// When the envelope was about to be written.
    began: Instant,
    /// How long it was then since an earlier run wrote it.
    age: Duration,
    /// The first bytes of the container, and how many it has.
    head: Bytes,
    size: u64,
    /// A container in so many parts that lacks only its name.
    upload: Option<(Box<dyn Upload>, u32)>,
    written: Option<Written>,
    error: Option<Error>,
}

impl<'l, 'r> Putting<'l, 'r> {
    async fn new(location: &'l Location, request: PutRequest<'r>) -> Result<Self> {
        let envelope = envelope_name(request.stored, Some(&request.data_id)).ok_or_else(|| {
            Error::usage("a container's name ends in .enc").about(location.show(request.stored))
        })?;
        let (head, size) = match &request.content {
            Content::Whole(bytes) => (head_of(bytes), bytes.len() as u64),
            Content::Parts { .. } => (Bytes::new(), 0),
            Content::Copy(copied) => (head_of(&copied.head), copied.size),
        };
        Ok(Self {
            location,
            store: location.store(),
            capabilities: location.store().capabilities().await?,
            conditions: location.store().conditions().await?,
            over: None,
            unseen: false,
            container: location.key(request.stored),
            envelope: location.key(&envelope),
            age: request.memory.and_then(UploadMemory::begun).map_or(Duration::ZERO, |begun| begun.age),
            request,
            began: Instant::now(),
            head,
            size,
            upload: None,
            written: None,
            error: None,
        })
    }

    /// Whether a small file is written without a look at what has its name: the store tells when something has. Where
    /// the names of a run are taken, the look comes first again, so that no body is sent twice.
    fn may_create_unseen(&self) -> bool {
        matches!(self.request.content, Content::Whole(_))
            && self.request.if_exists == IfExists::Replace
            && self.over.is_none()
            && self.capabilities.remote
            && !self.capabilities.versions
            && self.conditions.create_new
            && !self.location.guesses_taken()
            // What cannot be read is told by its envelopes alone, and this one's would be among them.
            && !matches!(self.request.container_encryption, Some(Encryption::Customer(_)))
    }

    async fn look(&mut self) -> Result<Reply> {
        // Where what is replaced stays as an older version, a look at every small file would cost more than it saves.
        let whole = matches!(self.request.content, Content::Whole(_));
        if whole && self.request.if_exists == IfExists::Replace && self.capabilities.versions {
            return Ok(Reply::Absent);
        }
        if self.unseen {
            return self.look_at_taken().await;
        }
        match exists(self.location, self.request.stored).await {
            Ok(there) => {
                self.location.was_taken(there);
                Ok(if there { Reply::Exists } else { Reply::Absent })
            }
            // Who may only write cannot look; then nothing may be lost by writing.
            Err(error) if error.kind() == ErrorKind::Permission && self.may_write_unseen() => {
                Ok(Reply::Absent)
            }
            Err(error) => Err(error),
        }
    }

    /// What refused a name that was thought to be free. An envelope proves nothing of it: its own was written before.
    async fn look_at_taken(&mut self) -> Result<Reply> {
        match is_ours(self.location, &self.container).await {
            Ok(there) => {
                self.location.was_taken(there.is_some());
                match there {
                    Some(true) => Ok(Reply::Exists),
                    Some(false) => Err(foreign(self.location, self.request.stored)),
                    None => Ok(Reply::Absent),
                }
            }
            Err(error) if error.kind() == ErrorKind::Auth => Err(Error::conflict(
                "is there under a key of its own (SSE-C), and nothing says whose; it was not replaced",
            )
            .about(self.location.show(self.request.stored))
            .hint("--sse c replaces a container that was stored so; sidekey rm removes it")),
            Err(error) => Err(error),
        }
    }

    fn may_write_unseen(&self) -> bool {
        match self.request.if_exists {
            IfExists::Replace => self.capabilities.versions,
            IfExists::Skip | IfExists::Fail => self.conditions.create_new,
        }
    }

    async fn create_envelope(&mut self) -> Result<Reply> {
        let would_replace = !self.conditions.create_new && !self.capabilities.versions;
        if would_replace && is_there(self.store, &self.envelope).await? {
            return Ok(Reply::Exists);
        }
        self.began = Instant::now();
        let options = PutOptions {
            only_if: OnlyIf::Absent,
            size: Some(self.request.envelope.len() as u64),
            encryption: self.request.envelope_encryption.clone(),
            ..PutOptions::default()
        };
        match self.store.put(&self.envelope, self.request.envelope.clone(), &options).await {
            Ok(_) => Ok(Reply::Done),
            Err(error) => self.unless_unknown(error),
        }
    }

    async fn read_envelope(&mut self) -> Result<Reply> {
        let (_, bytes) = fetch::start(self.store, &self.envelope, None, MAX_BYTES + 1).await?;
        match bytes == self.request.envelope {
            true => {
                self.error = None;
                Ok(Reply::Done)
            }
            false => Err(Error::conflict(
                "is there and is not the envelope that belongs there; nothing was stored",
            )
            .about(self.store.show(&self.envelope))
            .hint("move it away, and run the same again")),
        }
    }

    async fn confirm_envelope(&mut self) -> Result<Reply> {
        match self.store.stat(&self.envelope, None).await {
            Ok(_) => Ok(Reply::Done),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(self.too_late("was deleted")),
            // Who may only write is trusted to have written.
            Err(error) if error.kind() == ErrorKind::Permission => Ok(Reply::Done),
            Err(error) => Err(error),
        }
    }

    fn too_late(&self, what: &str) -> Error {
        Error::conflict(format!("{what} before its container was there, which was not stored"))
            .about(self.store.show(&self.envelope))
            .hint("run the same again: it starts with a new file key")
    }

    async fn write_container(&mut self, replace: bool) -> Result<Reply> {
        if self.began.elapsed() + self.age >= LATEST {
            return Err(self.too_late("was written more than 21 days"));
        }
        if !replace && !self.conditions.create_new && is_there(self.store, &self.container).await? {
            return Ok(Reply::Exists);
        }
        if let Some(over) = self.over.as_ref().filter(|_| !self.conditions.replace_if)
            && !is_current(self.store, &self.container, over).await?
        {
            return Ok(Reply::Exists);
        }
        let written = match (&self.upload, &self.request.content) {
            (Some((upload, parts)), _) => upload.complete(*parts).await,
            (None, Content::Whole(bytes)) => {
                let options = PutOptions { size: Some(self.size), ..self.options(replace) };
                self.store.put(&self.container, bytes.clone(), &options).await
            }
            (None, Content::Copy(Copied { key, version, source_key, .. })) => {
                let (size, source_key) = (Some(self.size), source_key.clone());
                let options = PutOptions { size, source_key, ..self.options(replace) };
                self.store.copy(key, Some(version), &self.container, &options).await
            }
            (None, Content::Parts { .. }) => return Ok(Reply::Failed),
        };
        match written {
            Ok(written) => {
                self.written = Some(written);
                Ok(Reply::Done)
            }
            Err(error) => self.unless_unknown(error),
        }
    }

    /// Looks for what was sent, and once more after the name was asked for again.
    async fn find_container(&mut self) -> Result<Reply> {
        if let Some(found) = self.found().await? {
            self.written = Some(found);
            return Ok(Reply::Done);
        }
        let Some((upload, parts)) = &self.upload else { return Ok(Reply::Unknown) };
        self.written = match upload.complete(*parts).await {
            Ok(written) => Some(written),
            Err(_) => self.found().await?,
        };
        Ok(if self.written.is_some() { Reply::Done } else { Reply::Unknown })
    }

    /// The version that has the length and the header of what was sent: no other container has that header.
    async fn found(&mut self) -> Result<Option<Written>> {
        let key = match &self.request.container_encryption {
            Some(Encryption::Customer(key)) => Some(key.clone()),
            _ => None,
        };
        for object in fetch::versions(self.store, &self.container).await? {
            if object.marker || object.size != self.size {
                continue;
            }
            let version = Some(&object.version);
            match fetch::start_with(self.store, &self.container, version, HEADER_LEN, key.clone()).await {
                Ok((_, start)) if start == self.head => return Ok(Some(Written { version: object.version })),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // Under another key, or under none.
                Err(error) if key.is_some() && matches!(error.kind(), ErrorKind::Auth | ErrorKind::Input) => {
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    async fn finish(self, outcome: Outcome) -> Result<Stored> {
        if let (Some((upload, _)), Outcome::Exists | Outcome::Failed) = (&self.upload, outcome)
            && !self.error.as_ref().is_some_and(|error| self.is_remembered(upload.as_ref(), error))
        {
            let _ = upload.abort().await;
        }
        let is_foreign = self.error.as_ref().is_some_and(|error| error.kind() == ErrorKind::Conflict);
        let error = |kind, message: &str| {
            self.error
                .unwrap_or_else(|| Error::new(kind, message))
                .about(self.location.show(self.request.stored))
        };
        match (outcome, self.written) {
            (Outcome::Stored, Some(written)) => Ok(Stored::Stored(written)),
            (Outcome::Exists, _) => Ok(Stored::Exists),
            (Outcome::Failed, _) => Err(error(ErrorKind::Transient, "was not stored")),
            // What has the name is not ours to replace, and its error says what to do.
            (Outcome::Unknown, _) if is_foreign => Err(error(ErrorKind::Conflict, "is there already")),
            (Outcome::Unknown | Outcome::Stored, _) => {
                Err(error(ErrorKind::Unsure, "may have been stored, or may still be")
                    .hint("run the same again: to store it twice does no harm"))
            }
        }
    }

    /// Keeps the error that a step ended with, and replies for it.
    fn note(&mut self, reply: Result<Reply>) -> Reply {
        reply.unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            Reply::Failed
        })
    }

    /// The reply for a write that ended with an error: what may have been done is not said to have failed.
    fn unless_unknown(&mut self, error: Error) -> Result<Reply> {
        match error.kind() {
            ErrorKind::Conflict => Ok(Reply::Exists),
            ErrorKind::Unsure => {
                self.error.get_or_insert(error);
                Ok(Reply::Unknown)
            }
            _ => Err(error),
        }
    }

    fn options(&self, replace: bool) -> PutOptions {
        PutOptions {
            only_if: match (&self.over, replace) {
                (Some(over), _) => OnlyIf::Version(over.clone()),
                (None, true) => OnlyIf::Always,
                (None, false) => OnlyIf::Absent,
            },
            info: self.info(),
            encryption: self.request.container_encryption.clone(),
            ..PutOptions::default()
        }
    }

    /// What the store keeps beside the container: in a vault the record too, where listings return it.
    fn info(&self) -> Info {
        let mut info = Info::from([(DATA_ID_INFO.to_owned(), self.request.data_id.to_string())]);
        if self.location.vault().is_some()
            && self.capabilities.info_in_list
            && let Ok(envelope) = Envelope::parse(&self.request.envelope)
            && let Some(record) = envelope.info()
        {
            info.insert(INFO_INFO.to_owned(), vault::record_text(record));
        }
        info
    }

    fn shown(&self) -> String {
        self.location.show_key(&self.container)
    }
}

async fn is_current(store: &dyn Store, key: &str, version: &VersionId) -> Result<bool> {
    match store.stat(key, None).await {
        Ok(object) => Ok(object.version == *version),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

async fn is_there(store: &dyn Store, key: &str) -> Result<bool> {
    match store.stat(key, None).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn head_of(bytes: &Bytes) -> Bytes {
    bytes.slice(..bytes.len().min(HEADER_LEN))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;

    use super::*;
    use crate::format::Header;
    use crate::store::memory::{Features, MemoryStore, State};

    struct Bytewise(Vec<u8>);

    #[async_trait]
    impl PartSource for Bytewise {
        async fn next(&mut self, len: usize) -> Result<Option<Bytes>> {
            let rest = self.0.split_off(self.0.len().min(len));
            let part = std::mem::replace(&mut self.0, rest);
            Ok((!part.is_empty()).then(|| part.into()))
        }
    }

    const ID: DataId = DataId([7; 16]);
    const VERSIONS: Features = Features { versions: true, conditions: true };

    fn container(len: usize) -> Vec<u8> {
        let mut bytes = Header::new(16, 0, ID).unwrap().to_bytes().to_vec();
        bytes.extend((0..len).map(|at| (at % 251) as u8));
        bytes
    }

    fn request(content: Content<'_>, if_exists: IfExists) -> PutRequest<'_> {
        PutRequest {
            stored: "d/x.enc",
            data_id: ID,
            envelope: Bytes::from_static(b"envelope"),
            content,
            envelope_encryption: None,
            container_encryption: None,
            if_exists,
            memory: None,
        }
    }

    fn run(store: &MemoryStore, request: PutRequest<'_>) -> Result<Stored> {
        let location = Location::new(Arc::new(store.clone()), "p").unwrap();
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(put(&location, request))
    }

    fn whole(store: &MemoryStore, if_exists: IfExists) -> Result<Stored> {
        run(store, request(Content::Whole(container(9).into()), if_exists))
    }

    fn keys(state: &State) -> Vec<String> {
        let object = |listed| match listed {
            crate::store::Listed::Object(object) => object.key,
            crate::store::Listed::Folder(folder) => folder,
        };
        state.list(&crate::store::ListOptions::default()).into_iter().map(object).collect()
    }

    #[test]
    fn a_put_can_be_given_to_another_thread() {
        fn is_send<T: Send>(_: &T) {}
        let location = Location::new(Arc::new(MemoryStore::new(VERSIONS)), "").unwrap();
        is_send(&put(&location, request(Content::Whole(Bytes::new()), IfExists::Replace)));
    }

    #[test]
    fn a_pair_is_stored_under_both_names() {
        let store = MemoryStore::new(VERSIONS);
        assert!(matches!(whole(&store, IfExists::Fail), Ok(Stored::Stored(_))));
        assert_eq!(keys(&store.state()), ["p/d/x.0707070707070707.key.enc", "p/d/x.enc"]);
        let (object, bytes) = store.state().get("p/d/x.enc", None).unwrap();
        assert_eq!(bytes, container(9));
        assert_eq!(object.info.unwrap()[DATA_ID_INFO], ID.to_string());
    }

    #[test]
    fn parts_become_one_object_whatever_their_number() {
        let most = 16 << 20;
        for (size, len) in [(None, 0), (None, 5), (None, most), (None, most + 1), (Some(3 << 23), 3 << 23)] {
            let store = MemoryStore::new(VERSIONS);
            let mut source = Bytewise(container(len));
            let size = size.map(|size: u64| size + 64);
            let stored =
                run(&store, request(Content::Parts { size, source: &mut source }, IfExists::Replace));
            assert!(matches!(stored, Ok(Stored::Stored(_))), "{stored:?}");
            assert!(store.state().get("p/d/x.enc", None).unwrap().1 == container(len), "{len}");
        }
    }

    #[test]
    fn what_is_there_stays_when_it_is_to_stay() {
        for conditions in [false, true] {
            let store = MemoryStore::new(Features { versions: true, conditions });
            store.state().put("p/d/x.enc", container(1).into(), &OnlyIf::Always, &Info::new()).unwrap();
            for if_exists in [IfExists::Skip, IfExists::Fail] {
                assert_eq!(whole(&store, if_exists).unwrap(), Stored::Exists);
            }
            assert_eq!(keys(&store.state()), ["p/d/x.enc"]);
        }
    }

    #[test]
    fn what_is_foreign_is_never_replaced() {
        for features in [VERSIONS, Features { versions: false, conditions: false }] {
            for (name, says) in
                [("x.enc", "not a container"), ("x.0707070707070707.key.enc", "not the envelope")]
            {
                let store = MemoryStore::new(features);
                let key = format!("p/d/{name}");
                store
                    .state()
                    .put(&key, Bytes::from_static(b"theirs"), &OnlyIf::Always, &Info::new())
                    .unwrap();
                // Where it stays as an older version, nobody asks what a container would replace.
                if features.versions && name == "x.enc" {
                    assert!(matches!(whole(&store, IfExists::Replace), Ok(Stored::Stored(_))));
                    assert_eq!(store.state().get(&key, Some(&"1".to_owned())).unwrap().1, b"theirs"[..]);
                    continue;
                }
                let error = whole(&store, IfExists::Replace).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Conflict);
                assert!(error.to_string().contains(says), "{error}");
                assert_eq!(keys(&store.state()), [key]);
            }
        }
    }
}
