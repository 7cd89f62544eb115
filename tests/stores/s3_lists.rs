//! Listings of S3 that a service, or what is before it, does not send whole.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use sidekey::store::{Conditions, ListOptions, Listed, Store, Unfinished};
use sidekey::{Error, ErrorKind};

use crate::http_stub::{Answer, Request, Stub};
use crate::s3_faults::{LAST, is_list, retrying, store, stub, xml};
use crate::store_suite::block_on;

const ENABLED: &str = "<Status>Enabled</Status>";

/// What a bucket tells, whole.
#[derive(Clone, Copy, Debug)]
enum Page {
    Current,
    Versions,
    Uploads,
}

impl Page {
    fn text(self) -> String {
        self.text_with(LAST)
    }

    /// With what it says of the next page.
    fn text_with(self, next: &str) -> String {
        let (name, each) = match self {
            Self::Current => {
                ("ListBucketResult", "<Contents><Key>KEY</Key><ETag>\"e\"</ETag><Size>1</Size></Contents>")
            }
            Self::Versions => (
                "ListVersionsResult",
                "<Version><Key>KEY</Key><VersionId>v</VersionId><IsLatest>true</IsLatest><ETag>\"e\"</ETag></Version>",
            ),
            Self::Uploads => {
                ("ListMultipartUploadsResult", "<Upload><Key>KEY</Key><UploadId>u</UploadId></Upload>")
            }
        };
        let all: String = ["first", "second"].iter().map(|key| each.replace("KEY", key)).collect();
        xml(name, &format!("{next}{all}"))
    }

    fn is_asked(self, request: &Request) -> bool {
        match self {
            Self::Current => is_list(request),
            Self::Versions => request.is("GET", "?versions"),
            Self::Uploads => request.is("GET", "?uploads"),
        }
    }

    /// A bucket that lists what `answer` says.
    fn stub(self, mut answer: impl FnMut() -> Answer + Send + 'static) -> Stub {
        stub(move |request| match self {
            _ if self.is_asked(request) => Some(answer()),
            Self::Versions if request.is("GET", "?versioning") => {
                Some(Answer::new(200, xml("VersioningConfiguration", ENABLED)))
            }
            _ => None,
        })
    }

    async fn keys(self, store: &dyn Store) -> Vec<Result<String, Error>> {
        let options = ListOptions { versions: matches!(self, Self::Versions), ..ListOptions::default() };
        match self {
            Self::Uploads => {
                store.unfinished("").map(|found| found.map(|Unfinished { key, .. }| key)).collect().await
            }
            _ => store.list(options).map(|line| line.map(name)).collect().await,
        }
    }
}

fn name(listed: Listed) -> String {
    match listed {
        Listed::Object(object) => object.key,
        Listed::Folder(folder) => folder,
    }
}

const PAGES: [Page; 3] = [Page::Current, Page::Versions, Page::Uploads];

/// Nothing but the text says that something is missing: the length is that of what comes.
#[test]
fn a_list_that_is_cut_anywhere_is_no_shorter_list() {
    for page in PAGES {
        let text = page.text();
        let len = Arc::new(Mutex::new(0));
        let (told, sent) = (Arc::clone(&len), text.clone());
        let stub = page.stub(move || Answer::new(200, &sent[..*told.lock().unwrap()]));
        let store = store(&stub);
        for end in 1..text.len() {
            *len.lock().unwrap() = end;
            let keys = block_on(page.keys(&*store));
            let [Err(error)] = &keys[..] else { panic!("{:?}: {keys:?}", &text[..end]) };
            assert_eq!(error.kind(), ErrorKind::Transient, "{:?}: {error:?}", &text[..end]);
            assert_eq!(error.line(), "s3://bucket/: the answer ends too early");
        }
    }
}

#[test]
fn a_list_that_is_cut_is_asked_for_again() {
    for page in PAGES {
        let text = page.text();
        let cut = text.find("second").unwrap();
        let mut answers = vec![text.clone(), text[..cut].to_owned()];
        let stub = page.stub(move || Answer::new(200, answers.pop().unwrap()));
        let (store, _) = retrying(&stub);
        let keys: Result<Vec<_>, _> = block_on(page.keys(&store)).into_iter().collect();
        assert_eq!(keys.unwrap(), ["first", "second"], "{page:?}");
        assert_eq!(stub.log().iter().filter(|request| page.is_asked(request)).count(), 2);
    }
}

