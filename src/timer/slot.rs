//! A scheduled message of a loaded bucket, in memory.

use super::event::End;

/// Sixteen bytes; as many again are its place in the order of due times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) due_ms: i64,
    pub(super) state: SlotState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotState {
    /// Damage took the record.
    Lost,
    Pending,
    Ended(End),
}

const _: () = assert!(size_of::<Slot>() == 16);

impl Slot {
    pub(super) const LOST: Self = Self { due_ms: 0, state: SlotState::Lost };

    pub(super) fn pending(due_ms: i64) -> Self {
        Self { due_ms, state: SlotState::Pending }
    }
}

/// Puts a slot at its offset; what damage took from before it stays lost.
pub(super) fn put(slots: &mut Vec<Slot>, offset: u32, slot: Slot) {
    let at = offset as usize;
    if slots.len() <= at {
        slots.resize(at + 1, Slot::LOST);
    }
    if let Some(place) = slots.get_mut(at) {
        *place = slot;
    }
}
