//! Deletes on S3 that go together: what is sent, and what the store makes of each answer.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use md5::{Digest as _, Md5};
use sidekey::store::retry::{Policy, Retry};
use sidekey::store::s3::{self, Settings};
use sidekey::store::{GetOptions, PutOptions, Store};
use sidekey::{Error, ErrorKind};

use crate::http_stub::{Answer, Request, Stub};
use crate::s3_server::{self, Versions, admin};
use crate::store_suite::faults::TestClock;
use crate::store_suite::{block_on, versions};

fn is_many(request: &Request) -> bool {
    request.is("POST", "?delete")
}

fn is_one(request: &Request) -> bool {
    request.method == "DELETE"
}

/// The keys and versions that a request for many names.
fn named(request: &Request) -> Vec<(String, String)> {
    let body = String::from_utf8(request.body.clone()).unwrap();
    let between = |text: &str, tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once(&format!("</{tag}>"))?.0.to_owned())
    };
    let objects = body.split("<Object>").skip(1);
    objects.map(|object| (between(object, "Key").unwrap(), between(object, "VersionId").unwrap())).collect()
}

fn deleted(request: &Request, is_deleted: impl Fn(&str) -> bool) -> Answer {
    let mut body = String::new();
    for (key, version) in named(request) {
        body += &match is_deleted(&key) {
            true => format!("<Deleted><Key>{key}</Key><VersionId>{version}</VersionId></Deleted>"),
            false => format!(
                "<Error><Key>{key}</Key><VersionId>{version}</VersionId><Code>AccessDenied</Code></Error>"
            ),
        };
    }
    let text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";
    Answer::new(200, format!("{text}{body}</DeleteResult>"))
}

/// A service behind a single connection.
struct Narrow {
    stub: Stub,
    store: Arc<dyn Store>,
    /// Hears when the connection is taken.
    taken: Receiver<()>,
    /// Gives it back.
    given: Sender<()>,
}

