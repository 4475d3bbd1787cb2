//! `profiler record`.

use crate::args::RecordArgs;
use crate::snapshots;
use crate::summary::{self, NamingLine, ProgressLine};
use anyhow::Context as _;
use clap::ValueEnum;
use clap::builder::PossibleValue;
use profiler::capability;
use profiler::config::Tick;
use profiler::encode::encode;
use profiler::model::encoded::About;
use profiler::model::kind::Kind;
use profiler::model::profile::Profile;
use profiler::model::text::shell_word;
use profiler::pipeline::{RecordError, Recorder, Recording};
use profiler::sink;
use profiler::symbolize::split::split;
use profiler::sys::end::{end_on_second_signals, end_on_signals};
use profiler::sys::spawn::SpawnError;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// What ends the program, and with which status.
pub(crate) struct Failure {
    pub error: anyhow::Error,
    pub code: u8,
}

/// Something was asked for that means nothing.
pub(crate) const MISUSED: u8 = 2;
/// A failure of ours.
const FAILED: u8 = 1;
/// A failure of ours after a command was started, as `env` and `timeout` have it.
const FAILED_WITH_COMMAND: u8 = 125;

/// Records, writes, reports.
pub(crate) fn run(args: &RecordArgs) -> Result<ExitCode, Failure> {
    if args.is_command_missing() {
        let error = anyhow::anyhow!("nothing stands behind --: give the command that is to be recorded, or leave -- out");
        return Err(Failure { error, code: MISUSED });
    }
    if let Err(why) = args.custom.custom() {
        return Err(Failure { error: anyhow::anyhow!(why), code: MISUSED });
    }
    if let Some(misfit) = args.misfit() {
        let kinds: Vec<PossibleValue> = args.kinds.iter().filter_map(ValueEnum::to_possible_value).collect();
        let kinds: Vec<&str> = kinds.iter().map(PossibleValue::get_name).collect();
        let error = anyhow::anyhow!("-e {}: {misfit}", kinds.join(","));
        return Err(Failure { error, code: MISUSED });
    }
    if let Some(ending) = args.foreign_ending() {
        let error = anyhow::anyhow!(
            "-o {}: {ending} is no format that is written here; end the name in .prof, .txt, .folded or .svg, or say the format with --format",
            args.output().display()
        );
        return Err(Failure { error, code: MISUSED });
    }
    // What would fail at the end fails now, before anything was recorded.
    let beforehand = |kind: &Kind| About { kind: *kind, process: None, start: SystemTime::now(), duration: Duration::ZERO };
    let several = if args.split.is_some() { sink::file::check_several(args.output()) } else { Ok(()) };
    several
        .and_then(|()| args.config().kinds().iter().try_for_each(|kind| sink::file::check(args.output(), &beforehand(kind))))
        .map_err(|error| Failure { code: if error.is_misuse() { MISUSED } else { FAILED }, error: error.into() })?;
    check_debug_dirs(&args.debug_dirs).map_err(|error| Failure { error, code: FAILED })?;
    check_machine().map_err(|error| Failure { error, code: FAILED })?;
    if args.custom.has_system_calls() && !args.quiet {
        summary::say("system-call events are on while this records: each system call of the machine takes some 0.05 us longer\n");
    }
    snapshots::take(args).map_err(|error| Failure { error, code: FAILED })?;
    if args.config().events.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let mut progress = ProgressLine::new(args.quiet, !args.words.is_empty());
    let recording = Recorder::new(args.config()).record(&mut progress);
    progress.end();
    let mut recording = recording.map_err(failure)?;
    let written = finish(args, &recording);
    // The command is waited for whatever became of the profile: its status is what the caller wants to know.
    let command = recording.wait_for_command();
    let with_command = |error| Failure { error, code: if args.words.is_empty() { FAILED } else { FAILED_WITH_COMMAND } };
    written.map_err(with_command)?;
    match command {
        Ok(Some(end)) => Ok(ExitCode::from(end.code as u8)),
        Ok(None) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(with_command(error.into())),
    }
}

