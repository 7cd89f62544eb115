//! A Backblaze B2 for tests: `scripts/b2-server`, one for a test process, with a world of its own for each test. What it can
//! do stands at the top of that file.
#![allow(dead_code, clippy::disallowed_methods, reason = "every test file uses its own part of this")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

/// Lives as long as this process: the server leaves when its standard input closes.
struct Server {
    address: String,
    _process: Child,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let root = env!("CARGO_MANIFEST_DIR");
    let python = format!("{root}/.venv-servers/bin/python");
    let mut process = Command::new(&python)
        .arg(format!("{root}/scripts/b2-server"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{python}: {error}; run scripts/test once, it makes .venv-servers"));
    let mut ready = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let address = ready.trim().strip_prefix("b2-server http://");
    let address = address.unwrap_or_else(|| panic!("scripts/b2-server said {ready:?}")).to_owned();
    Server { address, _process: process }
});

/// An account with a bucket, nobody else's; gone when it is dropped.
#[derive(Deserialize)]
pub(crate) struct World {
    id: String,
    pub(crate) url: String,
    pub(crate) key_id: String,
    pub(crate) key: String,
    pub(crate) bucket: String,
    pub(crate) bucket_id: String,
}

/// An application key.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Key {
    pub(crate) key_id: String,
    pub(crate) key: String,
}

/// What the server counted in a world.
#[derive(Debug, Deserialize)]
pub(crate) struct Calls {
    pub(crate) calls: BTreeMap<String, u64>,
    pub(crate) answers: BTreeMap<String, u64>,
    /// How often a fault struck, by `"api kind"`.
    pub(crate) faults: BTreeMap<String, u64>,
    /// What broke the service's rules.
    pub(crate) violations: Vec<String>,
    pub(crate) max_concurrent: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) cpu_seconds: f64,
}

impl Calls {
    pub(crate) fn of(&self, api: &str) -> u64 {
        self.calls.get(api).copied().unwrap_or(0)
    }

    /// Upload URLs that were handed out, for files and for parts.
    pub(crate) fn upload_urls(&self) -> u64 {
        let given = ["b2_get_upload_url 200", "b2_get_upload_part_url 200"];
        given.iter().filter_map(|answer| self.answers.get(*answer)).sum()
    }

    pub(crate) fn all(&self) -> u64 {
        self.calls.values().sum()
    }

    pub(crate) fn faults(&self) -> u64 {
        self.faults.values().sum()
    }
}

/// One version as the server has it.
#[derive(Debug, Deserialize)]
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) id: String,
    /// `upload`, `hide`, or `start` of an unfinished large file.
    pub(crate) action: String,
    pub(crate) size: u64,
    pub(crate) sha1: Option<String>,
    pub(crate) info: BTreeMap<String, String>,
    /// `none`, `SSE-B2` or `SSE-C`.
    pub(crate) encryption: Option<String>,
    /// How many parts an unfinished large file has.
    pub(crate) parts: u64,
}

impl World {
    /// With options as scripts/b2-server takes them.
    pub(crate) fn new(options: &Value) -> Self {
        serde_json::from_value(call("POST", "/control/worlds", options)).unwrap()
    }

    /// With the smallest parts that stores promise to take, so that large files are cheap.
    pub(crate) fn with_small_parts() -> Self {
        Self::new(&json!({ "minimum_part_size": 1000, "recommended_part_size": 2000 }))
    }

    /// Replaces the faults that wait to strike, by an array of them.
    pub(crate) fn faults(&self, faults: &Value) {
        self.control("POST", "faults", faults);
    }

    /// One fault alone: at the `nth` call of `api` from now on, which is 1 for the first.
    pub(crate) fn fault(&self, api: &str, nth: u64, kind: &str) {
        self.faults(&json!([{ "api": api, "nth": nth, "kind": kind }]));
    }

    pub(crate) fn no_faults(&self) {
        self.faults(&json!([]));
    }

    pub(crate) fn calls(&self) -> Calls {
        serde_json::from_value(self.control("GET", "calls", &Value::Null)).unwrap()
    }

    pub(crate) fn reset_calls(&self) {
        self.control("POST", "calls/reset", &Value::Null);
    }

    /// Makes an application key of this world's bucket, for names with a prefix if it is not empty.
    pub(crate) fn new_key(&self, capabilities: &[&str], prefix: &str) -> Key {
        let options = json!({ "capabilities": capabilities, "bucket": true, "prefix": prefix });
        serde_json::from_value(self.control("POST", "keys", &options)).unwrap()
    }

    /// Lets all tokens of the account expire.
    pub(crate) fn expire_tokens(&self) {
        self.control("POST", "expire", &Value::Null);
    }

    /// Makes all that is there so much older.
    pub(crate) fn age(&self, by: Duration) {
        self.control("POST", "age", &json!({ "seconds": by.as_secs() }));
    }

    /// Every version of every bucket, hide markers and unfinished large files too; by name, the newest first.
    pub(crate) fn versions(&self) -> Vec<Version> {
        self.versions_below("")
    }

    /// The same of the names that begin with a prefix.
    pub(crate) fn versions_below(&self, prefix: &str) -> Vec<Version> {
        serde_json::from_value(self.control("GET", "versions", &json!({ "prefix": prefix }))).unwrap()
    }

    /// What `sidekey` and `b2` need in their environment.
    pub(crate) fn environment(&self) -> [(&'static str, String); 4] {
        self.environment_of(&Key { key_id: self.key_id.clone(), key: self.key.clone() })
    }

    /// The same with another key.
    pub(crate) fn environment_of(&self, key: &Key) -> [(&'static str, String); 4] {
        [
            ("B2_APPLICATION_KEY_ID", key.key_id.clone()),
            ("B2_APPLICATION_KEY", key.key.clone()),
            ("B2_ENDPOINT", self.url.clone()),
            ("B2_ENVIRONMENT", self.url.clone()),
        ]
    }

    fn control(&self, method: &str, path: &str, body: &Value) -> Value {
        call(method, &format!("/w/{}/control/{path}", self.id), body)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            call("DELETE", &format!("/control/worlds/{}", self.id), &Value::Null);
        }
    }
}

/// A control call, on a connection of its own.
fn call(method: &str, path: &str, body: &Value) -> Value {
    let address = &SERVER.address;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n");
    stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{method} {path}: {head}\n{body}");
    serde_json::from_str(body).unwrap()
}
