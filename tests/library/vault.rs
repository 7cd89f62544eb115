//! Vaults in the store in memory: made whole or gone on with, wherever the making stops.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt as _;
use sidekey::keys::PrivateKey;
use sidekey::location::Location;
use sidekey::location::drive::{clean_names, plan_names};
use sidekey::location::listing::{Entry, Scope, list};
use sidekey::location::vault::keep_names;
use sidekey::name::ObjectName;
use sidekey::ops::vault::{self, InitOptions, Opened};
use sidekey::random::OsRandom;
use sidekey::store::faulty::{Fault, Faulty, Operation};
use sidekey::store::memory::{Features, MemoryStore};
use sidekey::store::{Info, ListOptions, OnlyIf};
use sidekey::vault::{MasterKey, NamesMode, Vault, VaultId};
use sidekey::{ErrorKind, Result};

use crate::common::Place;

const ESCROW: &str = "the text of a key file";

struct Keys {
    old: PrivateKey,
    new: PrivateKey,
}

fn keys() -> Keys {
    let place = Place::with_keys();
    Keys { old: place.private("old"), new: place.private("new") }
}

fn drawn() -> Opened {
    vault::draw(NamesMode::Encrypted, &OsRandom).unwrap()
}

/// What the next run takes from the configuration of this machine.
fn again(opened: &Opened) -> Opened {
    Opened::new(MasterKey::from_bytes(opened.master.expose()), opened.vault.settings())
}

fn memory(versions: bool, conditions: bool) -> MemoryStore {
    MemoryStore::new(Features { versions, conditions })
}

/// Clones of a store in memory share what is in it.
fn faulty(memory: &MemoryStore) -> Faulty<MemoryStore> {
    Faulty::new(Arc::new(memory.clone()))
}

fn publish(store: &Faulty<MemoryStore>, opened: &Opened, key: &PrivateKey, escrow: &str) -> Result<()> {
    let location = Location::new(Arc::new(store.clone()), "root").unwrap();
    let recipients = [sidekey::keys::PublicKey::from_pem(key.public().to_pem().as_bytes()).unwrap()];
    let options = InitOptions {
        names: NamesMode::Encrypted,
        recipients: &recipients,
        escrow: Some(escrow),
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    };
    vault::publish(&location, opened, &options)
}

/// The vault there is of these keys, and that its escrowed key is what was kept.
fn is_whole(store: &Faulty<MemoryStore>, opened: &Opened, key: &PrivateKey) {
    let location = Location::new(Arc::new(store.clone()), "root").unwrap();
    let found = vault::open(&location, std::slice::from_ref(key)).unwrap();
    assert!(found.master.same_as(&opened.master));
    assert_eq!(found.vault.settings(), opened.vault.settings());
    assert_eq!(vault::escrow(&location).unwrap().unwrap().bytes, ESCROW);
}

#[test]
fn init_that_stopped_anywhere_is_gone_on_with() {
    let keys = keys();
    let mut stopped = 0;
    for (versions, conditions) in [(false, false), (false, true), (true, false), (true, true)] {
        let inner = || faulty(&memory(versions, conditions));
        let store = inner();
        publish(&store, &drawn(), &keys.old, ESCROW).unwrap();
        for number in 1..=store.calls() {
            for fault in [
                Fault::Before(ErrorKind::Transient),
                Fault::HalfWay(ErrorKind::Transient),
                Fault::After(ErrorKind::Transient),
            ] {
                // The same private key again, and another one: of a pair that was drawn, none is left.
                for (first, second) in [(&keys.old, &keys.old), (&keys.old, &keys.new)] {
                    let store = inner();
                    store.die_at(number, fault);
                    let opened = drawn();
                    let ended = publish(&store, &opened, first, ESCROW);
                    assert!(store.is_dead());
                    store.restart();
                    let gone_on = publish(&store, &again(&opened), second, ESCROW);
                    match (ended, gone_on) {
                        // Only the reply to the last call was lost, or not even that.
                        (_, Err(error)) if error.line().ends_with("is a vault already") => {
                            is_whole(&store, &opened, first);
                        }
                        (Err(_), Ok(())) => is_whole(&store, &opened, second),
                        unexpected => panic!("call {number} {fault:?}: {unexpected:?}"),
                    }
                    stopped += 1;
                }
            }
        }
    }
    println!("{stopped} times stopped and gone on with");
    assert!(stopped > 100, "{stopped}");
}