/// What every recording needs of the machine, in the words of `profiler check`.
pub(crate) fn check_machine() -> anyhow::Result<()> {
    capability::missing_for_record()?;
    capability::types_for_record()?;
    capability::open_files_for_record()?;
    Ok(())
}

/// A folder that was named and is not there is a slip of the pen, and would only show as names that are missing.
fn check_debug_dirs(folders: &[PathBuf]) -> anyhow::Result<()> {
    for folder in folders {
        let metadata = std::fs::metadata(folder).with_context(|| format!("--debug-dir {}", folder.display()))?;
        anyhow::ensure!(metadata.is_dir(), "--debug-dir {}: not a folder", folder.display());
    }
    Ok(())
}

fn failure(error: RecordError) -> Failure {
    let code = match &error {
        // As `env` and `timeout`, to whom a script without its interpreter is not there either.
        RecordError::Command(SpawnError::NotFound { .. } | SpawnError::NoInterpreter { .. }) => 127,
        RecordError::Command(SpawnError::NotExecutable { .. }) => 126,
        _ => FAILED,
    };
    Failure { error: error.into(), code }
}

/// Symbolizes, encodes and writes.
fn finish(args: &RecordArgs, recording: &Recording) -> anyhow::Result<()> {
    let mut profiles = named(args, recording);
    for profile in &mut profiles {
        profile.comments.extend(comments(args, profile.kind));
    }
    let files = write(args, &profiles, recording.is_command_running())?;
    if args.quiet {
        return Ok(());
    }
    let file_of = |kind| profiles.iter().zip(&files).find_map(|(profile, files)| (profile.kind == kind).then_some(files.first()?));
    for (profile, files) in profiles.iter().zip(&files) {
        if profiles.len() > 1 {
            summary::say(&format!("{}:\n", profile.kind.name()));
        }
        summary::print(profile, files, args.format());
    }
    if let (Some(base), Some(heap)) = (file_of(Kind::HeapBase), file_of(Kind::Heap)) {
        summary::print_growth(base, heap);
    }
    if args.self_cost {
        summary::print_self_cost(&recording.self_cost);
        summary::print_unwinding(&recording.unwinding);
        summary::print_placements(&recording.placements);
    }
    Ok(())
}

/// Finds the names, which can take a while after a long recording. Who does not want to wait asks twice, unless a command may still have a use for the signal:
/// the first one may have been meant to end the recording.
fn named(args: &RecordArgs, recording: &Recording) -> Vec<Profile> {
    if recording.is_command_running() {
        return recording.profiles();
    }
    let line = NamingLine::show(args.quiet);
    let ending = end_on_second_signals();
    let profiles = recording.profiles();
    drop((ending, line));
    profiles
}

/// Writes the profiles, whole or split; gives the names of the files of each.
fn write(args: &RecordArgs, profiles: &[Profile], is_command_running: bool) -> anyhow::Result<Vec<Vec<PathBuf>>> {
    let parts_of = |profile: &Profile| if args.split.is_some() { split(profile) } else { vec![profile.clone()] };
    let parts: Vec<(usize, Profile)> =
        profiles.iter().enumerate().flat_map(|(of, profile)| parts_of(profile).into_iter().map(move |part| (of, part))).collect();
    if parts.is_empty() && !args.quiet {
        summary::say("no process has a sample: no file is written\n");
    }
    let abouts: Vec<About> = parts.iter().map(|(_, part)| about(part)).collect();
    let format = args.format();
    // All at once: no two of them have one name.
    let names = sink::file::expand_all(args.output(), &abouts)?;
    // Whoever reads may never come. Signals that a command may still need are left to be passed on.
    let may_wait = !is_command_running && names.iter().any(|name| sink::file::may_wait(name));
    let _ending = may_wait.then(end_on_signals);
    let mut files = vec![Vec::new(); profiles.len()];
    for (((of, part), about), name) in parts.iter().zip(abouts).zip(names) {
        if args.output() == Path::new("-") {
            sink::stdout::write(&encode(part, format, about)).context("writing the profile to standard output")?;
            continue;
        }
        sink::file::write(&encode(part, format, about), &name)?;
        files[*of].push(name);
    }
    Ok(files)
}

