//! `--profile NAME --add PROBE --remove PROBE`: what probes add and do not remove, by the stacks that added it, as many as the program made.

use anyhow::{Result, ensure};
use profiler_tests::profile::Profile;
use profiler_tests::run::{Folder, Profiler};
use profiler_tests::skip::{Need, can_record, ready};
use profiler_tests::subject::{Build, Subject, build};
use std::io::Write as _;
use std::process::Command;

/// Records the subject from before it is told to go until it has done its part.
fn recorded(name: &str, options: &[&str]) -> Result<(Profile, String)> {
    let (mut subject, mut stdin) = Subject::start_told(Command::new(build("handles", Build::CBare)?))?;
    let mut recording = Profiler::record()?.pid(subject.pid()).args(["--profile", name]).args(options).start()?;
    recording.wait_until_recording()?;
    stdin.write_all(b"go\n")?;
    subject.wait_for_line("done")?;
    let run = recording.interrupt()?.success()?;
    let profile = Profile::read(&run.folder.join(format!("{name}.prof")))?;
    ensure!(profile.balance()?.difference == 0, "{:#?}", profile.comments);
    Ok((profile, run.stderr.clone()))
}

fn of(profile: &Profile, function: &str, column: usize) -> i64 {
    profile.only(|sample| profile.names(sample).contains(&function)).total(column)
}

fn says(profile: &Profile, words: &str) -> bool {
    profile.comments.iter().any(|comment| comment.contains(words))
}

#[test]
fn what_is_left_of_a_librarys_own_handles_is_counted_where_it_was_made() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let file = build("handles", Build::CBare)?;
    let library = file.to_string_lossy();
    let add = format!("uretprobe:{library}:handle_open:key=ret");
    let remove = format!("uprobe:{library}:handle_close:key=arg0");
    let (profile, _) = recorded("handles", &["--add", &add, "--remove", &remove])?;
    ensure!(profile.sample_types == [("handles".to_owned(), "count".to_owned())], "{:?}", profile.sample_types);
    ensure!(profile.total(0) == 8, "{} of 8: {:#?}", profile.total(0), profile.comments);
    ensure!(of(&profile, "leaks_three", 0) == 3 && of(&profile, "leaks_five", 0) == 5 && of(&profile, "balances", 0) == 0);
    ensure!(says(&profile, "whose place they took: 0") && says(&profile, "nobody has, such as older ones: 1"), "{:#?}", profile.comments);
    ensure!(profile.losses()?.is_empty() && profile.rooted()? > 0.99, "{:?}", profile.endings()?);
    Ok(())
}

#[test]
fn a_weight_of_an_argument_is_joined_with_a_key_that_is_returned() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let file = build("handles", Build::CBare)?;
    let library = file.to_string_lossy();
    let add = format!("uprobe:{library}:handle_open:key=ret:weight=arg0");
    let remove = format!("uprobe:{library}:handle_close:key=arg0");
    let (profile, _) = recorded("handles", &["--add", &add, "--remove", &remove])?;
    ensure!(profile.sample_types.len() == 2 && profile.sample_types[1].0 == "weight", "{:?}", profile.sample_types);
    ensure!((of(&profile, "leaks_three", 0), of(&profile, "leaks_three", 1)) == (3, 300), "{:#?}", profile.comments);
    ensure!((of(&profile, "leaks_five", 0), of(&profile, "leaks_five", 1)) == (5, 35));
    ensure!(profile.total(0) == 8 && profile.total(1) == 335, "{} {}", profile.total(0), profile.total(1));
    // The stack was taken where the call began.
    ensure!(of(&profile, "handle_open", 0) == 8 && profile.losses()?.is_empty());
    Ok(())
}

#[test]
fn without_a_removal_adds_are_counted() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let file = build("handles", Build::CBare)?;
    let (profile, _) = recorded("opened", &["--add", &format!("uprobe:{}:handle_open:weight=arg0", file.display())])?;
    // Three of 100, five of 7, fifty of 1000, and one of 0.
    ensure!((profile.total(0), profile.total(1)) == (59, 50_335), "{} {}", profile.total(0), profile.total(1));
    ensure!(of(&profile, "balances", 0) == 51 && profile.losses()?.is_empty());
    Ok(())
}

#[test]
fn keys_are_of_a_process_unless_they_are_of_the_machine() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let file = build("handles", Build::CBare)?;
    let add = format!("uprobe:{}:shared_add:key=arg0", file.display());
    let remove = format!("uprobe:{}:shared_remove:key=arg0", file.display());
    let (own, _) = recorded("shared", &["--add", &add, "--remove", &remove])?;
    ensure!(own.total(0) == 10 && says(&own, "whose place they took: 1"), "{}: {:#?}", own.total(0), own.comments);
    ensure!(says(&own, "such as older ones: 18"), "what a child removes is its own: {:#?}", own.comments);
    let (global, _) = recorded("shared", &["--global-keys", "--add", &add, "--remove", &remove])?;
    ensure!(global.total(0) == 4 && says(&global, "such as older ones: 12"), "{}: {:#?}", global.total(0), global.comments);
    Ok(())
}

