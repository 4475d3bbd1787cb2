//! A descriptor that the runtime watches.

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a descriptor until it is readable.
#[expect(
    deprecated,
    reason = "the safe constructor is deprecated for types that may let go of their descriptor while it is watched; an OwnedFd cannot"
)]
pub(super) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}