/// Two who change the key that a vault keeps, or its passphrase, at the same time.
#[test]
fn an_escrowed_key_is_replaced_only_where_it_is_the_one_that_was_read() {
    let keys = keys();
    for (versions, conditions) in [(false, false), (false, true), (true, false), (true, true)] {
        let store = faulty(&memory(versions, conditions));
        publish(&store, &drawn(), &keys.old, ESCROW).unwrap();
        let location = Location::new(Arc::new(store.clone()), "root").unwrap();
        let held = || vault::escrow(&location).unwrap().unwrap();

        let read = held();
        let replaced = vault::replace_escrow(&location, "mine", Some(&read)).unwrap();
        assert_eq!((held().bytes, replaced.left), ("mine".into(), vec![]));
        for stale in [Some(&read), None] {
            let error = vault::replace_escrow(&location, "theirs", stale).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{versions} {conditions}");
            assert!(error.line().contains("was changed by somebody else"), "{}", error.line());
            assert_eq!(held().bytes, "mine");
        }
        vault::replace_escrow(&location, ESCROW, Some(&held())).unwrap();
        assert_eq!(held().bytes, ESCROW);
    }
}

#[test]
fn what_another_machine_began_is_left_alone() {
    let keys = keys();
    let names = ["root/.sidekey/master.1.key.enc", "root/.sidekey/escrow.pem"];
    for kept in [&names[..1], &names[1..], &names[..]] {
        let (theirs, ours) = (memory(true, true), memory(true, true));
        publish(&faulty(&theirs), &drawn(), &keys.old, "theirs").unwrap();
        let bytes = |store: &MemoryStore, name: &str| store.state().get(name, None).unwrap().1;
        for name in kept {
            ours.state().put(name, bytes(&theirs, name), &OnlyIf::Always, &Info::new()).unwrap();
        }
        let error = publish(&faulty(&ours), &drawn(), &keys.old, ESCROW).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{kept:?}");
        assert!(error.line().contains("is there already, and is not of this machine"), "{}", error.line());
        for name in kept {
            assert_eq!(bytes(&ours, name), bytes(&theirs, name));
        }
    }
}

