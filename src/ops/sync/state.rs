//! What is remembered of a pair of source and destination: one SQLite file, held by one run at a time.
//!
//! It is a hint. What it says of a container counts only for the version that the location's listing shows; without it, or
//! where it is damaged, more is read or stored again, and nothing is lost. It holds no keys. What could not be confirmed
//! is never written.

mod lock;
mod tables;

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, Transaction, params, params_from_iter};
use sha2::{Digest as _, Sha256};

use self::lock::{Lock, lock};
use self::tables::{connect, failed, is_unusable, set_aside};
use super::plan::{Facts, Key, Known, Stored, There};
use crate::format::FileType;
use crate::{DataId, IoContext as _, Result, hex};

/// How many rows are read at a time.
const PAGE: usize = 1000;

/// How many confirmed changes may be lost by a kill: they are looked at or stored again.
const BATCH: usize = 32;

const LIST: &str = "INSERT OR REPLACE INTO listed VALUES (?1, ?2, ?3, ?4)";

const RECORD: &str = "
    INSERT OR REPLACE INTO known (key, kind, size, mtime, inode, mode, tag, racy, digest, data_id, version, stored)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

/// The same where this version is not known.
const LEARN: &str = "
    INSERT INTO known (key, kind, size, mtime, inode, mode, tag, racy, digest, data_id, version, stored)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
    ON CONFLICT (key) DO UPDATE SET kind = excluded.kind, size = excluded.size, mtime = excluded.mtime,
        inode = excluded.inode, mode = excluded.mode, tag = excluded.tag, racy = excluded.racy,
        digest = excluded.digest, data_id = excluded.data_id, version = excluded.version, stored = excluded.stored
    WHERE version <> excluded.version OR stored <> excluded.stored";

/// What is to be done about one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing has the name there.
    New = 0,
    /// Something has it whose contents are others.
    Change = 1,
    /// The mode or a folder's time differs.
    Metadata = 2,
    /// What has the name may be the same: only the contents tell.
    Check = 3,
    /// Nothing is known of what has the name.
    Unknown = 4,
    /// It stands under another name.
    Move = 5,
    /// It is gone.
    Delete = 6,
}

impl Act {
    pub(super) const ALL: [Self; 7] =
        [Self::New, Self::Change, Self::Metadata, Self::Check, Self::Unknown, Self::Move, Self::Delete];
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Todo {
    pub(super) key: Key,
    pub(super) act: Act,
    /// What has the name there; of something new a size of what is here, and no version.
    pub(super) stored: Stored,
    /// Where it stands, for [`Act::Move`].
    pub(super) source: Option<Key>,
}

/// Something that the location holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) key: Key,
    pub(super) stored: Stored,
    /// The short data ids of its envelopes; `*` for one that may be of any.
    pub(super) envelopes: String,
    /// What its info record says, where that was listed too.
    pub(super) learned: Option<Known>,
}

/// The state of one pair.
pub(super) struct State {
    db: Mutex<Open>,
    path: PathBuf,
    /// Locked while this run lasts.
    _lock: Lock,
}

struct Open {
    db: Connection,
    /// What is to be remembered and not written down yet.
    pending: Vec<[Value; 12]>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("path", &self.path).finish_non_exhaustive()
    }
}

