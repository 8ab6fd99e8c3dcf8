//! Incremental fetch sessions (KIP-227): what a client wants and what it was told last, so that
//! an idle client's fetch names no partition and its answer lists only what changed.
//!
//! Pure: time comes in, nothing goes out but plans. One short lock around the whole cache is
//! held by the caller. A session belongs to one client that sends one fetch at a time; the epoch
//! catches everything else. Source of the rules: Kafka's `FetchSession`.

use std::collections::HashMap;

use braid_base::model::{Offset, TopicId};
use indexmap::IndexMap;

/// What names a partition in a fetch: the id from version 13 on, the name before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum TopicKey {
    /// By topic id.
    Id(TopicId),
    /// By name.
    Name(String),
}

/// One partition of a fetch.
pub(crate) type PartitionKey = (TopicKey, i32);

/// What a client asks of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) current_leader_epoch: i32,
    pub(crate) fetch_offset: Offset,
    pub(crate) size_bytes_max: i32,
}

impl Wanted {
    /// The most bytes of records, as a size.
    pub(crate) fn size_bytes_max(&self) -> usize {
        usize::try_from(self.size_bytes_max).unwrap_or(0)
    }
}

/// What a partition's last answer said, to tell whether the next one says anything new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
}

const NEVER_TOLD: Told = Told { high_watermark: -1, log_start: -1 };

/// Why a session cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("the fetch session id is not known here")]
    NotFound,
    #[error("the fetch session epoch is invalid")]
    InvalidEpoch,
    #[error("the session names topics in another way than this request")]
    TopicIdMismatch,
}

/// The part of a fetch request that sessions look at.
#[derive(Debug)]
pub(crate) struct SessionRequest {
    pub(crate) session_id: i32,
    pub(crate) session_epoch: i32,
    pub(crate) by_topic_id: bool,
    pub(crate) partitions: Vec<(PartitionKey, Wanted)>,
    pub(crate) forgotten: Vec<PartitionKey>,
}

/// What to read, and how to answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Zero: no session; the client must send everything again next time.
    pub(crate) session_id: i32,
    /// Leave out partitions that say nothing new.
    pub(crate) incremental: bool,
    pub(crate) partitions: Vec<(PartitionKey, Wanted)>,
}

#[derive(Debug)]
struct Session {
    next_epoch: i32,
    by_topic_id: bool,
    partitions: IndexMap<PartitionKey, (Wanted, Told)>,
    last_used_ms: i64,
}

/// Partitions that all sessions together may remember. Beyond, clients go without a session, so
/// that what a few of them name does not fill the memory.
const PARTITIONS_MAX: usize = 500_000;

/// All sessions of a broker.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    slots_max: usize,
    partitions_max: usize,
    /// Partitions in all sessions.
    partitions: usize,
    evict_after_ms: i64,
    sessions: HashMap<i32, Session>,
}

const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

impl FetchSessions {
    /// A cache of `slots_max` sessions; one unused for `evict_after_ms` may be replaced.
    pub(crate) fn new(slots_max: usize, evict_after_ms: i64) -> Self {
        let partitions_max = PARTITIONS_MAX;
        let sessions = HashMap::new();
        Self { slots_max, partitions_max, partitions: 0, evict_after_ms, sessions }
    }

    /// Decides what a fetch reads. `fresh_id` is a random positive number for a new session.
    pub(crate) fn begin(
        &mut self,
        now_ms: i64,
        request: SessionRequest,
        fresh_id: impl FnMut() -> i32,
    ) -> Result<Plan, SessionError> {
        match request.session_epoch {
            FINAL_EPOCH => {
                self.close(request.session_id);
                Ok(Plan { session_id: 0, incremental: false, partitions: request.partitions })
            }
            INITIAL_EPOCH => {
                self.close(request.session_id);
                Ok(self.open(now_ms, request, fresh_id))
            }
            _ => self.resume(now_ms, request),
        }
    }

    fn open(
        &mut self,
        now_ms: i64,
        request: SessionRequest,
        mut fresh_id: impl FnMut() -> i32,
    ) -> Plan {
        let partitions = request.partitions;
        // Kafka opens no session for a fetch of nothing.
        let fits = self.partitions.saturating_add(partitions.len()) <= self.partitions_max;
        if partitions.is_empty() || !fits || !self.make_room(now_ms) {
            return Plan { session_id: 0, incremental: false, partitions };
        }
        let mut session_id = fresh_id();
        while session_id <= 0 || self.sessions.contains_key(&session_id) {
            session_id = fresh_id();
        }
        let session = Session {
            next_epoch: 1,
            by_topic_id: request.by_topic_id,
            partitions: partitions.iter().map(|(k, w)| (k.clone(), (*w, NEVER_TOLD))).collect(),
            last_used_ms: now_ms,
        };
        self.partitions += session.partitions.len();
        self.sessions.insert(session_id, session);
        Plan { session_id, incremental: false, partitions }
    }

