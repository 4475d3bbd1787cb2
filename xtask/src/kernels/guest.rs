//! What runs in the guest: a shell, the profiler, this program for its `ebpf --stats`, and a subject without frame pointers. It says what it did on its
//! serial line, in parts, and switches itself off.

use super::cpio::Archive;
use super::machine::Machine;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Calls of the subject, one below the other.
pub(super) const DEPTH: usize = 20;
/// How long a command sleeps, seconds.
pub(super) const NAP_S: f64 = 0.2;
/// The buffer that a command maps, bytes.
pub(super) const BUFFER_BYTES: u64 = 24 << 20;
/// Bytes that functions of `tests/subjects/blocks.c` leave in use.
pub(super) const BLOCKS: [(&str, u64); 4] = [("kept", 100_000), ("zeroed", 200_000), ("grown", 1_500_000), ("aligned", 204_800)];
/// The longest that a guest may take, seconds; under emulation on two CPUs it is 10.
const PATIENCE_SECONDS: &str = "240";
/// What marks the beginning of a part, and its end.
const MARK: &str = "=====";

/// The first process. A part is what a command says, then its status.
fn first_process() -> String {
    format!(
        r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t tmpfs tmp /tmp
export NO_COLOR=1
part() {{
    name=$1; shift
    echo "{MARK} begin $name"
    "$@" 2>&1
    echo "{MARK} end $name $?"
}}
part release /bin/busybox uname -r
part check /bin/profiler check
[ ! -e /bin/xtask ] || part stats /bin/xtask ebpf --stats
part record /bin/profiler record -F 99 --self-cost -o /tmp/folded --format folded -- /bin/busybox timeout 3 /bin/deep {DEPTH}
part folded /bin/busybox cat /tmp/folded
heap() {{
    pattern='{{ /bin/busybox sleep 10; echo go; echo quit; }} | /bin/blocks'
    /bin/profiler record -e heap --sample-bytes 1 -o /tmp/blocks --format folded -- /bin/busybox sh -c "$pattern"
}}
[ ! -e /bin/blocks ] || part heap heap
[ ! -e /bin/blocks ] || part blocks /bin/busybox cat /tmp/blocks
sleeps() {{
    /bin/profiler record -e off-cpu -o /tmp/sleeps --format folded -- /bin/busybox sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do /bin/busybox sleep {NAP_S}; done'
}}
maps() {{
    /bin/profiler record -e mmap -o /tmp/maps --format folded -- /bin/busybox dd if=/dev/zero of=/dev/null bs={BUFFER_BYTES} count=1
}}
part sleeps sleeps
part slept /bin/busybox cat /tmp/sleeps
part maps maps
part mapped /bin/busybox cat /tmp/maps
/bin/busybox poweroff -f
"#
    )
}

/// Puts the guest's files for a machine into an archive; gives its place.
///
/// # Errors
/// A program is missing or cannot be built or read.
pub(super) fn system(folder: &Path, machine: Machine) -> Result<PathBuf> {
    let files = machine.files(folder)?;
    let mut archive = Archive::default();
    for empty in ["proc", "sys", "dev", "tmp"] {
        archive.folder(empty);
    }
    archive.file("init", first_process().as_bytes());
    for (name, path) in files {
        archive.file(&name, &fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
    }
    let place = folder.join(format!("guest-{}.cpio", machine.name()));
    fs::write(&place, archive.finish()).with_context(|| format!("writing {}", place.display()))?;
    Ok(place)
}

/// What a guest said.
pub(super) struct Said {
    /// The release of its kernel.
    pub(super) release: String,
    /// Everything.
    pub(super) whole: String,
}

/// What one command said.
pub(super) struct Part {
    pub(super) text: String,
    pub(super) status: i32,
}

impl Said {
    fn new(whole: String) -> Result<Self> {
        let said = Self { release: String::new(), whole };
        Ok(Self { release: said.part("release")?.text.trim().to_owned(), ..said })
    }

    /// A part.
    ///
    /// # Errors
    /// The guest did not come to it, or to its end.
    pub(super) fn part(&self, name: &str) -> Result<Part> {
        let found = || {
            let begin = format!("{MARK} begin {name}\n");
            let text = &self.whole[self.whole.find(&begin)? + begin.len()..];
            let end = format!("{MARK} end {name} ");
            let (text, rest) = text.split_once(&end)?;
            Some(Part { text: text.to_owned(), status: rest.lines().next()?.trim().parse().ok()? })
        };
        match found() {
            Some(part) => Ok(part),
            None => bail!("the guest did not come to the end of `{name}`; it said:\n{}", self.whole),
        }
    }
}

/// Boots a kernel with the guest's files, until it switches itself off.
///
/// # Errors
/// The emulator cannot be started, or the guest says nothing that is understood.
pub(super) fn boot(machine: Machine, image: &Path, system: &Path) -> Result<Said> {
    let mut command = Command::new("timeout");
    command.arg(PATIENCE_SECONDS).args(machine.emulator());
    command.args(["-smp", "2", "-m", "1024", "-no-reboot", "-nodefaults", "-display", "none", "-serial", "stdio", "-append"]);
    command.arg(format!("console={} panic=-1 quiet", machine.console()));
    command.arg("-kernel").arg(image).arg("-initrd").arg(system);
    let output = command.stdin(Stdio::null()).output().context("starting the emulator")?;
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "\n");
    Said::new(text.replace("\n\n", "\n")).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_by_their_marks() {
        let said =
            Said::new("noise\n===== begin release\n6.1.0\n===== end release 0\n===== begin check\nno\n===== end check 1\n".to_owned());
        let said = said.expect("a release");
        assert_eq!(said.release, "6.1.0");
        assert!(said.part("check").is_ok_and(|part| part.text == "no\n" && part.status == 1));
        assert!(said.part("record").is_err());
    }
}
