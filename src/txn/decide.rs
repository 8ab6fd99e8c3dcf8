//! What a request makes of a transaction. Pure: a decision is a new state and the markers that go
//! into the log with it; the rules are those of Kafka's `TransactionCoordinator` and
//! `TransactionMetadata` with transaction.version 2 (KIP-98, KIP-360, KIP-890), less the states
//! in between, which one atomic append makes needless.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use braid_protocol::records::Marker;

use super::error::Refusal;
use super::state::{GroupOffsets, Identity, Status, Txn};

/// Epochs from here on are not handed out: the one above is left for fencing.
pub(crate) const EPOCH_EXHAUSTED: i16 = i16::MAX - 1;

/// The ends to be written to a transaction's partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Markers {
    pub(crate) marker: Marker,
    pub(crate) producer: Identity,
    pub(crate) partitions: BTreeMap<Arc<str>, BTreeSet<i32>>,
}

/// A new state, and what goes into the log with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) txn: Txn,
    pub(crate) markers: Option<Markers>,
}

impl Change {
    fn to(txn: Txn) -> Self {
        Self { txn, markers: None }
    }
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is so already.
    Unchanged,
    Change(Box<Change>),
}

impl Decision {
    fn change(change: Change) -> Self {
        Self::Change(Box::new(change))
    }
}

fn is_preparing(status: Status) -> bool {
    matches!(
        status,
        Status::PrepareCommit | Status::PrepareAbort | Status::PrepareEpochFence | Status::Dead
    )
}

/// What a producer says of itself when it is initialised.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Init {
    pub(crate) timeout_ms: i32,
    /// Who it was, if it goes on after an error (KIP-360).
    pub(crate) expected: Option<Identity>,
    /// A producer id that nobody has, if the caller has got one.
    pub(crate) spare: Option<i64>,
}

/// InitProducerId: a new instance takes over, and what the one before left open is aborted.
///
/// # Errors
/// See [`Refusal`]; `NeedsProducerId` if `spare` is wanted and missing.
pub(crate) fn init(known: Option<&Txn>, now_ms: i64, asked: Init) -> Result<Decision, Refusal> {
    let Some(txn) = known else {
        let producer_id = asked.spare.ok_or(Refusal::NeedsProducerId)?;
        return Ok(Decision::change(Change::to(Txn {
            producer_id,
            previous_producer_id: -1,
            next_producer_id: -1,
            epoch: 0,
            last_epoch: -1,
            timeout_ms: asked.timeout_ms,
            status: Status::Empty,
            partitions: BTreeMap::new(),
            offsets: BTreeMap::new(),
            started_ms: -1,
            updated_ms: now_ms,
            client_version: 0,
        })));
    };
    if let Some(expected) = asked.expected {
        let is_current = expected.producer_id == txn.producer_id;
        let is_previous =
            expected.producer_id == txn.previous_producer_id && expected.epoch >= EPOCH_EXHAUSTED;
        let is_retry = (is_current || is_previous)
            && expected.epoch == txn.last_epoch
            && matches!(txn.status, Status::Empty);
        if is_retry {
            return Ok(Decision::Unchanged);
        }
        if !is_current || expected.epoch != txn.epoch {
            return Err(Refusal::Fenced);
        }
    }
    if is_preparing(txn.status) {
        return Err(Refusal::Concurrent);
    }
    let (fence, markers) = if txn.status == Status::Ongoing {
        // The markers carry the raised epoch, so that nothing of the old instance may follow them.
        let fence = txn.epoch.saturating_add(1);
        (fence, Some(markers(txn, Marker::Abort, fence)))
    } else {
        (txn.epoch, None)
    };
    let last_epoch = asked.expected.map_or(-1, |expected| expected.epoch);
    let is_raised = markers.is_some();
    let exhausted = if is_raised { fence > EPOCH_EXHAUSTED } else { fence >= EPOCH_EXHAUSTED };
    let (producer_id, previous_producer_id, epoch) = if exhausted {
        (asked.spare.ok_or(Refusal::NeedsProducerId)?, txn.producer_id, 0)
    } else {
        (txn.producer_id, txn.previous_producer_id, if is_raised { fence } else { fence + 1 })
    };
    let txn = Txn {
        producer_id,
        previous_producer_id,
        next_producer_id: -1,
        epoch,
        last_epoch,
        timeout_ms: asked.timeout_ms,
        status: Status::Empty,
        partitions: BTreeMap::new(),
        offsets: BTreeMap::new(),
        started_ms: -1,
        updated_ms: now_ms,
        client_version: txn.client_version,
    };
    Ok(Decision::change(Change { txn, markers }))
}

/// The last epoch is nobody's: whoever is fenced at the one before has none above the fence.
fn is_for_fencing(epoch: i16) -> bool {
    epoch == i16::MAX
}

