//! A command that is held when it becomes a program, and when that has its libraries, until its functions are probed.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What the programs say of the process that is held ([`crate::settings::Settings::held`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Hold {
    /// How often it was stopped.
    pub stops: u64,
    /// How often its loader has said since the last exec that it has mapped something.
    pub linked: u64,
}

/// A loader says it before it maps the libraries of a program (glibc), and when it has (glibc, musl): later ones are those that the program asks for itself.
pub const LINKED_AT_START: u64 = 2;
