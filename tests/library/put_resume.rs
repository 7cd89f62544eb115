//! Large uploads that died are gone on with, without the private key; and only where that is the same upload still.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sidekey::ErrorKind;
use sidekey::location::Location;
use sidekey::location::customer::PairEncryption;
use sidekey::ops::events::{Silent, Summary};
use sidekey::ops::put::{PutOptions, put};
use sidekey::store::faulty::{Fault, Faulty, Operation};
use sidekey::store::memory::{Features, MemoryStore};

use crate::common::{Place, noise};
use crate::put::{opened, options, stored, unfinished};

/// Five parts of 8 MiB and one that is shorter.
const LEN: usize = 41 << 20;
const CONTAINER: &str = "some/prefix/big.enc";

/// A file, and a store that has died of a put of it once `parts` parts were there.
struct Died {
    place: Place,
    store: MemoryStore,
    plain: Vec<u8>,
}

impl Died {
    fn after(parts: usize) -> Self {
        Self::of(parts, PairEncryption::ByDefault)
    }

    fn of(parts: usize, encryption: PairEncryption) -> Self {
        let place = Place::with_keys();
        let plain = noise(LEN, 1);
        place.write("big", &plain);
        let store = MemoryStore::new(Features { versions: true, conditions: false });
        let died = Self { place, store, plain };
        let faulty = Faulty::new(Arc::new(died.store.clone()));
        let mut sent = 0;
        faulty.plan(move |call| {
            sent += usize::from(call.operation == Operation::Part);
            (sent > parts).then_some(Fault::Before(ErrorKind::Interrupted))
        });
        let summary = died.put(&faulty, |options| options.encryption = encryption);
        assert_eq!((summary.done, summary.failed), (0, 1));
        assert_eq!(unfinished(&died.store), 1);
        died
    }

    fn put(&self, store: &Faulty<MemoryStore>, change: impl FnOnce(&mut PutOptions)) -> Summary {
        let mut options = PutOptions {
            journals: Some(self.place.path("state/uploads")),
            location: Location::new(Arc::new(store.clone()), "some/prefix").unwrap(),
            jobs: 2,
            ..options(&self.place, &self.store)
        };
        change(&mut options);
        put(&[self.place.path("big")], &options, &Silent).unwrap()
    }

    /// Runs again; how many parts and envelopes were sent.
    fn again(&self, change: impl FnOnce(&mut PutOptions)) -> (usize, usize) {
        let faulty = Faulty::new(Arc::new(self.store.clone()));
        let summary = self.put(&faulty, change);
        assert_eq!((summary.done, summary.failed), (1, 0));
        let log = faulty.log();
        let count = |operation| log.iter().filter(|call| call.operation == operation).count();
        (count(Operation::Part), count(Operation::Put))
    }

    fn journals(&self) -> Vec<String> {
        self.place.names_in("state/uploads")
    }

    /// The file is there once, opens, and nothing is left over.
    fn is_whole(&self, envelopes: usize) {
        let all = stored(&self.store);
        assert_eq!(all.len(), 1 + envelopes, "{:?}", all.keys());
        assert!(all.values().all(|versions| versions.len() == 1));
        assert!(opened(&self.place, &all, CONTAINER, 0).1 == self.plain);
        assert_eq!(unfinished(&self.store), 0);
        assert_eq!(self.journals(), [""; 0]);
    }
}

#[test]
fn only_the_parts_that_are_missing_are_sent() {
    let died = Died::after(3);
    let journals = died.journals();
    assert_eq!(journals.len(), 1);
    let journal = format!("state/uploads/{}", journals[0]);
    assert_eq!(died.place.mode(&journal), 0o600);
    let folder = std::fs::metadata(died.place.path("state/uploads")).unwrap().permissions().mode();
    assert_eq!(folder & 0o777, 0o700);
    let (parts, envelopes) = died.again(|_| {});
    assert_eq!((parts, envelopes), (3, 0));
    died.is_whole(1);
}

/// What the service alone encrypts goes on too, as long as its envelope holds the SHA-256 of these very bytes.
#[test]
fn a_file_that_the_service_alone_encrypts_goes_on() {
    for changed in [false, true] {
        let mut died = Died::of(3, PairEncryption::Cleartext);
        let cleartext = |options: &mut PutOptions| options.encryption = PairEncryption::Cleartext;
        if changed {
            died.plain[LEN - 1] ^= 1;
            died.place.write("big", &died.plain);
        }
        // What begins anew throws the old upload away, and leaves its envelope to `clean`.
        assert_eq!(died.again(cleartext), if changed { (6, 1) } else { (3, 0) });
        let all = stored(&died.store);
        assert_eq!(all.len(), if changed { 3 } else { 2 }, "{:?}", all.keys());
        assert!(died.store.state().get(CONTAINER, None).unwrap().1 == died.plain);
        assert_eq!((unfinished(&died.store), died.journals().len()), (0, 0));
    }
    // Nor is an upload of one kind gone on with as the other.
    let died = Died::of(3, PairEncryption::Cleartext);
    assert_eq!(died.again(|options| options.encryption = PairEncryption::Customer(None)), (6, 1));
}

