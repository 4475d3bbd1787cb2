//! Stacks and tables that were made to harm: the recording ends, in bounded memory, and what cannot be known is said and not guessed.

use anyhow::{Context as _, Result, ensure};
use profiler_tests::forged::Forged;
use profiler_tests::peak::{Counted, until_end_kb};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, Profiler};
use profiler_tests::skip::can_record;
use profiler_tests::subject::{Build, Subject, build, source};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What the profiler may use in all, by its default.
const MEMORY_LIMIT_KB: u64 = 128 << 10;

/// Code that has a row for each of its bytes, and how many of them one function has.
const BIG_BYTES: usize = 10_000_000;
const ROWS_OF_ONE: usize = 1_000;

/// Frames of `walks deep`, from the leaf.
const DEEP: [&str; 2] = ["burn", "deep_walk"];

/// Records a process for two seconds.
fn recorded(subject: &Subject) -> Result<Profile> {
    Profiler::record()?.pid(subject.pid()).args(["-F", "997", "-d", "2"]).run()?.success()?.profile()
}

/// Each frame that is shown lies in what its mapping covers, and each mapping is one of code.
fn lies_in_code(profile: &Profile) -> Result<()> {
    for location in &profile.locations {
        // What has no mapping is no place: lost samples, and the frame that stands for a cut.
        let Some(mapping) = location.mapping.map(|mapping| &profile.mappings[mapping]) else { continue };
        ensure!(
            (mapping.start..mapping.limit).contains(&location.address) || mapping.limit == 0,
            "{location:x?} lies outside of {mapping:x?}"
        );
    }
    Ok(())
}

#[test]
fn a_stack_that_is_rewritten_while_it_is_walked() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let subject = Subject::start(&build("hostile", Build::CBare)?, ["scribble"])?;
    let maps = fs::read_to_string(format!("/proc/{}/maps", subject.pid()))?;
    let profile = recorded(&subject)?;
    lies_in_code(&profile)?;
    let is_code = |address: u64| {
        maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.contains('x'))).any(|line| {
            let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).unwrap_or_default();
            let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
            (number(start)..number(end)).contains(&address)
        })
    };
    let user = profile.locations.iter().filter(|location| location.address > 0 && location.address < 1 << 47);
    let stray: Vec<_> = user.filter(|location| !is_code(location.address)).collect();
    ensure!(stray.is_empty(), "frames that lie in no code: {stray:x?}");
    let stays = profile.cumulative().get("stay").copied().unwrap_or(0);
    ensure!(stays > 200, "{:?}", profile.flat());
    println!("{stays} samples of the rewritten stack: {:?}", profile.endings()?);
    let balance = profile.balance()?;
    ensure!(balance.difference == 0, "{balance:?}");
    Ok(())
}

#[test]
fn a_stack_whose_frames_form_a_loop_ends() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let profile = recorded(&Subject::start(&build("hostile", Build::CBare)?, ["loop"])?)?;
    lies_in_code(&profile)?;
    let endings = profile.endings()?;
    println!("{endings:?}");
    ensure!(profile.flat().get("spin_on").is_some_and(|samples| *samples > 200), "{:?}", profile.flat());
    ensure!(endings.get("depth limit").is_some_and(|stacks| *stacks > 200), "{endings:?}");
    ensure!(!endings.contains_key("root reached"), "a loop has no root: {endings:?}");
    Ok(())
}

/// Samples in `burn`, those of them whose frames are `deep_walk` up to `_start`, and those that have frames which cannot be there.
fn deep(profile: &Profile) -> (i64, i64, i64) {
    let (mut all, mut whole, mut wrong) = (0, 0, 0);
    for sample in &profile.samples {
        let names = profile.names(sample);
        let Some(at) = names.iter().position(|name| *name == DEEP[0]) else { continue };
        let above = &names[at + 1..];
        let walks = above.iter().take_while(|name| **name == DEEP[1]).count();
        all += sample.values[0];
        let rest = ["run", "main", "__libc_start_call_main", "__libc_start_main", "__libc_start_main_impl", "_start"];
        let is_right = walks <= 201 && above[walks..].iter().all(|name| rest.contains(name)) && (walks == 201 || above.len() == walks);
        wrong += if is_right { 0 } else { sample.values[0] };
        whole += if is_right && above.last() == Some(&"_start") { sample.values[0] } else { 0 };
    }
    (all, whole, wrong)
}

