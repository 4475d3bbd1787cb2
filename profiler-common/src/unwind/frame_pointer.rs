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

/// One frame up.
///
/// `read` reads the two words at an address of the walked thread's stack. Frames grow towards the root, so a frame pointer must be above the stack
/// pointer and 8-byte aligned; that alone bounds the walk in a stack that a hostile process prepared.
///
/// # Errors
/// How the walk ended: at the root (frame pointer or return address 0), or where the chain breaks.
#[inline(always)]
pub fn step(registers: &Registers, read: impl FnOnce(u64) -> Option<SavedFrame>) -> Result<Registers, Ended> {
    let at = registers.fp;
    if at == 0 {
        return Err(Ended::Root);
    }
    if at & 7 != 0 || at < registers.sp {
        return Err(Ended::BadFramePointer);
    }
    let Some(saved) = read(at) else { return Err(Ended::Unreadable) };
    if saved.return_address == 0 {
        return Err(Ended::Root);
    }
    Ok(Registers { ip: saved.return_address, sp: at.wrapping_add(16), fp: saved.fp })
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
        let first = step(&Registers { ip: 1, sp: 0xff0, fp: 0x1000 }, read).expect("one frame");
        assert_eq!(first.ip, 0x401_000);
        let second = step(&first, read).expect("two frames");
        assert_eq!((second.ip, second.fp), (0x402_000, 0));
        assert_eq!(step(&second, read), Err(Ended::Root));
    }

    proptest! {
        #[test]
        fn climbs_or_ends(sp in any::<u64>(), fp in any::<u64>(), saved_fp in any::<u64>(), ra in any::<u64>()) {
            let from = Registers { ip: 0, sp, fp };
            if let Ok(to) = step(&from, |_| Some(SavedFrame { fp: saved_fp, return_address: ra })) {
                prop_assert!(to.sp > from.sp || from.fp > u64::MAX - 16);
            }
        }
    }
}
