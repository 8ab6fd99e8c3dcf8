//! How scenarios write down what happened.

use std::time::Duration;

use uuid::Uuid;

use super::world::{Event, START_WALL_MS};
use crate::group::record::{Decoded, Record, decode};
use crate::group::{FetchedPartition, GroupError, Reply, RequestId};

pub(super) fn seconds(elapsed: Duration) -> String {
    let ms = elapsed.as_millis();
    if ms.is_multiple_of(1_000) { format!("{}s", ms / 1_000) } else { format!("{ms}ms") }
}

fn since(wall_ms: i64) -> String {
    match u64::try_from(wall_ms - START_WALL_MS) {
        Ok(ms) => seconds(Duration::from_millis(ms)),
        Err(_) => wall_ms.to_string(),
    }
}

/// The reverse of [`long`].
fn short(member: &str) -> String {
    let split = member.len().checked_sub(36).and_then(|at| member.split_at_checked(at));
    match split {
        Some((prefix, id)) if let Ok(id) = Uuid::parse_str(id) => {
            format!("{prefix}{}", id.as_u128())
        }
        _ if member.is_empty() => "-".to_owned(),
        _ => member.to_owned(),
    }
}

fn text(bytes: &[u8]) -> String {
    let printable = bytes.iter().all(|byte| (0x20..0x7f).contains(byte));
    if printable {
        String::from_utf8_lossy(bytes).into_owned()
    } else {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("0x{hex}")
    }
}

pub(super) fn show(event: Event) -> Vec<String> {
    match event {
        Event::Append(token, records) => {
            let lines =
                records.iter().map(|record| format!("append {}: {}", token.0, show_record(record)));
            lines.collect()
        }
        Event::Restated(true) => vec!["everything is said again".to_owned()],
        Event::Restated(false) => vec!["not everything is said again".to_owned()],
        Event::Reply(RequestId(id), reply) => vec![format!("r{id}: {}", show_reply(reply))],
    }
}

pub(super) fn show_record(record: &Record) -> String {
    match decode(&record.key, record.value.as_deref()).unwrap() {
        Decoded::Offset { group, topic, partition, value: None } => {
            format!("{group} {topic}/{partition} removed")
        }
        Decoded::Offset { group, topic, partition, value: Some(value) } => {
            let note = if value.metadata.is_empty() {
                String::new()
            } else {
                format!(":{}", value.metadata)
            };
            let expires = value.expire_ms.map(|ms| format!(", expires {}", since(ms)));
            let expires = expires.unwrap_or_default();
            format!(
                "{group} {topic}/{partition}={}{note} (committed {}{expires})",
                value.offset,
                since(value.commit_ms)
            )
        }
        Decoded::Group { group, value: None } => format!("{group} removed"),
        Decoded::Group { group, value: Some(value) } => {
            let members: Vec<String> = value
                .members
                .iter()
                .map(|member| {
                    let instance = member.group_instance_id.as_ref();
                    let instance = instance.map(|id| format!("/{id}")).unwrap_or_default();
                    format!(
                        "{}{instance} {}ms/{}ms {}->{}",
                        short(&member.member_id),
                        member.session_timeout_ms,
                        member.rebalance_timeout_ms,
                        text(&member.subscription),
                        text(&member.assignment)
                    )
                })
                .collect();
            format!(
                "{group} generation {} {}/{} leader {} since {} [{}]",
                value.generation,
                value.protocol_type,
                value.protocol_name.as_deref().unwrap_or("-"),
                short(value.leader.as_deref().unwrap_or_default()),
                value.state_since_ms.map(since).unwrap_or_default(),
                members.join(", ")
            )
        }
        Decoded::Unknown { key_version } => format!("unknown {key_version}"),
    }
}

fn outcome<T>(result: Result<T, GroupError>, show: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(value) => show(value),
        Err(error) => format!("{error:?}"),
    }
}

