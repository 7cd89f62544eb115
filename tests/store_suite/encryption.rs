//! Encryption by the service: with keys of its own, and with one that every request brings.

use sidekey::store::{CustomerKey, Encryption, PutOptions, Store};

use super::*;

fn key(seed: u8) -> CustomerKey {
    CustomerKey::new(&[seed; 32], Some(format!("{seed:032x}")))
}

fn under(encryption: Encryption) -> PutOptions {
    PutOptions { encryption: Some(encryption), ..PutOptions::default() }
}

fn with(customer_key: Option<CustomerKey>, version: Option<VersionId>) -> GetOptions {
    GetOptions { customer_key, version, ..GetOptions::default() }
}

async fn takes_keys(store: &dyn Store) -> bool {
    store.capabilities().await.unwrap().customer_keys
}

/// Without its key, and with another one, nothing of it is read.
async fn assert_locked(store: &dyn Store, key_of_object: &str, version: Option<VersionId>) {
    for wrong in [None, Some(key(99))] {
        let options = GetOptions { range: Some(0..4), ..with(wrong.clone(), version.clone()) };
        assert_kind(store.get(key_of_object, &options).await, ErrorKind::Auth);
        assert_kind(store.get(key_of_object, &with(wrong, version.clone())).await, ErrorKind::Auth);
    }
}

pub(crate) async fn a_customers_key_is_asked_for(store: &dyn Store, prefix: &str) {
    if !takes_keys(store).await {
        return;
    }
    let (name, body) = (format!("{prefix}object"), noise(7, 10_000));
    let info = info(&[("sidekey-id", "00112233445566778899aabbccddeeff")]);
    let options = PutOptions { info, size: Some(10_000), ..under(Encryption::Customer(key(1))) };
    let version = store.put(&name, body.clone(), &options).await.unwrap().version;
    for version in [None, Some(version.clone())] {
        assert!(read_as(store, &name, with(Some(key(1)), version.clone())).await.unwrap() == body);
        let range = GetOptions { range: Some(5_000..5_010), ..with(Some(key(1)), version.clone()) };
        assert_eq!(read_as(store, &name, range).await.unwrap(), body[5_000..5_010]);
        assert_locked(store, &name, version).await;
    }
    // When nobody knows whether it was written, it is looked for with its key.
    let new = format!("{prefix}new");
    let options = PutOptions { only_if: OnlyIf::Absent, ..under(Encryption::Customer(key(1))) };
    let created = store.put(&new, body.clone(), &options).await.unwrap().version;
    assert!(read_as(store, &new, with(Some(key(1)), Some(created))).await.unwrap() == body);
    if store.conditions().await.unwrap().create_new {
        assert_kind(store.put(&new, "another".into(), &options).await, ErrorKind::Conflict);
    }
    assert_eq!(versions(store, &new).await.len(), 1);
    // What it is can be seen without.
    let stat = store.stat(&name, None).await.unwrap();
    assert_eq!((stat.size, &stat.version), (10_000, &version));
    assert_eq!(versions(store, &name).await.len(), 1);
}

pub(crate) async fn an_upload_is_under_a_customers_key(store: &dyn Store, prefix: &str) {
    if !takes_keys(store).await {
        return;
    }
    let (name, capabilities) = (format!("{prefix}object"), store.capabilities().await.unwrap());
    let len = capabilities.min_part.clamp(4096.min(capabilities.max_part), capabilities.max_part) as usize;
    let body = noise(8, len + 77);
    let upload = store.upload(&name, &under(Encryption::Customer(key(1)))).await.unwrap();
    upload.part(1, body.slice(..len)).await.unwrap();
    upload.part(2, body.slice(len..)).await.unwrap();
    upload.complete(2).await.unwrap();
    assert!(read_as(store, &name, with(Some(key(1)), None)).await.unwrap() == body);
    assert_locked(store, &name, None).await;
}

pub(crate) async fn copies_need_the_keys_of_both_sides(store: &dyn Store, prefix: &str) {
    if !takes_keys(store).await {
        return;
    }
    let body = noise(9, 5_000);
    let name = |what: &str| format!("{prefix}{what}");
    let source = name("under-1");
    store.put(&source, body.clone(), &under(Encryption::Customer(key(1)))).await.unwrap();
    put(store, &name("plain"), body.clone()).await;

    for wrong in [None, Some(key(99))] {
        let options = PutOptions { source_key: wrong, ..PutOptions::default() };
        assert_kind(store.copy(&source, None, &name("refused"), &options).await, ErrorKind::Auth);
        assert!(!is_there(store, &name("refused")).await);
    }
    let options = PutOptions { source_key: Some(key(1)), ..PutOptions::default() };
    store.copy(&source, None, &name("opened"), &options).await.unwrap();
    assert!(read(store, &name("opened")).await.unwrap() == body);

    let options = PutOptions { source_key: Some(key(1)), ..under(Encryption::Customer(key(2))) };
    store.copy(&source, None, &name("under-2"), &options).await.unwrap();
    assert!(read_as(store, &name("under-2"), with(Some(key(2)), None)).await.unwrap() == body);
    assert_kind(store.get(&name("under-2"), &with(Some(key(1)), None)).await, ErrorKind::Auth);

    store.copy(&name("plain"), None, &name("locked"), &under(Encryption::Customer(key(3)))).await.unwrap();
    assert!(read_as(store, &name("locked"), with(Some(key(3)), None)).await.unwrap() == body);
    assert_locked(store, &name("locked"), None).await;
}

pub(crate) async fn versions_have_keys_of_their_own(store: &dyn Store, prefix: &str) {
    let capabilities = store.capabilities().await.unwrap();
    if !capabilities.customer_keys || !capabilities.versions {
        return;
    }
    let name = format!("{prefix}object");
    let mut written = vec![];
    for seed in [1, 2] {
        let options = under(Encryption::Customer(key(seed)));
        written.push(store.put(&name, noise(seed.into(), 100), &options).await.unwrap().version);
    }
    let plain = put(store, &name, "plain").await;
    for (seed, version) in [1, 2].into_iter().zip(&written) {
        let read = read_as(store, &name, with(Some(key(seed)), Some(version.clone()))).await.unwrap();
        assert!(read == noise(seed.into(), 100));
        assert_kind(
            store.get(&name, &with(Some(key(3 - seed)), Some(version.clone()))).await,
            ErrorKind::Auth,
        );
    }
    assert_eq!(read_version(store, &name, &plain).await.unwrap(), "plain");
}

pub(crate) async fn a_key_of_the_service_is_no_business_of_readers(store: &dyn Store, prefix: &str) {
    let (name, body) = (format!("{prefix}object"), noise(10, 3_000));
    store.put(&name, body.clone(), &under(Encryption::Service)).await.unwrap();
    assert!(read(store, &name).await.unwrap() == body);
    let upload = store.upload(&name, &under(Encryption::Service)).await.unwrap();
    upload.part(1, "in parts".into()).await.unwrap();
    upload.complete(1).await.unwrap();
    assert_eq!(read(store, &name).await.unwrap(), "in parts");
    let copy = format!("{prefix}copy");
    store.copy(&name, None, &copy, &under(Encryption::Service)).await.unwrap();
    assert_eq!(read(store, &copy).await.unwrap(), "in parts");
}