/// Versions that are taken for switched off would be deleted by their names alone.
#[test]
fn a_bucket_of_which_half_is_told_is_not_one_without_versions() {
    let text = xml("VersioningConfiguration", ENABLED);
    for end in [text.find(ENABLED).unwrap(), text.find("</Version").unwrap(), text.len() - 1] {
        let cut = text[..end].to_owned();
        let stub =
            stub(move |request| request.is("GET", "?versioning").then(|| Answer::new(200, cut.as_str())));
        let error = block_on(store(&stub).capabilities()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
    }
}

#[test]
fn a_list_that_goes_on_says_where() {
    const MORE: &str = "<IsTruncated>true</IsTruncated>";
    const NOWHERE: &str = "says that a list goes on, and not where";
    for (page, next, said) in [
        (Page::Current, "", "does not say whether a list goes on"),
        (Page::Current, MORE, NOWHERE),
        // As a service has it that knows only version 1.
        (Page::Current, "<IsTruncated>true</IsTruncated><NextMarker>second</NextMarker>", NOWHERE),
        (Page::Current, "<IsTruncated>true</IsTruncated><NextContinuationToken/>", NOWHERE),
        (Page::Versions, "", "does not say whether a list goes on"),
        (Page::Versions, MORE, NOWHERE),
        (Page::Uploads, "", "does not say whether a list goes on"),
        (Page::Uploads, MORE, NOWHERE),
    ] {
        let text = page.text_with(next);
        let stub = page.stub(move || Answer::new(200, text.as_str()));
        let keys = block_on(page.keys(&*store(&stub)));
        let errors: Vec<_> = keys.iter().filter_map(|key| key.as_ref().err()).collect();
        let [error] = &errors[..] else { panic!("{page:?} {next}: {keys:?}") };
        assert_eq!(error.kind(), ErrorKind::Integrity, "{page:?} {next}: {error:?}");
        assert!(error.line().contains(said), "{page:?} {next}: {error:?}");
    }
}

#[test]
fn a_list_goes_on_where_the_service_says_and_ends_when_it_says_so() {
    for (page, next) in [
        (Page::Current, "<NextContinuationToken>here</NextContinuationToken>"),
        (Page::Versions, "<NextKeyMarker>here</NextKeyMarker><NextVersionIdMarker>v</NextVersionIdMarker>"),
        (Page::Uploads, "<NextKeyMarker>here</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>"),
    ] {
        // Some tell a place behind the last page, too.
        let last = page.text_with(&format!("{LAST}{next}"));
        let mut answers = vec![last, page.text_with(&format!("<IsTruncated>true</IsTruncated>{next}"))];
        let stub = page.stub(move || Answer::new(200, answers.pop().unwrap()));
        let keys: Result<Vec<_>, _> = block_on(page.keys(&*store(&stub))).into_iter().collect();
        assert_eq!(keys.unwrap(), ["first", "second", "first", "second"], "{page:?}");
        let asked: Vec<_> = stub.log().into_iter().filter(|request| page.is_asked(request)).collect();
        assert!(asked[1].path.contains("=here"), "{page:?}: {asked:?}");
    }
}

/// What is tried there could not be removed.
#[test]
fn a_bucket_of_whose_lock_half_is_told_is_asked_again() {
    let lock = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>\
                <Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule>";
    let text = xml("ObjectLockConfiguration", lock);
    let cut = Answer::new(200, &text.as_bytes()[..text.find("<Rule>").unwrap()]);
    for first in [cut, Answer::error(503, "SlowDown"), Answer::lost()] {
        let mut answers = vec![Answer::new(200, text.as_str()), first];
        let stub = stub(move |request| match request {
            _ if request.is("GET", "?object-lock") => Some(answers.pop().unwrap()),
            _ if request.is("GET", "?versioning") => {
                Some(Answer::new(200, xml("VersioningConfiguration", ENABLED)))
            }
            _ => None,
        });
        let (store, _) = retrying(&stub);
        assert_eq!(block_on(store.conditions()).unwrap(), Conditions::default());
        assert_eq!((stub.count("GET", "?object-lock"), stub.count("PUT", "")), (2, 0), "{:?}", stub.log());
    }
}
