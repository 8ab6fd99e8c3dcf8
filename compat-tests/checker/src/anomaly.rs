//! What can be wrong, by name.

use std::fmt;

/// A promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// No acknowledged write is lost.
    I1,
    /// One offset, one value, for ever.
    I2,
    /// The offset of an acknowledgement is the record's, and greater than all known before the send.
    I3,
    /// An idempotent producer's value comes once, in the order of sending.
    I4,
    /// A reader's offsets increase and leave nothing out.
    I5,
    /// What is below a leader's high watermark is on every broker that counts.
    I6,
    /// One leader for an epoch; epochs and a reader's high watermark only grow.
    I7,
    /// Last stable offset ≤ high watermark ≤ durable ≤ end, and no reader sees beyond its mark.
    I8,
    /// What was aborted is never read as committed.
    I9,
    /// A transaction is visible whole, its group offsets included, or not at all.
    I10,
    /// Nothing is read as committed before its commit, and no two transactions read each other.
    I11,
    /// A group's offset is the last one committed.
    I12,
    /// Copying in transactions makes exactly one of each.
    I13,
    /// A fenced producer writes nothing.
    I14,
    /// Every transaction ends.
    I15,
}

macro_rules! anomalies {
    ($($(#[doc = $doc:literal])+ $name:ident: $invariant:ident, $text:literal;)+) => {
        /// A way to break a promise.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Anomaly {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Anomaly {
            /// All of them.
            pub const ALL: &[Anomaly] = &[$(Anomaly::$name),+];

            /// The promise that it breaks.
            #[must_use]
            pub fn invariant(self) -> Invariant {
                match self {
                    $(Anomaly::$name => Invariant::$invariant,)+
                }
            }

            /// Its name in a verdict.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Anomaly::$name => $text,)+
                }
            }
        }
    };
}

anomalies! {
    /// Acknowledged, or seen by a reader, and not there in the end.
    LostWrite: I1, "lost-write";
    /// Two values at one offset.
    InconsistentOffset: I2, "inconsistent-offset";
    /// A value that nobody has sent.
    PhantomValue: I2, "phantom-value";
    /// Acknowledged at one offset, read at another.
    WrongAck: I3, "wrong-ack";
    /// Acknowledged below an offset that was known before the send began.
    BackdatedAck: I3, "backdated-ack";
    /// One value at two offsets, of an idempotent producer.
    Duplicate: I4, "duplicate";
    /// A producer's later record lies before its earlier one.
    NonmonotonicSend: I4, "nonmonotonic-send";
    /// A reader was given an offset that is not greater than the one before.
    NonmonotonicPoll: I5, "nonmonotonic-poll";
    /// A reader was not given a record that others were given between two of its own.
    PollSkip: I5, "poll-skip";
    /// A broker that counts lacks records below the high watermark.
    MissingReplica: I6, "missing-replica";
    /// Two brokers led in one epoch.
    TwoLeaders: I7, "two-leaders";
    /// A broker's epoch of a partition fell.
    EpochRegression: I7, "epoch-regression";
    /// A reader's high watermark fell.
    WatermarkRegression: I7, "watermark-regression";
    /// The marks of a partition are in the wrong order.
    MarkOrder: I8, "mark-order";
    /// A reader was given a record that is not below the high watermark.
    AboveHighWatermark: I8, "above-high-watermark";
    /// A reader of committed records was given one that is not below the last stable offset.
    AboveLastStable: I8, "above-last-stable";
    /// Read as committed, though aborted or refused (G1a).
    AbortedRead: I9, "aborted-read";
    /// A part of a committed transaction is visible, another is not.
    TornTransaction: I10, "torn-transaction";
    /// A transaction's group offsets and its records do not share their fate.
    TornOffsets: I10, "torn-offsets";
    /// Read as committed before its commit began.
    PrecommittedRead: I11, "precommitted-read";
    /// Transactions that read each other's writes in a circle (G1c without ww edges).
    CircularRead: I11, "circular-read";
    /// A group's offset is one that a later commit had replaced.
    StaleGroupOffset: I12, "stale-group-offset";
    /// A group's offset is that of a transaction which had not begun to commit.
    PendingGroupOffset: I12, "pending-group-offset";
    /// A group's offset is one that nobody has committed.
    UnknownGroupOffset: I12, "unknown-group-offset";
    /// An input without output.
    MissingCopy: I13, "missing-copy";
    /// An input with several outputs.
    RepeatedCopy: I13, "repeated-copy";
    /// A producer wrote, began or committed after a newer incarnation had been initialised.
    ZombieWrite: I14, "zombie-write";
    /// In the end something is still held back from readers of committed records.
    StuckTransaction: I15, "stuck-transaction";
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.name(), self.invariant())
    }
}

/// One anomaly in a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub anomaly: Anomaly,
    /// The value, transaction, group or place that it happened to: two violations of a kind differ by it.
    pub subject: String,
    pub explanation: String,
    /// Operations that show it, as indexes into the history.
    pub evidence: Vec<usize>,
}
