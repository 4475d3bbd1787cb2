//! Addresses, and the one place where a return address is moved back into its call.

/// An address as a walk found it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CodeAddress {
    /// Where execution stood: the leaf.
    InstructionPointer(u64),
    /// Where a caller goes on once the call returns.
    ReturnAddress(u64),
}

impl CodeAddress {
    /// The address to look up: a return address minus 1, so that it lies inside the call and not in the line, the inlined function or even the
    /// function behind it. Nowhere else is anything subtracted.
    pub const fn for_lookup(self) -> u64 {
        match self {
            Self::InstructionPointer(address) => address,
            Self::ReturnAddress(address) => address.saturating_sub(1),
        }
    }
}

/// An offset in an object file, of the byte that an address stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct FileAddress(pub u64);
