//! Standard output. A reader that has had enough (`| head`) is no failure.

use super::SinkError;
use crate::model::encoded::Encoded;
use rustix::fd::AsFd;
use rustix::io::Errno;

/// Writes the bytes to standard output.
///
/// # Errors
/// The write failed for another reason than that the reader has gone.
pub fn write(encoded: &Encoded) -> Result<(), SinkError> {
    write_all(rustix::stdio::stdout(), &encoded.bytes).map_err(SinkError::io("writing to", "standard output"))
}

/// Writes all of it, unless the reader goes (`EPIPE`), which is a success. Waits where the descriptor is non-blocking and full.
pub(super) fn write_all(to: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(&to, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(&to)?,
            Err(Errno::PIPE) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn wait(to: &impl AsFd) -> Result<(), Errno> {
    let mut polled = [rustix::event::PollFd::new(to, rustix::event::PollFlags::OUT)];
    match rustix::event::poll(&mut polled, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::write_all;
    use rustix::io::Errno;
    use std::io::Read;

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(write_all(writer, &[0; 100_000]), Ok(()));
    }

    #[test]
    fn a_full_pipe_that_does_not_block_is_waited_for() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let thread = std::thread::spawn(move || write_all(writer, &[7; 1_000_000]));
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(thread.join().unwrap(), Ok(()));
        assert_eq!(read, vec![7; 1_000_000]);
    }

    #[test]
    fn a_full_device_is_a_failure() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(write_all(full, b"x"), Err(Errno::NOSPC));
    }
}
