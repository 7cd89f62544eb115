//! `doctor`: on a folder, on B2 and on S3.

use std::process::Command;

use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, DefaultRetention, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleFilter, NoncurrentVersionExpiration, ObjectLockConfiguration, ObjectLockEnabled,
    ObjectLockRetentionMode, ObjectLockRule,
};
use serde_json::{Value, json};

use crate::common::{Ended, Place, SIDEKEY, ended, objects};
use crate::http_stub::{Answer, Stub};
use crate::s3::{bucket, run, runtime, stubbed};
use crate::s3_server::{Versions, admin};
use crate::server::{Key, World};

/// The state and value of a check; of several the first that is not fine.
fn check<'a>(lines: &'a [serde_json::Map<String, Value>], name: &str) -> (&'a str, &'a str) {
    let found = |line: &&serde_json::Map<String, Value>| line["type"] == "check" && line["check"] == name;
    let of_it: Vec<_> = lines.iter().filter(found).collect();
    let line = of_it.iter().find(|line| line["state"] != "fine").or(of_it.first());
    let line = line.unwrap_or_else(|| panic!("{name} was not looked at: {lines:?}"));
    (line["state"].as_str().unwrap(), line["value"].as_str().unwrap())
}

/// Whether a command is allowed, and the rights that it lacks or depends on.
fn command(lines: &[serde_json::Map<String, Value>], name: &str) -> (Option<bool>, Vec<String>) {
    let line = lines.iter().find(|line| line["type"] == "command" && line["command"] == name).unwrap();
    let rights = line["rights"].as_array().unwrap().iter().map(|right| right.as_str().unwrap().to_owned());
    (line["allowed"].as_bool(), rights.collect())
}

fn lines(said: &Ended) -> Vec<serde_json::Map<String, Value>> {
    objects(&said.stdout)
}

#[test]
fn a_folder_that_is_well_is_left_as_it_was() {
    let place = Place::new();
    place.mkdir("vault");
    place.chmod("vault", 0o755);
    let said = place.sidekey("--json doctor vault");
    // A machine with little room has to be told so.
    let lines = lines(&said);
    let attention: Vec<_> =
        lines.iter().filter(|line| line.get("state") == Some(&json!("attention"))).collect();
    assert!(attention.iter().all(|line| line["check"] == "room" || line["check"] == "disk"), "{said:?}");
    assert_eq!(said.code, Some(if attention.is_empty() { 0 } else { 4 }), "{said:?}");
    assert_eq!(check(&lines, "versions").0, "fine");
    assert_eq!(check(&lines, "conditions"), ("fine", "honoured when creating, replacing, deleting"));
    assert_eq!(check(&lines, "names").0, "fine");
    for name in ["put", "get, cat", "ls", "verify, audit", "rm", "clean", "rewrap"] {
        assert_eq!(command(&lines, name), (Some(true), vec![]), "{name}");
    }
    assert_eq!(place.names_in("vault"), [""; 0]);
}

#[test]
fn what_is_no_folder_is_not_well() {
    let place = Place::with_keys();
    place.write("file", "contents");
    for location in ["nowhere", "file"] {
        let said = place.sidekey(&format!("doctor {location}"));
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.stderr.contains(&format!("{location}: is no folder")), "{said:?}");
    }
}

#[test]
fn a_folder_that_others_may_change_needs_attention() {
    let place = Place::new();
    place.mkdir("vault");
    place.chmod("vault", 0o777);
    let said = place.sidekey("doctor vault");
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(said.stdout.contains("0777: others may remove and replace what is here"), "{said:?}");
    assert!(said.stdout.contains("chmod go-w takes that from them"), "{said:?}");
    assert!(said.stderr.contains("checks need attention"), "{said:?}");
}

