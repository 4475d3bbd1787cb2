//! Foreign bytes cost at most the file that they are in: the reader is killed, files are broken, hidden behind FIFOs, huge, or swapped, and the recording
//! ends whole, with the good neighbour's names.

use anyhow::{Context, Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, Outcome, Profiler, as_pid};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};
use profiler_tests::waiting;
use rustix::process::{Signal, kill_process};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the machine code lies in a hostile file.
const CODE_AT: u64 = 8192;

/// A file that is removed with the value.
struct Planted(PathBuf);

impl Drop for Planted {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The path of a process's perf map.
fn perf_map(pid: u32) -> Planted {
    Planted(PathBuf::from(format!("/tmp/perf-{pid}.map")))
}

/// Records a hostile process and a good one; the good one must have its names whatever the other does.
fn beside_a_neighbour(hostile: &Subject) -> Result<(Outcome, Profile)> {
    let neighbour = Subject::start(&build("spin", Build::C)?, ["1000"])?;
    let pids = ["-p".to_owned(), hostile.pid().to_string(), "-p".to_owned(), neighbour.pid().to_string()];
    let outcome = Profiler::record()?.args(pids).args(["-F", "199", "-d", "2"]).run()?.success()?;
    ensure!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    let profile = outcome.profile()?;
    assert_eq!(profile.balance()?.difference, 0);
    let of_neighbour = profile.labelled("pid", &neighbour.pid().to_string());
    let named = of_neighbour.cumulative().get("spin_here").copied().unwrap_or(0);
    ensure!(named as f64 > 0.97 * of_neighbour.total(0) as f64 && named > 10, "the neighbour's names suffered: {:?}", of_neighbour.flat());
    ensure!(profile.labelled("pid", &hostile.pid().to_string()).total(0) > 10, "the hostile process's samples are gone");
    Ok((outcome, profile))
}

/// The code of a run-time compiler, with something as its perf map.
fn with_perf_map(plant: impl FnOnce(&Path, u64, u64) -> Result<()>) -> Result<(Outcome, Profile, u32)> {
    let mut command = Command::new(build("jit", Build::C)?);
    let mut child = command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).spawn()?;
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().context("a pipe")?));
    let code = lines.next().context("no line")??;
    let mut words = code.split(' ').skip(1).map(|word| u64::from_str_radix(word, 16));
    let (address, length) = (words.next().context("no address")??, words.next().context("no length")??);
    let map = perf_map(child.id());
    plant(&map.0, address, length)?;
    let subject = Subject::adopt(child);
    let (outcome, profile) = beside_a_neighbour(&subject)?;
    Ok((outcome, profile, subject.pid()))
}

/// The samples of a process in a function.
fn samples_in(profile: &Profile, pid: u32, function: &str) -> i64 {
    profile.labelled("pid", &pid.to_string()).cumulative().get(function).copied().unwrap_or(0)
}

#[test]
fn a_perf_map_names_code_that_a_process_made_itself() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let (_, profile, pid) =
        with_perf_map(|path, address, length| Ok(fs::write(path, format!("{address:x} {length:x} LazyCompile:*hot file.js:1\n"))?))?;
    ensure!(samples_in(&profile, pid, "LazyCompile:*hot file.js:1") > 10, "{:?}", profile.labelled("pid", &pid.to_string()).flat());
    ensure!(samples_in(&profile, pid, "call_it") > 10, "its caller is missing");
    Ok(())
}

#[test]
fn bad_lines_of_a_perf_map_cost_only_themselves() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let (_, profile, pid) = with_perf_map(|path, address, length| {
        let mut bytes = b"zz\n\n 12\nffffffffffffffffffff 10 far\n10 \xff\xfe\n".to_vec();
        bytes.extend(format!("{address:x} {length:x} good\n").bytes());
        bytes.extend(b"7000 ffffffffffffffff endless\n123456 10 cut");
        Ok(fs::write(path, bytes)?)
    })?;
    ensure!(samples_in(&profile, pid, "good") > 10, "{:?}", profile.labelled("pid", &pid.to_string()).flat());
    Ok(())
}

