//! What services of S3 do wrong, and what the store makes of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sidekey::store::retry::{Policy, Retry};
use sidekey::store::{
    Conditions, CustomerKey, Encryption, GetOptions, ListOptions, OnlyIf, PutOptions, Store, Written, s3,
};
use sidekey::{Error, ErrorKind};

use futures_util::StreamExt as _;

use crate::http_stub::{Answer, Request, Stub};
use crate::s3_server;
use crate::store_suite::faults::TestClock;
use crate::store_suite::{assert_kind, block_on, bytes_of, info, list};

/// Of a page behind which nothing comes.
pub(crate) const LAST: &str = "<IsTruncated>false</IsTruncated>";

const ID: &str = "00112233445566778899aabbccddeeff";

pub(crate) fn store(stub: &Stub) -> Arc<dyn Store> {
    s3::open(s3_server::settings(&stub.address, "bucket")).unwrap()
}

/// With tries, and waits that take no time.
pub(crate) fn retrying(stub: &Stub) -> (Retry<dyn Store>, Arc<TestClock>) {
    let clock = Arc::new(TestClock::default());
    (Retry::new(store(stub), Policy::default()).by_clock(clock.clone()), clock)
}

/// A bucket without versions that takes what it is sent, but for what `handler` answers.
pub(crate) fn stub(mut handler: impl FnMut(&Request) -> Option<Answer> + Send + 'static) -> Stub {
    Stub::new(move |request| handler(request).unwrap_or_else(|| plain(request)))
}

fn plain(request: &Request) -> Answer {
    let etag = |answer: Answer| answer.with("etag", "\"e1\"");
    if request.is("GET", "?versioning") {
        return Answer::new(200, "<VersioningConfiguration/>");
    }
    if request.is("POST", "?uploads") {
        return Answer::new(200, xml("InitiateMultipartUploadResult", "<UploadId>u1</UploadId>"));
    }
    if request.is("POST", "uploadId=") {
        return Answer::new(200, xml("CompleteMultipartUploadResult", "<ETag>\"e1-1\"</ETag>"));
    }
    match (&*request.method, request.header("x-amz-copy-source")) {
        ("PUT", Some(_)) => Answer::new(200, xml("CopyObjectResult", "<ETag>\"e1\"</ETag>")),
        ("PUT", None) => etag(Answer::new(200, "")),
        ("DELETE", _) => Answer::new(204, ""),
        ("HEAD", _) => etag(Answer::new(200, "")),
        _ => Answer::error(404, "NoSuchKey"),
    }
}

pub(crate) fn xml(name: &str, inner: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{name}>{inner}</{name}>")
}

/// Answers the first of the requests that are meant in turn, and leaves the rest to the bucket.
fn first(
    is_meant: impl Fn(&Request) -> bool + Send + 'static,
    answers: impl IntoIterator<Item = Answer>,
) -> impl FnMut(&Request) -> Option<Answer> + Send + 'static {
    let mut answers: Vec<Answer> = answers.into_iter().collect();
    answers.reverse();
    move |request| if is_meant(request) { answers.pop() } else { None }
}

fn is_put(request: &Request) -> bool {
    request.is("PUT", "/bucket/object")
}

pub(crate) fn is_list(request: &Request) -> bool {
    request.is("GET", "list-type=2")
}

fn is_complete(request: &Request) -> bool {
    request.is("POST", "uploadId=")
}

async fn put(store: &dyn Store) -> Result<Written, Error> {
    store.put("object", "body".into(), &PutOptions::default()).await
}

fn customer() -> Encryption {
    Encryption::Customer(CustomerKey::new(&[1; 32], None))
}

fn with_id() -> PutOptions {
    PutOptions { info: info(&[("sidekey-id", ID)]), ..PutOptions::default() }
}

#[test]
fn a_busy_service_is_left_alone_as_long_as_it_asks() {
    let busy = Answer::error(503, "SlowDown").with("retry-after", "7");
    let stub = stub(first(is_put, [busy, Answer::error(500, "InternalError")]));
    let (store, clock) = retrying(&stub);
    assert_eq!(block_on(put(&store)).unwrap().version, "etag:e1");
    assert_eq!(stub.count("PUT", "/bucket/object"), 3);
    assert_eq!(clock.waits()[0], Duration::from_secs(7));
}

