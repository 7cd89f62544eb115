//! Files that the service alone encrypts: copied by it under a new key, so that no data crosses the wire.

use bytes::Bytes;

use super::one::New;
use super::{Done, Reencrypting};
use crate::location::cleartext::Cleartext;
use crate::location::customer::PairEncryption;
use crate::location::drive::{Content, Copied, Stored};
use crate::location::read;
use crate::store::{CustomerKey, GetOptions, Object, VersionId};
use crate::{Error, Result};

/// How much of each end is compared.
const END: u64 = 64;

impl Reencrypting<'_> {
    /// One version, in its place.
    pub(super) fn copied(&self, stored: &str, over: &Object, old: &Cleartext, done: &mut Done) -> Result<()> {
        old.check_size(over.size)?;
        if self.options.encryption != PairEncryption::Customer(None) {
            return Err(Error::input("was stored as it is, with --cleartext, and has to stay under --sse c")
                .hint("give --sse c, without a key file: the service copies it under a new key"));
        }
        if self.options.dry_run {
            done.reencrypted = true;
            return Ok(());
        }
        let ends = self.ends(over, None, &old.key)?;
        let new = New::cleartext(self, old)?;
        let content = Content::Copy(Copied {
            key: over.key.clone(),
            version: over.version.clone(),
            head: ends[0].clone(),
            size: over.size,
            source_key: Some(old.key.clone()),
        });
        let Stored::Stored(written) = self.put(stored, over, &new, content)? else {
            return Err(Error::conflict("was replaced by somebody else meanwhile"));
        };
        let written = written.version;
        self.prove(stored, over, &written, |key| self.compare_ends(key, over, &ends, &new, &written))?;
        self.end(stored, over, &old.data_id, written, done)
    }

    /// Both halves as they were written, the object by its length and its ends: all of it would have to cross the wire. It
    /// was made by the service, of what opened under the key that came with the request.
    fn compare_ends(
        &self,
        key: &str,
        over: &Object,
        ends: &[Bytes; 2],
        new: &New,
        written: &VersionId,
    ) -> Result<()> {
        let store = self.location.store();
        self.has_envelope(store, key, new)?;
        let copy = self.handle.block_on(store.stat(key, self.versions.then_some(written)))?;
        if copy.version != *written {
            return Err(Error::conflict("was replaced by somebody else meanwhile"));
        }
        let same = match new.customer_key() {
            Some(new_key) if copy.size == over.size => self.ends(&copy, Some(written), new_key)? == *ends,
            _ => false,
        };
        match same {
            true => Ok(()),
            false => Err(Error::integrity("what was written does not hold what was read")),
        }
    }

    /// The first and the last bytes of an object under this key.
    fn ends(
        &self,
        object: &Object,
        version: Option<&VersionId>,
        customer_key: &CustomerKey,
    ) -> Result<[Bytes; 2]> {
        let version = version.unwrap_or(&object.version);
        let part = async |start: u64| {
            let range = start..object.size.min(start + END);
            if range.is_empty() {
                return Ok(Bytes::new());
            }
            let options = GetOptions {
                version: Some(version.clone()),
                range: Some(range.clone()),
                customer_key: Some(customer_key.clone()),
            };
            let download = self.location.store().get(&object.key, &options).await?;
            read::collect_at_most(download.body, range.end - range.start).await
        };
        self.handle.block_on(async {
            Ok::<_, Error>([part(0).await?, part(object.size.saturating_sub(END)).await?])
        })
    }
}
