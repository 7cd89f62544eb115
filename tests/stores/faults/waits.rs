//! How long it is waited, and when it is given up.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sidekey::ErrorKind;
use sidekey::store::Store;
use sidekey::store::faulty::Fault;
use sidekey::store::memory::Features;
use sidekey::store::retry::{Policy, Retry};

use crate::store_suite::faults::{Layers, layers_by};
use crate::store_suite::{assert_kind, block_on, put, put_if};

const FEATURES: Features = Features { versions: true, conditions: true };

fn always(policy: Policy, fault: Fault) -> Layers {
    let layers = layers_by(FEATURES, 3, policy);
    layers.faulty.plan(move |_| Some(fault));
    layers
}

#[test]
fn waits_double_up_to_a_limit_less_up_to_a_half_by_chance() {
    let policy = Policy { tries: 15, seed: 7, ..Policy::default() };
    let Layers { faulty, retry, clock, .. } = always(policy, Fault::Before(ErrorKind::Transient));
    let error = block_on(retry.stat("a/b", None)).unwrap_err();
    let waits = clock.waits();
    assert_eq!((waits.len(), faulty.calls()), (14, 15));
    for (number, wait) in waits.iter().enumerate() {
        let full = Duration::from_millis(250 << number).min(Duration::from_secs(60));
        assert!((full / 2..=full).contains(wait), "wait {number} is {wait:?}");
    }
    assert!(
        waits.iter().any(|wait| wait.subsec_nanos() % 1_000_000 != 0),
        "chance has a hand in it: {waits:?}"
    );
    let whole = waits.iter().sum::<Duration>().as_secs();
    let time = humantime::format_duration(Duration::from_secs(whole));
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert_eq!(
        error.line(),
        format!("memory:a/b: an injected fault before anything was done (looking failed 15 times in {time})")
    );
}

#[test]
fn a_seed_makes_the_same_waits_again_and_another_seed_others() {
    let waits = |seed| {
        let policy = Policy { tries: 6, seed, ..Policy::default() };
        let Layers { retry, clock, .. } = always(policy, Fault::Before(ErrorKind::Transient));
        block_on(retry.stat("a", None)).unwrap_err();
        clock.waits()
    };
    assert_eq!(waits(1), waits(1));
    assert_ne!(waits(1), waits(2));
}

#[test]
fn it_is_given_up_before_the_time_is_over() {
    let layers = always(Policy::default(), Fault::Before(ErrorKind::Transient));
    let error = block_on(layers.retry.capabilities()).unwrap_err();
    let passed: Duration = layers.clock.waits().iter().sum();
    let total = Policy::default().total;
    assert!(passed <= total && passed > total - Duration::from_secs(61), "{passed:?}");
    assert!(error.line().contains("(asking what it can do failed "), "{error:?}");
}

#[test]
fn the_store_says_when_to_come_back() {
    let busy = Fault::Busy(Duration::from_secs(100));
    let layers = layers_by(FEATURES, 3, Policy::default());
    layers.faulty.fail_at(2, busy);
    block_on(async {
        put(&layers.retry, "a", "x").await;
        put(&layers.retry, "a", "y").await;
    });
    assert_eq!(layers.clock.waits(), [Duration::from_secs(100)], "longer than any wait of ours");

    // Not within the time that there is: it is said at once, with the time that was asked for.
    let layers = always(Policy::default(), Fault::Busy(Duration::from_secs(3600)));
    let error = block_on(put_if(&layers.retry, "a", "x", Default::default())).unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Transient, Some(Duration::from_secs(3600))));
    assert_eq!((layers.faulty.calls(), layers.clock.waits()), (1, vec![]));
}

#[test]
fn what_another_try_cannot_help_is_returned_at_once() {
    for kind in [
        ErrorKind::Auth,
        ErrorKind::Conflict,
        ErrorKind::Input,
        ErrorKind::Integrity,
        ErrorKind::Interrupted,
        ErrorKind::Io,
        ErrorKind::NotFound,
        ErrorKind::Permission,
        ErrorKind::Refused,
        ErrorKind::Usage,
    ] {
        let layers = always(Policy::default(), Fault::Before(kind));
        let store: &dyn Store = &layers.retry;
        block_on(async {
            assert_kind(put_if(store, "a", "x", Default::default()).await, kind);
            assert_kind(put_if(store, "a", "x", sidekey::store::OnlyIf::Absent).await, kind);
            assert_kind(store.stat("a", None).await, kind);
            assert_kind(store.get("a", &Default::default()).await, kind);
            assert_kind(store.hide("a").await, kind);
            assert_kind(store.delete("a", &"1".to_owned()).await, kind);
        });
        assert_eq!((layers.faulty.calls(), layers.clock.waits()), (6, vec![]), "{kind:?}");
    }
}

#[test]
fn a_last_error_after_others_is_told_as_it_came() {
    let layers = layers_by(FEATURES, 3, Policy::default());
    layers.faulty.plan(|call| match call.number {
        1..=3 => Some(Fault::Before(ErrorKind::Transient)),
        _ => Some(Fault::Before(ErrorKind::Permission)),
    });
    let error = block_on(layers.retry.stat("a", None)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert_eq!(error.line(), "memory:a: an injected fault before anything was done");
    assert_eq!(layers.faulty.calls(), 4);
}

#[test]
fn every_try_that_is_followed_by_another_is_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let Layers { faulty, clock, .. } = layers_by(FEATURES, 3, Policy::default());
    faulty.plan(|call| (call.number < 3).then_some(Fault::Before(ErrorKind::Transient)));
    let heard = told.clone();
    let retry = Retry::new(Arc::new(faulty), Policy::default()).by_clock(clock.clone()).tell(move |again| {
        let line = format!("{} {} {:?} {}", again.what, again.subject, again.error.kind(), again.tries);
        heard.lock().unwrap().push((line, again.wait));
    });
    block_on(put(&retry, "a", "x"));
    let waits = clock.waits();
    let expected = [("put memory:a Transient 1", waits[0]), ("put memory:a Transient 2", waits[1])];
    assert_eq!(*told.lock().unwrap(), expected.map(|(line, wait)| (line.to_owned(), wait)));
}

/// The clock of the runtime, which product code uses.
#[test]
fn without_another_clock_it_waits_by_the_runtime() {
    let Layers { faulty, .. } = layers_by(FEATURES, 3, Policy::default());
    faulty.plan(|call| (call.number < 4).then_some(Fault::Before(ErrorKind::Transient)));
    let first = Duration::from_millis(4);
    let retry = Retry::new(Arc::new(faulty), Policy { first, ..Policy::default() });
    let start = std::time::Instant::now();
    block_on(put(&retry, "a", "x"));
    assert!(start.elapsed() >= Duration::from_millis(2 + 4 + 8), "{:?}", start.elapsed());
}
