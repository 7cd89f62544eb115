//! Object lock: what cannot be removed is told, with the time until which that is so.

use aws_sdk_s3::types::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule,
};

use crate::common::{Place, objects};
use crate::s3::{bucket, run, runtime};
use crate::s3_server::{Versions, admin};

/// A bucket that locks what is written for a day.
fn locking(mode: ObjectLockRetentionMode) -> String {
    let bucket = bucket(Versions::Locked);
    let retention = DefaultRetention::builder().mode(mode).days(1).build();
    let lock = ObjectLockConfiguration::builder()
        .object_lock_enabled(ObjectLockEnabled::Enabled)
        .rule(ObjectLockRule::builder().default_retention(retention).build())
        .build();
    let request = admin().put_object_lock_configuration().bucket(&bucket).object_lock_configuration(lock);
    runtime().block_on(request.send()).unwrap();
    bucket
}

/// Of each name below the bucket how many versions there are, delete markers left out.
fn versions_of(bucket: &str) -> Vec<(String, usize)> {
    let listed = runtime().block_on(admin().list_object_versions().bucket(bucket).send()).unwrap();
    let mut counts = std::collections::BTreeMap::new();
    // What was written to ask the service for its time is locked too.
    for version in listed.versions().iter().filter(|version| {
        version.key() != Some("x/.sidekey/clock") && version.key() != Some(".sidekey/clock")
    }) {
        *counts.entry(version.key().unwrap().to_owned()).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

#[test]
fn a_rewrap_lists_what_is_locked_as_residue() {
    for (mode, word) in [
        (ObjectLockRetentionMode::Governance, "governance"),
        (ObjectLockRetentionMode::Compliance, "compliance"),
    ] {
        let place = Place::with_keys();
        place.write("file", "small");
        let bucket = locking(mode);
        run(&place, &format!("put -r keys/old.pub.pem file s3://{bucket}/x/")).good();

        let line = format!("rewrap s3://{bucket}/x/ -i keys/old.pem --to keys/new.pub.pem");
        let said = run(&place, &line);
        assert_eq!(said.code, Some(4), "{word}: {said:?}");
        assert!(said.stderr.contains("is locked until 20"), "{said:?}");
        assert!(said.stderr.contains(&format!("(object lock, {word})")), "{said:?}");
        // The new key opens it, the old version is still there, and audit says so.
        let got = run(&place, &format!("cat -i keys/new.pem s3://{bucket}/x/file")).good();
        assert_eq!(got.stdout, "small");
        let audited = run(&place, &format!("audit -i keys/old.pem s3://{bucket}/x/"));
        assert_eq!(audited.code, Some(4), "{audited:?}");
        let counts: Vec<usize> = versions_of(&bucket).into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts.iter().sum::<usize>(), 3, "{:?}", versions_of(&bucket));
        // It stays so as long as the lock does, and no further version is locked for it.
        let said = run(&place, &line);
        assert_eq!(said.code, Some(4), "{said:?}");
        assert!(said.stderr.contains("is locked until 20"), "{said:?}");
        let counts: Vec<usize> = versions_of(&bucket).into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts.iter().sum::<usize>(), 3, "{:?}", versions_of(&bucket));
    }
}

#[test]
fn what_is_locked_is_hidden_and_not_removed() {
    let place = Place::with_keys();
    place.write("file", "small");
    let bucket = locking(ObjectLockRetentionMode::Compliance);
    run(&place, &format!("put -r keys/old.pub.pem file s3://{bucket}/x/")).good();
    let before = versions_of(&bucket);

    let said = run(&place, &format!("rm --versions s3://{bucket}/x/file"));
    assert_ne!(said.code, Some(0), "{said:?}");
    assert!(said.stderr.contains("is locked until 20"), "{said:?}");
    assert_eq!(versions_of(&bucket), before);

    run(&place, &format!("rm s3://{bucket}/x/file")).good();
    assert_eq!(versions_of(&bucket), before, "a delete marker hides it");
    assert_eq!(run(&place, &format!("ls s3://{bucket}/x/")).good().stdout, "");

    // The envelope is younger than what clean takes, and its container is there.
    let said = run(&place, &format!("--json clean s3://{bucket}/x/")).good();
    let lines = objects(&said.stdout);
    let summary = lines.iter().find(|line| line["type"] == "summary").unwrap();
    assert_eq!((&summary["envelopes"], &summary["failed"]), (&0.into(), &0.into()), "{said:?}");
    assert_eq!(versions_of(&bucket), before);
}