/// A bucket with versions, all of which may be deleted one by one, but for what `handler` answers.
fn narrow(mut handler: impl FnMut(&Request) -> Option<Answer> + Send + 'static) -> Narrow {
    let ((take, taken), (given, give)) = (channel(), channel());
    let stub = Stub::new(move |request| match handler(request) {
        Some(answer) => answer,
        None if request.is("GET", "/slow") => {
            take.send(()).unwrap();
            give.recv().unwrap();
            Answer::error(404, "NoSuchKey")
        }
        None if request.is("GET", "?versioning") => {
            Answer::new(200, "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
        }
        None if is_one(request) => Answer::new(204, ""),
        None => Answer::error(404, "NoSuchKey"),
    });
    let settings = Settings { connections: 1, ..s3_server::settings(&stub.address, "bucket") };
    let store = s3::open(settings).unwrap();
    Narrow { stub, store, taken, given }
}

impl Narrow {
    /// Deletes `k0`, `k1` and so on while something else has the connection.
    fn delete_all(&self, through: &dyn Store, count: usize) -> Vec<Result<(), Error>> {
        block_on(async {
            through.capabilities().await.unwrap();
            let store = Arc::clone(&self.store);
            let slow = tokio::spawn(async move { store.get("slow", &GetOptions::default()).await.map(drop) });
            self.taken.recv().unwrap();
            let delete =
                |number| async move { through.delete(&format!("k{number}"), &format!("v{number}")).await };
            let mut all = pin!(join_all((0..count).map(delete)));
            poll_fn(|context| {
                assert!(all.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            self.given.send(()).unwrap();
            slow.await.unwrap().unwrap_err();
            all.await
        })
    }
}

fn kinds(ended: &[Result<(), Error>]) -> Vec<Option<ErrorKind>> {
    ended.iter().map(|ended| ended.as_ref().err().map(Error::kind)).collect()
}

#[test]
fn those_that_wait_for_a_connection_go_in_one_request() {
    let narrow = narrow(|request| is_many(request).then(|| deleted(request, |_| true)));
    assert_eq!(kinds(&narrow.delete_all(&*narrow.store, 6)), [None; 6]);
    let log = narrow.stub.log();
    let [many] = &log.iter().filter(|request| request.method != "GET").collect::<Vec<_>>()[..] else {
        panic!("{log:?}")
    };
    let pairs: Vec<_> = (0..6).map(|number| (format!("k{number}"), format!("v{number}"))).collect();
    assert_eq!((is_many(many), named(many)), (true, pairs));
    assert_eq!(many.header("content-md5"), Some(&*STANDARD.encode(Md5::digest(&many.body))));
    let checksums = many.headers.iter().filter(|(name, _)| name.contains("checksum"));
    assert_eq!(checksums.count(), 0, "{many:?}");
}

#[test]
fn one_that_need_not_wait_goes_alone() {
    let narrow = narrow(|_| None);
    for number in 0..3 {
        block_on(narrow.store.delete(&format!("k{number}"), &"v".to_owned())).unwrap();
    }
    assert_eq!((narrow.stub.count("DELETE", "versionId=v"), narrow.stub.count("POST", "")), (3, 0));
}

#[test]
fn what_is_not_said_to_be_deleted_is_asked_for_alone() {
    let narrow = narrow(|request| match request {
        _ if is_many(request) => Some(deleted(request, |key| key != "k2" && key != "k4")),
        _ if is_one(request) && request.path.contains("/k4?") => Some(Answer::error(403, "AccessDenied")),
        _ => None,
    });
    let denied = Some(ErrorKind::Permission);
    assert_eq!(kinds(&narrow.delete_all(&*narrow.store, 6)), [None, None, None, None, denied, None]);
    for (key, count) in [("k0", 0), ("k1", 0), ("k2", 1), ("k3", 0), ("k4", 1), ("k5", 0)] {
        assert_eq!(narrow.stub.count("DELETE", &format!("/{key}?")), count, "{key}");
    }
    assert_eq!(narrow.stub.count("POST", "?delete"), 1);
}

#[test]
fn a_service_that_takes_one_at_a_time_is_asked_for_many_once() {
    for answer in [
        Answer::error(501, "NotImplemented"),
        Answer::error(405, "MethodNotAllowed"),
        Answer::error(400, "MalformedXML"),
        Answer::error(403, "AccessDenied"),
    ] {
        let told = answer.clone();
        let narrow = narrow(move |request| is_many(request).then(|| told.clone()));
        for _ in 0..2 {
            assert_eq!(kinds(&narrow.delete_all(&*narrow.store, 5)), [None; 5], "{answer:?}");
        }
        assert_eq!(
            (narrow.stub.count("POST", "?delete"), narrow.stub.count("DELETE", "")),
            (1, 10),
            "{answer:?}"
        );
    }
}

#[test]
fn an_answer_that_says_nothing_deletes_nothing() {
    for body in ["", "<Error><Code>InternalError</Code></Error>", "<DeleteResult/>"] {
        let narrow = narrow(move |request| is_many(request).then(|| Answer::new(200, body)));
        assert_eq!(kinds(&narrow.delete_all(&*narrow.store, 5)), [None; 5], "{body:?}");
        assert_eq!(
            (narrow.stub.count("POST", "?delete"), narrow.stub.count("DELETE", "")),
            (1, 5),
            "{body:?}"
        );
    }
}

#[test]
fn a_busy_service_is_asked_again() {
    for answer in [Answer::error(503, "SlowDown"), Answer::error(500, "InternalError"), Answer::lost()] {
        let mut answers = vec![answer.clone(), answer.clone()];
        let narrow = narrow(move |request| match is_many(request) {
            true => Some(answers.pop().unwrap_or_else(|| deleted(request, |_| true))),
            false => None,
        });
        let clock = Arc::new(TestClock::default());
        let retrying = Retry::new(Arc::clone(&narrow.store), Policy::default()).by_clock(clock);
        assert_eq!(kinds(&narrow.delete_all(&retrying, 5)), [None; 5], "{answer:?}");
        let log = narrow.stub.log();
        let mut gone: Vec<_> =
            log.iter().filter(|request| is_many(request)).flat_map(named).map(|(key, _)| key).collect();
        gone.extend(log.iter().filter(|request| is_one(request)).map(|request| request.path.clone()));
        for number in 0..5 {
            assert!(
                gone.iter().filter(|key| key.contains(&format!("k{number}"))).count() > 1,
                "{answer:?}: {log:?}"
            );
        }
    }
}

/// In a bucket that keeps versions no more, what is written takes the place of a delete marker without a name.
#[test]
fn a_marker_without_a_name_is_deleted_only_while_it_is_there() {
    let marker = |key: &str, id: &str| {
        format!(
            "<DeleteMarker><Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>true</IsLatest></DeleteMarker>"
        )
    };
    let object =
        |etag: &str| format!("<Version><Key>object</Key><VersionId>null</VersionId>{etag}</Version>");
    for (listed, ended, deletes) in [
        (marker("object", "null"), None, 1),
        (marker("object", "m1") + &marker("object", "null"), None, 1),
        (object("<ETag>\"e1\"</ETag>"), None, 0),
        (marker("object", "m1"), None, 0),
        (marker("object2", "null"), None, 0),
        (String::new(), None, 0),
        (object(""), Some(ErrorKind::Conflict), 0),
    ] {
        let page =
            format!("<ListVersionsResult><IsTruncated>false</IsTruncated>{listed}</ListVersionsResult>");
        let suspended = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
        let stub = Stub::new(move |request| match &*request.method {
            "GET" if request.path.contains("?versioning") => Answer::new(200, suspended),
            "GET" if request.path.contains("?versions") => Answer::new(200, page.as_str()),
            "DELETE" => Answer::new(204, ""),
            _ => Answer::error(404, "NoSuchKey"),
        });
        let store = s3::open(s3_server::settings(&stub.address, "bucket")).unwrap();
        let deleted = block_on(store.delete("object", &"null".to_owned()));
        assert_eq!(deleted.as_ref().err().map(Error::kind), ended, "{listed}: {deleted:?}");
        assert_eq!(stub.count("DELETE", "versionId=null"), deletes, "{listed}: {:?}", stub.log());
    }
}

#[test]
fn many_versions_go_and_a_locked_one_stays() {
    block_on(async {
        let bucket = s3_server::bucket(Versions::Locked).await;
        let store = s3_server::store_with(&bucket, 2);
        let mut all = vec![];
        for number in 0..30 {
            let key = format!("a folder/{} &<>'\"ü", number / 3);
            let written = store.put(&key, "body".into(), &PutOptions::default()).await.unwrap();
            all.push((key, written.version));
        }
        let (held, version) = all[17].clone();
        let hold = |on: bool| {
            use aws_sdk_s3::types::{ObjectLockLegalHold, ObjectLockLegalHoldStatus as Status};
            let status = if on { Status::On } else { Status::Off };
            let hold = ObjectLockLegalHold::builder().status(status).build();
            admin()
                .put_object_legal_hold()
                .bucket(&bucket)
                .key(&held)
                .version_id(&version)
                .legal_hold(hold)
                .send()
        };
        hold(true).await.unwrap();
        let store = &*store;
        let delete = |(key, version): (String, String)| async move { store.delete(&key, &version).await };
        let ended = join_all(all.clone().into_iter().map(delete)).await;
        for (number, ended) in ended.iter().enumerate() {
            match ended {
                Ok(()) => assert_ne!(number, 17),
                Err(error) => {
                    assert_eq!((number, error.kind()), (17, ErrorKind::Permission), "{error:?}");
                    assert!(error.line().contains("legal hold"), "{error:?}");
                }
            }
        }
        let left: Vec<_> = versions(store, "").await.into_iter().map(|object| object.version).collect();
        assert_eq!(left, std::slice::from_ref(&version));
        hold(false).await.unwrap();
        assert_eq!(
            kinds(&join_all(all.into_iter().map(delete)).await),
            [None; 30],
            "what is gone is no error"
        );
        assert_eq!(versions(store, "").await, []);
    });
}