/// A vault with one long name, its container and its record.
struct Long {
    memory: MemoryStore,
    store: Faulty<MemoryStore>,
    container: String,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Long {
    fn new(versions: bool) -> Self {
        let memory = memory(versions, true);
        let mut long = Self { store: faulty(&memory), memory, container: String::new() };
        let name = ObjectName::file(&["d".repeat(200), "l".repeat(200)]).unwrap();
        let location = long.location();
        runtime().block_on(keep_names(&location, &name)).unwrap();
        long.container = location.container_key(&name);
        long
    }

    /// As another run opens it: nothing is known but what stands there.
    fn location(&self) -> Location {
        let vault = Vault::new(&MasterKey::from_bytes(&[9; 32]), VaultId([3; 16]), 1, NamesMode::Encrypted);
        Location::new(Arc::new(self.store.clone()), "root").unwrap().in_vault(Arc::new(vault))
    }

    fn put(&self) {
        self.memory
            .state()
            .put(&self.container, Bytes::from_static(b"x"), &OnlyIf::Always, &Info::new())
            .unwrap();
    }

    fn remove(&self) {
        let version = self.memory.state().get(&self.container, None).unwrap().0.version;
        self.memory.state().delete(&self.container, &version);
    }

    fn pass(&self, days: u32) {
        self.memory.state().advance(DAY * days);
    }

    fn now(&self) -> SystemTime {
        // By the store's clock: what is written now is of now.
        let version = self.memory.state().put("clock", Bytes::new(), &OnlyIf::Always, &Info::new()).unwrap();
        let now = self.memory.state().get("clock", None).unwrap().0.modified;
        self.memory.state().delete("clock", &version);
        now + Duration::from_secs(1)
    }

    /// What `clean` does, and how much of it was done.
    fn clean(&self, meanwhile: impl FnOnce()) -> Result<usize> {
        let (location, mut done) = (self.location(), 0);
        runtime().block_on(async {
            let planned = plan_names(&location, self.now()).await?;
            meanwhile();
            let mut failed = None;
            clean_names(&location, planned, self.now(), &mut |_, result| match result {
                Ok(true) => done += 1,
                Ok(false) => {}
                Err(error) => failed = Some(error),
            })
            .await?;
            failed.map_or(Ok(done), Err)
        })
    }

    /// How many records stand in a folder of sidekey's own.
    fn records(&self, folder: &str) -> usize {
        let prefix = format!("root/.sidekey/{folder}/");
        self.memory.state().list(&ListOptions { prefix, versions: true, ..ListOptions::default() }).len()
    }

    /// Whether a listing shows the name.
    fn is_shown(&self) -> bool {
        let location = self.location();
        let scope = Scope::below::<&str>(&location, &[]);
        let entries: Vec<_> = runtime().block_on(list(&location, &scope).collect());
        entries.iter().any(|entry| {
            matches!(entry, Ok(Entry::Pair(pair)) if pair.name.segments()[1] == "l".repeat(200).as_bytes())
        })
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn records_of_long_names_go_when_nothing_can_need_them() {
    for versions in [false, true] {
        let long = Long::new(versions);
        long.put();
        assert!(long.is_shown());
        long.pass(40);
        assert_eq!(long.clean(|| {}).unwrap(), 0, "both are needed");
        long.remove();
        assert_eq!(long.clean(|| long.put()).unwrap(), 0, "needed again before it was begun");
        long.remove();
        assert_eq!(long.clean(|| {}).unwrap(), 2);
        assert_eq!((long.records("names"), long.records("unused")), (0, 2));
        // Somebody had found the record before, and comes late.
        long.pass(28);
        long.put();
        assert!(long.is_shown());
        long.pass(3);
        assert_eq!(long.clean(|| {}).unwrap(), 0, "needed by who came late");
        long.remove();
        assert_eq!(long.clean(|| {}).unwrap(), 2);
        assert_eq!((long.records("names"), long.records("unused")), (0, 0));

        // Who comes after it was set aside writes it again, and that one is nobody's leftover.
        let long = Long::new(versions);
        long.pass(31);
        assert_eq!(long.clean(|| {}).unwrap(), 2);
        assert_eq!(long.clean(|| {}).unwrap(), 0, "both are young where they are");
        let name = ObjectName::file(&["d".repeat(200), "l".repeat(200)]).unwrap();
        runtime().block_on(keep_names(&long.location(), &name)).unwrap();
        assert_eq!((long.records("names"), long.records("unused")), (2, 2));
        long.put();
        long.pass(31);
        assert_eq!(long.clean(|| {}).unwrap(), 0);
        assert!(long.is_shown());
    }
}

#[test]
fn no_record_is_lost_wherever_clean_ends() {
    let mut stopped = 0;
    for versions in [false, true] {
        for number in 1.. {
            let mut over = false;
            for fault in [
                Fault::Before(ErrorKind::Transient),
                Fault::HalfWay(ErrorKind::Transient),
                Fault::After(ErrorKind::Unsure),
            ] {
                let long = Long::new(versions);
                long.pass(31);
                long.store.restart();
                long.store.die_at(number, fault);
                let _ = long.clean(|| {});
                over |= !long.store.is_dead();
                long.store.restart();
                // Somebody who had found both comes late.
                long.put();
                assert!(long.is_shown(), "{versions} {number} {fault:?}");
                long.remove();
                let _ = long.clean(|| {}).unwrap();
                long.pass(31);
                long.clean(|| {}).unwrap();
                assert_eq!(
                    (long.records("names"), long.records("unused")),
                    (0, 0),
                    "{versions} {number} {fault:?}"
                );
                stopped += 1;
            }
            if over {
                break;
            }
        }
    }
    println!("{stopped} times stopped");
    assert!(stopped > 60, "{stopped}");
}

/// What cannot be listed may need any of them.
#[test]
fn no_record_goes_by_a_listing_that_broke_off() {
    let long = Long::new(true);
    long.put();
    long.pass(31);
    long.store.plan(|call| {
        (call.operation == Operation::List && call.key == "root/").then_some(Fault::HalfWay(ErrorKind::Io))
    });
    long.clean(|| {}).unwrap_err();
    assert_eq!((long.records("names"), long.records("unused")), (2, 0));
}

/// Whoever lost only the settings of a vault with objects in it does not lock the others out by a new init.
#[test]
fn the_master_envelope_of_a_vault_with_objects_keeps_its_recipients() {
    let keys = keys();
    let memory = memory(false, true);
    let store = faulty(&memory);
    let opened = drawn();
    publish(&store, &opened, &keys.old, ESCROW).unwrap();
    let settings = "root/.sidekey/vault.json";
    let version = memory.state().get(settings, None).unwrap().0.version;
    memory.state().delete(settings, &version);
    memory.state().put("root/sAAAA.enc", Bytes::from_static(b"x"), &OnlyIf::Always, &Info::new()).unwrap();
    let refused = publish(&store, &again(&opened), &keys.new, ESCROW).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    publish(&store, &again(&opened), &keys.old, ESCROW).unwrap();
    is_whole(&store, &opened, &keys.old);
}