    fn close(&mut self, session_id: i32) {
        if let Some(session) = self.sessions.remove(&session_id) {
            self.partitions -= session.partitions.len();
        }
    }

    fn resume(&mut self, now_ms: i64, request: SessionRequest) -> Result<Plan, SessionError> {
        let session = self.sessions.get_mut(&request.session_id).ok_or(SessionError::NotFound)?;
        if session.next_epoch != request.session_epoch {
            return Err(SessionError::InvalidEpoch);
        }
        if session.by_topic_id != request.by_topic_id {
            return Err(SessionError::TopicIdMismatch);
        }
        session.next_epoch = session.next_epoch.checked_add(1).unwrap_or(1);
        session.last_used_ms = now_ms;
        let before = session.partitions.len();
        for key in &request.forgotten {
            session.partitions.shift_remove(key);
        }
        for (key, wanted) in request.partitions {
            session.partitions.entry(key).or_insert((wanted, NEVER_TOLD)).0 = wanted;
        }
        let after = session.partitions.len();
        self.partitions = self.partitions - before + after;
        if after > before && self.partitions > self.partitions_max {
            // The client begins anew, and goes without a session then.
            self.close(request.session_id);
            return Err(SessionError::NotFound);
        }
        let partitions: Vec<_> =
            session.partitions.iter().map(|(k, (w, _))| (k.clone(), *w)).collect();
        if partitions.is_empty() {
            // Kafka closes a session that has nothing left to say.
            self.close(request.session_id);
            return Ok(Plan { session_id: 0, incremental: false, partitions });
        }
        Ok(Plan { session_id: request.session_id, incremental: true, partitions })
    }

