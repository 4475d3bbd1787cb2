//! `cargo xtask kernels`: the binary on Debian's kernels, under qemu. The oldest kernel that we promise and a newer one must take the programs, and walk; one
//! that is too old must be refused in words. Each boots from memory, within seconds, without a disk or a network, and without rights on this machine.

mod cpio;
mod debian;
mod guest;
mod machine;

use anyhow::{Context, Result, bail, ensure};
use debian::Suite;
use guest::Said;
use machine::Machine;
use profiler_tests::manifest::root;
use profiler_tests::skip::{Need, ready};

/// A kernel that is booted.
struct Kernel {
    /// By what it is asked for.
    name: &'static str,
    /// How its release begins.
    series: &'static str,
    machine: Machine,
    suite: Suite,
    /// Whether recording works.
    records: bool,
    /// Whether calls can be probed.
    probes: bool,
}

const fn suite(release: &'static str, is_security: bool, architecture: &'static str) -> Suite {
    Suite { release, is_security, architecture }
}

const KERNELS: &[Kernel] = &[
    Kernel {
        name: "5.10",
        series: "5.10.",
        machine: Machine::X86_64,
        suite: suite("bullseye", true, "amd64"),
        records: false,
        probes: false,
    },
    Kernel {
        name: "6.1",
        series: "6.1.",
        machine: Machine::X86_64,
        suite: suite("bookworm", false, "amd64"),
        records: true,
        probes: false,
    },
    Kernel { name: "6.12", series: "6.12.", machine: Machine::X86_64, suite: suite("trixie", false, "amd64"), records: true, probes: true },
    // By its name alone: building for another machine takes minutes.
    Kernel { name: "arm64", series: "6.12.", machine: Machine::Arm64, suite: suite("trixie", false, "arm64"), records: true, probes: true },
];

