//! One run at a time: a locked file.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::{Error, IoContext as _, Result};

/// The locked file of a run. It is let go by name: a child that is just being started may hold a copy of it a little longer.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// Holds the file for this run, and writes into it whose run that is.
pub(super) fn lock(path: &Path, source: &str, destination: &str) -> Result<Lock> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .context("cannot open", path)?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut process = String::new();
        let _ = (&file).take(32).read_to_string(&mut process);
        let process = process.trim();
        let who = match process.bytes().all(|byte| byte.is_ascii_digit()) && !process.is_empty() {
            true => format!("process {process}"),
            false => "another process".to_owned(),
        };
        return Err(Error::conflict(format!("is being synchronised to {destination} by {who}"))
            .about(source)
            .hint("wait until it is done; the lock goes with that process"));
    }
    let process = rustix::process::getpid().as_raw_nonzero();
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{process}"));
    written.context("cannot write", path)?;
    Ok(Lock(file))
}
