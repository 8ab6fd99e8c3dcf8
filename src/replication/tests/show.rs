//! What replicas do, in words.

use crate::model::BrokerId;
use crate::replication::{
    Envelope, FollowerEffect, LeaderEffect, Message, Proposal, Replica, ShardState, Tail,
};

pub(super) fn name(broker: BrokerId) -> &'static str {
    ["A", "B", "C"][usize::try_from(broker.0).unwrap()]
}

fn names<'a>(brokers: impl IntoIterator<Item = &'a BrokerId>) -> String {
    brokers.into_iter().map(|broker| name(*broker)).collect::<Vec<_>>().join(" ")
}

fn replica(replica: Replica) -> String {
    format!("{}.{}", name(replica.broker), replica.incarnation)
}

fn tail(Tail { epoch, end }: Tail) -> String {
    format!("{epoch}:{end}")
}

fn envelope(Envelope { stamp, message }: &Envelope) -> String {
    let said = match message {
        Message::Fetch { tail: end, durable } => {
            format!("fetch behind {}, durable {durable}", tail(*end))
        }
        Message::Frames { after, committed } => {
            format!("frames behind {}, committed {committed}", tail(*after))
        }
        Message::Diverged { after, known } => {
            format!("{} diverged, I know {}", tail(*after), tail(*known))
        }
        Message::Refused { why, .. } => format!("refused: {why}"),
    };
    format!("{} to {}: {said}", replica(stamp.from), replica(stamp.to))
}

pub(super) fn leader(id: u8, effect: &LeaderEffect) -> String {
    let me = name(BrokerId(i32::from(id)));
    match effect {
        LeaderEffect::Send(message) | LeaderEffect::Stream(message) => envelope(message),
        LeaderEffect::Propose(Proposal { version, members, added, .. }) => {
            let added: Vec<String> = added.iter().map(|run| replica(*run)).collect();
            format!("{me} asks for [{}] adding {added:?} to v{version}", names(members))
        }
        LeaderEffect::Commit(committed) => format!("{me}: committed {committed}"),
        LeaderEffect::StepDown => format!("{me}: steps down"),
    }
}

pub(super) fn follower(id: u8, effect: &FollowerEffect, records: usize) -> String {
    let me = name(BrokerId(i32::from(id)));
    match effect {
        FollowerEffect::Send(message) => envelope(message),
        FollowerEffect::Append => format!("{me}: appends {records}"),
        FollowerEffect::Truncate(to) => format!("{me}: cuts at {to}"),
        FollowerEffect::Commit(committed) => format!("{me}: committed {committed}"),
        FollowerEffect::CopyNeeded(why) => format!("{me}: needs a copy, {why}"),
    }
}

pub(super) fn controller(state: &ShardState) -> String {
    let leader = state.leader.map_or("nobody".to_owned(), replica);
    let (set, eligible) = (&state.in_sync, names(&state.eligible));
    format!(
        "epoch {} led by {leader}, in sync [{}] v{}, eligible [{eligible}]",
        state.epoch,
        names(&set.members),
        set.version
    )
}
