//! Whole containers in memory: sealing and opening 64 MiB with one thread and with two.

use std::io::{Cursor, sink};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sidekey::DataId;
use sidekey::format::HEADER_LEN;
use sidekey::open::{Opener, read_header};
use sidekey::random::OsRandom;
use sidekey::seal::{SealOptions, seal};
use sidekey::secret::FileKey;

const LEN: usize = 64 << 20;

fn container(bench: &mut Criterion) {
    let file_key = FileKey::from_bytes(&[7; 32]);
    let plain = vec![0x5a; LEN];
    let mut sealed = Vec::new();
    seal(&file_key, DataId([1; 16]), None, &*plain, &mut sealed, &OsRandom, &SealOptions::default()).unwrap();

    let mut group = bench.benchmark_group("container");
    group.sample_size(10).throughput(Throughput::Bytes(LEN as u64));
    for threads in [1, 2] {
        let mut options = SealOptions::default();
        options.threads = threads;
        group.bench_function(format!("seal, {threads} threads"), |run| {
            run.iter(|| {
                // The same key again: nobody ever sees both outputs.
                seal(&file_key, DataId([1; 16]), None, &*plain, sink(), &OsRandom, &options).unwrap()
            });
        });
        group.bench_function(format!("open, {threads} threads"), |run| {
            run.iter(|| {
                let header = read_header(&mut &*sealed).unwrap();
                let opener = Opener::new(header, &file_key).unwrap();

                let end = opener.end(&mut Cursor::new(&sealed), sealed.len() as u64).unwrap();
                opener.copy(&sealed[HEADER_LEN..], sink(), Some(&end), threads).unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, container);
criterion_main!(benches);
