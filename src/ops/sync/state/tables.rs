//! The database itself: its tables, and what is done about one that cannot be used.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::{Error, ErrorKind, IoContext as _, Result};

/// `sync` and the version of the tables, in the header of every database of ours.
const APPLICATION: i64 = 0x73_79_6e_63;
const VERSION: i64 = 1;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS known (
        key BLOB PRIMARY KEY, kind INTEGER NOT NULL, size INTEGER NOT NULL, mtime INTEGER NOT NULL, inode INTEGER NOT NULL,
        mode INTEGER NOT NULL, tag TEXT NOT NULL, racy INTEGER NOT NULL, digest BLOB, data_id BLOB,
        version TEXT NOT NULL, stored INTEGER NOT NULL
    ) WITHOUT ROWID;";

/// What one run finds out; gone with it.
const OF_THE_RUN: &str = "
    CREATE TEMP TABLE listed (
        key BLOB PRIMARY KEY, version TEXT NOT NULL, size INTEGER NOT NULL, envelopes TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TEMP TABLE source (key BLOB PRIMARY KEY, version TEXT NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TEMP TABLE todo (
        key BLOB PRIMARY KEY, act INTEGER NOT NULL, version TEXT NOT NULL, size INTEGER NOT NULL, source BLOB
    ) WITHOUT ROWID;";

pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(std::time::Duration::from_secs(5))?;
    let number = |name: &str| db.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let is_new = number("page_count")? == 0;
    if !is_new && (number("application_id")?, number("user_version")?) != (APPLICATION, VERSION) {
        return Err(rusqlite::Error::InvalidQuery);
    }
    let sound: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if sound != "ok" {
        return Err(rusqlite::Error::InvalidQuery);
    }
    // A power cut may lose the last entries and nothing else.
    db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    db.execute_batch(&format!(
        "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -8192; PRAGMA application_id = {APPLICATION};
        PRAGMA user_version = {VERSION};{TABLES}{OF_THE_RUN}"
    ))?;
    // Whether the tables are ours, too.
    db.prepare(
        "SELECT key, kind, size, mtime, inode, mode, tag, racy, digest, data_id, version, stored FROM known",
    )?;
    Ok(db)
}

/// Whether a new database is the remedy.
pub(super) fn is_unusable(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, Unknown};
    match error {
        rusqlite::Error::InvalidQuery => true,
        error => matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase | Unknown)),
    }
}

/// Gives the database and what belongs to it other names.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf> {
    let mut number = 1;
    let aside = loop {
        let aside = path.with_extension(format!("sqlite.damaged-{number}"));
        if !aside.exists() {
            break aside;
        }
        number += 1;
    };
    std::fs::rename(path, &aside).context("cannot set aside", path)?;
    for of_it in ["sqlite-wal", "sqlite-shm"] {
        let _ = std::fs::remove_file(path.with_extension(of_it));
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).context("cannot open", path)?;
    Ok(aside)
}

pub(super) fn failed(path: &Path, error: rusqlite::Error) -> Error {
    let damaged = is_unusable(&error);
    let error =
        Error::new(ErrorKind::Io, "cannot use the database of what both sides have").because(error).at(path);
    match damaged {
        true => error.hint("remove it: it is found out anew, which costs time and loses nothing"),
        false => error,
    }
}
