//! CPUs that come and go, told by the kernel's uevents: no polling.

use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The group of messages that come from the kernel itself (2 would be udev's).
const FROM_KERNEL: u32 = 1;

/// A change of one CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CpuChange {
    /// It came on line.
    Online(u32),
    /// It went off line.
    Offline(u32),
}

/// A listener for uevents.
#[derive(Debug)]
pub(super) struct Hotplug {
    socket: OwnedFd,
}

impl Hotplug {
    /// Starts listening. Fails where netlink is not allowed, as in some containers; then CPUs that come later are not seen.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
        bind(&socket, &SocketAddrNetlink::new(0, FROM_KERNEL))?;
        Ok(Self { socket })
    }

    /// The changes that were told since the last call.
    pub(super) fn changes(&self) -> Vec<CpuChange> {
        let mut changes = Vec::new();
        let mut message = [0; 8192];
        while let Ok((length, _)) = recv(&self.socket, &mut message, RecvFlags::empty()) {
            changes.extend(parse(&message[..length.min(message.len())]));
        }
        changes
    }
}

impl AsFd for Hotplug {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// `online@/devices/system/cpu/cpu1`, then NUL-separated variables (lib/kobject_uevent.c).
fn parse(message: &[u8]) -> Option<CpuChange> {
    let head = message.split(|byte| *byte == 0).next()?;
    let head = std::str::from_utf8(head).ok()?;
    let (action, path) = head.split_once('@')?;
    let cpu = path.strip_prefix("/devices/system/cpu/cpu")?.parse().ok()?;
    match action {
        "online" => Some(CpuChange::Online(cpu)),
        "offline" => Some(CpuChange::Offline(cpu)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cpus_are_heard() {
        assert_eq!(parse(b"online@/devices/system/cpu/cpu1\0ACTION=online\0"), Some(CpuChange::Online(1)));
        assert_eq!(parse(b"offline@/devices/system/cpu/cpu12\0"), Some(CpuChange::Offline(12)));
        assert_eq!(parse(b"add@/devices/virtual/net/lo\0"), None);
        assert_eq!(parse(b""), None);
    }
}