#[test]
fn a_program_that_is_replaced_while_it_runs_keeps_its_own_names() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let folder = Folder::create()?;
    let program = folder.join("program");
    for before in [true, false] {
        fs::copy(build("walks", Build::CBare)?, &program)?;
        fs::copy(build("hostile", Build::CBare)?, folder.join("other"))?;
        let subject = Command::new(&program).args(["deep", "4"]).stdout(std::process::Stdio::null()).spawn()?;
        let subject = Subject::adopt(subject);
        // Either before anybody looks at it, or when its first samples may have been taken.
        if before {
            fs::rename(folder.join("other"), &program)?;
        }
        let mut running = Profiler::record()?.pid(subject.pid()).args(["-F", "997", "-d", "2"]).start()?;
        running.wait_until_recording()?;
        if !before {
            fs::rename(folder.join("other"), &program)?;
        }
        let profile = running.finish()?.success()?.profile()?;
        let (all, whole, wrong) = deep(&profile);
        println!("replaced before: {before}: {all} samples, {whole} whole, {wrong} wrong");
        ensure!(
            all > 200 && whole as f64 >= 0.99 * all as f64 && wrong == 0,
            "{all} samples, {whole} whole, {wrong} wrong: {:?}",
            profile.endings()?
        );
    }
    Ok(())
}

/// The address of a function in a program's own words.
fn address(program: &Path, function: &str) -> Result<u64> {
    let symbols = String::from_utf8(Command::new("nm").arg(program).output()?.stdout)?;
    let address = symbols.lines().find_map(|line| line.strip_suffix(&format!(" T {function}"))).context("no such symbol")?;
    Ok(u64::from_str_radix(address, 16)?)
}

/// Runs a forged program under the recording, whose memory is bounded whatever the program's file says.
fn bounded(program: &Path) -> Result<Profile> {
    let words = ["-F", "997", "--memory-limit", "128M", "--"];
    let running = Profiler::record()?.args(words).args([&*program.to_string_lossy(), "deep", "2"]).start()?;
    let peak = until_end_kb(&running, Counted::Most);
    let profile = running.finish()?.success()?.profile()?;
    println!("a peak of {peak} kB");
    ensure!(peak > 0 && peak < MEMORY_LIMIT_KB, "the profiler and its processes used {peak} kB at their peak");
    Ok(profile)
}

/// A section with a hole of 2 GB: one that ends where the hole begins, and one whose last function claims all of it.
#[test]
fn a_table_of_two_gigabytes_of_nothing() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let folder = Folder::create()?;
    for claims in [0, 2_000_000_000] {
        let program = folder.join(format!("holes-{claims}"));
        let mut forged = Forged::of(&build("walks", Build::CBare)?)?;
        // A function that has no entry of its own, so this one is believed.
        let common = forged.add_common();
        forged.add_function(common, (address(&build("walks", Build::CBare)?, "_init")?, 1), &[], claims);
        forged.write(&program, 2 << 30)?;
        let profile = bounded(&program)?;
        let (all, whole, wrong) = deep(&profile);
        println!("a claim of {claims}: {all} samples, {whole} whole, {wrong} wrong, {:?}", profile.endings()?);
        ensure!(all > 500 && wrong == 0 && whole as f64 >= 0.98 * all as f64, "{all} samples, {whole} whole, {wrong} wrong");
    }
    Ok(())
}

/// Ten million rows in 30 MB, more than are believed: what they are for is code of ten million bytes, before or behind that of the program itself.
#[test]
fn a_table_of_ten_million_rows() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let folder = Folder::create()?;
    fs::write(folder.join("big.s"), format!(".globl big\nbig: .fill {BIG_BYTES}, 1, 0x90\n.section .note.GNU-stack\n"))?;
    let source = source("walks", Build::CBare);
    for order in [["big.s", &*source.to_string_lossy()], [&*source.to_string_lossy(), "big.s"]] {
        let plain = folder.join("plain");
        let flags = ["-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread", "-no-pie", "-o", "plain"];
        let built = Command::new("gcc").current_dir(folder.path()).args(flags).args(order).status()?;
        ensure!(built.success(), "gcc cannot build the program");
        let big = address(&plain, "big")?;
        let mut forged = Forged::of(&plain)?;
        let common = forged.add_common();
        for first in (0..BIG_BYTES).step_by(ROWS_OF_ONE) {
            // A byte further, and another CFA.
            let rows: Vec<u8> = (0..ROWS_OF_ONE).flat_map(|row| [0x41, 0x0e, 8 + (row % 100) as u8]).collect();
            forged.add_function(common, (big + first as u64, ROWS_OF_ONE as u32), &rows, 0);
        }
        let size = forged.contents.len() as u64 + 8;
        let program = folder.join("rows");
        forged.write(&program, size)?;
        let profile = bounded(&program)?;
        let (all, whole, wrong) = deep(&profile);
        let endings = profile.endings()?;
        println!("{size} bytes: {all} samples, {whole} whole, {wrong} wrong, {endings:?}");
        let said: i64 = ["no rule", "no table"].iter().filter_map(|words| endings.get(*words)).sum();
        ensure!(all > 500 && wrong == 0 && whole + said >= all, "{all} samples, {whole} whole, {wrong} wrong, {said} without a rule");
    }
    Ok(())
}