#[test]
fn nothing_is_written_where_nothing_is_to_be() {
    let place = Place::new();
    place.mkdir("vault");
    place.chmod("vault", 0o755);
    let before = place.fingerprint("vault");
    let lines = lines(&place.sidekey("--json doctor vault --no-write"));
    assert_eq!(command(&lines, "put"), (None, vec!["write".to_owned()]));
    assert_eq!(command(&lines, "get, cat"), (Some(true), vec![]));
    assert_eq!(place.fingerprint("vault"), before);
}

fn on_b2(place: &Place, world: &World, key: &Key) -> Ended {
    let location = format!("b2://{}/backup/", world.bucket);
    ended(place.command(SIDEKEY, &["--json", "doctor", &location]).envs(world.environment_of(key)))
}

fn owner(world: &World) -> Key {
    Key { key_id: world.key_id.clone(), key: world.key.clone() }
}

#[test]
fn b2_says_what_a_key_is_good_for() {
    let (place, world) = (Place::new(), World::new(&json!({})));
    let said = on_b2(&place, &world, &owner(&world)).good();
    assert_eq!(check(&lines(&said), "versions").0, "fine");
    assert_eq!(check(&lines(&said), "encryption"), ("fine", "by default with a key of the service"));
    assert_eq!(check(&lines(&said), "clock").0, "fine");
    assert_eq!(check(&lines(&said), "lifecycle").0, "fine");
    assert_eq!(command(&lines(&said), "rewrap"), (Some(true), vec![]));
    assert_eq!(world.versions().len(), 0, "nothing is left: {:?}", world.versions());

    let key = world.new_key(&["listFiles", "writeFiles"], "backup/");
    let said = on_b2(&place, &world, &key).good();
    assert_eq!(command(&lines(&said), "put"), (Some(true), vec![]));
    assert_eq!(command(&lines(&said), "get, cat"), (Some(false), vec!["read".to_owned()]));
    assert_eq!(command(&lines(&said), "rewrap"), (Some(false), vec!["read".to_owned(), "delete".to_owned()]));
    assert_eq!(world.versions().len(), 0, "what could not be removed is not written: {:?}", world.versions());
}

#[test]
fn rules_of_b2_that_go_by_age_are_told() {
    let (place, world) = (Place::new(), World::new(&json!({})));
    let tool = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv-servers/bin/b2");
    let rule =
        r#"{"daysFromHidingToDeleting": 7, "daysFromUploadingToHiding": 30, "fileNamePrefix": "back"}"#;
    let updated = Command::new(tool)
        .args(["bucket", "update", "--lifecycle-rule", rule, &world.bucket])
        .env(
            "B2_ENVIRONMENT",
            world.environment().iter().find(|(name, _)| *name == "B2_ENDPOINT").unwrap().1.as_str(),
        )
        .env("B2_APPLICATION_KEY_ID", &world.key_id)
        .env("B2_APPLICATION_KEY", &world.key)
        .env("B2_ACCOUNT_INFO", place.path("b2-account"))
        .output()
        .unwrap();
    assert!(updated.status.success(), "{updated:?}");
    let said = on_b2(&place, &world, &owner(&world));
    assert_eq!(said.code, Some(4), "{said:?}");
    assert_eq!(
        check(&lines(&said), "lifecycle"),
        ("attention", "the rule of \"back\" removes what is current 30 days after they were written")
    );
}

fn rule(name: &str, prefix: &str) -> aws_sdk_s3::types::builders::LifecycleRuleBuilder {
    let filter = LifecycleRuleFilter::builder().prefix(prefix).build();
    LifecycleRule::builder().id(name).filter(filter).status(ExpirationStatus::Enabled)
}

fn set_rules(bucket: &str, rules: Vec<LifecycleRule>) {
    let all = BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build().unwrap();
    let request = admin().put_bucket_lifecycle_configuration().bucket(bucket).lifecycle_configuration(all);
    runtime().block_on(request.send()).unwrap();
}

fn versions_of(bucket: &str) -> usize {
    let listed = runtime().block_on(admin().list_object_versions().bucket(bucket).send()).unwrap();
    listed.versions().len() + listed.delete_markers().len()
}