impl State {
    /// The state of `source` and `destination` in this folder, locked; and why it begins anew where one was there that
    /// cannot be used.
    ///
    /// # Errors
    /// `Conflict` while another run has it; what the operating system fails with.
    pub(super) fn open(folder: &Path, source: &str, destination: &str) -> Result<(Self, Option<String>)> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .context("cannot make the folder", folder)?;
        let digest =
            Sha256::new().chain_update(source).chain_update([0]).chain_update(destination).finalize();
        let name = hex(&digest[..16]);
        let lock = lock(&folder.join(format!("{name}.lock")), source, destination)?;
        let path = folder.join(format!("{name}.sqlite"));
        // SQLite gives its files the mode that this one has.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .context("cannot open", &path)?;
        let (db, set_aside) = match connect(&path) {
            Ok(db) => (db, None),
            Err(error) if is_unusable(&error) => {
                let aside = set_aside(&path)?;
                let why = format!(
                    "{} is damaged or none of sidekey's and was set aside as {}; what both sides have is found out anew",
                    path.display(),
                    aside.display()
                );
                (connect(&path).map_err(|error| failed(&path, error))?, Some(why))
            }
            Err(error) => return Err(failed(&path, error)),
        };
        Ok((Self { db: Mutex::new(Open { db, pending: vec![] }), path, _lock: lock }, set_aside))
    }

    /// Whether nothing was ever confirmed.
    pub(super) fn is_empty(&self) -> Result<bool> {
        self.read(|db| db.query_row("SELECT NOT EXISTS (SELECT 1 FROM known)", [], |row| row.get(0)))
    }

    /// Takes all that the location holds. What info records say of it is known where nothing else is known of that version.
    pub(super) fn list(&self, listed: impl Iterator<Item = Result<Listed>>) -> Result<u64> {
        let mut count = 0;
        self.whole(|run| {
            let (mut add, mut learn) = (run.prepare(LIST)?, run.prepare(LEARN)?);
            for found in listed {
                let Listed { key, stored, envelopes, learned } = match found {
                    Ok(found) => found,
                    Err(error) => return Ok(Err(error)),
                };
                if let Some(known) = &learned {
                    learn.execute(params_from_iter(values(&key, &stored, known)))?;
                }
                add.execute(params![key.0, stored.version, stored.size.cast_signed(), envelopes])?;
                count += 1;
            }
            // What is not there any more is not known any more.
            run.execute("DELETE FROM known WHERE key NOT IN (SELECT key FROM listed)", [])?;
            Ok(Ok(count))
        })
    }

    /// Takes all that another location holds, from which this one is made.
    pub(super) fn list_source(&self, listed: impl Iterator<Item = Result<(Key, Stored)>>) -> Result<u64> {
        let mut count = 0;
        self.whole(|run| {
            let mut add = run.prepare("INSERT OR REPLACE INTO source VALUES (?1, ?2, ?3)")?;
            for found in listed {
                let (key, Stored { version, size }) = match found {
                    Ok(found) => found,
                    Err(error) => return Ok(Err(error)),
                };
                add.execute(params![key.0, version, size.cast_signed()])?;
                count += 1;
            }
            Ok(Ok(count))
        })
    }

    /// What the other location holds, in the order of the keys.
    pub(super) fn source(&self) -> impl Iterator<Item = Result<(Key, Stored)>> + Send + '_ {
        let sql = "SELECT key, version, size FROM source WHERE key > ?1 ORDER BY key LIMIT ?2";
        let parse = |row: &Row<'_>| {
            let stored = Stored { version: row.get(1)?, size: row.get::<_, i64>(2)?.cast_unsigned() };
            Ok((Key(row.get(0)?), stored))
        };
        self.pages(sql.to_owned(), parse, |(key, _)| key)
    }

    /// All that was listed, in the order of the keys, with what is known of exactly these versions. Of a container whose
    /// envelope is gone nothing is known: it cannot be opened any more.
    pub(super) fn there(&self) -> impl Iterator<Item = Result<There>> + Send + '_ {
        let sql = "SELECT l.key, l.version, l.size, k.kind, k.size, k.mtime, k.inode, k.mode, k.tag, k.racy, k.digest, k.data_id
            FROM listed l LEFT JOIN known k ON k.key = l.key AND k.version = l.version AND k.stored = l.size
                AND (l.envelopes LIKE '%*%' OR instr(l.envelopes, lower(hex(substr(k.data_id, 1, 8)))) > 0)
            WHERE l.key > ?1 ORDER BY l.key LIMIT ?2";
        self.pages(sql.to_owned(), there, |there| &there.key)
    }

    /// Notes what is to be done, all of it in one go.
    pub(super) fn plan(&self, todo: impl Iterator<Item = Result<Todo>>) -> Result<()> {
        // What is read to find it is read from the same database: not under the same lock.
        let mut page = Vec::with_capacity(PAGE);
        let mut todo = todo.peekable();
        while todo.peek().is_some() {
            page.clear();
            for next in todo.by_ref().take(PAGE) {
                page.push(next?);
            }
            self.whole(|run| {
                let mut add = run.prepare("INSERT OR REPLACE INTO todo VALUES (?1, ?2, ?3, ?4, ?5)")?;
                for Todo { key, act, stored, source } in &page {
                    let (source, size) = (source.as_ref().map(|key| &key.0), stored.size.cast_signed());
                    add.execute(params![key.0, *act as i64, stored.version, size, source])?;
                }
                Ok(Ok(()))
            })?;
        }
        Ok(())
    }

    /// Writes all of it or nothing.
    fn whole<T>(&self, write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<Result<T>>) -> Result<T> {
        self.flush()?;
        let mut guard = self.guard();
        let sql = |error| failed(&self.path, error);
        let run = guard.db.transaction().map_err(sql)?;
        let written = write(&run).map_err(sql)??;
        run.commit().map_err(sql)?;
        Ok(written)
    }

    /// What is to be done of these kinds, in the order of the keys.
    pub(super) fn todo(&self, acts: &[Act]) -> impl Iterator<Item = Result<Todo>> + Send + '_ {
        let acts: Vec<String> = acts.iter().map(|act| (*act as i64).to_string()).collect();
        let sql = format!(
            "SELECT key, act, version, size, source FROM todo WHERE key > ?1 AND act IN ({}) ORDER BY key LIMIT ?2",
            acts.join(",")
        );
        self.pages(sql, todo_of, |todo| &todo.key)
    }

    /// How much there is to do of one kind, and how many bytes it has.
    pub(super) fn count(&self, act: Act) -> Result<(u64, u64)> {
        let sql = "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM todo WHERE act = ?1";
        let (count, bytes): (i64, i64) =
            self.read(|db| db.query_row(sql, [act as i64], |row| Ok((row.get(0)?, row.get(1)?))))?;
        Ok((count.cast_unsigned(), bytes.cast_unsigned()))
    }

    /// What is to be done about one key.
    pub(super) fn act(&self, key: &Key) -> Result<Option<Act>> {
        let sql = "SELECT act FROM todo WHERE key = ?1";
        let act: Option<i64> = self.read(|db| db.query_row(sql, [&key.0], |row| row.get(0)).optional())?;
        Ok(act.and_then(act_of))
    }

    /// Plans something else for one key.
    pub(super) fn set_act(&self, key: &Key, act: Act) -> Result<()> {
        self.change("UPDATE todo SET act = ?2 WHERE key = ?1", params![key.0, act as i64])
    }

    /// There is nothing to do for one key.
    pub(super) fn leave(&self, key: &Key) -> Result<()> {
        self.change("DELETE FROM todo WHERE key = ?1", [&key.0])
    }

    /// Whether the location holds anything at or below this key of a folder.
    pub(super) fn is_listed_below(&self, folder: &[u8]) -> Result<bool> {
        let mut end = folder.to_vec();
        if let Some(last) = end.last_mut() {
            *last = 1;
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM listed WHERE key >= ?1 AND key < ?2)";
        self.read(|db| db.query_row(sql, params![folder, end], |row| row.get(0)))
    }

    /// Whether the location holds this key.
    pub(super) fn is_listed(&self, key: &[u8]) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM listed WHERE key = ?1)";
        self.read(|db| db.query_row(sql, [key], |row| row.get(0)))
    }

    /// The version that was listed of one key, and the short data ids of its envelopes.
    pub(super) fn listed(&self, key: &Key) -> Result<Option<(Stored, String)>> {
        let sql = "SELECT version, size, envelopes FROM listed WHERE key = ?1";
        let parse = |row: &Row<'_>| {
            let stored = Stored { version: row.get(0)?, size: row.get::<_, i64>(1)?.cast_unsigned() };
            Ok((stored, row.get(2)?))
        };
        self.read(|db| db.query_row(sql, [&key.0], parse).optional())
    }

    /// What is known of the version that is there of one key.
    pub(super) fn known(&self, key: &Key) -> Result<Option<(Stored, Known)>> {
        let sql = "SELECT key, version, stored, kind, size, mtime, inode, mode, tag, racy, digest, data_id FROM known WHERE key = ?1";
        self.flush()?;
        let found = self.read(|db| db.query_row(sql, [&key.0], there).optional())?;
        Ok(found.and_then(|There { stored, known, .. }| known.map(|known| (stored, known))))
    }

    /// Remembers that both sides have this, confirmed.
    pub(super) fn record(&self, key: &Key, stored: &Stored, known: &Known) -> Result<()> {
        let mut guard = self.guard();
        guard.pending.push(values(key, stored, known));
        match guard.pending.len() < BATCH {
            true => Ok(()),
            false => self.write_down(&mut guard),
        }
    }

    /// Forgets a key.
    pub(super) fn forget(&self, key: &Key) -> Result<()> {
        self.flush()?;
        self.change("DELETE FROM known WHERE key = ?1", [&key.0])
    }

    /// Writes down what was noted since the last time.
    pub(super) fn flush(&self) -> Result<()> {
        self.write_down(&mut self.guard())
    }

    fn write_down(&self, open: &mut Open) -> Result<()> {
        if open.pending.is_empty() {
            return Ok(());
        }
        let written = (|| {
            let run = open.db.transaction()?;
            {
                let mut record = run.prepare(RECORD)?;
                for values in open.pending.drain(..) {
                    record.execute(params_from_iter(values))?;
                }
            }
            run.commit()
        })();
        written.map_err(|error| failed(&self.path, error))
    }

    fn change(&self, sql: &str, values: impl Params) -> Result<()> {
        self.read(|db| db.execute(sql, values)).map(drop)
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        query(&self.guard().db).map_err(|error| failed(&self.path, error))
    }

    /// Rows a page at a time, so that nothing is locked between.
    fn pages<T: 'static + Send>(
        &self,
        sql: String,
        parse: fn(&Row<'_>) -> rusqlite::Result<T>,
        key: fn(&T) -> &Key,
    ) -> impl Iterator<Item = Result<T>> + Send + '_ {
        // No key is empty.
        let (mut after, mut over) = (Some(Vec::new()), false);
        let mut page = Vec::new().into_iter();
        std::iter::from_fn(move || {
            loop {
                if let Some(row) = page.next() {
                    return Some(Ok(row));
                }
                let from = after.take().filter(|_| !over)?;
                let read = self.read(|db| {
                    let mut statement = db.prepare(&sql)?;
                    let rows = statement.query_map(params![from, PAGE.cast_signed() as i64], parse)?;
                    rows.collect::<rusqlite::Result<Vec<T>>>()
                });
                match read {
                    Ok(rows) => {
                        over = rows.len() < PAGE;
                        after = rows.last().map(|row| key(row).0.clone());
                        page = rows.into_iter();
                        if page.len() == 0 {
                            return None;
                        }
                    }
                    Err(error) => return Some(Err(error)),
                }
            }
        })
    }

    fn guard(&self) -> MutexGuard<'_, Open> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // What cannot be written down now costs work the next time.
        let _ = self.flush();
    }
}

