//! The server of the B2 tests, as these tests reach it.

use serde_json::json;

use crate::server::World;

#[test]
fn worlds_know_nothing_of_each_other() {
    let (one, other) = (World::with_small_parts(), World::new(&json!({ "bucket": "a-bucket" })));
    assert_ne!((&one.url, &one.key_id, &one.key), (&other.url, &other.key_id, &other.key));
    assert_eq!(other.bucket, "a-bucket");
    one.fault("*", 1, "internal_error");
    assert_eq!(other.calls().all() + one.calls().all() + one.versions().len() as u64, 0);
    let key = one.new_key(&["readFiles"], "a/");
    assert!(key.key_id != one.key_id && key.key.starts_with("K005"), "{key:?}");
}
