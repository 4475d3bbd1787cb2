//! One frame up, as pure functions: the kernel program and the host tests run the same code.
//!
//! ```text
//!   address ── range.rs ──► which part of which file's table, and where in it      (a list for each process)
//!           ── table.rs ──► the rule for that place                               (a part of a file's table, shared by all)
//!           ── rule.rs  ──► the caller's registers: `step(rule, registers, read)`      (x86-64; its twin for arm64 is arm64.rs)
//! ```
//!
//! Lists and tables are words in an arena that the loader writes and the programs read; an address in it is the number of a 4-byte word.

pub mod arm64;
pub mod frame_pointer;
pub mod known;
pub mod leaf;
pub mod quarters;
pub mod range;
pub mod rule;
pub mod short_rule;
pub mod table;

/// One frame up, on the machine that this is built for.
#[cfg(any(bpf_target_arch = "aarch64", target_arch = "aarch64"))]
pub use arm64::step;
/// One frame up, on the machine that this is built for.
#[cfg(not(any(bpf_target_arch = "aarch64", target_arch = "aarch64")))]
pub use rule::step;

/// The registers that a walk carries from frame to frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// Instruction pointer of the leaf, then return addresses.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer: rbp, x29.
    pub fp: u64,
    /// rbx, which the dynamic linker keeps its stack pointer in while it binds a function; 0 when it is lost. On arm64 x30, the return address of the leaf.
    pub bx: u64,
}

/// The address by which a stack names a caller. The byte before it is the one to look up: that is in the call, of an address where a call returns to, and
/// so what a signal interrupted (`interrupted`: 1) is named by the byte behind the one where it stood.
#[inline(always)]
pub const fn caller_word(ip: u64, interrupted: u64) -> u64 {
    ip.wrapping_add(interrupted)
}
