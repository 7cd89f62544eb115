//! `aws` and `s3cmd`: what they upload is read by sidekey, and what sidekey puts they download.

use std::path::Path;
use std::process::Command;

use aws_sdk_s3::types::ServerSideEncryption;

use crate::common::{Place, SIDEKEY, ended};
use crate::s3::{bucket, run, runtime};
use crate::s3_server::{self, Versions, admin};

/// A tool of the virtual environment for them.
fn tool(place: &Place, name: &str, args: &[&str]) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv-s3tools/bin").join(name);
    assert!(path.exists(), "{} is missing: run scripts/test once", path.display());
    let mut command = place.command(path.to_str().unwrap(), args);
    for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_CONFIG_FILE"] {
        command.env_remove(name);
    }
    command
        .env("AWS_ENDPOINT_URL_S3", s3_server::address())
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

fn aws(place: &Place, line: &str) {
    let args: Vec<&str> = line.split(' ').collect();
    ended(&mut tool(place, "aws", &args)).good();
}

fn s3cmd(place: &Place, line: &str) {
    let host = s3_server::address().trim_start_matches("http://");
    let (host, in_path) = (format!("--host={host}"), format!("--host-bucket={host}"));
    let mut args =
        vec![&*host, &*in_path, "--no-ssl", "--access_key=test", "--secret_key=test", "--region=us-east-1"];
    args.extend(line.split(' '));
    ended(&mut tool(place, "s3cmd", &args)).good();
}

/// The pair of `file` on this machine, and 32 bytes of a key.
fn pair() -> Place {
    let place = Place::with_keys();
    place.write("file", vec![7; 100_000]);
    place.write("sse.key", [9; 32]);
    place.chmod("sse.key", 0o600);
    ended(&mut place.command(SIDEKEY, &["encrypt", "-r", "keys/old.pub.pem", "file"])).good();
    place
}

/// Opens what was downloaded to `down`.
fn opens(place: &Place, container: &str) {
    let args = ["decrypt", "-i", "keys/old.pem", container, "-o", "opened"];
    ended(&mut place.command(SIDEKEY, &args)).good();
    assert!(place.read("opened") == place.read("file"));
}

/// The names in a bucket: the container, then the envelope.
fn names(bucket: &str) -> (String, String) {
    let listed = runtime().block_on(admin().list_objects_v2().bucket(bucket).send()).unwrap();
    let names: Vec<&str> = listed.contents().iter().filter_map(|object| object.key()).collect();
    let of =
        |wanted: bool| names.iter().find(|name| name.ends_with(".key.enc") == wanted).unwrap().to_string();
    (of(false), of(true))
}

fn encryption(bucket: &str, key: &str) -> Option<ServerSideEncryption> {
    let head = runtime().block_on(admin().head_object().bucket(bucket).key(key).send()).unwrap();
    head.server_side_encryption().cloned()
}

#[test]
fn what_aws_uploads_with_a_customers_key_is_read() {
    let (place, bucket) = (pair(), bucket(Versions::Off));
    let key = "--sse-c AES256 --sse-c-key fileb://sse.key";
    aws(&place, &format!("s3 cp file.enc s3://{bucket}/x/file.enc {key}"));
    aws(&place, &format!("s3 cp file.key.enc s3://{bucket}/x/file.key.enc"));
    let without = run(&place, &format!("get -i keys/old.pem s3://{bucket}/x/file back"));
    assert_ne!(without.code, Some(0), "{without:?}");
    let line = format!("get -i keys/old.pem s3://{bucket}/x/file back --sse-c-key-file sse.key");
    run(&place, &line).good();
    assert!(place.read("back") == place.read("file"));
}

#[test]
fn what_is_put_with_a_customers_key_is_downloaded_by_aws() {
    let (place, bucket) = (pair(), bucket(Versions::Off));
    run(&place, &format!("put -r keys/old.pub.pem file s3://{bucket} --sse c --sse-c-key-file sse.key"))
        .good();
    let (container, envelope) = names(&bucket);
    aws(
        &place,
        &format!("s3 cp s3://{bucket}/{container} down.enc --sse-c AES256 --sse-c-key fileb://sse.key"),
    );
    aws(&place, &format!("s3 cp s3://{bucket}/{envelope} down.key.enc"));
    opens(&place, "down.enc");
}

#[test]
fn what_s3cmd_uploads_is_read_and_the_reverse() {
    let (place, bucket) = (pair(), bucket(Versions::Off));
    s3cmd(&place, &format!("--server-side-encryption put file.enc file.key.enc s3://{bucket}/x/"));
    assert_eq!(encryption(&bucket, "x/file.enc"), Some(ServerSideEncryption::Aes256));
    run(&place, &format!("get -i keys/old.pem s3://{bucket}/x/file back")).good();
    assert!(place.read("back") == place.read("file"));

    let ours = crate::s3::bucket(Versions::Off);
    run(&place, &format!("put -r keys/old.pub.pem file s3://{ours} --server-side-encryption")).good();
    let (container, envelope) = names(&ours);
    assert_eq!(encryption(&ours, &container), Some(ServerSideEncryption::Aes256));
    s3cmd(&place, &format!("get s3://{ours}/{container} down.enc"));
    s3cmd(&place, &format!("get s3://{ours}/{envelope} down.key.enc"));
    opens(&place, "down.enc");
}

#[test]
fn the_words_of_s3cmd_exclude_those_of_sidekey() {
    let place = pair();
    let said = place.sidekey("put file s3://bucket --sse c --server-side-encryption");
    assert_eq!(said.code, Some(2), "{said:?}");
    let said =
        place.sidekey("put file s3://bucket --server-side-encryption-kms-id k --explain-config").good();
    assert!(said.stdout.contains("sse = kms:k"), "{said:?}");
}
