//! `dump` and `check` on directories in every state.

use super::support::*;
use crate::env::fs::Fs;
use crate::env::sim::SimFs;
use crate::model::{LeaderEpoch, Offset, Position, QueueId};
use crate::store::{
    CheckReport, DamageReason, DumpSpec, InspectError, Problem, Store, check, dump,
};

const Q: QueueId = QueueId(1);

fn stored(fs: &SimFs, batches: u8) -> Store {
    let store = open_inline(&sim_env(fs), tiny(&sim_dir()));
    let log = store.handle();
    log.open_queue(Q);
    log.open_queue(QueueId(2));
    for i in 0..batches {
        append(&log, 1 + u32::from(i % 2), 3, &[i; 500]).unwrap();
        write_all(&store);
        store.maintain().unwrap();
    }
    store
}

fn checked(fs: &SimFs) -> CheckReport {
    check(&sim_env(fs), &sim_dir()).unwrap()
}

fn dumped(fs: &SimFs, spec: DumpSpec) -> String {
    let mut out = Vec::new();
    dump(&sim_env(fs), &sim_dir(), spec, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_dump_names_every_frame() {
    let fs = SimFs::new(1);
    let store = stored(&fs, 2);
    let log = store.handle();
    log.set_log_start(Q, Offset(2)).unwrap();
    log.start_epoch(LeaderEpoch(4)).unwrap();
    log.drop_queue(QueueId(2)).unwrap();
    write_all(&store);
    let refused = dump(&sim_env(&fs), &sim_dir(), DumpSpec::default(), &mut Vec::new());
    assert!(matches!(refused, Err(InspectError::InUse { .. })));
    let fs = fs.restart();
    let expected = "\
segment /data/0/00000000000000000000.log 16384 bytes
             0 start epoch 0 generation 1 time 1700000000000 durable 0 whole
            72 data queue 1 offsets 0..3 length 561 epoch 0 generation 1 time 1700000000000 durable 72 whole
           712 data queue 2 offsets 0..3 length 561 epoch 0 generation 1 time 1700000000000 durable 712 whole
          1352 log start queue 1 at 2 epoch 0 generation 1 time 1700000000000 durable 1352 whole
          1424 epoch start epoch 4 generation 1 time 1700000000000 durable 1352 whole
          1496 queue 2 dropped epoch 4 generation 1 time 1700000000000 durable 1352 whole
          1568 end of the log
";
    assert_eq!(dumped(&fs, DumpSpec::default()), expected);
    let one = DumpSpec { queue: Some(Q), from: Position(72), count_max: Some(1) };
    assert_eq!(dumped(&fs, one).lines().count(), 2);
    assert!(dumped(&fs, one).contains("data queue 1 offsets 0..3"));
}

#[test]
fn a_check_of_a_healthy_directory_reads_all_and_finds_nothing() {
    for clean in [true, false] {
        let fs = SimFs::new(1);
        let store = stored(&fs, 100);
        let end = store.handle().appended();
        if clean {
            store.close().unwrap();
        } else {
            drop(store);
        }
        let report = checked(&fs);
        assert_eq!(report.findings, []);
        assert!(report.segments >= 4 && report.frames >= 100 && report.bytes == 100 * 561);
        assert_eq!(report.end, end);
    }
}

#[test]
fn a_check_names_what_is_damaged_and_where() {
    let fs = SimFs::new(1);
    stored(&fs, 100).close().unwrap();
    let log = sim_dir().join("00000000000000016384.log");
    let index = sim_dir().join("00000000000000016384.index");
    let found = |fs: &SimFs| -> Vec<(String, Problem)> {
        let name = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let findings = checked(fs).findings;
        findings.iter().map(|finding| (name(&finding.path), finding.problem)).collect()
    };
    let named = |problem| vec![("00000000000000016384.log".to_owned(), problem)];
    let of_index = |problem| vec![("00000000000000016384.index".to_owned(), problem)];

    fs.flip_bit(&log, 200, 1).unwrap();
    assert_eq!(found(&fs), named(Problem::Damage(DamageReason::Body)));
    fs.flip_bit(&log, 200, 1).unwrap();
    fs.flip_bit(&log, 8, 1).unwrap();
    let both = [named(Problem::Damage(DamageReason::Header)), of_index(Problem::IndexDiffers)];
    assert_eq!(found(&fs), both.concat());
    fs.flip_bit(&log, 8, 1).unwrap();
    fs.flip_bit(&index, 4100, 1).unwrap();
    assert_eq!(found(&fs), of_index(Problem::Checksum));
    fs.remove(&index).unwrap();
    assert_eq!(found(&fs), [], "the next start makes it again");
    fs.rename(&log, &sim_dir().join("gone")).unwrap();
    assert_eq!(found(&fs), named(Problem::Missing));
}

#[test]
fn a_directory_that_is_no_store_is_said_to_be_none() {
    let fs = SimFs::new(1);
    fs.create_dir_all(&sim_dir()).unwrap();
    let checked = check(&sim_env(&fs), &sim_dir());
    assert!(matches!(checked, Err(InspectError::NoStore { .. })));
    assert_eq!(fs.list(&sim_dir()).unwrap(), [], "looking leaves no trace");
}
