//! The messages between the profiler and the helper. A request is a process, a count, and so many ranges: address (u64) and length (u32). The answer has for each
//! range how many bytes there are (i32; below zero, the number of the error) and the bytes. Numbers are little endian.

/// `argv[0]` of the helper: what marks it, and what `ps` shows.
pub(super) const HELPER: &str = "profiler-memory";

/// What the helper says once it has given up its rights.
pub(super) const HELLO: u8 = b'!';

/// Most ranges of a request.
pub(super) const RANGES_MAX: usize = 256;

/// Most bytes of a request, all ranges together, and so of one range.
pub const RANGE_MAX_BYTES: u32 = 1 << 20;

/// Bytes in front of the ranges: process, count.
pub(super) const HEAD_BYTES: usize = 8;

/// Bytes of a range in a request.
pub(super) const RANGE_BYTES: usize = 12;

/// A request's first bytes.
pub(super) fn head(pid: u32, ranges: usize) -> [u8; HEAD_BYTES] {
    let mut bytes = [0; HEAD_BYTES];
    bytes[..4].copy_from_slice(&pid.to_le_bytes());
    bytes[4..].copy_from_slice(&(ranges as u32).to_le_bytes());
    bytes
}

/// Process and count, if there may be so many.
pub(super) fn read_head(bytes: [u8; HEAD_BYTES]) -> Option<(u32, usize)> {
    let number = u64::from_le_bytes(bytes);
    let count = (number >> 32) as usize;
    (count <= RANGES_MAX).then_some((number as u32, count))
}

/// One range.
pub(super) fn range(address: u64, length: u32) -> [u8; RANGE_BYTES] {
    let mut bytes = [0; RANGE_BYTES];
    bytes[..8].copy_from_slice(&address.to_le_bytes());
    bytes[8..].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// The ranges of a request's body, if they may be so long.
pub(super) fn ranges(body: &[u8]) -> Option<impl Iterator<Item = (u64, usize)> + '_> {
    let one = |bytes: &[u8]| {
        let (address, length) = bytes.split_at(8);
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        (number(address), number(length) as usize)
    };
    let each = || body.chunks_exact(RANGE_BYTES).map(one);
    (each().map(|(_, length)| length).sum::<usize>() <= RANGE_MAX_BYTES as usize).then(each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_and_one_beyond_its_bounds_does_not() {
        assert_eq!(read_head(head(4_000_000_000, 256)), Some((4_000_000_000, 256)));
        assert_eq!(read_head(head(1, 257)), None);
        let body = [range(u64::MAX - 7, 3), range(4096, RANGE_MAX_BYTES - 3)].concat();
        assert_eq!(ranges(&body).unwrap().collect::<Vec<_>>(), [(u64::MAX - 7, 3), (4096, RANGE_MAX_BYTES as usize - 3)]);
        let body = [range(0, 4), range(4096, RANGE_MAX_BYTES - 3)].concat();
        assert!(ranges(&body).is_none());
    }
}
