//! Conversions between the widths of memory and of the formats. Formats hold `u32` and `u64`,
//! memory is indexed by `usize`, and the broker runs on 64-bit machines only.

const _: () = assert!(usize::BITS == 64, "positions and lengths are indexed as usize");

/// A length or distance of the formats as an index into memory.
pub(super) fn index(n: u64) -> usize {
    match usize::try_from(n) {
        Ok(n) => n,
        Err(_) => unreachable!("usize has 64 bits"),
    }
}

/// A count or length that its caller keeps below 4 Gi; larger ones saturate.
pub(super) fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The same for distances.
pub(super) fn narrow64(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
