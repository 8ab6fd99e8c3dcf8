use std::collections::BTreeSet;

use braid_base::model::{BrokerId, LeaderEpoch, ShardId};
use proptest::prelude::*;

use super::*;
use crate::shard::{Proposal, Replica};
use crate::testing::{any_command, create, hex, on_broker_1, register, set, topic, topic_id};

/// What the log of a release may hold must be read by every later one: these bytes never change.
#[test]
fn every_command_has_the_bytes_it_always_had() {
    let golden: Vec<(MetadataCommand, &str)> = vec![
        (
            ClusterInit {
                cluster_id: ClusterId::new("abc"),
                features: BTreeMap::from([("metadata.version".to_owned(), 25)]),
            }
            .into(),
            "00036162630110\
             6d657461646174612e76657273696f6e32",
        ),
        (
            register(5).into(),
            "0102\
             10\
             00000000000000000000000000000005\
             0109504c41494e54455854093132372e302e302e318447\
             00d00f",
        ),
        (
            create(vec![topic("a", 1, 3)]).into(),
            "0201\
             0161\
             1000000000000000000000000000000001\
             01030102\
             00a01f",
        ),
        (
            DeleteTopics { topics: vec![topic_id(1)] }.into(),
            "03011000000000000000000000000000000001",
        ),
        (
            CreatePartitions { topic: topic_id(1), expected_count: 3, added: on_broker_1(200) }
                .into(),
            "04100000000000000000000000000000000103\
             01c8010102",
        ),
        (
            SetTopicConfigs {
                topic: topic_id(1),
                changes: vec![set("k", "v"), ConfigChange { key: "d".to_owned(), value: None }],
            }
            .into(),
            "051000000000000000000000000000000001\
             02016b010176016400",
        ),
        (
            SetBrokerConfigs { broker: Some(BrokerId(-1)), changes: vec![set("k", "v")] }.into(),
            "060101\
             01016b010176",
        ),
        (SetBrokerConfigs { broker: None, changes: vec![] }.into(), "060000"),
        (AllocateProducerIds { count: 1000 }.into(), "07e807"),
        (
            SetResourceConfigs {
                resource: ConfigResource::Group("g".to_owned()),
                changes: vec![set("k", "v")],
            }
            .into(),
            "08000167\
             01016b010176",
        ),
        (
            SetResourceConfigs {
                resource: ConfigResource::ClientMetrics("m".to_owned()),
                changes: vec![],
            }
            .into(),
            "0801016d00",
        ),
        (
            FenceBroker { broker: BrokerId(1), incarnation: Uuid::from_u128(5), fenced: true }
                .into(),
            "0902\
             10\
             00000000000000000000000000000005\
             01",
        ),
        (
            CreateShards {
                shards: vec![NewShard {
                    replicas: vec![BrokerId(1), BrokerId(2)],
                    in_sync_min: 2,
                    store_id: Uuid::from_u128(5),
                }],
            }
            .into(),
            "0a01\
             02020402\
             1000000000000000000000000000000005",
        ),
        (
            ChangeSyncSet {
                shard: ShardId(3),
                proposal: Proposal {
                    leader: Replica { broker: BrokerId(1), incarnation: 300 },
                    epoch: LeaderEpoch(4),
                    version: 5,
                    members: BTreeSet::from([BrokerId(1), BrokerId(2)]),
                    added: vec![Replica { broker: BrokerId(2), incarnation: 6 }],
                },
            }
            .into(),
            "0b03\
             02ac02\
             0805\
             020204\
             010406",
        ),
        (
            ElectLeaders {
                elections: vec![
                    ShardElection {
                        shard: ShardId(3),
                        kind: ElectionKind::Preferred,
                        epoch: Some(LeaderEpoch(4)),
                    },
                    ShardElection { shard: ShardId(3), kind: ElectionKind::Clean, epoch: None },
                    ShardElection { shard: ShardId(3), kind: ElectionKind::Unclean, epoch: None },
                ],
            }
            .into(),
            "0c03\
             03000108\
             030100\
             030200",
        ),
        (
            StartBroker { registration: register(5), damaged: vec![ShardId(3)] }.into(),
            "0d02\
             1000000000000000000000000000000005\
             0109504c41494e54455854093132372e302e302e318447\
             00d00f\
             0103",
        ),
        (
            AdmitDirectory { node: BrokerId(1), directory: Uuid::from_u128(5) }.into(),
            "0f02\
             1000000000000000000000000000000005",
        ),
        (
            DrainBroker { broker: BrokerId(1), incarnation: Uuid::from_u128(5) }.into(),
            "0e02\
             1000000000000000000000000000000005",
        ),
    ];
    for (command, bytes) in golden {
        assert_eq!(hex(&command.encode()), bytes, "{command:?}");
    }
}

#[test]
fn a_command_of_a_newer_version_is_refused() {
    assert!(matches!(MetadataCommand::decode(&[16]), Err(CommandDecodeError::Unknown(_))));
}

#[test]
fn bytes_behind_a_command_are_refused() {
    let mut bytes = MetadataCommand::from(AllocateProducerIds { count: 1 }).encode();
    bytes.push(0);
    assert!(matches!(MetadataCommand::decode(&bytes), Err(CommandDecodeError::Trailing(1))));
}

#[test]
fn cluster_ids_are_kafkas_base64_of_a_uuid_and_never_look_like_a_flag() {
    let id = |bits| ClusterId::from_uuid(Uuid::from_u128(bits)).to_string();
    assert_eq!(id(0), "AAAAAAAAAAAAAAAAAAAAAA");
    // Of org.apache.kafka.common.Uuid for the same bits.
    assert_eq!(id(0x3257_8410_0547_0134_32d8_6204_e5d4_d36b), "MleEEAVHATQy2GIE5dTTaw");
    assert_eq!(id(u128::MAX), "A____________________w".replacen('A', "_", 1));
    assert_eq!(id(0xf800_0000_0000_0000_0000_0000_0000_0000), "AAAAAAAAAAAAAAAAAAAAAA");
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(command in any_command()) {
        prop_assert_eq!(MetadataCommand::decode(&command.encode()).unwrap(), command);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        drop(MetadataCommand::decode(&bytes));
    }
}