/// Checks who asks.
///
/// # Errors
/// `UnknownMapping` or `Fenced`.
pub(crate) fn check(known: Option<&Txn>, who: Identity) -> Result<&Txn, Refusal> {
    let txn = known.ok_or(Refusal::UnknownMapping)?;
    if txn.producer_id != who.producer_id {
        return Err(Refusal::UnknownMapping);
    }
    if txn.epoch != who.epoch || is_for_fencing(who.epoch) {
        return Err(Refusal::Fenced);
    }
    Ok(txn)
}

/// Partitions join a transaction, which begins with the first.
///
/// # Errors
/// See [`Refusal`].
pub(crate) fn add(
    known: Option<&Txn>,
    now_ms: i64,
    who: Identity,
    added: &[(&str, i32)],
) -> Result<Decision, Refusal> {
    let txn = check(known, who)?;
    if is_preparing(txn.status) {
        return Err(Refusal::Concurrent);
    }
    let is_ongoing = txn.status == Status::Ongoing;
    if is_ongoing && added.iter().all(|(topic, partition)| txn.contains(topic, *partition)) {
        return Ok(Decision::Unchanged);
    }
    let mut txn = txn.clone();
    if !is_ongoing {
        txn.status = Status::Ongoing;
        txn.started_ms = now_ms;
    }
    for (topic, partition) in added {
        match txn.partitions.get_mut(*topic) {
            Some(known) => drop(known.insert(*partition)),
            None => drop(txn.partitions.insert(Arc::from(*topic), BTreeSet::from([*partition]))),
        }
    }
    txn.updated_ms = now_ms;
    Ok(Decision::change(Change::to(txn)))
}

/// Whether a partition is in the producer's transaction, for what old clients send.
///
/// # Errors
/// It is not, or see [`Refusal`].
pub(crate) fn verify(
    known: Option<&Txn>,
    who: Identity,
    (topic, partition): (&str, i32),
) -> Result<(), Refusal> {
    let txn = check(known, who)?;
    if is_preparing(txn.status) {
        return Err(Refusal::Concurrent);
    }
    if txn.status == Status::Ongoing && txn.contains(topic, partition) {
        Ok(())
    } else {
        Err(Refusal::NotInTransaction)
    }
}

/// Offsets of a group join a transaction. `home` is the partition of `__consumer_offsets` that is
/// the group's.
///
/// # Errors
/// See [`Refusal`].
pub(crate) fn add_offsets(
    known: Option<&Txn>,
    now_ms: i64,
    who: Identity,
    home: (&str, i32),
    (group, offsets): (&str, GroupOffsets),
    adds_group: bool,
) -> Result<Change, Refusal> {
    if !adds_group {
        verify(known, who, home)?;
    }
    let mut change = match add(known, now_ms, who, &[home])? {
        Decision::Change(change) => *change,
        Decision::Unchanged => Change::to(check(known, who)?.clone()),
    };
    match change.txn.offsets.get_mut(group) {
        Some(known) => known.extend(offsets),
        None => drop(change.txn.offsets.insert(Arc::from(group), offsets)),
    }
    change.txn.updated_ms = now_ms;
    Ok(change)
}

/// How a producer ends its transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) who: Identity,
    pub(crate) marker: Marker,
    /// The producer's epoch is raised (EndTxn v5 and later).
    pub(crate) raises: bool,
    /// As in [`Init`].
    pub(crate) spare: Option<i64>,
}

/// EndTxn. `Unchanged` if it is a retry of what was done.
///
/// # Errors
/// See [`Refusal`].
pub(crate) fn end(known: Option<&Txn>, now_ms: i64, asked: End) -> Result<Decision, Refusal> {
    let txn = known.ok_or(Refusal::UnknownMapping)?;
    let End { who, marker, raises, spare } = asked;
    let is_retry_over_ids = raises
        && txn.previous_producer_id == who.producer_id
        && who.epoch == EPOCH_EXHAUSTED
        && txn.epoch == 0;
    if txn.producer_id != who.producer_id && !is_retry_over_ids {
        return Err(Refusal::UnknownMapping);
    }
    let is_retry = is_retry_over_ids || raises && who.epoch.checked_add(1) == Some(txn.epoch);
    if txn.epoch != who.epoch && !is_retry || is_for_fencing(who.epoch) {
        return Err(Refusal::Fenced);
    }
    match (txn.status, marker, raises, is_retry) {
        // A delayed end of the transaction before must not decide this one.
        (Status::Ongoing, _, _, true) => Err(Refusal::Fenced),
        (Status::Ongoing, _, _, false) => finish(txn, now_ms, asked, spare),
        (Status::PrepareCommit, Marker::Commit, _, _)
        | (Status::PrepareAbort, Marker::Abort, _, _) => Err(Refusal::Concurrent),
        (Status::PrepareEpochFence, _, _, _) => Err(Refusal::Concurrent),
        (Status::CompleteCommit, Marker::Commit, false, _)
        | (Status::CompleteCommit, Marker::Commit, true, true)
        | (Status::CompleteAbort, Marker::Abort, false, _)
        | (Status::CompleteAbort, Marker::Abort, true, true) => Ok(Decision::Unchanged),
        // Nothing was written, yet the producer starts anew.
        (
            Status::CompleteCommit | Status::CompleteAbort | Status::Empty,
            Marker::Abort,
            true,
            false,
        ) => finish(txn, now_ms, asked, spare),
        (Status::Empty, _, true, true) => Err(Refusal::Fenced),
        (
            Status::Empty
            | Status::PrepareCommit
            | Status::PrepareAbort
            | Status::CompleteCommit
            | Status::CompleteAbort
            | Status::Dead,
            _,
            _,
            _,
        ) => Err(Refusal::InvalidState),
    }
}

