//! Buckets by the real program: credentials, region and address come from where the `aws` tool takes them.

use std::process::Command;

use crate::common::{Ended, Place, SIDEKEY, ended, failed, same_trees};
use crate::s3_server::{self, Versions};

/// The program here, with what it needs to reach the server.
pub(crate) fn command(place: &Place, line: &str) -> Command {
    stubbed(place, s3_server::address(), line)
}

/// The same, for a service at another address.
pub(crate) fn stubbed(place: &Place, address: &str, line: &str) -> Command {
    let args: Vec<_> = line.split_whitespace().collect();
    reaching(place.command(SIDEKEY, &args), address)
}

/// The same, to be killed.
pub(crate) fn stubbed_program(place: &Place, address: &str, line: &str) -> Command {
    let args: Vec<_> = line.split_whitespace().collect();
    reaching(place.program(&args), address)
}

fn reaching(mut command: Command, address: &str) -> Command {
    for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_CONFIG_FILE"] {
        command.env_remove(name);
    }
    command
        .env("AWS_ENDPOINT_URL_S3", address)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

pub(crate) fn run(place: &Place, line: &str) -> Ended {
    ended(&mut command(place, line))
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

pub(crate) fn bucket(versions: Versions) -> String {
    runtime().block_on(s3_server::bucket(versions))
}

#[test]
fn a_folder_goes_to_a_bucket_and_comes_back() {
    for versions in [Versions::Off, Versions::On] {
        let place = Place::with_keys();
        place.mkdir("tree/sub");
        place.write("tree/a b+c%", "small");
        place.write("tree/sub/large", vec![7; 9 << 20]);
        let bucket = bucket(versions);
        run(&place, &format!("put -r keys/old.pub.pem tree s3://{bucket}/below/")).good();
        let listed = run(&place, &format!("ls s3://{bucket}/below/tree/")).good();
        assert!(listed.stdout.contains("a b+c%"), "{listed:?}");
        run(&place, &format!("get -i keys/old.pem s3://{bucket}/below/tree/ back/")).good();
        same_trees(&place.tree("back"), &place.tree("tree"), false);
    }
}

#[test]
fn credentials_come_from_a_profile() {
    let place = Place::with_keys();
    place.write("file", "small");
    let bucket = bucket(Versions::Off);
    let line = format!("put -r keys/old.pub.pem file s3://{bucket}");
    place.mkdir(".aws");
    place.write(
        ".aws/config",
        format!(
            "[profile mine]\naws_access_key_id = test\naws_secret_access_key = test\nregion = us-east-1\n\
             endpoint_url = {}\n",
            s3_server::address()
        ),
    );
    let with_profile = |name: &str| {
        let mut command = command(&place, &line);
        for name in ["AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"] {
            command.env_remove(name);
        }
        ended(command.env("AWS_PROFILE", name))
    };
    with_profile("mine").good();
    let listed = run(&place, &format!("ls s3://{bucket}")).good();
    assert_eq!(listed.stdout.lines().count(), 1, "{listed:?}");
}

#[test]
fn a_bucket_that_is_not_there_is_named() {
    let place = Place::with_keys();
    let said = run(&place, "ls s3://no-such-bucket/");
    assert_ne!(said, failed(0, ""));
    assert!(said.stderr.contains("there is no such bucket"), "{said:?}");
}
