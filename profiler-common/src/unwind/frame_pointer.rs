//! The walk by frame pointers: every frame holds its caller's frame pointer, and the return address above it.

use super::Registers;
use crate::ended::Ended;

/// What a frame keeps at its frame pointer, on x86-64 and on arm64 alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SavedFrame {
    /// The caller's frame pointer.
    pub fp: u64,
    /// Where the caller goes on.
    pub return_address: u64,
}

/// One frame up from a frame pointer.
///
/// `read` reads the two words at an address of the walked thread's stack. Frames grow towards the root, so a frame pointer must be 8-byte aligned and not
/// below `above`, the stack pointer of its frame; that alone bounds the walk in a stack that a hostile process prepared.
///
/// # Errors
/// How the walk ended: at the root (frame pointer or return address 0), or where the chain breaks.
#[inline(always)]
pub fn step(at: u64, above: u64, read: impl FnOnce(u64) -> Option<SavedFrame>) -> Result<Registers, Ended> {
    if at == 0 {
        return Err(Ended::Root);
    }
    if at & 7 != 0 || at < above {
        return Err(Ended::BadFramePointer);
    }
    let Some(saved) = read(at) else { return Err(Ended::Unreadable) };
    if saved.return_address == 0 {
        return Err(Ended::Root);
    }
    Ok(Registers { ip: saved.return_address, sp: at.wrapping_add(16), fp: saved.fp, bx: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn walks_to_the_root() {
        let stack =
            [(0x1000u64, SavedFrame { fp: 0x1040, return_address: 0x401_000 }), (0x1040, SavedFrame { fp: 0, return_address: 0x402_000 })];
        let read = |at| stack.iter().find(|(address, _)| *address == at).map(|(_, frame)| *frame);
        let first = step(0x1000, 0xff0, read).expect("one frame");
        assert_eq!(first.ip, 0x401_000);
        let second = step(first.fp, first.sp, read).expect("two frames");
        assert_eq!((second.ip, second.fp), (0x402_000, 0));
        assert_eq!(step(second.fp, second.sp, read), Err(Ended::Root));
    }

    proptest! {
        #[test]
        fn climbs_or_ends(sp in any::<u64>(), fp in any::<u64>(), saved_fp in any::<u64>(), ra in any::<u64>()) {
            if let Ok(to) = step(fp, sp, |_| Some(SavedFrame { fp: saved_fp, return_address: ra })) {
                prop_assert!(to.sp > sp || fp > u64::MAX - 16);
            }
        }
    }
}
