//! Registers that are known in the leaf alone, of those that rules name beside what a walk carries from frame to frame. Not all that there are: what is taken
//! along for each thread and for each stack that is finished in user space must be little.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How many.
pub const LEAF_REGISTERS: usize = 6;

/// Which, by their DWARF numbers: rax tells parent from child behind a `clone`, in rdi `vfork` keeps its return address; functions that align their stack find
/// their frame by r10, for a few instructions by r13, and assembly by rax, rsi or r11. (Of 2,200 rows of some 400 libraries that name such a register 22 name another.)
#[cfg(not(any(bpf_target_arch = "aarch64", target_arch = "aarch64")))]
pub const NUMBERS: [u8; LEAF_REGISTERS] = [0, 4, 5, 10, 11, 13];
/// Which, by their numbers: some of those that a callee may use without saving them, and those that functions without a frame pointer may keep their frame in.
#[cfg(any(bpf_target_arch = "aarch64", target_arch = "aarch64"))]
pub const NUMBERS: [u8; LEAF_REGISTERS] = [9, 10, 12, 16, 19, 20];

/// Their values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct LeafRegisters(pub [u64; LEAF_REGISTERS]);

impl LeafRegisters {
    /// One of them by its number, if it is one.
    pub fn get(&self, number: u8) -> Option<u64> {
        NUMBERS.iter().position(|known| *known == number).map(|at| self.0[at])
    }
}
