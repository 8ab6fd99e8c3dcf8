use std::collections::{BTreeMap, BTreeSet};

use braid_base::env::sim;
use braid_base::model::BrokerId;
use openraft::BasicNode;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::apply::apply;
use crate::command::{
    AdmitDirectory, AllocateProducerIds, ClusterId, ClusterInit, ConfigResource, CreateShards,
    DrainBroker, FenceBroker, NewShard, SetBrokerConfigs, SetResourceConfigs, StartBroker,
};
use crate::testing::{any_command, create, hex, register, register_broker, set, topic};

fn applied() -> Applied {
    let mut image = MetadataImage::default();
    let cluster_id = ClusterId::new("abc");
    let features = BTreeMap::from([("metadata.version".to_owned(), 25)]);
    apply(&mut image, &ClusterInit { cluster_id, features }.into());
    apply(&mut image, &register(5).into());
    let mut with_configs = topic("a", 1, 300);
    with_configs.configs = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    apply(&mut image, &create(vec![with_configs]).into());
    let broker_configs =
        SetBrokerConfigs { broker: Some(BrokerId(1)), changes: vec![set("k", "v")] };
    apply(&mut image, &broker_configs.into());
    apply(&mut image, &AllocateProducerIds { count: 1000 }.into());
    image.applied_index = 7;
    let nodes = BTreeMap::from([(1, BasicNode::new(""))]);
    let membership = Membership::new(vec![BTreeSet::from([1])], nodes);
    let log_id = |index| LogId::new(CommittedLeaderId::new(2, 1), index);
    Applied {
        last: Some(log_id(7)),
        membership: StoredMembership::new(Some(log_id(1)), membership),
        image: Arc::new(image),
    }
}

/// A snapshot as it was before groups had configs: the image in its first version.
const FIRST: &str = "42724d53\
         00010000\
         060e5521\
         01000000000000000200000000000000010000000000000007\
         01000000000000000200000000000000010000000000000001\
         00000020\
         0000000100000001000000000000000100000001000000000000000100000000\
         00\
         07\
         0103616263\
         01106d657461646174612e76657273696f6e32\
         01021000000000000000000000000000000005\
         0109504c41494e54455854093132372e302e302e318447\
         00d00f\
         010001020200010201\
         01100000000000000000000000000000000101\
         61a01f010000ac0201016b0176\
         ac02\
         01010201016b0176\
         d00f";

/// What one release wrote every later one must read: these bytes never change.
#[test]
fn a_snapshot_has_the_bytes_it_always_had() {
    let mut applied = applied();
    let resource = ConfigResource::Group("g".to_owned());
    let changes = vec![set("k", "v")];
    apply(Arc::make_mut(&mut applied.image), &SetResourceConfigs { resource, changes }.into());
    let bytes = hex(&encode(&applied));
    assert_eq!(bytes[..24], *"42724d530001000030373dfb");
    // Behind the version of the image it is the first version's, then the resources.
    let version = FIRST.find("00070103616263").unwrap();
    let image = &FIRST[version + 2..];
    assert_eq!(bytes[24..], format!("{}01{image}0100016701016b0176", &FIRST[24..version]));
}

#[test]
fn a_snapshot_of_the_first_version_is_read() {
    let digits = FIRST.as_bytes().chunks(2);
    let bytes: Vec<u8> = digits
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect();
    let decoded = decode(&bytes).unwrap();
    let applied = applied();
    assert_eq!((decoded.last, decoded.image), (applied.last, applied.image));
}

/// An image with replicated shards is of a version of its own, which is never written otherwise.
#[test]
fn a_snapshot_with_shards_has_the_bytes_it_always_had() {
    let mut applied = applied();
    let image = Arc::make_mut(&mut applied.image);
    for broker in 1..4 {
        let registration = register_broker(broker, 6);
        apply(image, &StartBroker { registration, damaged: Vec::new() }.into());
    }
    let replicas = (1..4).map(BrokerId).collect();
    let shard = NewShard { replicas, in_sync_min: 2, store_id: Uuid::from_u128(9) };
    apply(image, &CreateShards { shards: vec![shard] }.into());
    let incarnation = Uuid::from_u128(6);
    for broker in [BrokerId(2), BrokerId(3)] {
        apply(image, &FenceBroker { broker, incarnation, fenced: true }.into());
    }
    apply(image, &DrainBroker { broker: BrokerId(1), incarnation }.into());
    let directory = Uuid::from_u128(7);
    apply(image, &AdmitDirectory { node: BrokerId(2), directory }.into());
    let bytes = hex(&encode(&applied));
    let version = FIRST.find("00070103616263").unwrap();
    assert_eq!(bytes[version..version + 16], *"0307010361626301");
    let behind = bytes.rfind("d00f00").unwrap() + 6;
    let golden = "03\
         02010001\
         04010100\
         06010100\
         01\
         01\
         1000000000000000000000000000000009\
         03020406\
         02\
         02\
         010201\
         030102\
         0106\
         01041000000000000000000000000000000007\
         0104";
    assert_eq!(bytes[behind..], *golden);
    assert_eq!(decode(&encode(&applied)).unwrap().image, applied.image);
}

