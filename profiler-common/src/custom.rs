//! Custom profiles: what a probe adds or removes, and where its key and its weight are, as a recipe that every program of theirs follows.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where a number comes from. First it is read, then, if asked for, what lies in memory where it points; then it is cut to its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Value {
    /// One of the `VALUE_*`.
    pub from: u32,
    /// Of [`VALUE_CONTEXT`]: where in the program's context, bytes.
    pub at: u32,
    /// One of the `MEMORY_*`: what lies there instead.
    pub memory: u32,
    /// Bytes of it, 1 to 8.
    pub bytes: u32,
    /// 1: its highest bit is a sign.
    pub is_signed: u32,
    /// Zero.
    pub reserved: u32,
    /// The number itself ([`VALUE_NUMBER`]), or what is added to the address of memory.
    pub number: u64,
}

/// It is `number`.
pub const VALUE_NUMBER: u32 = 0;
/// Eight bytes of the program's context: a register at a probe, an argument at a tracepoint.
pub const VALUE_CONTEXT: u32 = 1;
/// The thread's id.
pub const VALUE_THREAD: u32 = 2;
/// The process's id.
pub const VALUE_PROCESS: u32 = 3;
/// What the entry of the call has kept for its return.
pub const VALUE_KEPT: u32 = 4;

/// The number is what is wanted.
pub const MEMORY_NONE: u32 = 0;
/// It is an address of the process.
pub const MEMORY_USER: u32 = 1;
/// It is an address of the kernel.
pub const MEMORY_KERNEL: u32 = 2;

/// A place where a probe of a custom profile is; it is told apart by the number that its program is given.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CustomSite {
    /// The number of the profile's source.
    pub source: u32,
    /// One of the `ACTION_*`.
    pub action: u32,
    /// Bits: `SITE_*`.
    pub flags: u32,
    /// What both ends of a call have in common.
    pub pair: u32,
    /// At a system call: its number and 1; 0: it is none.
    pub system_call: u64,
    /// One of these bits is set in `tested`, or nothing has happened; 0: whatever it is.
    pub mask: u64,
    /// See `mask`; with [`SITE_OF_BLOCKS`] the size of a block.
    pub tested: Value,
    /// What it adds or removes.
    pub key: Value,
    /// How much it adds.
    pub weight: Value,
}

/// A key is added.
pub const ACTION_ADD: u32 = 0;
/// A key is removed.
pub const ACTION_REMOVE: u32 = 1;
/// A call begins that adds a key when it returns: its stack is taken, and what its arguments say is kept.
pub const ACTION_BEGIN: u32 = 2;
/// It returns.
pub const ACTION_END: u32 = 3;

/// Keys are followed until they are removed.
pub const SITE_KEYED: u32 = 1;
/// Keys are of the whole machine, and not of a process.
pub const SITE_GLOBAL: u32 = 2;
/// The key is what a call returned: an error adds nothing.
pub const SITE_MAY_FAIL: u32 = 4;
/// The same of a null pointer.
pub const SITE_MAY_BE_NULL: u32 = 8;
/// The probe is where the stack is as the call has left it.
pub const SITE_AT_ENTRY: u32 = 16;

/// What is added is a block of memory that its process has sampled itself: its weight is the bytes that it stands for.
pub const SITE_OF_BLOCKS: u32 = 32;

/// Whether what a call returned says that it failed: an error number below zero, in all of the register or in its lower half.
#[inline(always)]
pub const fn is_error(returned: u64) -> bool {
    const ERRORS: u64 = 4095;
    returned.wrapping_neg().wrapping_sub(1) < ERRORS
        || returned >> 32 == 0 && ((returned as u32).wrapping_neg().wrapping_sub(1) as u64) < ERRORS
}

/// A number cut to so many bytes, and extended to eight again.
#[inline(always)]
pub const fn cut(number: u64, bytes: u32, is_signed: bool) -> u64 {
    if bytes == 0 || bytes >= 8 {
        return number;
    }
    let spare = 64 - 8 * bytes;
    let high = number << spare;
    if is_signed { ((high as i64) >> spare) as u64 } else { high >> spare }
}

#[cfg(test)]
mod tests {
    use super::{cut, is_error};

    #[test]
    fn errors_are_those_of_libraries_and_of_the_kernel() {
        for returned in [-1i64 as u64, -22i64 as u64, -4095i64 as u64, 0xffff_ffff, 0xffff_ffea] {
            assert!(is_error(returned), "{returned:#x}");
        }
        for returned in [0, 3, 0x7f00_1234_5678, -4096i64 as u64, 0xffff_f000, 0xffff_ffff_0000_0000] {
            assert!(!is_error(returned), "{returned:#x}");
        }
    }

    #[test]
    fn a_cut_number_keeps_its_sign() {
        assert_eq!(cut(0xffff_fffe, 4, true), -2i64 as u64);
        assert_eq!(cut(0x1_0000_0005, 4, false), 5);
        assert_eq!(cut(0x80, 1, true), -128i64 as u64);
        assert_eq!(cut(7, 8, true), 7);
    }
}