#[test]
fn buckets_of_s3_are_examined_and_left_as_they_were() {
    let place = Place::new();
    for (versions, says) in [(Versions::Off, "off"), (Versions::On, "on"), (Versions::Suspended, "suspended")]
    {
        let bucket = bucket(versions);
        let said = run(&place, &format!("--json doctor s3://{bucket}/below/"));
        let lines = lines(&said);
        assert!(check(&lines, "versions").1.starts_with(says), "{said:?}");
        assert_eq!(said.code, Some(if versions == Versions::Suspended { 4 } else { 0 }), "{said:?}");
        assert_eq!(check(&lines, "conditions"), ("fine", "honoured when creating, replacing"));
        assert_eq!(check(&lines, "object lock"), ("fine", "off"));
        assert_eq!(check(&lines, "clock").0, "fine");
        assert_eq!(command(&lines, "rewrap"), (Some(true), vec![]));
        assert_eq!(versions_of(&bucket), 0, "{versions:?}");
    }
}

#[test]
fn rules_and_locks_of_s3_are_told() {
    let place = Place::new();
    let bucket = bucket(Versions::Locked);
    let old = NoncurrentVersionExpiration::builder().noncurrent_days(9).build();
    set_rules(&bucket, vec![rule("old", "").noncurrent_version_expiration(old).build().unwrap()]);
    let said = run(&place, &format!("--json doctor s3://{bucket}/x/")).good();
    assert_eq!(
        check(&lines(&said), "lifecycle"),
        ("fine", "the rule \"old\" removes what is hidden or replaced after 9 days, which does no harm")
    );

    let age = LifecycleExpiration::builder().days(30).build();
    set_rules(&bucket, vec![rule("age", "x/y/").expiration(age).build().unwrap()]);
    let retention = DefaultRetention::builder().mode(ObjectLockRetentionMode::Governance).days(3).build();
    let lock = ObjectLockConfiguration::builder()
        .object_lock_enabled(ObjectLockEnabled::Enabled)
        .rule(ObjectLockRule::builder().default_retention(retention).build())
        .build();
    let request = admin().put_object_lock_configuration().bucket(&bucket).object_lock_configuration(lock);
    runtime().block_on(request.send()).unwrap();
    let said = run(&place, &format!("--json doctor s3://{bucket}/x/"));
    assert_eq!(said.code, Some(4), "{said:?}");
    let lines = lines(&said);
    assert_eq!(
        check(&lines, "lifecycle"),
        ("attention", "the rule \"age\" removes what is current after 30 days")
    );
    assert_eq!(
        check(&lines, "object lock"),
        ("attention", "on; what is written is locked for 3 days (governance)")
    );
    assert_eq!(check(&lines, "conditions").0, "unknown");
    assert_eq!(versions_of(&bucket), 0, "what would be locked is not written");
}

#[test]
fn what_could_not_be_removed_is_not_written() {
    let place = Place::new();
    let stub = Stub::new(|request| match &*request.method {
        "GET" if request.path.contains("?versioning") => Answer::new(200, "<VersioningConfiguration/>"),
        "GET" if request.path.contains("list-type") => {
            Answer::new(200, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        }
        "GET" => Answer::error(404, "NoSuchKey"),
        "HEAD" => Answer::new(404, "").with("date", "Tue, 01 Jan 2030 00:00:00 GMT"),
        _ => Answer::error(403, "AccessDenied"),
    });
    let said = ended(&mut stubbed(&place, &stub.address, "--json doctor s3://bucket/x/"));
    assert_eq!(said.code, Some(4), "{said:?}");
    let lines = lines(&said);
    assert_eq!(stub.count("PUT", ""), 0, "{:?}", stub.log());
    assert_eq!(check(&lines, "clock").0, "attention", "{said:?}");
    assert_eq!(command(&lines, "get, cat"), (Some(true), vec![]));
    assert_eq!(command(&lines, "put"), (None, vec!["write".to_owned()]));
    assert_eq!(command(&lines, "rm"), (Some(false), vec!["delete".to_owned()]));
}
