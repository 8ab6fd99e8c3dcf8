//! One line of a history.

use serde::{Deserialize, Serialize};

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// It began. A later line of the same process and number says how it ended.
    Invoke,
    /// It was applied.
    Ok,
    /// It certainly was not applied, and will not be.
    Fail,
    /// Nobody knows.
    Info,
}

/// Which records a reader asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    ReadCommitted,
    ReadUncommitted,
}

/// How a reader got its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It chose them itself.
    Assign,
    /// A group gave them, and may take them away.
    Subscribe,
}

/// What a broker is for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Leader,
    Follower,
}

/// Offset and value of a record, as read.
pub type Record = (i64, String);

/// One operation, or its beginning. Times are microseconds on one clock, the recorder's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Op {
    /// One incarnation of a client: a client that is started again is another process.
    pub process: u32,
    /// Number of the operation, unique and growing within its process.
    pub op: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    #[serde(rename = "type")]
    pub kind: Type,
    pub t_invoke: u64,
    /// Missing while nobody knows how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t_done: Option<u64>,
    /// The broker that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
    #[serde(flatten)]
    pub f: F,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "snake_case")]
pub enum F {
    /// A transactional producer was initialised (`InitProducerId`): older incarnations are fenced.
    Init {
        /// The transactional id.
        producer: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        producer_id: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<i16>,
    },
    /// A record was produced.
    Send {
        topic: String,
        partition: i32,
        /// Unique in the history.
        value: String,
        /// Where the acknowledgement says it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<i64>,
        /// The transaction's name, unique in the history: a transactional id and a number, say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        txn: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        producer: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<i16>,
        /// Of the leader that acknowledged it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leader_epoch: Option<i32>,
        /// The value that this one was made of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<String>,
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        idempotent: bool,
    },
    /// A transaction was ended.
    End {
        txn: String,
        commit: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        producer: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<i16>,
    },
    /// A reader took a partition, and begins at `offset` if that is told.
    Assign {
        topic: String,
        partition: i32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<i64>,
    },
    /// A reader was given records of one partition.
    Poll {
        topic: String,
        partition: i32,
        isolation: Isolation,
        mode: Mode,
        /// Under `subscribe`: which assignment it is; what is read within one is judged as under `assign`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<i64>,
        records: Vec<Record>,
        /// The transaction that commits what it makes of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        txn: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        high_watermark: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_stable: Option<i64>,
    },
    /// After all is healed: a partition from `from`, where its log begins, up to `end`, where it ends for this reader.
    Drain {
        topic: String,
        partition: i32,
        isolation: Isolation,
        from: i64,
        end: i64,
        records: Vec<Record>,
    },
    /// What one broker's log holds, whether readers may see it or not.
    Dump { topic: String, partition: i32, records: Vec<Record> },
    /// A group's offset was committed, in a transaction or by itself.
    CommitOffset {
        group: String,
        topic: String,
        partition: i32,
        offset: i64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        txn: Option<String>,
    },
    /// A group's offset was read; −1 for none.
    FetchOffset { group: String, topic: String, partition: i32, offset: i64 },
    /// How a partition stands on a broker. Lines with one `step` are one cut through all brokers.
    State {
        step: u64,
        topic: String,
        partition: i32,
        role: Role,
        epoch: i32,
        last_stable: i64,
        high_watermark: i64,
        durable: i64,
        log_end: i64,
        /// The brokers that count, if the leader tells.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        in_sync: Vec<u32>,
    },
    /// Each record of `topic` is to be found as one record of `output` whose send names it as its input.
    Copy { topic: String, output: String },
    /// Something was broken or healed.
    Nemesis { what: String },
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

impl Op {
    /// When it had ended at the latest; for ever if nobody knows.
    pub(crate) fn ended(&self) -> u64 {
        match self.kind {
            Type::Ok | Type::Fail => self.t_done.unwrap_or(u64::MAX),
            Type::Invoke | Type::Info => u64::MAX,
        }
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.kind == Type::Ok
    }
}