fn show_reply(reply: Reply) -> String {
    match reply {
        Reply::Join(Err(rejected)) => {
            format!("join refused {:?} id={}", rejected.error, short(&rejected.member_id))
        }
        Reply::Join(Ok(joined)) => {
            let members: Vec<String> = joined
                .members
                .iter()
                .map(|member| {
                    let instance = member.group_instance_id.as_ref();
                    let instance = instance.map(|id| format!("/{id}")).unwrap_or_default();
                    format!("{}{instance}:{}", short(&member.member_id), text(&member.metadata))
                })
                .collect();
            format!(
                "joined generation {} as {} {}/{} leader {}{} [{}]",
                joined.generation,
                short(&joined.member_id),
                joined.protocol_type.as_deref().unwrap_or("-"),
                joined.protocol_name.as_deref().unwrap_or("-"),
                short(&joined.leader),
                if joined.skip_assignment { " skip-assignment" } else { "" },
                members.join(", ")
            )
        }
        Reply::Sync(reply) => {
            "sync ".to_owned()
                + &outcome(reply, |synced| {
                    let protocol = synced.protocol_name.as_deref().unwrap_or("-");
                    let kind = synced.protocol_type.as_deref().unwrap_or("-");
                    format!("{kind}/{protocol} {:?}", text(&synced.assignment))
                })
        }
        Reply::Heartbeat(reply) => "heartbeat ".to_owned() + &outcome(reply, |()| "ok".to_owned()),
        Reply::Leave(reply) => {
            "left ".to_owned()
                + &outcome(reply, |members| {
                    let members = members.into_iter().map(|member| {
                        let instance = member.group_instance_id.map(|id| format!("/{id}"));
                        let result = outcome(member.result, |()| "ok".to_owned());
                        format!(
                            "{}{} {result}",
                            short(&member.member_id),
                            instance.unwrap_or_default()
                        )
                    });
                    members.collect::<Vec<_>>().join(", ")
                })
        }
        Reply::Commit(reply) => {
            "commit ".to_owned()
                + &outcome(reply, |topics| {
                    let topics = topics.into_iter().flat_map(|topic| {
                        let name = topic.name;
                        topic.partitions.into_iter().map(move |(partition, result)| {
                            format!("{name}/{partition} {}", outcome(result, |()| "ok".to_owned()))
                        })
                    });
                    topics.collect::<Vec<_>>().join(", ")
                })
        }
        Reply::Fetch(reply) => {
            "fetched ".to_owned()
                + &outcome(reply, |topics| {
                    let topics = topics.into_iter().flat_map(|topic| {
                        let name = topic.name;
                        let show = move |partition| format!("{name}/{}", show_fetched(partition));
                        topic.partitions.into_iter().map(show)
                    });
                    topics.collect::<Vec<_>>().join(", ")
                })
        }
        Reply::Describe(reply) => outcome(reply, |group| {
            let members = group.members.iter().map(|member| {
                let instance = member.group_instance_id.as_ref();
                let instance = instance.map(|id| format!("/{id}")).unwrap_or_default();
                format!(
                    "{}{instance} {} {} {}->{}",
                    short(&member.member_id),
                    member.client_id,
                    member.client_host,
                    text(&member.metadata),
                    text(&member.assignment)
                )
            });
            let members = members.collect::<Vec<_>>().join(", ");
            let (kind, protocol) = (&group.protocol_type, &group.protocol);
            format!("{} {} {kind:?}/{protocol:?} [{members}]", group.group_id, group.state)
        }),
        Reply::Delete(reply) => "delete ".to_owned() + &outcome(reply, |()| "ok".to_owned()),
        Reply::DeleteOffsets(reply) => {
            "delete-offsets ".to_owned()
                + &outcome(reply, |topics| {
                    let topics = topics.into_iter().flat_map(|topic| {
                        let name = topic.name;
                        topic.partitions.into_iter().map(move |(partition, result)| {
                            format!("{name}/{partition} {}", outcome(result, |()| "ok".to_owned()))
                        })
                    });
                    topics.collect::<Vec<_>>().join(", ")
                })
        }
    }
}

fn show_fetched(fetched: FetchedPartition) -> String {
    let offset = outcome(fetched.result, |offset| match offset {
        None => "none".to_owned(),
        Some(offset) if offset.metadata.is_empty() => offset.offset.to_string(),
        Some(offset) => format!("{}:{}", offset.offset, offset.metadata),
    });
    format!("{}={offset}", fetched.partition)
}
