//! Consumer groups: members come, leave and die; partitions move and no record is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use braid_compat_tests::capability::Capability;
use braid_compat_tests::client::{Client, Input, Kind, Member, Membership, Produce, until};
use braid_compat_tests::record::{Record, RecordReader};
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::Server;

const TIMEOUT: Duration = Duration::from_secs(60);

/// The least that Kafka's defaults allow.
const SESSION_TIMEOUT_MS: u32 = 6000;

pub(crate) fn add(suite: &mut Suite) {
    for kind in Kind::ALL {
        let able = |capability: Capability| capability.excuse(kind).is_none();
        if able(Capability::Groups) {
            suite.add(format!("groups::members_come_leave_and_die_with_{kind}"), move |world| {
                come_leave_die(world, kind)
            });
        }
        if able(Capability::Cooperative) {
            suite.add(
                format!("groups::cooperative_members_keep_what_stays_with_{kind}"),
                move |world| cooperative(world, kind),
            );
        }
        if able(Capability::StaticMembers) {
            suite.add(
                format!("groups::a_static_member_returns_to_its_partitions_with_{kind}"),
                move |world| static_member(world, kind),
            );
        }
    }
    suite.add("groups::different_clients_share_one_group", |world| mixed(world, true));
    suite.add("groups::more_different_clients_share_one_group", |world| mixed(world, false));
}

fn produce(server: &Server, topic: &str, partitions: i32, from: usize, count: usize) -> Result<()> {
    let one = |i: usize| {
        let mut record = Record::new(topic, None, Some(i.to_string().as_bytes()));
        record.partition = i32::try_from(i).unwrap_or_default() % partitions;
        record
    };
    let records: Vec<Record> = (from..from + count).map(one).collect();
    Kind::FranzGo.shared()?.produce_all(server, &Produce::new(Input::Records(&records)))?;
    Ok(())
}

/// What members wrote down so far, read on as it grows.
struct Outputs {
    readers: Vec<RecordReader>,
    values: BTreeSet<String>,
}

impl Outputs {
    fn of(members: &[&Member<'_>]) -> Result<Outputs> {
        let readers = members
            .iter()
            .map(|member| RecordReader::open(&member.output))
            .collect::<Result<_>>()?;
        Ok(Outputs { readers, values: BTreeSet::new() })
    }

    fn add(&mut self, member: &Member<'_>) -> Result<()> {
        self.readers.push(RecordReader::open(&member.output)?);
        Ok(())
    }

    fn have(&mut self, count: usize) -> Result<bool> {
        for reader in &mut self.readers {
            while let Some(record) = reader.read_next()? {
                self.values.insert(
                    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default())
                        .into_owned(),
                );
            }
        }
        Ok(self.values.len() >= count)
    }
}