#[test]
fn what_passes_is_transient() {
    for (status, code) in [
        (503, "SlowDown"),
        (503, ""),
        (500, "InternalError"),
        (429, "TooManyRequests"),
        (400, "RequestTimeout"),
        (409, "ConditionalRequestConflict"),
        (409, "OperationAborted"),
        (400, "BadDigest"),
    ] {
        let stub = stub(first(is_put, [Answer::error(status, code)]));
        let error = block_on(put(&*store(&stub))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{status} {code}: {error:?}");
        assert!(error.line().contains("s3://bucket/object"), "{error:?}");
    }
}

#[test]
fn a_write_without_an_answer_is_unsure_and_a_read_is_tried_again() {
    let stub = stub(|_| Some(Answer::lost()));
    let store = store(&stub);
    block_on(async {
        assert_kind(put(&*store).await, ErrorKind::Unsure);
        assert_kind(store.copy("a", None, "b", &PutOptions::default()).await, ErrorKind::Unsure);
        assert_kind(store.get("object", &GetOptions::default()).await, ErrorKind::Transient);
        assert_kind(store.stat("object", None).await, ErrorKind::Transient);
    });
}

#[test]
fn a_write_that_never_left_is_transient() {
    let address = Stub::new(plain).address.clone();
    let store = s3::open(s3_server::settings(&address, "bucket")).unwrap();
    assert_kind(block_on(put(&*store)), ErrorKind::Transient);
}

#[test]
fn a_reset_is_tried_again() {
    let stub = stub(first(is_put, [Answer::lost(), Answer::lost()]));
    let (store, _) = retrying(&stub);
    block_on(put(&store)).unwrap();
    assert_eq!(stub.count("PUT", "/bucket/object"), 3);
}

#[test]
fn an_error_inside_a_good_answer_is_an_error() {
    let inside = || Answer::error(200, "InternalError");
    let completing = stub(first(is_complete, [inside()]));
    let (store, _) = retrying(&completing);
    block_on(async {
        let upload = store.upload("object", &with_id()).await.unwrap();
        upload.part(1, "body".into()).await.unwrap();
        assert_eq!(upload.complete(1).await.unwrap().version, "etag:e1-1");
        assert_eq!(completing.count("POST", "uploadId="), 2);
    });

    let copying = stub(first(is_put, [inside(), Answer::error(200, "SlowDown")]));
    let (store, _) = retrying(&copying);
    let version = "etag:e0".to_owned();
    block_on(store.copy("from", Some(&version), "object", &PutOptions::default())).unwrap();
    assert_eq!(copying.count("PUT", "/bucket/object"), 3);
}

#[test]
fn a_lost_answer_is_found_by_looking() {
    let mut completes = [Answer::lost(), Answer::error(404, "NoSuchUpload")].into_iter();
    let stub = stub(move |request| {
        let head = Answer::new(200, "").with("content-length", "4").with("etag", "\"e9-1\"");
        match request {
            request if is_complete(request) => completes.next(),
            request if request.is("HEAD", "object") => Some(head.with("x-amz-meta-sidekey-id", ID)),
            _ => None,
        }
    });
    let (store, _) = retrying(&stub);
    block_on(async {
        let upload = store.upload("object", &with_id()).await.unwrap();
        upload.part(1, "body".into()).await.unwrap();
        let written = upload.complete(1).await.unwrap();
        assert_eq!(written.version, "etag:e9-1");
        assert_eq!(upload.complete(1).await.unwrap(), written, "it is remembered");
        upload.abort().await.unwrap();
        assert_eq!(stub.count("DELETE", ""), 0, "what was completed is not aborted");
    });
}

#[test]
fn a_completion_that_fails_for_ever_is_looked_into() {
    // Radosgw says so of uploads that were completed or aborted; of their parts, that there is no such key.
    for (code, is_there) in [("NoSuchUpload", true), ("NoSuchKey", true), ("NoSuchKey", false)] {
        let stub = stub(move |request| {
            let head = Answer::new(200, "").with("content-length", "4").with("etag", "\"e9-1\"");
            match request {
                request if is_complete(request) => Some(Answer::error(500, "InternalError")),
                request if request.is("GET", "uploadId=") => Some(Answer::error(404, code)),
                request if request.is("HEAD", "object") && is_there => {
                    Some(head.with("x-amz-meta-sidekey-id", ID))
                }
                request if request.is("HEAD", "object") => Some(Answer::new(404, "")),
                _ => None,
            }
        });
        let (store, _) = retrying(&stub);
        block_on(async {
            let upload = store.upload("object", &with_id()).await.unwrap();
            upload.part(1, "body".into()).await.unwrap();
            match is_there {
                true => assert_eq!(upload.complete(1).await.unwrap().version, "etag:e9-1"),
                false => assert_kind(upload.complete(1).await, ErrorKind::NotFound),
            }
        });
        assert_eq!(stub.count("POST", "uploadId="), 1);
    }
}

#[test]
fn a_lost_answer_about_what_was_replaced_is_a_conflict() {
    for (size, id) in [("4", "ffffffffffffffffffffffffffffffff"), ("5", ID)] {
        let mut completes = [Answer::lost(), Answer::error(404, "NoSuchUpload")].into_iter();
        let stub = stub(move |request| {
            let head = Answer::new(200, "").with("content-length", size).with("etag", "\"e9-1\"");
            match request {
                request if is_complete(request) => completes.next(),
                request if request.is("HEAD", "object") => Some(head.with("x-amz-meta-sidekey-id", id)),
                _ => None,
            }
        });
        let (store, _) = retrying(&stub);
        block_on(async {
            let upload = store.upload("object", &with_id()).await.unwrap();
            upload.part(1, "body".into()).await.unwrap();
            assert_kind(upload.complete(1).await, ErrorKind::Conflict);
        });
    }
}

#[test]
fn a_body_that_breaks_goes_on_where_it_broke() {
    let stub = stub(|request| match request.header("range") {
        _ if !request.is("GET", "/bucket/object") => None,
        None => Some(Answer::new(200, "0123456789").with("etag", "\"e1\"").short_by(6)),
        Some("bytes=4-9") => {
            Some(Answer::new(206, "456789").with("etag", "\"e1\"").with("content-range", "bytes 4-9/10"))
        }
        Some(_) => Some(Answer::error(400, "InvalidRange")),
    });
    let (store, _) = retrying(&stub);
    block_on(async {
        let download = store.get("object", &GetOptions::default()).await.unwrap();
        assert_eq!(bytes_of(download.body).await.unwrap(), "0123456789");
    });
    let again = stub.log().into_iter().find(|request| request.header("range").is_some()).unwrap();
    assert_eq!(again.header("if-match"), Some("\"e1\""), "of the same version");
}

#[test]
fn a_service_that_sends_all_for_a_range_is_refused() {
    let stub = stub(|request| {
        request.is("GET", "/bucket/object").then(|| Answer::new(200, "0123456789").with("etag", "\"e1\""))
    });
    let options = GetOptions { range: Some(4..6), ..GetOptions::default() };
    assert_kind(block_on(store(&stub).get("object", &options)), ErrorKind::Refused);
}

/// Some services know none of the newer checksums, and refuse what comes with them.
#[test]
fn no_newer_checksum_is_ever_sent() {
    let stub = stub(|request| {
        let newer = |name: &str| {
            name.starts_with("x-amz-checksum")
                || name.starts_with("x-amz-sdk-checksum")
                || name == "x-amz-trailer"
        };
        if request.headers.iter().any(|(name, _)| newer(name)) {
            return Some(Answer::error(400, "InvalidRequest"));
        }
        if is_list(request) {
            return Some(Answer::new(200, xml("ListBucketResult", LAST)));
        }
        if request.is("GET", "?uploads") {
            return Some(Answer::new(200, xml("ListMultipartUploadsResult", LAST)));
        }
        if request.is("GET", "?encryption") {
            return Some(Answer::error(404, "ServerSideEncryptionConfigurationNotFoundError"));
        }
        request.is("GET", "/bucket/object").then(|| Answer::new(200, "body").with("etag", "\"e1\""))
    });
    let store = store(&stub);
    block_on(async {
        store.conditions().await.unwrap();
        put(&*store).await.unwrap();
        let upload = store.upload("object", &PutOptions::default()).await.unwrap();
        upload.part(1, "part".into()).await.unwrap();
        upload.complete(1).await.unwrap();
        upload.abort().await.unwrap();
        store.upload("object", &PutOptions::default()).await.unwrap().abort().await.unwrap();
        store.copy("from", None, "to", &PutOptions::default()).await.unwrap();
        let download = store.get("object", &GetOptions::default()).await.unwrap();
        bytes_of(download.body).await.unwrap();
        store.stat("object", None).await.unwrap();
        assert_eq!(list(&*store, ListOptions::default()).await, []);
        assert_eq!(store.unfinished("").collect::<Vec<_>>().await.len(), 0);
        store.bucket().unwrap().set_default_encryption(Some(&Encryption::Service)).await.unwrap();
        store.bucket().unwrap().set_default_encryption(None).await.unwrap();
        store.delete("object", &"etag:e1".to_owned()).await.unwrap();
    });
    let with_bodies =
        stub.log().into_iter().filter(|request| request.method == "PUT" && !request.body.is_empty());
    let md5: Vec<_> = with_bodies.map(|request| request.header("content-md5").map(str::to_owned)).collect();
    assert!(md5.len() > 5 && md5.iter().all(Option::is_some), "{md5:?}");
    let part = stub.log().into_iter().find(|request| request.is("PUT", "partNumber=1")).unwrap();
    assert_eq!(part.header("content-md5"), Some("9Mk4XxkC9zNLALm07NFk3g=="), "the MD5 of `part`");
}

#[test]
fn a_small_file_costs_one_request() {
    let stub = stub(|_| None);
    let store = store(&stub);
    block_on(async {
        store.capabilities().await.unwrap();
        let before = stub.log().len();
        assert!(before <= 8, "{before} requests to know the bucket");
        for number in 0..20 {
            let key = format!("file-{number}");
            store.put(&key, "body".into(), &PutOptions::default()).await.unwrap();
        }
        store.capabilities().await.unwrap();
        assert_eq!(stub.log().len() - before, 20);
    });
}

/// One object behind conditions of a kind.
fn conditional(holds: impl Fn(&Request, Option<&str>) -> bool + Send + 'static) -> Stub {
    let mut etag: Option<String> = None;
    let mut count = 0;
    stub(move |request| {
        if request.is("DELETE", "/bucket/") && request.header("if-match").is_none() {
            etag = None;
            return None;
        }
        if !request.is("PUT", "/bucket/") && !request.is("DELETE", "/bucket/") {
            return None;
        }
        if !holds(request, etag.as_deref()) {
            return Some(Answer::error(412, "PreconditionFailed"));
        }
        count += 1;
        etag = (request.method == "PUT").then(|| format!("e{count}"));
        Some(Answer::new(200, "").with("etag", &format!("\"e{count}\"")))
    })
}

#[test]
fn conditions_that_are_ignored_are_not_believed() {
    let stub = conditional(|_, _| true);
    let store = store(&stub);
    block_on(async {
        assert_eq!(store.conditions().await.unwrap(), Conditions::default());
        let before = stub.log().len();
        for only_if in [OnlyIf::Absent, OnlyIf::Version("etag:none".into())] {
            let options = PutOptions { only_if, ..PutOptions::default() };
            store.put("object", "body".into(), &options).await.unwrap();
        }
        let sent = &stub.log()[before..];
        let conditional =
            |request: &Request| request.header("if-match").or(request.header("if-none-match")).is_some();
        assert!(!sent.iter().any(conditional), "what is ignored is not sent: {sent:?}");
    });
}

#[test]
fn an_etag_goes_as_the_service_wants_it() {
    for quoted in [true, false] {
        let stub = conditional(move |request, etag| {
            let form = |etag: &str| if quoted { format!("\"{etag}\"") } else { etag.to_owned() };
            let matches =
                request.header("if-match").is_none_or(|asked| etag.map(form).as_deref() == Some(asked));
            matches && (request.header("if-none-match").is_none() || etag.is_none())
        });
        let store = store(&stub);
        block_on(async {
            let conditions = store.conditions().await.unwrap();
            let all = Conditions { create_new: true, replace_if: true, delete_if: true };
            assert_eq!(conditions, all, "{quoted}");
            let first = put(&*store).await.unwrap().version;
            let options = PutOptions { only_if: OnlyIf::Version(first), ..PutOptions::default() };
            let second = store.put("object", "other".into(), &options).await.unwrap().version;
            assert_kind(store.put("object", "other".into(), &options).await, ErrorKind::Conflict);
            store.delete("object", &"etag:another".to_owned()).await.unwrap();
            let options = PutOptions { only_if: OnlyIf::Version(second.clone()), ..PutOptions::default() };
            let third = store.put("object", "it stands".into(), &options).await.unwrap().version;
            store.delete("object", &third).await.unwrap();
            let absent = PutOptions { only_if: OnlyIf::Absent, ..PutOptions::default() };
            store.put("object", "it is gone".into(), &absent).await.unwrap();
        });
    }
}

#[test]
fn a_delete_that_spares_everything_is_not_asked_for() {
    let stub = conditional(|request, etag| {
        let form = |etag: &str| format!("\"{etag}\"");
        let matches = request.header("if-match").is_none_or(|asked| etag.map(form).as_deref() == Some(asked));
        let conditional = request.header("if-match").is_some();
        matches
            && (request.header("if-none-match").is_none() || etag.is_none())
            && !(conditional && request.method == "DELETE")
    });
    let store = store(&stub);
    block_on(async {
        let expected = Conditions { create_new: true, replace_if: true, delete_if: false };
        assert_eq!(store.conditions().await.unwrap(), expected);
        let written = put(&*store).await.unwrap().version;
        store.delete("object", &written).await.unwrap();
        let absent = PutOptions { only_if: OnlyIf::Absent, ..PutOptions::default() };
        store.put("object", "it is gone".into(), &absent).await.unwrap();
    });
}

#[test]
fn what_is_tried_is_removed_once() {
    let stub = conditional(|request, etag| {
        let form = |etag: &str| format!("\"{etag}\"");
        let matches = request.header("if-match").is_none_or(|asked| etag.map(form).as_deref() == Some(asked));
        matches && (request.header("if-none-match").is_none() || etag.is_none())
    });
    block_on(store(&stub).conditions()).unwrap();
    let deletes: Vec<_> = stub.log().into_iter().filter(|request| request.method == "DELETE").collect();
    assert_eq!(deletes.len(), 2, "under the wrong ETag and under the right one: {deletes:?}");
}

#[test]
fn nobody_tries_where_nobody_may_write() {
    let stub = stub(|request| (request.method == "PUT").then(|| Answer::error(403, "AccessDenied")));
    assert_eq!(block_on(store(&stub).conditions()).unwrap(), Conditions::default());
}

#[test]
fn a_bucket_that_blocks_keys_of_customers_is_named() {
    let blocked = "<Rule><BlockedEncryptionTypes><EncryptionType>SSE-C</EncryptionType></BlockedEncryptionTypes></Rule>";
    let stub = stub(move |request| {
        if request.is("GET", "?encryption") {
            return Some(Answer::new(200, xml("ServerSideEncryptionConfiguration", blocked)));
        }
        let has_key = request.header("x-amz-server-side-encryption-customer-key").is_some();
        has_key.then(|| Answer::error(403, "AccessDenied"))
    });
    let store = store(&stub);
    let options = PutOptions { encryption: Some(customer()), ..PutOptions::default() };
    block_on(async {
        for error in [
            store.put("object", "body".into(), &options).await.unwrap_err(),
            store.upload("object", &options).await.err().unwrap(),
            store.copy("from", None, "object", &options).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Refused, "{error:?}");
            assert!(error.line().contains("blocks encryption with a customer's key"), "{error:?}");
            assert!(error.remedy().unwrap().contains("BlockedEncryptionTypes"), "{error:?}");
        }
        put(&*store).await.unwrap();
    });
}

