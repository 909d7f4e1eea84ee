//! Cases under criterion.

use criterion::{BatchSize, Criterion, Throughput};

use crate::case::Case;

pub(crate) fn time(criterion: &mut Criterion, cases: Vec<Case>) {
    for Case { name, size, mut step, mut between } in cases {
        let (group, what) = name.split_once('/').expect("a case is called group/what");
        let mut group = criterion.benchmark_group(group);
        if size.bytes > 0 {
            group.throughput(Throughput::Bytes(size.bytes as u64));
        } else if size.each > 1 {
            group.throughput(Throughput::Elements(size.each as u64));
        }
        group.bench_function(what, |bencher| match &mut between {
            Some(between) => bencher.iter_batched(between, |()| step(), BatchSize::PerIteration),
            None => bencher.iter(&mut step),
        });
        group.finish();
    }
}
