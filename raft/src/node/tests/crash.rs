//! The whole node on a disk that is cut, fills up or fails.

use braid_base::env::sim::{Fault, SimHandles};

use super::*;
use crate::apply::apply;
use crate::command::MetadataCommand;

/// So small that the workload rolls segments and takes several snapshots.
const LIMITS: Limits = Limits { segment_bytes: 700, allocate_bytes: 1024, spare_bytes: 256 };
const POLICY: SnapshotPolicy = SnapshotPolicy { debt_bytes_min: 500 };

async fn open_on(env: &Env) -> Result<MetadataNode, OpenError> {
    MetadataNode::open_with(env, config(Path::new("/data")), LIMITS, POLICY).await
}

fn workload() -> Vec<MetadataCommand> {
    let mut commands = vec![register(1).into()];
    for round in 0..14u128 {
        let name = format!("topic-{round}");
        commands.push(create(vec![topic(&name, 10 + round, 2)]).into());
        if round % 3 == 2 {
            commands.push(DeleteTopics { topics: vec![topic_id(10 + round - 1)] }.into());
            commands.push(AllocateProducerIds { count: 10 }.into());
        }
    }
    commands
}

async fn propose(node: &MetadataNode, command: &MetadataCommand) -> Result<(), ProposeError> {
    match command.clone() {
        MetadataCommand::RegisterBroker(it) => drop(node.propose(it).await?),
        MetadataCommand::CreateTopics(it) => drop(node.propose(it).await?),
        MetadataCommand::DeleteTopics(it) => drop(node.propose(it).await?),
        MetadataCommand::AllocateProducerIds(it) => drop(node.propose(it).await?),
        other => panic!("not in the workload: {other:?}"),
    }
    Ok(())
}

/// The node's image without what differs between runs.
fn text(image: &MetadataImage) -> String {
    let text = image.to_string();
    text.lines().filter(|line| !line.starts_with("cluster")).collect::<Vec<_>>().join("\n")
}

/// The images after none, one, two … of the commands.
fn images() -> Vec<String> {
    let mut image = MetadataImage::default();
    let features = BTreeMap::from([("metadata.version".to_owned(), 25)]);
    apply(&mut image, &ClusterInit { cluster_id: ClusterId::new("any"), features }.into());
    let mut images = vec![text(&image)];
    for command in workload() {
        apply(&mut image, &command);
        images.push(text(&image));
    }
    images
}

/// Proposes the workload until something fails; the number acknowledged.
async fn run(env: &Env) -> usize {
    let Ok(node) = open_on(env).await else { return 0 };
    let mut acknowledged = 0;
    for command in workload() {
        if propose(&node, &command).await.is_err() {
            break;
        }
        acknowledged += 1;
    }
    acknowledged
}

/// Runs a fresh machine until `operation` is cut.
async fn cut_at(operation: u64) -> (usize, SimHandles) {
    let (env, machine) = sim::env(operation);
    machine.fs.cut_at(operation);
    (run(&env).await, machine)
}

fn in_runtime<T>(future: impl Future<Output = T>) -> T {
    // A runtime of its own: when it is dropped nothing of the node is left running.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(future)
}

fn operations_of_workload() -> u64 {
    in_runtime(async {
        let (env, machine) = sim::env(0);
        assert_eq!(run(&env).await, workload().len());
        let files = env.fs.list(Path::new("/data/metadata")).unwrap();
        assert!(files.iter().any(|file| file.name == "snapshot"), "no snapshot was taken");
        assert_eq!(machine.fs.violations(), Vec::<String>::new());
        machine.fs.operations()
    })
}