#[test]
fn an_empty_state_survives_its_snapshot() {
    let decoded = decode(&encode(&Applied::default())).unwrap();
    assert_eq!(decoded.last, None);
    assert_eq!(decoded.membership, StoredMembership::default());
    assert_eq!(*decoded.image, MetadataImage::default());
}

#[test]
fn no_flipped_bit_and_no_missing_end_goes_unseen() {
    let bytes = encode(&applied());
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // Two bytes are reserved.
        assert!(decode(&damaged).is_err() || (48..64).contains(&bit), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(decode(&bytes[..len]).is_err(), "{len}");
    }
}

#[test]
fn a_snapshot_of_a_newer_version_says_so() {
    let mut bytes = encode(&applied());
    bytes[5] = 2;
    assert!(matches!(decode(&bytes), Err(SnapshotFormatError::Version(2))));
}

#[test]
fn a_power_cut_while_replacing_leaves_the_old_snapshot_or_the_new() {
    let new = encode(&applied());
    let old = encode(&Applied::default());
    let (env, machine) = sim::env(1);
    env.fs.create_dir_all(Path::new("/d")).unwrap();
    env.fs.sync_dir(Path::new("/")).unwrap();
    let file = |fs: &Arc<dyn Fs>| SnapshotFile::new(fs, Path::new("/d"));
    file(&env.fs).write(None, &old).unwrap();
    let (env, machine) = machine.restart();
    let before = machine.fs.operations();
    let mut whole = 0;
    for operation in 1..=8 {
        for seed in 0..16 {
            let (env, machine) = machine.clone().restart();
            machine.fs.cut_at(before + operation);
            let written = file(&env.fs).write(None, &new).is_ok();
            let (env, _) = machine.reboot(seed);
            let left = file(&env.fs).read().unwrap().unwrap();
            assert!(left == new || (left == old && !written), "cut at {operation}, seed {seed}");
            whole += usize::from(left == new);
        }
    }
    drop(env);
    assert!(whole > 0);
}

#[test]
fn an_older_snapshot_does_not_replace_a_newer_one() {
    let (env, _machine) = sim::env(1);
    let file = SnapshotFile::new(&env.fs, Path::new("/"));
    let id = |index| Some(LogId::new(CommittedLeaderId::new(2, 1), index));
    file.write(id(7), b"seven").unwrap();
    file.clone().write(id(6), b"six").unwrap();
    assert_eq!(file.read().unwrap().unwrap(), b"seven");
    file.write(id(8), b"eight").unwrap();
    assert_eq!(file.read().unwrap().unwrap(), b"eight");
}

proptest! {
    #[test]
    fn any_bytes_are_a_snapshot_or_refused(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        whole in any::<bool>(),
    ) {
        // Half of them with a good head, so that the content is looked at.
        if whole && bytes.len() > HEAD_LEN {
            let sum = crc32fast::hash(&bytes[HEAD_LEN..]);
            bytes[..8].copy_from_slice(b"BrMS\x00\x01\x00\x00");
            bytes[8..12].copy_from_slice(&sum.to_be_bytes());
        }
        drop(decode(&bytes));
    }

    #[test]
    fn any_image_survives_its_snapshot(commands in proptest::collection::vec(any_command(), 0..40)) {
        let mut image = MetadataImage::default();
        apply(&mut image, &register(1).into());
        commands.iter().for_each(|command| drop(apply(&mut image, command)));
        let applied = Applied { image: Arc::new(image), ..applied() };
        let decoded = decode(&encode(&applied)).unwrap();
        prop_assert_eq!(decoded.image, applied.image);
        prop_assert_eq!(decoded.last, applied.last);
        prop_assert_eq!(decoded.membership, applied.membership);
    }
}