#[test]
fn a_perf_map_of_a_gigabyte_of_garbage_is_no_burden() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    with_perf_map(|path, address, length| {
        let file = File::create(path)?;
        let block: Vec<u8> = (0..1u32 << 16).flat_map(|at| (at.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
        for at in 0..4096 {
            file.write_all_at(&block, at * block.len() as u64)?;
        }
        Ok(file.write_all_at(format!("\n{address:x} {length:x} late\n").as_bytes(), 1 << 30)?)
    })?;
    Ok(())
}

#[test]
fn a_perf_map_that_is_a_fifo_a_device_or_a_link_is_not_followed() -> Result<()> {
    if !can_record(&[Build::C]) || !ready(&[Need::Program("mkfifo")]) {
        return Ok(());
    }
    with_perf_map(|path, _, _| {
        let made = Command::new("mkfifo").arg(path).status()?;
        ensure!(made.success(), "mkfifo: {made}");
        Ok(())
    })?;
    with_perf_map(|path, _, _| Ok(symlink("/dev/zero", path)?))?;
    let secret = Folder::create()?;
    let (outcome, profile, pid) = with_perf_map(|path, address, length| {
        fs::write(secret.join("secret"), format!("{address:x} {length:x} S3CRET-CANARY\n"))?;
        Ok(symlink(secret.join("secret"), path)?)
    })?;
    ensure!(samples_in(&profile, pid, "S3CRET-CANARY") == 0 && !outcome.stderr.contains("S3CRET"), "a planted link was followed");
    Ok(())
}

#[test]
fn broken_and_huge_files_that_are_mapped_leave_frames_without_names() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let elf = fs::read(build("spin", Build::C)?)?;
    let mut tricked = elf.clone();
    // Section headers far behind the end, and more of them than there can be.
    tricked[0x28..0x30].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
    tricked[0x3c..0x3e].copy_from_slice(&u16::MAX.to_le_bytes());
    let garbage: Vec<u8> = (0..40_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut huge_tables = elf.clone();
    huge_tables[0x20..0x28].copy_from_slice(&16u64.to_le_bytes());
    huge_tables[0x38..0x3a].copy_from_slice(&u16::MAX.to_le_bytes());
    let files: [(&str, Vec<u8>, Option<u64>); 5] = [
        ("truncated", elf[..600].to_vec(), None),
        ("tricked", tricked, None),
        ("garbage", garbage, None),
        ("tables", huge_tables, None),
        ("huge", elf.clone(), Some(5 << 30)),
    ];
    let folder = Folder::create()?;
    for (name, bytes, length) in files {
        let path = folder.join(name);
        fs::write(&path, &bytes)?;
        File::options().write(true).open(&path)?.set_len(length.unwrap_or((bytes.len() as u64).max(CODE_AT + 4096)))?;
        let subject = Subject::start(&build("jit", Build::C)?, [path.to_string_lossy().into_owned(), CODE_AT.to_string()])?;
        let (_, profile) = beside_a_neighbour(&subject).with_context(|| format!("with the file `{name}`"))?;
        ensure!(samples_in(&profile, subject.pid(), "call_it") > 0, "{name}: the caller in the honest binary lost its name");
    }
    Ok(())
}

#[test]
fn a_file_that_was_swapped_for_a_fifo_or_truncated_is_read_no_more() -> Result<()> {
    if !can_record(&[Build::C]) || !ready(&[Need::Program("mkfifo")]) {
        return Ok(());
    }
    let folder = Folder::create()?;
    let elf = fs::read(build("spin", Build::C)?)?;
    for how in ["fifo", "truncated", "deleted"] {
        let path = folder.join(how);
        fs::write(&path, &elf)?;
        let subject = Subject::start(&build("jit", Build::C)?, [path.to_string_lossy().into_owned(), CODE_AT.to_string()])?;
        match how {
            "fifo" => {
                fs::remove_file(&path)?;
                ensure!(Command::new("mkfifo").arg(&path).status()?.success(), "mkfifo");
            }
            // The code's page stays; what symbols need is behind it.
            "truncated" => File::options().write(true).open(&path)?.set_len(CODE_AT + 4096)?,
            _ => fs::remove_file(&path)?,
        }
        beside_a_neighbour(&subject).with_context(|| format!("with a file that was {how}"))?;
    }
    Ok(())
}

#[test]
fn readers_that_are_killed_again_and_again_cost_names_and_nothing_else() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let neighbour = Subject::start(&build("spin", Build::C)?, ["1000"])?;
    let mut running = Profiler::record()?.pid(neighbour.pid()).args(["-F", "199"]).start()?;
    running.wait_until_recording()?;
    Subject::start(&build("spin", Build::C)?, ["1"])?.wait_for_line("cpu")?;
    running.signal(Signal::INT)?;
    let pid = running.pid();
    let mut killed = 0;
    // Kill every child that shows itself until the profiler has ended.
    waiting::until("the profiler to end", || {
        for child in children(pid) {
            killed += u32::from(kill_process(as_pid(child)?, Signal::KILL).is_ok());
        }
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let is_over = state.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'));
        Ok(is_over.then_some(()))
    })?;
    let outcome = running.finish()?.success()?;
    ensure!(killed > 0, "no reader showed itself, so none was killed");
    let profile = outcome.profile()?;
    ensure!(profile.total(0) > 100, "samples are gone: {}", profile.total(0));
    assert_eq!(profile.balance()?.difference, 0);
    assert_eq!(outcome.folder.names()?, ["cpu.prof"]);
    Ok(())
}

/// The children of a process.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<_>>()).collect()
}