fn there(row: &Row<'_>) -> rusqlite::Result<There> {
    let stored = Stored { version: row.get(1)?, size: row.get::<_, i64>(2)?.cast_unsigned() };
    let known = match row.get::<_, Option<i64>>(3)?.and_then(kind_of) {
        None => None,
        Some(kind) => Some(Known {
            facts: Facts {
                kind,
                size: row.get::<_, i64>(4)?.cast_unsigned(),
                mtime: row.get(5)?,
                inode: row.get::<_, i64>(6)?.cast_unsigned(),
                mode: row.get(7)?,
                tag: row.get(8)?,
            },
            racy: row.get(9)?,
            digest: row.get::<_, Option<Vec<u8>>>(10)?.and_then(|digest| digest.try_into().ok()),
            data_id: row.get::<_, Option<Vec<u8>>>(11)?.and_then(|id| id.try_into().ok()).map(DataId),
        }),
    };
    Ok(There { key: Key(row.get(0)?), stored, known })
}

fn values(key: &Key, stored: &Stored, known: &Known) -> [Value; 12] {
    let Known { facts, digest, data_id, racy } = known;
    [
        key.0.clone().into(),
        kind_number(facts.kind).into(),
        facts.size.cast_signed().into(),
        facts.mtime.into(),
        facts.inode.cast_signed().into(),
        i64::from(facts.mode).into(),
        facts.tag.clone().into(),
        i64::from(*racy).into(),
        digest.map_or(Value::Null, |digest| digest.to_vec().into()),
        data_id.map_or(Value::Null, |id| id.0.to_vec().into()),
        stored.version.clone().into(),
        stored.size.cast_signed().into(),
    ]
}

