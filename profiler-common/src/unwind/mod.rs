//! One frame up, as a pure function: the kernel program and the host tests run the same code.

pub mod frame_pointer;

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
}
