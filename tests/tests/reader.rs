//! Foreign bytes cost at most the file that they are in: the reader is killed, files are broken, hidden behind FIFOs, huge, or swapped, and the recording
//! ends whole, with the good neighbour's names.

use anyhow::{Context, Result, ensure};
use profiler_tests::profile::{Profile, UNNAMED};
use profiler_tests::run::{Folder, Outcome, Profiler, as_pid};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};
use profiler_tests::waiting;
use rustix::process::{Signal, kill_process};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt as _, symlink};
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
    let mut huge_tables = elf.clone();
    huge_tables[0x20..0x28].copy_from_slice(&16u64.to_le_bytes());
    huge_tables[0x38..0x3a].copy_from_slice(&u16::MAX.to_le_bytes());
    let files: [(&str, Vec<u8>, Option<u64>); 5] = [
        ("truncated", elf[..600].to_vec(), None),
        ("tricked", tricked, None),
        ("garbage", garbage(40_000), None),
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
fn a_file_that_was_swapped_for_a_fifo_or_a_device_or_truncated_is_read_no_more() -> Result<()> {
    if !can_record(&[Build::C]) || !ready(&[Need::Program("mkfifo"), Need::Program("mknod")]) {
        return Ok(());
    }
    let folder = Folder::create()?;
    let elf = fs::read(build("spin", Build::C)?)?;
    for how in ["fifo", "device", "truncated", "deleted"] {
        let path = folder.join(how);
        fs::write(&path, &elf)?;
        let subject = Subject::start(&build("jit", Build::C)?, [path.to_string_lossy().into_owned(), CODE_AT.to_string()])?;
        match how {
            "fifo" => {
                fs::remove_file(&path)?;
                ensure!(Command::new("mkfifo").arg(&path).status()?.success(), "mkfifo");
            }
            // Of bytes without end.
            "device" => {
                fs::remove_file(&path)?;
                ensure!(Command::new("mknod").arg(&path).args(["c", "1", "5"]).status()?.success(), "mknod");
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
fn a_device_that_is_mapped_is_no_file_to_read() -> Result<()> {
    if !can_record(&[Build::C]) {
        return Ok(());
    }
    let subject = Subject::start(&build("jit", Build::C)?, ["/dev/zero"])?;
    let mapped = fs::read_to_string(format!("/proc/{}/maps", subject.pid()))?;
    ensure!(mapped.lines().any(|line| line.ends_with("/dev/zero") && line.contains("rwxp")), "it maps no device:\n{mapped}");
    let (_, profile) = beside_a_neighbour(&subject)?;
    ensure!(samples_in(&profile, subject.pid(), "call_it") > 10, "its caller is missing");
    let of_device = profile.only(|sample| profile.leaf_mapping(sample).is_some_and(|mapping| mapping.filename == "/dev/zero"));
    let nameless = of_device.flat().get(UNNAMED).copied().unwrap_or(0);
    ensure!(nameless > 10 && nameless == of_device.total(0), "code in a device has no names: {:?}", of_device.flat());
    Ok(())
}

/// Bytes that mean nothing, and always the same.
fn garbage(length: usize) -> Vec<u8> {
    (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Where a section lies in a file.
fn section(file: &Path, name: &str) -> Result<std::ops::Range<usize>> {
    let output = Command::new("readelf").arg("-SW").arg(file).output()?;
    let sections = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = sections.lines().find(|line| line.split_whitespace().any(|word| word == name)).with_context(|| format!("no {name}"))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != name).skip(3);
    let mut number = || usize::from_str_radix(words.next().unwrap_or_default(), 16);
    let (offset, length) = (number()?, number()?);
    Ok(offset..offset + length)
}

#[test]
fn malformed_debug_information_costs_lines_and_not_names() -> Result<()> {
    if !can_record(&[Build::C]) || !ready(&[Need::Program("readelf")]) {
        return Ok(());
    }
    let (folder, spin) = (Folder::create()?, build("spin", Build::C)?);
    let whole = fs::read(&spin)?;
    for name in [".debug_info", ".debug_abbrev", ".debug_line", ".debug_str"] {
        let place = section(&spin, name)?;
        // Meaningless; numbers that never end; lengths of 4 GB; and one that is right up to its middle.
        let half = [&whole[place.start..place.start + place.len() / 2], &garbage(place.len())[..place.len() - place.len() / 2]].concat();
        for bytes in [garbage(place.len()), vec![0x80; place.len()], vec![0xff; place.len()], half] {
            let mut broken = whole.clone();
            broken[place.clone()].copy_from_slice(&bytes);
            let program = folder.join("broken");
            fs::write(&program, broken)?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
            let subject = Subject::start(&program, ["1000"])?;
            let (_, profile) = beside_a_neighbour(&subject).with_context(|| format!("{name}: {:x?} ...", &bytes[..8]))?;
            let (named, all) =
                (samples_in(&profile, subject.pid(), "spin_here"), profile.labelled("pid", &subject.pid().to_string()).total(0));
            ensure!(
                named as f64 > 0.9 * all as f64,
                "{name}: {:x?} ...: {:?}",
                &bytes[..8],
                profile.labelled("pid", &subject.pid().to_string()).flat()
            );
            drop(subject);
            fs::remove_file(&program)?;
        }
    }
    Ok(())
}

/// A table of functions as Go 1.16 writes it, which says where its code is: one function, called `forged`, that has all of a small program's code.
fn go_table() -> Vec<u8> {
    let mut table = vec![0xfa, 0xff, 0xff, 0xff, 0, 0, 1, 8];
    // How many functions and files; where the names, units, files, values and functions begin.
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    table.extend(words(&[1, 1, 64, 72, 80, 88, 96]));
    table.extend(b"\0forged\0\0\0\0\0\0\0\0\0f.go\0\0\0\0");
    table.extend(words(&[0, 0x1000, 24, 0x2000, 0x1000]));
    // The name, then what its values would be, of which it has none.
    table.extend([1u32, 0, 0, 0, 0, 0, 0, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()));
    table
}

#[test]
fn a_malformed_table_of_go_gives_no_names() -> Result<()> {
    if !can_record(&[Build::CStripped]) || !ready(&[Need::Program("objcopy")]) {
        return Ok(());
    }
    let (folder, spin, whole) = (Folder::create()?, build("spin", Build::CStripped)?, go_table());
    let with = |at: usize, bytes: &[u8]| [&whole[..at], bytes, &whole[at + bytes.len()..]].concat();
    let tables = [
        ("whole", whole.clone()),
        ("cut", whole[..100].to_vec()),
        ("only its header", whole[..8].to_vec()),
        ("of more functions than there can be", with(8, &[0xff; 8])),
        ("of more functions than it holds", with(8, &5_000_000u64.to_le_bytes())),
        ("with its names elsewhere", with(24, &[0xff; 8])),
        ("with its functions elsewhere", with(56, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])),
        ("with a function elsewhere", with(104, &[0xff; 8])),
        ("with a name elsewhere", with(128, &[0xff; 4])),
        ("of garbage", [&whole[..64], &garbage(4 << 20)].concat()),
    ];
    for (what, table) in tables {
        let (program, bytes) = (folder.join("program"), folder.join("table"));
        fs::write(&bytes, &table)?;
        let added = format!(".gopclntab={}", bytes.display());
        let status = Command::new("objcopy").args(["--add-section", &added]).arg(&spin).arg(&program).status()?;
        ensure!(status.success(), "objcopy: {status}");
        let subject = Subject::start(&program, ["1000"])?;
        let (_, profile) = beside_a_neighbour(&subject).with_context(|| format!("a table {what}"))?;
        let of_subject = profile.labelled("pid", &subject.pid().to_string());
        let own = of_subject.only(|sample| of_subject.leaf_mapping(sample).is_some_and(|mapping| mapping.filename.ends_with("/program")));
        let expected = if what == "whole" { "forged" } else { UNNAMED };
        ensure!(own.total(0) > 10 && own.flat().keys().eq([expected]), "a table {what}: {:?}", own.flat());
        drop(subject);
        fs::remove_file(&program)?;
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
