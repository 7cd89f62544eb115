//! What a run asks a service of S3 for: how often, when it writes, how many at a time, and by which way.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::common::{Killed, Place, ended};
use crate::http_stub::{Answer, Request, Stub};
use crate::s3::{stubbed, stubbed_program};

pub(crate) type Objects = Arc<Mutex<BTreeMap<String, (usize, Vec<u8>)>>>;

/// A bucket without versions that honours conditions.
pub(crate) fn bucket(objects: &Objects) -> impl Fn(&Request) -> Answer + Send + Sync + 'static + use<> {
    let (objects, writes) = (Arc::clone(objects), AtomicUsize::new(0));
    move |request| {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let mut objects = objects.lock().unwrap();
        let found = objects.get(path);
        let etag = |number: usize| format!("\"e{number}\"");
        let spared = request.header("if-none-match").is_some() && found.is_some()
            || request
                .header("if-match")
                .is_some_and(|wanted| found.map(|(number, _)| etag(*number)).as_deref() != Some(wanted));
        match &*request.method {
            _ if spared => Answer::error(412, "PreconditionFailed"),
            "GET" if query.starts_with("versioning") => Answer::new(200, "<VersioningConfiguration/>"),
            "GET" if query.contains("list-type") => Answer::new(200, listing(&objects)),
            "GET" | "HEAD" => match found {
                Some((number, body)) => part(request, body).with("etag", &etag(*number)),
                None => Answer::error(404, "NoSuchKey"),
            },
            "PUT" => {
                let number = writes.fetch_add(1, Ordering::Relaxed);
                objects.insert(path.to_owned(), (number, request.body.clone()));
                Answer::new(200, "").with("etag", &etag(number))
            }
            _ => {
                objects.remove(path);
                Answer::new(204, "")
            }
        }
    }
}

/// The bytes that are asked for.
fn part(request: &Request, body: &[u8]) -> Answer {
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((start, end)) = range else { return Answer::new(200, body) };
    let number = |text: &str| text.parse().unwrap_or(usize::MAX);
    let (start, end) = (number(start), number(end).min(body.len() - 1));
    let range = format!("bytes {start}-{end}/{}", body.len());
    Answer::new(206, &body[start..=end]).with("content-range", &range)
}

fn listing(objects: &BTreeMap<String, (usize, Vec<u8>)>) -> String {
    let one = |(path, (number, body)): (&String, &(usize, Vec<u8>))| {
        let key = path.trim_start_matches("/bucket/");
        format!(
            "<Contents><Key>{key}</Key><ETag>\"e{number}\"</ETag><Size>{}</Size>\
             <LastModified>2026-11-20T00:00:00.000Z</LastModified></Contents>",
            body.len()
        )
    };
    let all: String = objects.iter().map(one).collect();
    format!("<ListBucketResult><IsTruncated>false</IsTruncated>{all}</ListBucketResult>")
}

/// What was asked of pairs, by method; what was asked to know the bucket left out.
fn asked(stub: &Stub, from: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in &stub.log()[from..] {
        let of_bucket = ["/.sidekey/probe-", "/.sidekey/vault.json", "?versioning"];
        if !of_bucket.iter().any(|what| request.path.contains(what)) {
            *counts.entry(request.method.clone()).or_default() += 1;
        }
    }
    counts
}

fn planted(files: usize) -> Place {
    let place = Place::with_keys();
    place.mkdir("tree");
    for number in 0..files {
        place.write(format!("tree/{number}"), format!("the file {number}"));
    }
    place
}

const PUT: &str = "put -r keys/old.pub.pem tree/ s3://bucket/x/";