/// Every partition of the topic has exactly one owner and the members own about equally many.
fn shared_out(members: &[&mut Member<'_>], partitions: usize) -> bool {
    let all: BTreeSet<_> = members.iter().flat_map(|member| member.owned.iter()).collect();
    let sum: usize = members.iter().map(|member| member.owned.len()).sum();
    let least = partitions / members.len();
    all.len() == partitions
        && sum == partitions
        && members.iter().all(|member| member.owned.len() >= least)
}

fn come_leave_die(world: &World, kind: Kind) -> Result<()> {
    let server = world.server()?;
    let (topic, group) = (format!("groups.{kind}"), format!("group.{kind}"));
    Kind::Java.shared()?.new_topic(server, &topic, 6, &[])?;
    let topics = [topic.as_str()];
    let membership =
        Membership { session_timeout_ms: SESSION_TIMEOUT_MS, ..Membership::new(&group, &topics) };
    let client = kind.shared()?;

    let mut first = client.join(server, &membership)?;
    until(&mut [&mut first], TIMEOUT, "one member owns all", |m| Ok(shared_out(m, 6)))?;
    let mut outputs = Outputs::of(&[&first])?;
    produce(server, &topic, 6, 0, 300)?;
    until(&mut [&mut first], TIMEOUT, "one member reads all", |_| outputs.have(300))?;

    let mut second = client.join(server, &membership)?;
    outputs.add(&second)?;
    until(&mut [&mut first, &mut second], TIMEOUT, "two members share", |m| Ok(shared_out(m, 6)))?;
    produce(server, &topic, 6, 300, 300)?;
    until(&mut [&mut first, &mut second], TIMEOUT, "two members read all", |m| {
        Ok(outputs.have(600)? && m[1].received >= 100)
    })?;

    second.leave()?;
    until(&mut [&mut first], TIMEOUT, "the one that stayed owns all", |m| Ok(shared_out(m, 6)))?;
    produce(server, &topic, 6, 600, 60)?;
    until(&mut [&mut first], TIMEOUT, "the one that stayed reads all", |_| outputs.have(660))?;

    let doomed_client = Client::start(kind)?;
    let mut doomed = doomed_client.join(server, &membership)?;
    outputs.add(&doomed)?;
    until(&mut [&mut first, &mut doomed], TIMEOUT, "a third member shares", |m| {
        Ok(shared_out(m, 6))
    })?;
    doomed_client.driver()?.kill()?;
    produce(server, &topic, 6, 660, 60)?;
    until(&mut [&mut first], TIMEOUT, "the survivor owns and reads all", |m| {
        Ok(shared_out(m, 6) && outputs.have(720)?)
    })?;
    first.leave()?;
    ensure!(outputs.values.len() == 720, "{} values", outputs.values.len());
    let committed = client.committed(server, &group, &topic, &[0, 1, 2, 3, 4, 5])?;
    ensure!(committed.iter().all(|(offset, _)| *offset == 120), "committed: {committed:?}");
    world.shown(kind, Capability::Groups, 8);
    Ok(())
}

fn cooperative(world: &World, kind: Kind) -> Result<()> {
    let server = world.server()?;
    let (topic, group) = (format!("cooperative.{kind}"), format!("cooperative.{kind}"));
    Kind::Java.shared()?.new_topic(server, &topic, 6, &[])?;
    let topics = [topic.as_str()];
    let membership =
        Membership { assignor: "cooperative-sticky", ..Membership::new(&group, &topics) };
    let client = kind.shared()?;
    let mut first = client.join(server, &membership)?;
    until(&mut [&mut first], TIMEOUT, "one member owns all", |m| Ok(shared_out(m, 6)))?;
    let mut second = client.join(server, &membership)?;
    until(&mut [&mut first, &mut second], TIMEOUT, "two members share", |m| Ok(shared_out(m, 6)))?;
    ensure!(first.given_up.len() == 3, "gave up {:?} to hand over three", first.given_up);
    ensure!(second.given_up.is_empty(), "the new member gave up {:?}", second.given_up);
    let mut outputs = Outputs::of(&[&first, &second])?;
    produce(server, &topic, 6, 0, 120)?;
    until(&mut [&mut first, &mut second], TIMEOUT, "both read all", |_| outputs.have(120))?;
    first.leave()?;
    until(&mut [&mut second], TIMEOUT, "the one that stayed owns all", |m| Ok(shared_out(m, 6)))?;
    ensure!(second.given_up.is_empty(), "the one that stayed gave up {:?}", second.given_up);
    second.leave()?;
    world.shown(kind, Capability::Cooperative, 6);
    Ok(())
}

fn static_member(world: &World, kind: Kind) -> Result<()> {
    let server = world.server()?;
    let (topic, group) = (format!("static.{kind}"), format!("static.{kind}"));
    Kind::Java.shared()?.new_topic(server, &topic, 4, &[])?;
    let topics = [topic.as_str()];
    let stays = Membership {
        instance_id: Some("stays"),
        session_timeout_ms: 30_000,
        ..Membership::new(&group, &topics)
    };
    let returns = Membership { instance_id: Some("returns"), ..stays.clone() };
    let client = kind.shared()?;
    let mut first = client.join(server, &stays)?;
    until(&mut [&mut first], TIMEOUT, "one member owns all", |m| Ok(shared_out(m, 4)))?;
    let passing = Client::start(kind)?;
    let mut second = passing.join(server, &returns)?;
    until(&mut [&mut first, &mut second], TIMEOUT, "two members share", |m| Ok(shared_out(m, 4)))?;
    let (before, assignments) = (second.owned.clone(), first.assignments);

    // It dies without a word; within its session timeout another process takes its name.
    passing.driver()?.kill()?;
    let mut again = client.join(server, &returns)?;
    until(&mut [&mut again], TIMEOUT, "the returned member owns its partitions", |m| {
        Ok(m[0].owned == before)
    })?;
    let mut outputs = Outputs::of(&[&first, &again])?;
    produce(server, &topic, 4, 0, 80)?;
    until(&mut [&mut first, &mut again], TIMEOUT, "both read all", |_| outputs.have(80))?;
    ensure!(first.assignments == assignments, "the other member was rebalanced");
    again.leave()?;
    first.leave()?;
    world.shown(kind, Capability::StaticMembers, 4);
    Ok(())
}

/// Clients of one half in one group, under one assignor; they leave one after another.
fn mixed(world: &World, core: bool) -> Result<()> {
    let server = world.server()?;
    // kafka-go calls its subscription version 1 and leaves out that version's partitions: Java from
    // 2.4 and librdkafka fail when they lead a group with it, whichever broker it is.
    let is_strict =
        |kind: Kind| matches!(kind, Kind::Java3 | Kind::Rdkafka | Kind::KafkaJavascript);
    let able = |kind: &Kind| {
        let is_first = kind.is_core() || is_strict(*kind);
        is_first == core && Capability::MixedGroups.excuse(*kind).is_none()
    };
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(able).collect();
    let name = if core { "mixed" } else { "mixed-more" };
    Kind::Java.shared()?.new_topic(server, name, 20, &[])?;
    let topics = [name];
    let membership =
        Membership { session_timeout_ms: SESSION_TIMEOUT_MS, ..Membership::new(name, &topics) };
    let mut members = Vec::new();
    for kind in &kinds {
        members.push(kind.shared()?.join(server, &membership)?);
    }
    let mut outputs = Outputs::of(&members.iter().collect::<Vec<_>>())?;
    let share = |members: &[&mut Member<'_>]| Ok(shared_out(members, 20));
    until(&mut members.iter_mut().collect::<Vec<_>>(), TIMEOUT, "all clients share", share)?;
    produce(server, name, 20, 0, 1000)?;
    until(&mut members.iter_mut().collect::<Vec<_>>(), TIMEOUT, "all is read, by all", |all| {
        Ok(outputs.have(1000)? && all.iter().all(|member| member.received >= 100))
    })?;
    for leaver in 0..kinds.len() - 1 {
        members.remove(0).leave()?;
        until(
            &mut members.iter_mut().collect::<Vec<_>>(),
            TIMEOUT,
            "those that stay share",
            share,
        )?;
        produce(server, name, 20, 1000 + leaver * 100, 100)?;
        let count = 1100 + leaver * 100;
        until(&mut members.iter_mut().collect::<Vec<_>>(), TIMEOUT, "all is read", |_| {
            outputs.have(count)
        })?;
    }
    for member in members {
        member.leave()?;
    }
    for kind in kinds {
        world.shown(kind, Capability::MixedGroups, 3);
    }
    Ok(())
}