#[test]
fn a_customers_key_is_not_sent_in_clear() {
    let options = PutOptions { encryption: Some(customer()), ..PutOptions::default() };
    let get = GetOptions { customer_key: Some(CustomerKey::new(&[1; 32], None)), ..GetOptions::default() };
    for address in ["http://store.invalid:9000", "HTTP://store.invalid:9000"] {
        let store = s3::open(s3_server::settings(address, "bucket")).unwrap();
        block_on(async {
            assert_kind(store.put("object", "body".into(), &options).await, ErrorKind::Refused);
            assert_kind(store.copy("from", None, "to", &options).await, ErrorKind::Refused);
            assert_kind(store.get("object", &get).await, ErrorKind::Refused);
            assert_eq!(store.upload("object", &options).await.err().unwrap().kind(), ErrorKind::Refused);
        });
    }
}

#[test]
fn errors_say_what_to_do_next() {
    for (answer, kind, line, hint) in [
        (Answer::error(403, "AccessDenied"), ErrorKind::Permission, "access is denied", "rights"),
        (Answer::error(403, "SignatureDoesNotMatch"), ErrorKind::Permission, "credentials", "access key"),
        (Answer::error(403, "InvalidAccessKeyId"), ErrorKind::Permission, "credentials", "access key"),
        (Answer::error(400, "ExpiredToken"), ErrorKind::Permission, "expired", "sign in"),
        (Answer::error(404, "NoSuchBucket"), ErrorKind::Refused, "no such bucket", "endpoint"),
        (
            Answer::error(301, "PermanentRedirect").with("x-amz-bucket-region", "eu-west-1"),
            ErrorKind::Refused,
            "another region",
            "eu-west-1",
        ),
        (
            Answer::error(403, "RequestTimeTooSkewed").with("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ErrorKind::Permission,
            "ahead of that of the service",
            "set the clock",
        ),
    ] {
        let stub = stub(first(is_put, [answer]));
        let error = block_on(put(&*store(&stub))).unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.line().contains(line), "{error:?}");
        assert!(error.remedy().unwrap_or_default().contains(hint), "{error:?} {:?}", error.remedy());
    }
}

