//! Files that the service alone encrypts: restored when they are what their envelope says.

use std::path::Path;

use super::one::file_type;
use super::{Getting, Item, Overwrite, Restored, existing};
use crate::Result;
use crate::location::cleartext::Cleartext;
use crate::location::read::Reader;
use crate::ops::cleartext;
use crate::ops::events::{Watched, Written};

impl Getting<'_> {
    /// Restores one; whether there was anything to do.
    pub(super) fn cleartext(
        &self,
        item: &Item<'_>,
        reader: Reader,
        cleartext: &Cleartext,
        target: &Path,
        shown: &str,
    ) -> Result<bool> {
        let (object, end, metadata) = (reader.object().clone(), cleartext.end(), Some(&cleartext.metadata));
        cleartext.check_size(object.size)?;
        self.compare_name(item, metadata, shown)?;
        file_type(item, metadata)?;
        self.tree.make_parents(target)?;
        let same = match self.overwrite {
            Overwrite::IfDifferent if !self.is_special(target) => existing::same(target, &end, metadata)?,
            _ => None,
        };
        match same {
            Some(why) => self.skip(&target.display().to_string(), why),
            None => {
                let mut out = self.output(target, metadata)?;
                let mut written = Written::new(&mut out, target);
                let source = Watched { inner: reader, observer: self.observer };
                let copied = cleartext::copy(cleartext, object.size, source, &mut written);
                copied.map_err(|error| written.blame(error))?;
                self.publish(out, metadata)?;
            }
        }
        if let Some(confirm) = self.confirm {
            let data_id = cleartext.data_id;
            confirm(&Restored { item, object: &object, target, metadata, end: &end, data_id });
        }
        Ok(same.is_none())
    }
}