#[test]
fn marks_in_a_program_add_and_remove() -> Result<()> {
    if !can_record(&[Build::CBare]) || cfg!(not(target_arch = "x86_64")) {
        return Ok(());
    }
    let file = build("handles", Build::CBare)?;
    let add = format!("usdt:{}:handles:begin:key=arg0:weight=arg1", file.display());
    let remove = format!("usdt:{}:handles:end:key=arg0", file.display());
    let (profile, _) = recorded("marked", &["--add", &add, "--remove", &remove])?;
    ensure!((profile.total(0), profile.total(1)) == (3, 33), "{} {}: {:#?}", profile.total(0), profile.total(1), profile.comments);
    ensure!(of(&profile, "marks", 0) == 3);
    Ok(())
}

#[test]
fn tracepoints_of_the_kernel_add_and_remove() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let options =
        ["--add", "tracepoint:syscalls:sys_exit_mmap:key=ret:weight=arg1", "--remove", "tracepoint:syscalls:sys_enter_munmap:key=arg0"];
    let (mapped, told) = recorded("mapped", &options)?;
    ensure!((of(&mapped, "maps", 0), of(&mapped, "maps", 1)) == (3, 9 << 20), "{:#?}", mapped.comments);
    ensure!(told.contains("system call"), "what it costs is said: {told}");
    let named =
        ["--add", "tracepoint:syscalls:sys_exit_mmap:key=ret:weight=len", "--remove", "tracepoint:syscalls:sys_enter_munmap:key=addr"];
    let (named, _) = recorded("named", &named)?;
    ensure!(of(&named, "maps", 1) == 9 << 20, "by the names of arguments: {:#?}", named.comments);
    let (threads, _) = recorded("live-threads", &[])?;
    ensure!(threads.total(0) == 3 && of(&threads, "starts_threads", 0) == 3, "{}: {:#?}", threads.total(0), threads.comments);
    let (mappings, _) = recorded("live-mappings", &[])?;
    ensure!(of(&mappings, "maps", 1) == 9 << 20, "{:#?}", mappings.comments);
    Ok(())
}

#[test]
fn the_open_files_of_a_program_that_nobody_here_wrote() -> Result<()> {
    if !can_record(&[]) || !ready(&[Need::Program("sqlite3"), Need::Program("go")]) {
        return Ok(());
    }
    let folder = Folder::create()?;
    let mut command = Command::new("sqlite3");
    command.args(["-cmd", ".system echo ready", ":memory:"]).current_dir(folder.path());
    let (mut subject, mut stdin) = Subject::start_told(command)?;
    let options = ["--profile", "files", "--add", "uretprobe:libc.so.6:fopen:key=ret", "--remove", "uprobe:libc.so.6:fclose:key=arg0"];
    let mut recording = Profiler::record()?.pid(subject.pid()).args(options).args(["-e", "cpu"]).start()?;
    recording.wait_until_recording()?;
    // Three files of which two are closed again, and one that cannot be opened.
    stdin.write_all(b".output one\nselect 1;\n.output\n.log two\n.log three\n.output there/is/none\n.output\n.system echo done\n")?;
    subject.wait_for_line("done")?;
    let run = recording.interrupt()?.success()?;
    let path = run.folder.join("files.prof");
    let profile = Profile::read(&path)?;
    ensure!(profile.total(0) == 1 && profile.balance()?.difference == 0, "{}: {:#?}", profile.total(0), profile.comments);
    ensure!(says(&profile, "whose place they took: 0"), "{:#?}", profile.comments);
    let report = profiler_tests::pprof_tool::pprof(["-top".into(), "-nodecount=20".into(), path])?;
    ensure!(report.text.contains("Type: files") && report.text.contains("_start"), "{}", report.text);
    Ok(())
}

#[test]
fn what_is_not_there_is_refused_with_what_may_have_been_meant() -> Result<()> {
    if !can_record(&[Build::CBare]) {
        return Ok(());
    }
    let file = build("handles", Build::CBare)?;
    let mark = format!("usdt:{}:handles:begni", file.display());
    let (subject, _stdin) = Subject::start_told(Command::new(file))?;
    for (options, say) in [
        (&["--add", "uprobe:libc.so.6:fopne"][..], "is it fopen?"),
        (&["--add", &mark], "is it handles:begin?"),
        (&["--add", "tracepoint:sched:sched_swicth"], "is it sched_switch?"),
        (&["--add", "tracepoint:sched:sched_switch:key=nxet"], "there are:"),
        (&["--add", "tracepoint:sched:sched_switch:key=next.pdi"], "is it pid?"),
        (&["--add", "tracepoint:syscalls:sys_enter_opneat"], "is it sys_enter_openat?"),
        (&["--add", "uprobe:libc.so.6:fopen:key=arg9"], "arg0 to arg5"),
        (&["--add", "uprobe:libc.so.6"], "uprobe has another form"),
        (&["--remove", "uprobe:libc.so.6:fclose:key=arg0"], "--add PROBE"),
        (&["--add", "uprobe:libc.so.6:fopen", "--remove", "uprobe:libc.so.6:fclose:key=arg0"], "no key"),
    ] {
        let run = Profiler::record()?.pid(subject.pid()).args(["--profile", "wrong", "-d", "1"]).args(options).run()?;
        ensure!(run.stderr.contains(say) && !run.status.success(), "{options:?}: {}", run.stderr);
        ensure!(!run.folder.join("wrong.prof").exists());
    }
    let run = Profiler::record()?.pid(subject.pid()).args(["--profile", "wrong", "-d", "1", "--add", "uprobe:libnone.so:f"]).run()?;
    let profile = Profile::read(&run.folder.join("wrong.prof"))?;
    ensure!(profile.total(0) == 0 && says(&profile, "no process that was recorded maps libnone.so"), "{:#?}", profile.comments);
    Ok(())
}
