//! LocalStack's S3, one server for all tests of a program, and a bucket for each test. Another server takes its place
//! where `SIDEKEY_TEST_S3` names one: its address, an access key and the secret (`scripts/test --ceph`).
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use sidekey::secret::SecretBytes;
use sidekey::store::Store;
use sidekey::store::s3::{self, AccessKey, Settings};

/// It ends when its standard input closes, which is when this process ends, however it does.
struct Server {
    address: String,
    access: String,
    secret: String,
    _running: Option<(ChildStdin, Child)>,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    #[allow(clippy::disallowed_methods, reason = "which server it is says the script that started it")]
    let named = std::env::var("SIDEKEY_TEST_S3");
    if let Ok(named) = named {
        let words: Vec<_> = named.split_whitespace().map(str::to_owned).collect();
        let [address, access, secret] = words.try_into().expect("SIDEKEY_TEST_S3 is three words");
        return Server { address, access, secret, _running: None };
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".venv-localstack/bin/python");
    assert!(python.exists(), "{} is missing: run scripts/test once", python.display());
    let mut child = Command::new(python)
        .arg(root.join("scripts/s3-server"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("scripts/s3-server runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("s3-server ").unwrap_or_else(|| panic!("s3-server said {line:?}"));
    let (address, test) = (address.to_owned(), || "test".to_owned());
    let stdin = child.stdin.take().unwrap();
    Server { address, access: test(), secret: test(), _running: Some((stdin, child)) }
});

/// Whether it is another one than LocalStack, which does not have everything.
pub(crate) fn is_another() -> bool {
    SERVER._running.is_none()
}

/// Where it listens.
pub(crate) fn address() -> &'static str {
    &SERVER.address
}

/// `scripts/delaying-proxy` before the server, for what is counted; it ends when its standard input closes.
pub(crate) struct Counting {
    /// Where it listens.
    pub(crate) address: String,
    _running: (ChildStdin, Child),
}

impl Counting {
    pub(crate) fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/delaying-proxy");
        let mut child = Command::new("python3")
            .arg(script)
            .args([address(), "0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("delaying-proxy ");
        let address = address.unwrap_or_else(|| panic!("delaying-proxy said {line:?}")).to_owned();
        let stdin = child.stdin.take().unwrap();
        Self { address, _running: (stdin, child) }
    }

    /// How often each method was asked for since the last time.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        let host = self.address.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        write!(stream, "GET /delaying-proxy/counts HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        let (mut answer, mut body) = (BufReader::new(stream), String::new());
        while body.trim_end() != "" || body.is_empty() {
            body.clear();
            assert_ne!(answer.read_line(&mut body).unwrap(), 0, "delaying-proxy went away");
        }
        // One object of numbers: it ends with its first brace.
        let mut object = vec![];
        answer.read_until(b'}', &mut object).unwrap();
        serde_json::from_slice(&object).unwrap()
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let _ = self._running.1.kill();
        let _ = self._running.1.wait();
    }
}

/// What a bucket does with what is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    Off,
    On,
    Suspended,
    /// With object lock, which needs versions.
    Locked,
}

/// Who makes buckets, and does what the product does not.
pub(crate) fn admin() -> Client {
    let credentials = Credentials::new(&*SERVER.access, &*SERVER.secret, None, None, "tests");
    let config = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(address())
        .credentials_provider(credentials)
        .region(Region::from_static("us-east-1"))
        .force_path_style(true)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

/// A bucket that no other test has.
pub(crate) async fn bucket(versions: Versions) -> String {
    static BUCKETS: AtomicU64 = AtomicU64::new(0);
    let name = format!("test-{}-{}", std::process::id(), BUCKETS.fetch_add(1, Ordering::Relaxed));
    let admin = admin();
    let lock = (versions == Versions::Locked).then_some(true);
    admin.create_bucket().bucket(&name).set_object_lock_enabled_for_bucket(lock).send().await.unwrap();
    match versions {
        Versions::Off | Versions::Locked => {}
        Versions::On => set_versioning(&name, BucketVersioningStatus::Enabled).await,
        Versions::Suspended => set_versioning(&name, BucketVersioningStatus::Suspended).await,
    }
    name
}

pub(crate) async fn set_versioning(bucket: &str, status: BucketVersioningStatus) {
    let configuration = VersioningConfiguration::builder().status(status).build();
    let request = admin().put_bucket_versioning().bucket(bucket).versioning_configuration(configuration);
    request.send().await.unwrap();
}

fn access_key(id: &str, secret: &str) -> AccessKey {
    AccessKey { id: id.to_owned(), secret: SecretBytes::new(secret.as_bytes().to_vec()) }
}

/// How to reach a service on this machine.
pub(crate) fn settings(address: &str, bucket: &str) -> Settings {
    Settings {
        bucket: bucket.to_owned(),
        endpoint: Some(address.to_owned()),
        region: Some("us-east-1".into()),
        credentials: Some(access_key("test", "test")),
        ..Settings::default()
    }
}

/// The store of a bucket.
pub(crate) fn store(bucket: &str) -> Arc<dyn Store> {
    store_with(bucket, 0)
}

/// The same with so many connections; as many as the store thinks best where that is zero.
pub(crate) fn store_with(bucket: &str, connections: usize) -> Arc<dyn Store> {
    let credentials = Some(access_key(&SERVER.access, &SERVER.secret));
    s3::open(Settings { credentials, connections, ..settings(address(), bucket) }).unwrap()
}
