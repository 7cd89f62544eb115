//! What is said of services: on the command line, in the environment, in the configuration.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::common::{Killed, Place, SIDEKEY, alone, failed};

const FILE: &str = ".config/sidekey/config.toml";

fn setting(place: &Place, name: &str, line: &str, variables: &[(&str, &str)]) -> String {
    let said = place.with_env(&format!("{line} --explain-config"), variables).good().stdout;
    let found = said.lines().find(|line| line.starts_with(&format!("{name} = ")));
    found.unwrap().trim_start_matches(&format!("{name} = ")).to_owned()
}

#[test]
fn settings_of_services_are_typed_set_and_configured() {
    let place = Place::new();
    place.configure("[defaults]\nconnections = 3\nca-file = \"ca.pem\"\npath-style = false\n");
    let said = |name: &str, line: &str, variables: &[(&str, &str)]| setting(&place, name, line, variables);
    assert_eq!(said("connections", "ls x", &[]), "3 (file: line 2)");
    assert_eq!(
        said("connections", "ls x", &[("SIDEKEY_CONNECTIONS", "4")]),
        "4 (environment: SIDEKEY_CONNECTIONS)"
    );
    let environment = [("SIDEKEY_CONNECTIONS", "4")];
    assert_eq!(said("connections", "ls x --connections 5", &environment), "5 (flag: --connections)");
    assert_eq!(said("path-style", "ls x", &[]), "false (file: line 4)");
    assert_eq!(said("path-style", "ls --path-style x", &[]), "true (flag: --path-style)");
    assert_eq!(said("path-style", "ls --path-style=false x", &[]), "false (flag: --path-style)");
    let ca_file = place.shown(FILE).replace("config.toml", "ca.pem");
    assert_eq!(said("ca-file", "ls x", &[]), format!("{ca_file} (file: line 3)"));
    let both = [("B2_ENDPOINT", "https://b2.example"), ("SIDEKEY_B2_ENDPOINT", "http://127.0.0.1:1")];
    assert_eq!(said("b2-endpoint", "ls x", &both[..1]), "https://b2.example (environment: B2_ENDPOINT)");
    assert_eq!(said("b2-endpoint", "ls x", &both), "http://127.0.0.1:1 (environment: SIDEKEY_B2_ENDPOINT)");
    assert_eq!(said("sse", "put a x --sse kms:k", &[]), "kms:k (flag: --sse)");
    for command in [
        "put a",
        "get",
        "cat",
        "ls",
        "rm",
        "verify",
        "audit --key-id 0123456789abcdef",
        "clean",
        "bucket encryption get",
    ] {
        let line = format!("{command} x --region r");
        assert_eq!(said("region", &line, &[]), "r (flag: --region)", "{line}");
    }
}

#[test]
fn what_cannot_be_is_said_before_anything_is_done() {
    let place = Place::new();
    place.write("a", "a");
    let shows = |command: &str| format!("sidekey: hint: sidekey {command} --help shows what there is\n");
    for (line, command, says) in [
        ("put a x --sse d", "put", "--sse d: \"d\" is not one of b2, s3, kms, kms:ID, c, none"),
        ("ls x --connections 0", "ls", "--connections 0: is not a number from 1 to 256"),
        (
            "ls x --endpoint s3.example",
            "ls",
            "--endpoint s3.example: is no address: it begins with https:// or http://",
        ),
        ("ls x --path-style=yes", "ls", "--path-style yes: \"yes\" is not one of true, false"),
        ("ls x --sse b2", "ls", "unknown option --sse"),
    ] {
        let ended = place.sidekey(line);
        assert_eq!(ended.code, Some(2), "{line}: {ended:?}");
        assert!(ended.stderr.starts_with(&format!("sidekey: {says}\n")), "{line}: {ended:?}");
        assert!(
            ended.stderr.ends_with(&shows(command)) || ended.stderr.contains("did you mean"),
            "{ended:?}"
        );
    }
    assert_eq!(
        place.with_env("ls x", &[("SIDEKEY_PATH_STYLE", "1")]),
        failed(2, "sidekey: SIDEKEY_PATH_STYLE: \"1\" is not one of true, false\n")
    );
}

#[test]
fn a_bucket_of_backblaze_needs_both_halves_of_an_application_key() {
    let place = Place::new();
    let hint = "sidekey: hint: put an application key into the environment: its id and the key itself\n";
    for (variables, missing) in [
        (&[][..], "B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY are not set"),
        (&[("B2_APPLICATION_KEY_ID", "k")][..], "B2_APPLICATION_KEY is not set"),
        (
            &[("B2_APPLICATION_KEY", "k"), ("B2_APPLICATION_KEY_ID", "")][..],
            "B2_APPLICATION_KEY_ID is not set",
        ),
    ] {
        let expected = failed(2, &format!("sidekey: b2://bucket: {missing}\n{hint}"));
        assert_eq!(place.with_env("clean b2://bucket/x", variables), expected);
    }
}

#[test]
fn a_folder_of_this_machine_has_no_service_that_could_encrypt() {
    let place = Place::with_keys();
    place.write("a", "a");
    place.mkdir("vault");
    assert_eq!(
        place.sidekey("put -r keys/old.pub.pem a vault --sse c"),
        failed(
            2,
            "sidekey: --sse is for services, and the location is a folder of this machine\n\
             sidekey: hint: leave it out: what is put is encrypted before it is stored, wherever that is\n"
        )
    );
    // What holds for services is configured for all.
    place.configure("[defaults]\nsse = \"c\"\n");
    place.sidekey("put -r keys/old.pub.pem a vault").good();
    assert_eq!(
        place.sidekey("bucket encryption get vault"),
        failed(
            2,
            &format!(
                "sidekey: {}: is in no bucket\nsidekey: hint: buckets are with services: b2://BUCKET, s3://BUCKET\n",
                "vault"
            )
        )
    );
}

#[test]
fn a_service_that_cannot_be_reached_is_named_while_it_is_tried_again() {
    let place = Place::new();
    let mut command = Command::new(SIDEKEY);
    alone(command.args(["ls", "b2://bucket/"]), place.root());
    // Nothing listens on the port of discard.
    command.envs([
        ("B2_ENDPOINT", "http://127.0.0.1:9"),
        ("B2_APPLICATION_KEY_ID", "a"),
        ("B2_APPLICATION_KEY", "b"),
    ]);
    let mut waiting = Killed::spawn(command.stderr(Stdio::piped()));
    let mut lines = BufReader::new(waiting.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let said = lines.next().unwrap();
    assert!(said.starts_with("sidekey: warning: b2://bucket: cannot reach the service"), "{said}");
    assert!(said.ends_with("it is tried again for up to 15 minutes"), "{said}");
    assert_eq!(lines.next().unwrap(), "sidekey: hint: -v shows every try; Ctrl-C ends it");
}
