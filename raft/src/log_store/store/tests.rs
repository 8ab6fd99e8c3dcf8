use braid_base::env::real;
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::*;
use crate::log_store::Limits;
use crate::snapshot::SnapshotFile;
use crate::state_machine::StateMachine;

/// Builds stores in directories of their own, with segments so small that every test of the
/// suite that writes more than a few entries rolls them.
struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let env = real::env();
        let limits = Limits { segment_bytes: 256, allocate_bytes: 512, spare_bytes: 128 };
        let files = LogFiles::open(&env.fs, &dir.path().join("log"), limits).unwrap();
        let file = SnapshotFile::new(&env.fs, dir.path());
        Ok((
            dir,
            LogStore::new(env.spawner.clone(), files),
            StateMachine::new(env.spawner.clone(), file, None),
        ))
    }
}

#[test]
fn openrafts_storage_suite_passes() {
    Suite::test_all(Builder).unwrap();
}