#[test]
fn a_new_small_file_is_two_writes_and_nothing_else() {
    const FILES: usize = 20;
    let (place, objects) = (planted(FILES), Objects::default());
    let stub = Stub::new(bucket(&objects));
    ended(&mut stubbed(&place, &stub.address, PUT)).good();
    assert_eq!(asked(&stub, 0), BTreeMap::from([("PUT".to_owned(), 2 * FILES)]));
    assert_eq!(objects.lock().unwrap().len(), 2 * FILES, "what was tried is removed");
}

#[test]
fn names_that_are_taken_are_looked_at_and_replaced() {
    const FILES: usize = 20;
    let (place, objects) = (planted(FILES), Objects::default());
    let stub = Stub::new(bucket(&objects));
    ended(&mut stubbed(&place, &stub.address, PUT)).good();
    let before = stub.log().len();
    ended(&mut stubbed(&place, &stub.address, &format!("{PUT} --jobs 1 --connections 1"))).good();
    let counts = asked(&stub, before);
    // The first is refused and tells what to expect of the others.
    assert_eq!(counts["GET"], FILES, "{counts:?}");
    assert_eq!(counts["PUT"], 2 * FILES + 1, "{counts:?}");
    assert_eq!(objects.lock().unwrap().len(), 3 * FILES, "an old envelope stays for clean");

    place.mkdir("back");
    ended(&mut stubbed(&place, &stub.address, "get -i keys/old.pem s3://bucket/x/ back/")).good();
    assert_eq!(place.read("back/7"), b"the file 7");
}

#[test]
fn what_is_foreign_is_not_replaced() {
    let (place, objects) = (planted(1), Objects::default());
    objects
        .lock()
        .unwrap()
        .insert("/bucket/x/0.enc".into(), (999, b"theirs, and longer than a header is".repeat(9)));
    let stub = Stub::new(bucket(&objects));
    let said = ended(&mut stubbed(&place, &stub.address, PUT));
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("is there and not a container of sidekey"), "{said:?}");
    assert!(objects.lock().unwrap()["/bucket/x/0.enc"].1.starts_with(b"theirs"));
}

#[test]
fn whoever_only_reads_writes_nothing() {
    let (place, objects) = (planted(3), Objects::default());
    let stub = Stub::new(bucket(&objects));
    ended(&mut stubbed(&place, &stub.address, PUT)).good();
    place.mkdir("back");
    for line in [
        "ls -lR s3://bucket/x/",
        "get -i keys/old.pem s3://bucket/x/ back/",
        "cat -i keys/old.pem s3://bucket/x/1",
        "verify s3://bucket/x/",
        "audit -i keys/old.pem s3://bucket/x/",
        "clean --dry-run s3://bucket/x/",
        "rm -r --dry-run s3://bucket/x/",
        "recipients s3://bucket/x/ list",
        "doctor --no-write s3://bucket/x/",
    ] {
        let before = stub.log().len();
        let said = ended(&mut stubbed(&place, &stub.address, line));
        let counts = asked(&stub, before);
        let log = &stub.log()[before..];
        assert!(!log.is_empty(), "{line}: {said:?}");
        let changes: Vec<_> =
            log.iter().filter(|request| !matches!(&*request.method, "GET" | "HEAD")).collect();
        assert!(changes.is_empty(), "{line}: {counts:?} {changes:?}");
    }
}

#[test]
fn no_more_requests_are_under_way_than_was_said() {
    let (place, objects) = (planted(12), Objects::default());
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak, bucket) = (Arc::clone(&under_way), Arc::clone(&most), bucket(&objects));
    let stub = Stub::at_once(move |request| {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(20));
        now.fetch_sub(1, Ordering::SeqCst);
        bucket(request)
    });
    ended(&mut stubbed(&place, &stub.address, &format!("{PUT} --connections 3"))).good();
    let most = most.load(Ordering::SeqCst);
    assert!((2..=3).contains(&most), "{most} at a time");
}

