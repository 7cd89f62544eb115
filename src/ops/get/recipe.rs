//! Files of the OpenSSL recipe: restored once it is settled how they were made.

use std::path::Path;
use std::sync::PoisonError;

use super::{Getting, Item, Which, object_name};
use crate::location::read::Reader;
use crate::ops::events::{Event, Written};
use crate::ops::parallel;
use crate::ops::recipe_objects::{RecipeObject, is_sure};
use crate::{Error, Result};

impl<'a> Getting<'a> {
    /// Restores one, unless that has to wait until all others have been seen: this is the `last` time then.
    pub(super) fn recipe(&self, item: &Item<'a>, reader: Reader, target: &Path, last: bool) -> Result<()> {
        if item.name.is_folder() {
            return Err(Error::integrity(
                "is called like the metadata of a folder, but is a file of the OpenSSL recipe",
            )
            .hint("somebody renamed it"));
        }
        let is_current = self.options.which == Which::Current;
        let object = RecipeObject::new(item.location, reader, is_current)?;
        if !last {
            self.recipes.count(&object);
        }
        let found = self.recipes.find(&object);
        if !last && !found.as_ref().is_ok_and(is_sure) {
            self.unsettled.lock().unwrap_or_else(PoisonError::into_inner).push(item.clone());
            return Ok(());
        }
        let found = found?;
        self.tree.make_parents(target)?;
        let mut out = self.output(target, None)?;
        let mut written = Written::new(&mut out, target);
        let restored = self.recipes.decrypt(object, &found, &mut written);
        restored.map_err(|error| written.blame(error))?;
        self.publish(out, None)?;
        let shown = object_name(item.location, &item.object);
        self.observer.event(Event::Done { input: Path::new(&shown), output: target });
        Ok(())
    }

    /// What had to wait.
    pub(super) fn settled(&self, jobs: usize) {
        let waiting = std::mem::take(&mut *self.unsettled.lock().unwrap_or_else(PoisonError::into_inner));
        parallel::for_each(jobs, waiting.into_iter(), |item| {
            let target = self.destination.path(&item.segments);
            let restored = self.reader(&item).and_then(|reader| match RecipeObject::is_one(&reader) {
                true => self.recipe(&item, reader, &target, true),
                false => Err(Error::conflict("was replaced while this ran").hint("run the same again")),
            });
            if let Err(error) = restored {
                let shown = object_name(item.location, &item.object);
                self.observer.event(Event::Failed(&error.about(shown)));
            }
        });
    }
}
