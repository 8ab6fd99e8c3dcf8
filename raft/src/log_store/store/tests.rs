use std::path::{Path, PathBuf};

use braid_base::env::{Env, real, sim};
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::*;
use crate::log_store::Limits;
use crate::snapshot::SnapshotFile;
use crate::state_machine::StateMachine;

/// Builds empty stores on the real disk, or on simulated ones.
struct Builder {
    simulated: bool,
    limits: Limits,
}

impl Builder {
    fn disk(&self) -> (Option<TempDir>, PathBuf, Env) {
        if self.simulated {
            return (None, Path::new("/data").to_owned(), sim::env(1).0);
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        (Some(dir), path, real::env())
    }
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, Option<TempDir>> for Builder {
    async fn build(&self) -> Result<(Option<TempDir>, LogStore, StateMachine), StorageError> {
        let (guard, path, env) = self.disk();
        let files = LogFiles::open(&env.fs, &path.join("log"), self.limits).unwrap();
        let lock = env.fs.lock(&path.join("lock")).unwrap();
        let file = SnapshotFile::new(&env.fs, &path);
        let store = LogStore::new(env.spawner.clone(), files, lock);
        Ok((guard, store, StateMachine::new(env.spawner, file, None)))
    }
}

#[test]
fn openrafts_storage_suite_passes_on_the_real_disk() {
    Suite::test_all(Builder { simulated: false, limits: Limits::default() }).unwrap();
}

/// With segments so small that every test that writes more than a few entries rolls them.
#[test]
fn openrafts_storage_suite_passes_with_the_smallest_segments() {
    let limits = Limits { segment_bytes: 1, allocate_bytes: 512, spare_bytes: 1 };
    Suite::test_all(Builder { simulated: true, limits }).unwrap();
}
