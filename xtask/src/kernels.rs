//! `cargo xtask kernels`: the binary on Debian's kernels, under qemu. The oldest kernel that we promise and a newer one must take the programs, and walk; one
//! that is too old must be refused in words. Each boots from memory, within seconds, without a disk or a network, and without rights on this machine.

mod cpio;
mod debian;
mod guest;

use crate::test::build_release;
use anyhow::{Context, Result, bail, ensure};
use guest::Said;
use profiler_tests::manifest::root;
use profiler_tests::skip::{Need, ready};

/// A kernel that is booted.
struct Kernel {
    /// Its series, as its release begins.
    series: &'static str,
    /// Debian's release that has it, and whether it comes as a security update there.
    suite: debian::Suite,
    /// Whether recording works.
    records: bool,
}

const KERNELS: &[Kernel] = &[
    Kernel { series: "5.10.", suite: debian::Suite { release: "bullseye", is_security: true }, records: false },
    Kernel { series: "6.1.", suite: debian::Suite { release: "bookworm", is_security: false }, records: true },
    Kernel { series: "6.12.", suite: debian::Suite { release: "trixie", is_security: false }, records: true },
];

/// What is booted in needs of this machine.
const NEEDS: &[Need<'_>] = &[
    Need::Program("apt-get"),
    Need::Program("dpkg-deb"),
    Need::Program("qemu-system-x86_64"),
    Need::Program("timeout"),
    Need::Program("strip"),
    Need::Program("gcc"),
    Need::Path("/bin/busybox"),
    Need::Path(debian::KEYRING),
];

/// Boots all, or those of the named series.
///
/// # Errors
/// A kernel does not do what it must.
pub(crate) fn run(names: &[String]) -> Result<()> {
    if !ready(NEEDS) {
        return Ok(());
    }
    build_release()?;
    let folder = root().join("target/kernels");
    let system = guest::system(&folder).context("putting the guest's files together")?;
    let mut failed = Vec::new();
    let asked = |kernel: &&Kernel| names.is_empty() || names.iter().any(|name| kernel.series.trim_end_matches('.') == name);
    for kernel in KERNELS.iter().filter(asked) {
        let image = match debian::image(&folder.join(kernel.suite.release), &kernel.suite) {
            Ok(image) => image,
            Err(error) => {
                profiler_tests::skip::skip(&format!("Linux {} could not be had: {error:#}", kernel.series));
                continue;
            }
        };
        let said = guest::boot(&image, &system).with_context(|| format!("booting {}", image.display()))?;
        match judge(kernel, &said) {
            Ok(line) => println!("Linux {}: {line}", said.release),
            Err(error) => {
                println!("Linux {}: FAILED: {error:#}\n{}", said.release, said.whole);
                failed.push(kernel.series);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("it does not work as it must on Linux {}", failed.join(", ")) }
}

/// What a kernel did, in a line.
///
/// # Errors
/// Something other than it must.
fn judge(kernel: &Kernel, said: &Said) -> Result<String> {
    ensure!(said.release.starts_with(kernel.series), "it is not Linux {}", kernel.series);
    let check = said.part("check")?;
    let (stats, record) = (said.part("stats")?, said.part("record")?);
    if !kernel.records {
        ensure!(check.status == 1 && check.text.contains("Recording does not work here"), "`check` does not refuse");
        ensure!(record.status == 1 && record.text.contains("recording needs Linux 6.1 or later"), "`record` does not refuse in words");
        ensure!(!said.whole.contains("panicked"), "a panic is no refusal");
        // What precedes the words clears the terminal's line.
        let reason = record.text.lines().find_map(|line| Some(line.split_once("profiler: ")?.1)).unwrap_or_default();
        return Ok(format!("refused, as it must be: {}", reason.trim()));
    }
    ensure!(check.status == 0 && check.text.contains("Recording works here"), "`check` refuses");
    ensure!(stats.status == 0, "the programs are not loaded, or too large");
    ensure!(record.status == 0, "`record` ends with {}", record.status);
    let (whole, all) = walked(&said.part("folded")?.text);
    ensure!(all >= 100 && whole * 100 >= all * 95, "{whole} of {all} samples of the subject were walked from `bottom` to `_start`");
    let verified = stats.text.lines().skip(2).filter_map(verified).collect::<Vec<_>>().join(", ");
    Ok(format!("{whole} of {all} samples whole without frame pointers; instructions verified: {verified}"))
}

/// `cpu 46140`, from a line of `cargo xtask ebpf --stats`.
fn verified(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [name, _, verified, _, "B", ..] = words[..] else { return None };
    Some(format!("{name} {verified}"))
}

/// Samples of the subject that were walked from its leaf to its root, and all of its, from folded stacks.
fn walked(folded: &str) -> (u64, u64) {
    let (mut whole, mut all) = (0, 0);
    for line in folded.lines().filter(|line| line.starts_with("deep;") && line.contains(";bottom")) {
        let Some((stack, count)) = line.trim().rsplit_once(' ') else { continue };
        let count = count.parse().unwrap_or(0);
        let descents = stack.split(';').filter(|name| *name == "descend").count();
        all += count;
        whole += if stack.starts_with("deep;_start;") && descents == guest::DEPTH { count } else { 0 };
    }
    (whole, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_stacks_of_the_subject_count() {
        let descend = ";descend".repeat(guest::DEPTH);
        let folded =
            format!("deep;_start;main{descend};bottom 90\ndeep;main{descend};bottom 5\nsh;_start;bottom 7\ndeep;_start;main;bottom;x 1\n");
        assert_eq!(walked(&folded), (90, 96));
    }

    #[test]
    fn verified_instructions_are_read() {
        assert_eq!(verified("cpu  1855     46140     28064 B     16673 B   4.6 %").as_deref(), Some("cpu 46140"));
        assert_eq!(verified("   1763   in functions that programs call"), None);
    }
}
