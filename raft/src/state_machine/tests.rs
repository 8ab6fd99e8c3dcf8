use braid_base::env::sim;
use openraft::CommittedLeaderId;
use proptest::prelude::*;

use super::*;
use crate::command::MetadataCommand;
use crate::testing::{any_command, register};
use crate::types::Proposal;

fn entries(commands: &[MetadataCommand]) -> Vec<Entry> {
    let entry = |(index, command): (u64, &MetadataCommand)| Entry {
        log_id: LogId::new(CommittedLeaderId::new(1, 1), index),
        payload: EntryPayload::Normal(Proposal::new(vec![(command.clone(), command.encode())])),
    };
    (1..).zip(commands).map(entry).collect()
}

fn machine() -> (StateMachine, sim::SimHandles) {
    let (env, handles) = sim::env(1);
    let unsynced = crate::dirs::create(&*env.fs, std::path::Path::new("/d")).unwrap();
    crate::dirs::sync(&*env.fs, &unsynced).unwrap();
    let file = SnapshotFile::new(&env.fs, std::path::Path::new("/d"));
    let snapshot = file.load().unwrap();
    (StateMachine::new(env.spawner, file, snapshot), handles)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_with_the_rest_of_the_log_is_the_whole_log(
        commands in proptest::collection::vec(any_command(), 0..40),
        at in any::<prop::sample::Index>(),
    ) {
        run(async {
            let mut commands = commands;
            commands.insert(0, register(1).into());
            let entries = entries(&commands);
            let (before, after) = entries.split_at(at.index(entries.len() + 1));

            let (mut whole, _) = machine();
            whole.apply(entries.clone()).await.unwrap();

            let (mut first, handles) = machine();
            first.apply(before.to_vec()).await.unwrap();
            let built = first.get_snapshot_builder().await.build_snapshot().await.unwrap();

            // In another node that gets it from this one, and after a restart of this one.
            let (mut installed, _) = machine();
            installed.install_snapshot(&built.meta, built.snapshot).await.unwrap();
            let (env, _) = handles.reboot(7);
            let file = SnapshotFile::new(&env.fs, std::path::Path::new("/d"));
            let loaded = file.load().unwrap();
            let mut restarted = StateMachine::new(env.spawner, file, loaded);

            let wanted = whole.applied_state().await.unwrap();
            for machine in [&mut installed, &mut restarted] {
                machine.apply(after.to_vec()).await.unwrap();
                assert_eq!(machine.applied_state().await.unwrap(), wanted);
                assert_eq!(machine.image, whole.image);
            }
        });
    }
}

#[test]
fn a_snapshot_made_ahead_is_the_next_one_built() {
    run(async {
        let (mut machine, _) = machine();
        let commands = entries(&[register(1).into(), register(2).into()]);
        machine.apply(commands[..1].to_vec()).await.unwrap();
        machine.shared().prepare_snapshot().await.unwrap();
        assert_eq!(machine.shared().snapshot_debt().0, 0);
        machine.apply(commands[1..].to_vec()).await.unwrap();
        let mut builder = machine.get_snapshot_builder().await;
        let ahead = builder.build_snapshot().await.unwrap();
        assert_eq!(ahead.meta.last_log_id.unwrap().index, 1);
        let next = builder.build_snapshot().await.unwrap();
        assert_eq!(next.meta.last_log_id.unwrap().index, 2);
        let current = machine.get_current_snapshot().await.unwrap().unwrap();
        assert_eq!(current.meta, next.meta);
        assert_eq!(current.snapshot.into_inner(), next.snapshot.into_inner());
    });
}

#[test]
fn every_image_is_published_with_its_index() {
    run(async {
        let (mut machine, _) = machine();
        let mut watch = machine.shared().watch();
        assert_eq!(watch.borrow_and_update().applied_index(), 0);
        machine.apply(entries(&[register(1).into(), register(2).into()])).await.unwrap();
        assert!(watch.has_changed().unwrap());
        assert_eq!(watch.borrow_and_update().applied_index(), 2);
        assert_eq!(machine.shared().image().applied_index(), 2);
    });
}