#[test]
fn a_name_that_cannot_be_read_is_an_error_in_its_place() {
    let contents =
        |key: &str| format!("<Contents><Key>{key}</Key><ETag>\"e\"</ETag><Size>1</Size></Contents>");
    let page = format!("{LAST}<EncodingType>url</EncodingType>{}{}", contents("%FF"), contents("a+b%2Bc"));
    let stub =
        stub(move |request| is_list(request).then(|| Answer::new(200, xml("ListBucketResult", &page))));
    let store = store(&stub);
    let mut listed = block_on(store.list(ListOptions::default()).collect::<Vec<_>>()).into_iter();
    assert_kind(listed.next().unwrap(), ErrorKind::Integrity);
    assert!(
        matches!(listed.next(), Some(Ok(sidekey::store::Listed::Object(object))) if object.key == "a b+c")
    );
    assert!(listed.next().is_none());
}

#[test]
fn secrets_are_in_no_error_and_no_debug_output() {
    let stub = stub(|request| (request.method != "GET").then(|| Answer::error(400, "InvalidRequest")));
    let store = store(&stub);
    let options = PutOptions { encryption: Some(customer()), ..PutOptions::default() };
    let error = block_on(store.put("object", Bytes::from("body"), &options)).unwrap_err();
    let shown = format!("{error:?} {:?} {store:?} {options:?}", error.remedy());
    for secret in ["AQEBAQEB", "[1, 1,", "\"test\".to"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(!format!("{store:?}").contains("secret: \""), "{store:?}");
}