/// What getting kernels needs of this machine.
const NEEDS: &[Need<'_>] = &[Need::Program("apt-get"), Need::Program("dpkg-deb"), Need::Program("timeout"), Need::Path(debian::KEYRING)];

/// Boots those for this machine, or the named ones.
///
/// # Errors
/// A kernel does not do what it must.
pub(crate) fn run(names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| KERNELS.iter().all(|kernel| kernel.name != **name)) {
        bail!("there is no kernel `{unknown}`; there are {}", KERNELS.iter().map(|kernel| kernel.name).collect::<Vec<_>>().join(", "));
    }
    let mut failed = Vec::new();
    for machine in [Machine::X86_64, Machine::Arm64] {
        let asked = |kernel: &&Kernel| match names {
            [] => kernel.machine == Machine::X86_64,
            names => names.iter().any(|name| kernel.name == name),
        };
        let kernels: Vec<&Kernel> = KERNELS.iter().filter(|kernel| kernel.machine == machine).filter(asked).collect();
        if !kernels.is_empty() && ready(NEEDS) && ready(machine.needs()) {
            boot_all(machine, &kernels, &mut failed)?;
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("it does not work as it must on {}", failed.join(", ")) }
}

fn boot_all(machine: Machine, kernels: &[&Kernel], failed: &mut Vec<&'static str>) -> Result<()> {
    let folder = root().join("target/kernels");
    let system = guest::system(&folder, machine).context("putting the guest's files together")?;
    for kernel in kernels {
        let image = match debian::image(&folder, &kernel.suite) {
            Ok(image) => image,
            Err(error) => {
                profiler_tests::skip::skip(&format!("Linux {} could not be had: {error:#}", kernel.name));
                continue;
            }
        };
        let said = guest::boot(machine, &image, &system).with_context(|| format!("booting {}", image.display()))?;
        match judge(kernel, &said) {
            Ok(line) => println!("Linux {}: {line}", said.release),
            Err(error) => {
                println!("Linux {}: FAILED: {error:#}\n{}", said.release, said.whole);
                failed.push(kernel.name);
            }
        }
    }
    Ok(())
}

/// What a kernel did, in a line.
///
/// # Errors
/// Something other than it must.
fn judge(kernel: &Kernel, said: &Said) -> Result<String> {
    ensure!(said.release.starts_with(kernel.series), "it is not Linux {}", kernel.series);
    let check = said.part("check")?;
    let record = said.part("record")?;
    if !kernel.records {
        ensure!(check.status == 1 && check.text.contains("Recording does not work here"), "`check` does not refuse");
        ensure!(record.status == 1 && record.text.contains("recording needs Linux 6.1 or later"), "`record` does not refuse in words");
        ensure!(!said.whole.contains("panicked"), "a panic is no refusal");
        // What precedes the words clears the terminal's line.
        let reason = record.text.lines().find_map(|line| Some(line.split_once("profiler: ")?.1)).unwrap_or_default();
        return Ok(format!("refused, as it must be: {}", reason.trim()));
    }
    ensure!(check.status == 0 && check.text.contains("Recording works here"), "`check` refuses");
    // Our own task is built for this machine alone; on another one it is what the recording says.
    let verified = match kernel.machine {
        Machine::X86_64 => {
            let stats = said.part("stats")?;
            ensure!(stats.status == 0, "the programs are not loaded, or too large");
            stats.text.lines().skip(2).filter_map(verified).collect::<Vec<_>>().join(", ")
        }
        Machine::Arm64 => record.text.lines().filter_map(verified_in_recording).collect::<Vec<_>>().join(", "),
    };
    ensure!(record.status == 0, "`record` ends with {}", record.status);
    let heap = heap(kernel, said)?;
    let (sleeps, maps) = (sleeps(kernel, said)?, maps(kernel, said)?);
    let (whole, all) = walked(&said.part("folded")?.text);
    ensure!(all >= 100 && whole * 100 >= all * 95, "{whole} of {all} samples of the subject were walked from `bottom` to `_start`");
    Ok(format!("{whole} of {all} samples whole without frame pointers; {heap}; {sleeps}; {maps}; instructions verified: {verified}"))
}

/// What became of a heap profile: the subject's blocks to the last one, or a refusal that says what is needed.
///
/// # Errors
/// Something other than it must.
fn heap(kernel: &Kernel, said: &Said) -> Result<String> {
    if kernel.machine == Machine::Arm64 {
        return Ok("no heap profile was tried".to_owned()); // Its probes are another issue.
    }
    let heap = said.part("heap")?;
    if !kernel.probes {
        ensure!(heap.status == 1 && heap.text.contains("need Linux 6.6 or later"), "`-e heap` is not refused in words");
        return Ok("-e heap refused, as it must be".to_owned());
    }
    ensure!(heap.status == 0, "`-e heap` ends with {}", heap.status);
    let rows = said.part("blocks")?.text;
    for (function, bytes) in guest::BLOCKS {
        let row = rows.lines().find(|line| line.contains(&format!(";{function} ")) && line.starts_with("blocks;"));
        let found = row.and_then(|row| row.trim().rsplit_once(' ')?.1.parse::<u64>().ok());
        ensure!(found == Some(bytes), "in use by `{function}`: {found:?} instead of {bytes} bytes");
    }
    Ok("-e heap exact to the byte".to_owned())
}

/// What became of the time that ten commands slept: all of it, or a refusal that says what is needed.
///
/// # Errors
/// Something other than it must.
fn sleeps(kernel: &Kernel, said: &Said) -> Result<String> {
    let sleeps = said.part("sleeps")?;
    if !kernel.probes {
        ensure!(sleeps.status == 1 && sleeps.text.contains("need Linux 6.6 or later"), "`-e off-cpu` is not refused in words");
        return Ok("-e off-cpu refused, as it must be".to_owned());
    }
    ensure!(sleeps.status == 0, "`-e off-cpu` ends with {}", sleeps.status);
    let rows = said.part("slept")?.text;
    let of_sleep = rows.lines().filter(|row| row.contains("nanosleep"));
    let slept_ns: u64 = of_sleep.filter_map(|row| row.trim().rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
    let slept_s = slept_ns as f64 / 1e9;
    ensure!((slept_s / (10.0 * guest::NAP_S) - 1.0).abs() < 0.1, "{slept_s} s of ten times {} s slept: {rows}", guest::NAP_S);
    Ok("-e off-cpu saw every sleep".to_owned())
}

/// What became of the address space of a command that maps a large buffer, or a refusal.
///
/// # Errors
/// Something other than it must.
fn maps(kernel: &Kernel, said: &Said) -> Result<String> {
    let maps = said.part("maps")?;
    if !kernel.probes {
        ensure!(maps.status == 1 && maps.text.contains("need Linux 6.6 or later"), "`-e mmap` is not refused in words");
        return Ok("-e mmap refused, as it must be".to_owned());
    }
    ensure!(maps.status == 0, "`-e mmap` ends with {}", maps.status);
    let rows = said.part("mapped")?.text;
    let grown: u64 = rows.lines().filter_map(|row| row.trim().rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
    // Beside the program's own segments and heap.
    let beside = grown.checked_sub(guest::BUFFER_BYTES);
    ensure!(beside.is_some_and(|bytes| bytes < 4 << 20), "{grown} bytes grown, {} of them a buffer: {rows}", guest::BUFFER_BYTES);
    Ok("-e mmap saw the space grow".to_owned())
}

/// `cpu 46140`, from a line of `cargo xtask ebpf --stats`.
fn verified(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [name, _, verified, _, "B", ..] = words[..] else { return None };
    Some(format!("{name} {verified}"))
}

/// `cpu 13658`, from a line of `record --self-cost`.
fn verified_in_recording(line: &str) -> Option<String> {
    let (name, rest) = line.strip_prefix("program ")?.split_once(": ")?;
    Some(format!("{name} {}", rest.strip_suffix(" instructions verified")?.rsplit(' ').next()?))
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
        let line = "program cpu: 600 runs, 20736 ns each, 13658 instructions verified";
        assert_eq!(verified_in_recording(line).as_deref(), Some("cpu 13658"));
        assert_eq!(verified("   1763   in functions that programs call"), None);
    }
}