fn todo_of(row: &Row<'_>) -> rusqlite::Result<Todo> {
    Ok(Todo {
        key: Key(row.get(0)?),
        act: act_of(row.get(1)?).ok_or(rusqlite::Error::InvalidQuery)?,
        stored: Stored { version: row.get(2)?, size: row.get::<_, i64>(3)?.cast_unsigned() },
        source: row.get::<_, Option<Vec<u8>>>(4)?.map(Key),
    })
}

fn act_of(number: i64) -> Option<Act> {
    Act::ALL.into_iter().find(|act| *act as i64 == number)
}

fn kind_number(kind: FileType) -> i64 {
    match kind {
        FileType::File => 0,
        FileType::Dir => 1,
        FileType::Symlink => 2,
    }
}

fn kind_of(number: i64) -> Option<FileType> {
    [FileType::File, FileType::Dir, FileType::Symlink].into_iter().find(|kind| kind_number(*kind) == number)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make their own files")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::ErrorKind;

    fn key(name: &str) -> Key {
        Key(name.into())
    }

    fn stored(version: &str) -> Stored {
        Stored { version: version.into(), size: 10 }
    }

    fn known() -> Known {
        let facts = Facts {
            kind: FileType::File,
            size: u64::MAX,
            mtime: -5,
            inode: u64::MAX,
            mode: 0o644,
            tag: "t".into(),
        };
        Known { facts, digest: Some([3; 32]), data_id: Some(DataId([4; 16])), racy: true }
    }

    fn listed_as(name: &str, version: &str, envelopes: &str) -> Listed {
        Listed { key: key(name), stored: stored(version), envelopes: envelopes.into(), learned: None }
    }

    fn open(folder: &Path) -> (State, Option<String>) {
        State::open(folder, "src", "dst").unwrap()
    }

    #[test]
    fn what_is_known_counts_for_the_version_that_is_listed_and_only_while_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = open(dir.path());
        assert!(state.is_empty().unwrap());
        let all = ["a", "b", "c"];
        let list = |state: &State, versions: [&str; 2]| {
            let envelope = || DataId([4; 16]).short();
            let listed = all.iter().zip(versions);
            state.list(listed.map(|(name, version)| Ok(listed_as(name, version, &envelope())))).unwrap();
            state.there().map(|there| there.map(|there| there.known.is_some()).unwrap()).collect::<Vec<_>>()
        };
        for name in all {
            state.record(&key(name), &stored("1"), &known()).unwrap();
        }
        assert_eq!(state.known(&key("a")).unwrap(), Some((stored("1"), known())));
        drop(state);
        let (state, set_aside) = open(dir.path());
        assert_eq!(set_aside, None);
        assert_eq!(list(&state, ["1", "2"]), [true, false]);
        assert_eq!(state.known(&key("c")).unwrap(), None, "it was not listed");
        let no_envelope = listed_as("a", "1", &DataId([5; 16]).short());
        state.list([Ok(no_envelope)].into_iter()).unwrap();
        assert_eq!(state.there().next().unwrap().unwrap().known, None, "nothing opens it");
        let mode = |name: &Path| name.metadata().unwrap().permissions().mode() & 0o777;
        for entry in std::fs::read_dir(dir.path()).unwrap().flatten() {
            assert_eq!(mode(&entry.path()), 0o600, "{:?}", entry.path());
        }
    }

    #[test]
    fn a_record_that_is_listed_counts_only_where_nothing_is_known_of_the_version() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = open(dir.path());
        state.record(&key("a"), &stored("1"), &known()).unwrap();
        state.record(&key("b"), &stored("1"), &known()).unwrap();
        let learned = Known { racy: false, digest: None, ..known() };
        let all = [("a", "1"), ("b", "2"), ("c", "1")];
        let listed = all.map(|(name, version)| {
            let envelope = DataId([4; 16]).short();
            Ok(Listed { learned: Some(learned.clone()), ..listed_as(name, version, &envelope) })
        });
        state.list(listed.into_iter()).unwrap();
        let known_of = |name: &str| state.known(&key(name)).unwrap().unwrap();
        assert_eq!(known_of("a"), (stored("1"), known()));
        assert_eq!(known_of("b"), (stored("2"), learned.clone()));
        assert_eq!(known_of("c"), (stored("1"), learned));
        assert_eq!(state.listed(&key("b")).unwrap().unwrap().0, stored("2"));
        assert_eq!(state.listed(&key("d")).unwrap(), None);
    }

    #[test]
    fn pages_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = open(dir.path());
        let keys: Vec<Key> = (0..2 * PAGE).map(|number| key(&format!("{number:05}"))).collect();
        let listed = |key: &Key| Listed { key: key.clone(), ..listed_as("", "1", "*") };
        state.list(keys.iter().map(|key| Ok(listed(key)))).unwrap();
        assert_eq!(state.there().map(|there| there.unwrap().key).collect::<Vec<_>>(), keys);
        let act = |at: usize| if at.is_multiple_of(2) { Act::New } else { Act::Delete };
        let todo = keys
            .iter()
            .enumerate()
            .map(|(at, key)| Ok(Todo { key: key.clone(), act: act(at), stored: stored(""), source: None }));
        state.plan(todo).unwrap();
        assert_eq!(state.count(Act::Delete).unwrap(), (PAGE as u64, 10 * PAGE as u64));
        assert_eq!(state.todo(&[Act::New, Act::Delete]).count(), 2 * PAGE);
        assert_eq!(state.todo(&[Act::New]).next().unwrap().unwrap().key, keys[0]);
        assert!(state.is_listed_below(b"00\0").is_ok_and(|is| !is));
    }

    #[test]
    fn what_is_no_database_of_ours_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = open(dir.path());
        state.record(&key("a"), &stored("1"), &known()).unwrap();
        let path = state.path.clone();
        drop(state);
        std::fs::write(&path, "no database at all, but long enough to be taken for one".repeat(100)).unwrap();
        let (state, set_aside) = open(dir.path());
        assert!(set_aside.unwrap().contains("damaged-1"));
        assert!(state.is_empty().unwrap());
        drop(state);
        std::fs::remove_file(&path).unwrap();
        Connection::open(&path)
            .unwrap()
            .execute_batch("CREATE TABLE known (x); PRAGMA user_version = 9")
            .unwrap();
        let (state, set_aside) = open(dir.path());
        assert!(set_aside.unwrap().contains("damaged-2"));
        state.record(&key("a"), &stored("1"), &known()).unwrap();
    }

    #[test]
    fn a_second_run_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let (_state, _) = open(dir.path());
        let error = State::open(dir.path(), "src", "dst").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let process = format!("process {}", std::process::id());
        assert!(error.line().contains(&process), "{}", error.line());
        assert!(State::open(dir.path(), "src", "other").is_ok());
    }
}