    /// Notes what a partition is about to be told; says whether that is news to the client.
    ///
    /// A partition that gave records moves behind the others, so that the next answer starts
    /// with those that had to wait. After an error the next answer is always news.
    pub(crate) fn tell(
        &mut self,
        session_id: i32,
        key: &PartitionKey,
        told: Told,
        has_records: bool,
        failed: bool,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&session_id) else { return true };
        let Some((wanted, before)) = session.partitions.get(key).copied() else { return true };
        let news = has_records || failed || told != before;
        let remembered = if failed { NEVER_TOLD } else { told };
        if has_records {
            session.partitions.shift_remove(key);
            session.partitions.insert(key.clone(), (wanted, remembered));
        } else if let Some(entry) = session.partitions.get_mut(key) {
            entry.1 = remembered;
        }
        news
    }

    fn make_room(&mut self, now_ms: i64) -> bool {
        if self.sessions.len() < self.slots_max {
            return true;
        }
        let oldest = self.sessions.iter().min_by_key(|(id, s)| (s.last_used_ms, **id));
        let Some((id, stale)) = oldest
            .map(|(id, s)| (*id, now_ms.saturating_sub(s.last_used_ms) > self.evict_after_ms))
        else {
            return false;
        };
        if stale {
            self.close(id);
        }
        stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: i32) -> PartitionKey {
        (TopicKey::Name("t".into()), partition)
    }

    fn wanted(offset: i64) -> Wanted {
        Wanted { current_leader_epoch: -1, fetch_offset: Offset(offset), size_bytes_max: 100 }
    }

    fn request(id: i32, epoch: i32, partitions: &[(i32, i64)]) -> SessionRequest {
        SessionRequest {
            session_id: id,
            session_epoch: epoch,
            by_topic_id: false,
            partitions: partitions.iter().map(|(p, o)| (key(*p), wanted(*o))).collect(),
            forgotten: vec![],
        }
    }

    fn order(plan: &Plan) -> Vec<i32> {
        plan.partitions.iter().map(|(k, _)| k.1).collect()
    }

    #[test]
    fn a_session_remembers_what_later_fetches_leave_out() {
        let mut sessions = FetchSessions::new(10, 1000);
        let plan = sessions.begin(0, request(0, 0, &[(0, 5), (1, 6)]), || 42).unwrap();
        assert_eq!((plan.session_id, plan.incremental), (42, false));
        let plan = sessions.begin(0, request(42, 1, &[(1, 9)]), || 43).unwrap();
        assert!(plan.incremental);
        assert_eq!(plan.partitions, [(key(0), wanted(5)), (key(1), wanted(9))]);
    }

    #[test]
    fn only_news_is_told_and_readers_of_records_go_last() {
        let mut sessions = FetchSessions::new(10, 1000);
        sessions.begin(0, request(0, 0, &[(0, 0), (1, 0)]), || 42).unwrap();
        let told = Told { high_watermark: 3, log_start: 0 };
        assert!(sessions.tell(42, &key(0), told, true, false));
        assert!(sessions.tell(42, &key(1), told, false, false));
        let plan = sessions.begin(0, request(42, 1, &[]), || 43).unwrap();
        assert_eq!(order(&plan), [1, 0]);
        assert!(!sessions.tell(42, &key(1), told, false, false));
        assert!(sessions.tell(42, &key(1), told, false, true));
        assert!(sessions.tell(42, &key(1), told, false, false), "news again after an error");
    }

    #[test]
    fn wrong_epoch_unknown_id_and_mixed_naming_are_refused() {
        let mut sessions = FetchSessions::new(10, 1000);
        sessions.begin(0, request(0, 0, &[(0, 0)]), || 42).unwrap();
        let begin = |s: &mut FetchSessions, r| s.begin(0, r, || 1).unwrap_err();
        assert_eq!(begin(&mut sessions, request(42, 2, &[])), SessionError::InvalidEpoch);
        assert_eq!(begin(&mut sessions, request(41, 1, &[])), SessionError::NotFound);
        let by_id = SessionRequest { by_topic_id: true, ..request(42, 1, &[]) };
        assert_eq!(begin(&mut sessions, by_id), SessionError::TopicIdMismatch);
    }

    #[test]
    fn a_full_cache_gives_up_only_stale_sessions() {
        let mut sessions = FetchSessions::new(1, 1000);
        assert_eq!(sessions.begin(0, request(0, 0, &[(0, 0)]), || 1).unwrap().session_id, 1);
        assert_eq!(sessions.begin(900, request(0, 0, &[(0, 0)]), || 2).unwrap().session_id, 0);
        assert_eq!(sessions.begin(1001, request(0, 0, &[(0, 0)]), || 2).unwrap().session_id, 2);
    }

    #[test]
    fn what_all_sessions_remember_together_is_bounded() {
        let mut sessions = FetchSessions { partitions_max: 3, ..FetchSessions::new(10, 1_000_000) };
        let two = [(0, 0), (1, 0)];
        assert_eq!(sessions.begin(0, request(0, 0, &two), || 1).unwrap().session_id, 1);
        assert_eq!(sessions.begin(0, request(0, 0, &two), || 2).unwrap().session_id, 0);
        assert!(sessions.begin(0, request(1, 1, &[(2, 0)]), || 2).is_ok());
        let more = sessions.begin(0, request(1, 2, &[(3, 0)]), || 2);
        assert_eq!(more, Err(SessionError::NotFound), "it begins anew");
        assert_eq!(sessions.begin(0, request(0, 0, &two), || 2).unwrap().session_id, 2);
    }

    #[test]
    fn the_final_epoch_closes_the_session() {
        let mut sessions = FetchSessions::new(10, 1000);
        sessions.begin(0, request(0, 0, &[(0, 0)]), || 42).unwrap();
        let plan = sessions.begin(0, request(42, -1, &[(0, 0)]), || 43).unwrap();
        assert_eq!((plan.session_id, plan.partitions.len()), (0, 1));
        assert_eq!(sessions.begin(0, request(42, 1, &[]), || 43), Err(SessionError::NotFound));
    }

    #[test]
    fn forgotten_partitions_leave_the_session() {
        let mut sessions = FetchSessions::new(10, 1000);
        sessions.begin(0, request(0, 0, &[(0, 0), (1, 0)]), || 42).unwrap();
        let forget = SessionRequest { forgotten: vec![key(0)], ..request(42, 1, &[]) };
        assert_eq!(order(&sessions.begin(0, forget, || 43).unwrap()), [1]);
    }

    #[test]
    fn a_session_that_forgets_its_last_partition_is_closed() {
        let mut sessions = FetchSessions::new(10, 1000);
        sessions.begin(0, request(0, 0, &[(0, 0)]), || 42).unwrap();
        let forget = SessionRequest { forgotten: vec![key(0)], ..request(42, 1, &[]) };
        let plan = sessions.begin(0, forget, || 43).unwrap();
        assert_eq!((plan.session_id, plan.incremental), (0, false));
        assert_eq!(sessions.begin(0, request(42, 2, &[]), || 43), Err(SessionError::NotFound));
    }
}