#[test]
fn a_part_that_the_store_has_wrong_is_sent_again() {
    let died = Died::after(3);
    let mut upload = None;
    {
        use futures_util::{FutureExt as _, StreamExt as _};
        use sidekey::store::Store as _;
        let listed = died.store.unfinished("").next().now_or_never().unwrap().unwrap().unwrap();
        let resumed = died.store.resume(&listed, &Default::default()).now_or_never().unwrap().unwrap();
        let size = resumed.parts[0].size as usize;
        resumed.upload.part(1, vec![0; size].into()).now_or_never().unwrap().unwrap();
        upload.replace(listed.id);
    }
    assert!(upload.is_some());
    assert_eq!(died.again(|_| {}), (4, 0));
    died.is_whole(1);
}

#[test]
fn dying_again_and_again_ends_with_one_file() {
    let died = Died::after(1);
    for _ in 0..3 {
        let faulty = Faulty::new(Arc::new(died.store.clone()));
        let mut sent = 0;
        faulty.plan(move |call| {
            sent += usize::from(call.operation == Operation::Part);
            (sent > 1).then_some(Fault::Before(ErrorKind::Interrupted))
        });
        assert_eq!(died.put(&faulty, |_| {}).failed, 1);
    }
    let (parts, envelopes) = died.again(|_| {});
    assert_eq!((parts, envelopes), (2, 0));
    died.is_whole(1);
}

#[test]
fn another_source_is_another_upload() {
    let mut died = Died::after(3);
    died.plain[5] ^= 1;
    died.place.write("big", &died.plain);
    assert_eq!(died.again(|_| {}), (6, 1));
    // The old envelope is `clean`'s, later.
    died.is_whole(2);
}

#[test]
fn other_recipients_make_another_upload() {
    let died = Died::after(3);
    let recipients = vec![died.place.public("old"), died.place.public("new")];
    assert_eq!(died.again(|options| options.recipients = recipients), (6, 1));
    died.is_whole(2);
}

#[test]
fn an_envelope_that_is_gone_makes_another_upload() {
    let died = Died::after(3);
    let key = stored(&died.store).into_keys().next().unwrap();
    let version = died.store.state().get(&key, None).unwrap().0.version;
    died.store.state().delete(&key, &version);
    let (parts, envelopes) = died.again(|_| {});
    assert_eq!((parts, envelopes), (6, 1));
    let all = stored(&died.store);
    assert!(opened(&died.place, &all, CONTAINER, 0).1 == died.plain);
}

#[test]
fn what_began_too_long_ago_begins_anew() {
    let died = Died::after(3);
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(21 * 24 * 60 * 60);
    assert_eq!(died.again(|options| options.now = later), (6, 1));
    died.is_whole(2);
}

#[test]
fn an_upload_that_was_thrown_away_begins_again_with_its_envelope() {
    use futures_util::{FutureExt as _, StreamExt as _};
    use sidekey::store::Store as _;
    let died = Died::after(3);
    let listed = died.store.unfinished("").next().now_or_never().unwrap().unwrap().unwrap();
    died.store.abort(&listed).now_or_never().unwrap().unwrap();
    assert_eq!(died.again(|_| {}), (6, 0));
    died.is_whole(1);
}

#[test]
fn a_journal_that_is_torn_or_missing_costs_work_alone() {
    for torn in [true, false] {
        let died = Died::after(3);
        let journal = died.place.path(format!("state/uploads/{}", died.journals()[0]));
        match torn {
            true => std::fs::OpenOptions::new().write(true).open(&journal).unwrap().set_len(100).unwrap(),
            false => std::fs::remove_file(&journal).unwrap(),
        }
        assert_eq!(died.again(|_| {}), (6, 1));
        // Nobody knows the upload any more: `clean` finds it.
        assert_eq!(unfinished(&died.store), 1);
        let all = stored(&died.store);
        assert!(opened(&died.place, &all, CONTAINER, 0).1 == died.plain);
        assert_eq!(died.journals(), [""; 0]);
    }
}

#[test]
fn without_a_place_for_journals_nothing_is_left_of_an_upload_that_failed() {
    let died = Died::after(5);
    let faulty = Faulty::new(Arc::new(died.store.clone()));
    let mut sent = 0;
    faulty.plan(move |call| {
        sent += usize::from(call.operation == Operation::Part);
        (call.operation == Operation::Part && sent > 2).then_some(Fault::Before(ErrorKind::Transient))
    });
    assert_eq!(died.put(&faulty, |options| options.journals = None).failed, 1);
    assert_eq!(unfinished(&died.store), 1, "the one of the run before");
}