#[test]
fn a_proxy_is_asked_for_what_is_elsewhere() {
    let place = Place::new();
    let proxy = Stub::new(|_| Answer::error(404, "NoSuchBucket"));
    let mut command = stubbed(&place, "http://s3.example.test", "ls s3://bucket/x/");
    let said = ended(command.env("HTTP_PROXY", &proxy.address).env_remove("NO_PROXY"));
    assert!(said.stderr.contains("there is no such bucket"), "{said:?}");
    assert!(
        proxy.log().iter().all(|request| request.path.starts_with("http://s3.example.test/bucket")),
        "{:?}",
        proxy.log()
    );

    // What is encrypted goes through a tunnel.
    let mut command = stubbed_program(&place, "https://s3.example.test", "ls -v s3://bucket/x/");
    command.env("HTTPS_PROXY", &proxy.address).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut waiting = Killed::spawn(&mut command);
    let first = BufReader::new(waiting.0.stderr.take().unwrap()).lines().next().unwrap().unwrap();
    assert!(first.contains("s3://bucket"), "{first}");
    assert_eq!(
        proxy.log().last().map(|request| (&*request.method, &*request.path)),
        Some(("CONNECT", "s3.example.test:443"))
    );
}

#[test]
fn keys_of_customers_stay_here_however_an_address_is_written() {
    let (place, objects) = (planted(1), Objects::default());
    let service = bucket(&objects);
    let key = "x-amz-server-side-encryption-customer-key";
    let proxy = Stub::new(move |request| {
        let path = request.path.split_once("s3.example.test").map_or("", |(_, path)| path).to_owned();
        service(&Request { path, ..request.clone() })
    });
    for scheme in ["http", "HTTP", "hTTp"] {
        for option in ["", "--cleartext"] {
            let line = format!("{PUT} --sse c {option}");
            let mut command = stubbed(&place, &format!("{scheme}://s3.example.test"), &line);
            let said = ended(command.env("HTTP_PROXY", &proxy.address).env_remove("NO_PROXY"));
            assert!(said.code != Some(0), "{said:?}");
            let refused = "a customer's key (SSE-C) is not sent over http://";
            assert!(said.stderr.contains(refused), "{said:?}");
        }
    }
    let log = proxy.log();
    assert!(!log.is_empty() && log.iter().all(|request| request.header(key).is_none()), "{log:?}");
    let said = ended(&mut stubbed(&place, "ftp://s3.example.test", PUT));
    assert!(said.stderr.contains("ftp://s3.example.test: is not the address of a service"), "{said:?}");
    assert!(said.stderr.contains("AWS_ENDPOINT_URL"), "{said:?}");
}

#[test]
fn no_proxy_leads_to_this_machine_nor_where_none_is_wanted() {
    let (place, objects) = (planted(1), Objects::default());
    let proxy = Stub::new(|_| Answer::error(404, "NoSuchBucket"));
    let service = Stub::new(bucket(&objects));
    let mut command = stubbed(&place, &service.address, PUT);
    ended(command.env("HTTP_PROXY", &proxy.address).env("ALL_PROXY", &proxy.address).env_remove("NO_PROXY"))
        .good();

    let mut command = stubbed_program(&place, "http://s3.example.test", "ls -v s3://bucket/x/");
    command.env("HTTP_PROXY", &proxy.address).env("NO_PROXY", "example.test");
    let mut waiting = Killed::spawn(command.stderr(Stdio::piped()));
    let first = BufReader::new(waiting.0.stderr.take().unwrap()).lines().next().unwrap().unwrap();
    assert!(first.contains("cannot connect"), "{first}");
    assert_eq!(proxy.log().len(), 0, "{:?}", proxy.log());
}

#[test]
fn a_file_of_certificates_that_holds_none_is_named() {
    let place = Place::new();
    place.write("ca.pem", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
    let said = ended(&mut stubbed(&place, "https://127.0.0.1:9", "ls s3://bucket/ --ca-file ca.pem"));
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("ca.pem: holds no certificates (PEM)"), "{said:?}");
}
