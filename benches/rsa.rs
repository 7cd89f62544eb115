//! RSA key unwrapping, per operation: aws-lc-rs, which the product uses, beside the `rsa` crate, which the tests use.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rsa::pkcs8::DecodePrivateKey;
use rsa::rand_core::OsRng;
use rsa::{Oaep, RsaPrivateKey, sha2::Sha256};
use sidekey::DataId;
use sidekey::crypto::rsa::{PrivateKey, oaep_label};

fn unwrap(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("rsa unwrap");
    group.sample_size(10);
    let data_id = DataId([3; 16]);
    for bits in [2048, 3072, 4096] {
        let key = PrivateKey::generate(bits).unwrap();
        let wrapped = key.public().wrap(&[9; 32], &data_id).unwrap();
        group.bench_function(BenchmarkId::new("aws-lc-rs", bits), |run| {
            run.iter(|| key.unwrap(&wrapped, &data_id).unwrap());
        });
        let other = RsaPrivateKey::from_pkcs8_der(key.to_pkcs8_der().unwrap().expose()).unwrap();
        let label: String = oaep_label(&data_id).iter().map(|&byte| char::from(byte)).collect();
        group.bench_function(BenchmarkId::new("rsa crate, blinded", bits), |run| {
            let padding = || Oaep::new_with_label::<Sha256, _>(label.clone());
            run.iter(|| other.decrypt_blinded(&mut OsRng, padding(), &wrapped).unwrap());
        });
    }
    group.finish();
}

fn wrap(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("rsa wrap");
    let data_id = DataId([3; 16]);
    for bits in [2048, 3072, 4096] {
        let key = PrivateKey::generate(bits).unwrap();
        group.bench_function(BenchmarkId::new("aws-lc-rs", bits), |run| {
            run.iter(|| key.public().wrap(&[9; 32], &data_id).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, unwrap, wrap);
criterion_main!(benches);