fn about(profile: &Profile) -> About {
    let process = match profile.processes.as_slice() {
        [one] => Some((one.pid, one.comm.clone())),
        _ => None,
    };
    About { kind: profile.kind, process, start: profile.start, duration: profile.duration }
}

/// How the profile came to be. Of a recorded command only its base name: arguments may be secret.
fn comments(args: &RecordArgs, kind: Kind) -> Vec<String> {
    let config = args.config();
    let kernel = rustix::system::uname();
    let mut options = match kind {
        Kind::Cpu => format!("-F {} --clock cpu-clock", config.frequency_of(Tick::Clock)),
        Kind::CpuCycles => format!("-F {} --clock cycles", config.frequency_of(Tick::Cycles)),
        Kind::Faults => format!("-F {} -e faults", config.frequency_of(Tick::Faults)),
        // Taken by `profiler stacks`.
        Kind::Threads | Kind::Goroutine => String::new(),
        Kind::Mmap => "-e mmap".to_owned(),
        Kind::Descriptors | Kind::Sockets => format!("--profile {}", kind.name()),
        Kind::Custom(custom) => args.custom.written(custom.name),
        Kind::Heap | Kind::HeapBase | Kind::Allocs | Kind::AllocsOfHeap | Kind::AllocShares => {
            let budget = config.max_overhead.map_or(String::new(), |share| format!(" --max-overhead {}%", share * 100.0));
            let lives = args.heap.written();
            format!(
                "--sample-bytes {} -e {}{budget}{lives}",
                config.sample_bytes,
                if kind == Kind::HeapBase { "heap" } else { kind.name() }
            )
        }
        Kind::Wall => format!("-F {} {}", config.frequency_of(Tick::Clock), args.waits.written(kind).unwrap_or_default()),
        Kind::OffCpu | Kind::Block | Kind::Mutex | Kind::ThreadCreate => args.waits.written(kind).unwrap_or_default(),
    };
    for (is_set, flag) in [
        (args.user_only, " --user-only"),
        (args.kernel_only, " --kernel-only"),
        (args.per_thread, " --per-thread"),
        (args.no_inherit, " --no-inherit"),
        (args.include_self, " --include-self"),
        (args.frame_pointers, " --frame-pointers"),
        (args.split.is_some(), " --split process"),
    ] {
        if is_set {
            options.push_str(flag);
        }
    }
    args.pids().for_each(|pid| options.push_str(&format!(" -p {pid}")));
    args.cgroups.iter().for_each(|path| options.push_str(&format!(" --cgroup {}", shell_word(&path.to_string_lossy()))));
    args.containers.iter().for_each(|id| options.push_str(&format!(" --container {}", shell_word(id))));
    args.units.iter().for_each(|name| options.push_str(&format!(" --unit {}", shell_word(name))));
    args.comms.iter().for_each(|glob| options.push_str(&format!(" --comm {}", shell_word(glob))));
    args.debug_dirs.iter().for_each(|folder| options.push_str(&format!(" --debug-dir {}", shell_word(&folder.to_string_lossy()))));
    args.duration.iter().for_each(|duration| options.push_str(&format!(" -d {}", duration.as_secs_f64())));
    if let Some(program) = args.words.first() {
        options.push_str(&format!(" -- {}", Path::new(program).file_name().unwrap_or_default().to_string_lossy()));
    }
    vec![
        format!("profiler {} record {options}", env!("CARGO_PKG_VERSION")),
        format!("kernel {} {}", kernel.release().to_string_lossy(), kernel.machine().to_string_lossy()),
    ]
}