fn finish(txn: &Txn, now_ms: i64, asked: End, spare: Option<i64>) -> Result<Decision, Refusal> {
    let (epoch, next_producer_id) = match (asked.raises, txn.epoch >= EPOCH_EXHAUSTED) {
        (false, _) => (txn.epoch, -1),
        (true, false) => (txn.epoch.saturating_add(1), -1),
        (true, true) => (txn.epoch.saturating_add(1), spare.ok_or(Refusal::NeedsProducerId)?),
    };
    let markers = markers(txn, asked.marker, epoch);
    let (preparing, is_over) = match asked.marker {
        Marker::Abort => (Status::PrepareAbort, true),
        Marker::Commit => (Status::PrepareCommit, txn.offsets.is_empty()),
    };
    let prepared = Txn {
        epoch,
        next_producer_id,
        last_epoch: if asked.raises { txn.epoch } else { txn.last_epoch },
        status: preparing,
        updated_ms: now_ms,
        client_version: if asked.raises { 2 } else { 0 },
        ..txn.clone()
    };
    let txn = if is_over { completed(&prepared, now_ms) } else { prepared };
    Ok(Decision::change(Change { txn, markers: Some(markers) }))
}

/// What is left of a transaction that is over.
pub(crate) fn completed(txn: &Txn, now_ms: i64) -> Txn {
    let is_rotated = txn.next_producer_id >= 0;
    Txn {
        producer_id: if is_rotated { txn.next_producer_id } else { txn.producer_id },
        previous_producer_id: if is_rotated { txn.producer_id } else { txn.previous_producer_id },
        next_producer_id: -1,
        epoch: if is_rotated { 0 } else { txn.epoch },
        last_epoch: txn.last_epoch,
        timeout_ms: txn.timeout_ms,
        status: match txn.status {
            Status::PrepareCommit => Status::CompleteCommit,
            _ => Status::CompleteAbort,
        },
        partitions: BTreeMap::new(),
        offsets: BTreeMap::new(),
        started_ms: txn.started_ms,
        updated_ms: now_ms,
        client_version: txn.client_version,
    }
}

/// Aborts a transaction that took longer than its producer allowed, and fences that.
pub(crate) fn time_out(txn: &Txn, now_ms: i64) -> Option<Change> {
    let is_late = now_ms.saturating_sub(txn.started_ms) > i64::from(txn.timeout_ms);
    is_late.then(|| fence(txn, now_ms)).flatten()
}

/// Aborts a transaction that is under way, and fences its producer. At the last epoch nobody is
/// left to fence, and the transaction ends all the same.
pub(crate) fn fence(txn: &Txn, now_ms: i64) -> Option<Change> {
    (txn.status == Status::Ongoing).then(|| {
        let epoch = txn.epoch.saturating_add(1);
        let markers = markers(txn, Marker::Abort, epoch);
        let aborted = Txn { epoch, last_epoch: -1, status: Status::PrepareAbort, ..txn.clone() };
        Change { txn: completed(&aborted, now_ms), markers: Some(markers) }
    })
}

/// A group committed offsets outside of the transaction: those in it are older, and never count.
pub(crate) fn supersede(
    txn: &Txn,
    now_ms: i64,
    group: &str,
    keys: &[(Arc<str>, i32)],
) -> Option<Change> {
    let pending = txn.offsets.get(group).filter(|_| txn.status == Status::Ongoing)?;
    if !keys.iter().any(|key| pending.contains_key(key)) {
        return None;
    }
    let mut txn = Txn { updated_ms: now_ms, ..txn.clone() };
    if let Some(pending) = txn.offsets.get_mut(group) {
        pending.retain(|key, _| !keys.contains(key));
        if pending.is_empty() {
            txn.offsets.remove(group);
        }
    }
    Some(Change::to(txn))
}

/// Whether an id that nobody uses may be forgotten.
pub(crate) fn is_forgettable(txn: &Txn, now_ms: i64, after_ms: i64) -> bool {
    matches!(txn.status, Status::Empty | Status::CompleteCommit | Status::CompleteAbort)
        && now_ms.saturating_sub(txn.updated_ms) >= after_ms
}

fn markers(txn: &Txn, marker: Marker, epoch: i16) -> Markers {
    Markers {
        marker,
        producer: Identity { producer_id: txn.producer_id, epoch },
        partitions: txn.partitions.clone(),
    }
}

#[cfg(test)]
mod tests;
