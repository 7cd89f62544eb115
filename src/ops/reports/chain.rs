//! Lines of which each holds the hash of the one before.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{Error, ErrorKind, Result, hex};

/// A chain of lines, as far as it has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    previous: [u8; 32],
}

#[derive(Serialize)]
struct Chained<'a, T> {
    #[serde(flatten)]
    line: &'a T,
    previous: String,
}

impl Chain {
    /// The next line, its end included.
    ///
    /// # Errors
    /// `Io` when it cannot be JSON.
    pub(crate) fn next(&mut self, line: &impl Serialize) -> Result<String> {
        let mut text = serde_json::to_string(&Chained { line, previous: self.head() })
            .map_err(|error| Error::new(ErrorKind::Io, "cannot make JSON").because(error))?;
        self.follow(text.as_bytes());
        text.push('\n');
        Ok(text)
    }

    /// Notes a line that stands there, without its end.
    pub(crate) fn follow(&mut self, line: &[u8]) {
        self.previous = Sha256::digest(line).into();
    }

    /// The hash of the last line; zeros before the first.
    pub(crate) fn head(&self) -> String {
        hex(&self.previous)
    }
}
