//! What a process image leaves when its process ends or becomes another program: it stays counted, marked, and takes no room from those that live.

use anyhow::{Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::Profiler;
use profiler_tests::skip::can_record;
use profiler_tests::subject::{Build, Subject, build};
use profiler_tests::waiting;

/// Blocks of each image.
const BLOCKS: i64 = 3000;

#[test]
fn what_ended_images_leave_is_marked_and_makes_room() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let program = build("images", Build::CBare)?;
    // Room for one and a half images: the third one finds none if those before keep theirs.
    let run = Profiler::record()?
        .args(["-e", "heap", "--sample-bytes", "1", "--live-entries", "4500", "--"])
        .args([&*program.to_string_lossy(), &BLOCKS.to_string(), "2"])
        .run()?
        .success()?;
    let profile = Profile::read(&run.folder.join("heap.prof"))?;
    ensure!(profile.losses()?.is_empty() && profile.balance()?.difference == 0, "{:#?}", profile.comments);
    ensure!(profile.comment("there was more at once ").is_none(), "{:#?}", profile.comments);
    let left = |how: &str| {
        let mine = profile.labelled("ended", how);
        let mine = mine.only(|sample| mine.names(sample).contains(&"leave"));
        (0..4).map(|column| mine.total(column)).collect::<Vec<_>>()
    };
    let (exec, exit) = (left("exec"), left("exit"));
    ensure!(exec == [2 * BLOCKS, 200 * BLOCKS, 2 * BLOCKS, 200 * BLOCKS], "{exec:?}");
    ensure!(exit == [BLOCKS, 100 * BLOCKS, BLOCKS, 100 * BLOCKS], "{exit:?}");
    Ok(())
}

#[test]
fn a_process_is_counted_on_without_its_first_thread() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let program = build("leaderless", Build::CBare)?;
    for (words, ended) in [(vec![], "exit"), (vec!["exec"], "exec")] {
        let run = Profiler::record()?.args(["-e", "heap", "--sample-bytes", "1", "--"]).args([&program]).args(words).run()?.success()?;
        let profile = Profile::read(&run.folder.join("heap.prof"))?;
        let left = profile.only(|sample| profile.names(sample).contains(&"leave"));
        let figures: Vec<i64> = (0..4).map(|column| left.total(column)).collect();
        ensure!(figures == [500, 50_000, 500, 50_000], "{ended}: {figures:?}: {:#?}", profile.comments);
        ensure!(left.label_values("ended").into_keys().eq([ended.to_owned()]), "{:?}", left.label_values("ended"));
    }
    Ok(())
}

#[test]
fn why_a_process_that_has_lost_its_first_thread_is_not_counted_is_said() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut child = std::process::Command::new(build("leaderless", Build::CBare)?).spawn()?;
    let pid = child.id();
    waiting::until("the end of its first thread", || {
        Ok(std::fs::read_to_string(format!("/proc/{pid}/stat"))?.contains(") Z ").then_some(()))
    })?;
    let run = Profiler::record()?.pid(pid).args(["-e", "heap", "-d", "1"]).run()?.success()?;
    child.wait()?;
    let profile = Profile::read(&run.folder.join("heap.prof"))?;
    let why = profile.comment(&format!("process {pid}: "));
    ensure!(why == Some("its first thread has ended, and the kernel traps no such process"), "{:#?}", profile.comments);
    Ok(())
}

/// The number before ` kB` behind some words of a text.
fn kilobytes(text: &str, before: &str) -> Option<u64> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(" kB")?.0.parse().ok()
}

#[test]
fn what_is_covered_stands_beside_what_the_kernel_says_is_there() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let mut command = std::process::Command::new(build("lives", Build::CBare)?);
    command.env("MALLOC_MMAP_THRESHOLD_", "1000000000");
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    let mut recording = Profiler::record()?.pid(subject.pid()).args(["-e", "heap", "--sample-bytes", "1"]).start()?;
    recording.wait_until_recording()?;
    std::io::Write::write_all(&mut stdin, b"some\n")?;
    subject.wait_for_line("done")?;
    let pid = subject.pid();
    let told = |field: &str| -> Result<u64> {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let line = rollup.lines().find(|line| line.starts_with(field));
        Ok(line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0))
    };
    let (resident, proportional) = (told("Rss:")?, told("Pss:")?);
    let run = recording.interrupt()?.success()?;
    let profile = Profile::read(&run.folder.join("heap.prof"))?;
    let note = profile.comment(&format!("process {pid}: ")).unwrap_or_default();
    let noted = [kilobytes(note, ""), kilobytes(note, "in the end RSS "), kilobytes(note, "PSS ")];
    let [Some(in_use), Some(rss), Some(pss)] = noted else { anyhow::bail!("{:#?}", profile.comments) };
    ensure!(in_use == u64::try_from(profile.total(3))?.div_ceil(1024) && in_use >= 10, "{note}: {}", profile.total(3));
    ensure!(rss.abs_diff(resident) < 300 && pss.abs_diff(proportional) < 300 && pss < rss, "{note}: {resident} and {proportional} kB");
    ensure!(profile.comment("frees of blocks that were never seen, such as older ones: ").is_some(), "{:#?}", profile.comments);
    Ok(())
}