/// Opens the next life and finds a prefix of the workload that has all that was acknowledged.
async fn check(env: &Env, acknowledged: usize, images: &[String], what: &str) {
    let node = open_on(env).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = text(&node.image());
    let at = images.iter().position(|image| *image == found);
    let at = at.unwrap_or_else(|| panic!("{what}: an image that never was:\n{found}"));
    assert!(
        (acknowledged..=acknowledged + 1).contains(&at),
        "{what}: {acknowledged} commands were acknowledged, {at} are there"
    );
    // It goes on from there, and that lasts.
    let next = AllocateProducerIds { count: 1 };
    let first = node.propose(next.clone()).await.unwrap().unwrap().first;
    node.shutdown().await;
    let node = open_on(env).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(node.propose(next).await.unwrap().unwrap().first, first + 1, "{what}");
    node.shutdown().await;
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_operation() {
    let images = images();
    let operations = operations_of_workload();
    assert!(operations > 80, "{operations}");
    for operation in 1..=operations {
        for seed in 0..3 {
            let (acknowledged, machine) = in_runtime(cut_at(operation));
            let (env, _) = machine.reboot(seed);
            let what = format!("power cut at {operation} of {operations}, seed {seed}");
            in_runtime(check(&env, acknowledged, &images, &what));
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_operation() {
    let images = images();
    let operations = operations_of_workload();
    for operation in 1..=operations {
        let (acknowledged, machine) = in_runtime(cut_at(operation));
        let (env, _) = machine.restart();
        let what = format!("killed at {operation} of {operations}");
        in_runtime(check(&env, acknowledged, &images, &what));
    }
}

#[test]
fn a_failing_disk_ends_the_node_and_loses_nothing_acknowledged() {
    let images = images();
    let operations = operations_of_workload();
    for operation in 1..=operations {
        let (acknowledged, failed, machine) = in_runtime(async {
            let (env, machine) = sim::env(operation);
            machine.fs.fail_at(operation, Fault::Eio);
            let Ok(node) = open_on(&env).await else { return (0, true, machine) };
            let mut acknowledged = 0;
            for command in workload() {
                if propose(&node, &command).await.is_err() {
                    // The failure is told to whoever ends the process.
                    let failed = tokio::time::timeout(Duration::from_secs(60), node.failed());
                    return (acknowledged, failed.await.is_ok(), machine);
                }
                acknowledged += 1;
            }
            (acknowledged, true, machine)
        });
        assert!(failed, "the disk failed at {operation}, and nobody was told");
        // The next process finds the system's memory as it was; then the power goes, too.
        let (env, machine) = machine.restart();
        let what = format!("disk failed at {operation} of {operations}");
        let reported = in_runtime(async {
            let node = open_on(&env).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            text(&node.image())
        });
        let reported = images.iter().position(|image| *image == reported).unwrap();
        let (env, _) = machine.reboot(operation);
        in_runtime(check(&env, acknowledged.max(reported), &images, &what));
    }
}

#[test]
fn a_full_disk_refuses_new_topics_and_resumes_by_itself() {
    in_runtime(async {
        let (env, machine) = sim::env(1);
        let limits = Limits { spare_bytes: 4096, ..LIMITS };
        let open = || MetadataNode::open_with(&env, config(Path::new("/data")), limits, POLICY);
        let node = open().await.unwrap();
        node.propose(register(1)).await.unwrap().unwrap();
        drop(node.propose(create(vec![topic("a", 1, 1)])).await.unwrap());
        machine.fs.set_capacity(Some(machine.fs.used_bytes()));
        let mut index = 2;
        let refused = loop {
            let new = create(vec![topic(&format!("t{index}"), index, 1)]);
            match node.propose(new).await {
                Ok(created) => assert!(created[0].is_ok()),
                Err(error) => break error,
            }
            index += 1;
        };
        assert_eq!(refused, ProposeError::DiskFull);
        assert!(node.image().topic(&format!("t{index}")).is_none());
        // Deleting is how room is made, so it is not refused.
        assert_eq!(
            node.propose(DeleteTopics { topics: vec![topic_id(1)] }).await.unwrap(),
            [Ok(())]
        );
        // A restart on the full disk comes up with everything and can register its broker.
        node.shutdown().await;
        let node = open().await.unwrap();
        assert!(node.image().topic("a").is_none());
        node.propose(register(2)).await.unwrap().unwrap();
        let new = create(vec![topic("late", 1_000, 1)]);
        assert_eq!(node.propose(new.clone()).await, Err(ProposeError::DiskFull));
        machine.fs.set_capacity(None);
        assert!(node.propose(new).await.unwrap()[0].is_ok());
        node.shutdown().await;
    });
}

#[test]
fn a_full_disk_postpones_the_snapshot_and_the_node_lives_on() {
    in_runtime(async {
        let (env, machine) = sim::env(1);
        let limits = Limits { segment_bytes: 1 << 20, allocate_bytes: 1 << 20, ..LIMITS };
        let dir = config(Path::new("/data"));
        let node = MetadataNode::open_with(&env, dir, limits, POLICY).await.unwrap();
        node.propose(register(1)).await.unwrap().unwrap();
        machine.fs.set_capacity(Some(machine.fs.used_bytes()));
        let create_one = async |index: u128| {
            let new = create(vec![topic(&format!("t{index}"), index, 1)]);
            assert!(node.propose(new).await.unwrap()[0].is_ok());
        };
        for index in 1..100 {
            create_one(index).await;
        }
        let snapshot = Path::new("/data/metadata/snapshot");
        assert_eq!(env.fs.size(snapshot).unwrap(), None);
        machine.fs.set_capacity(None);
        for index in 100..200 {
            create_one(index).await;
        }
        assert!(env.fs.size(snapshot).unwrap().is_some());
        node.shutdown().await;
    });
}
