//! What was typed, and what it means: `RecordArgs` to `Config`, without doing anything.

use crate::choices::{ClockArg, KindArg, MomentArg, ProbesOnlyArg, SplitArg, events, is_of_calls};
use crate::custom::{CustomArgs, SAY_WHICH};
use crate::heap::HeapArgs;
use crate::snapshots::is_snapshot;
use crate::values::{parse_duration, parse_format, parse_memory_limit, parse_pids, parse_unwind_memory};
use crate::waits::WaitArgs;
use clap::{ArgAction, Parser, Subcommand};
use profiler::config::{Bounds, Config, Mode, Moment, ProbeWork, Target, Walk};
use profiler::encode::Format;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A system-wide profiler: what Go's pprof gives a Go program, for every process, from outside.
#[derive(Parser, Debug)]
#[command(name = "profiler", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Record a profile of processes, a cgroup, a command or the whole machine
    Record(Box<RecordArgs>),
    /// Show where every thread or goroutine of a process stands now
    Stacks(crate::stacks::StacksArgs),
    /// Show what this kernel and these privileges allow, and what to do about the rest
    Check,
}

/// Record a profile.
///
/// Without a target the whole machine is recorded. Several targets are joined by "or". The profile opens with `go tool pprof FILE`.
#[derive(Parser, Debug)]
pub(crate) struct RecordArgs {
    /// Record this process, its threads and the children that it starts; several as 1,2 or "1 2", or given several times
    #[arg(short = 'p', long = "pid", value_name = "PID", help_heading = "Targets", value_parser = parse_pids)]
    pub pids: Vec<Pids>,
    /// Record a control group and everything below it: a path of a v1 or v2 tree
    #[arg(long = "cgroup", value_name = "PATH", help_heading = "Targets")]
    pub cgroups: Vec<PathBuf>,
    /// Record a container, by its id or the beginning of it
    #[arg(long = "container", value_name = "ID", help_heading = "Targets")]
    pub containers: Vec<String>,
    /// Record a systemd unit
    #[arg(long = "unit", value_name = "NAME", help_heading = "Targets")]
    pub units: Vec<String>,
    /// Record processes by name; * is any run of characters, ? any one
    #[arg(long = "comm", value_name = "GLOB", help_heading = "Targets", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub comms: Vec<String>,
    /// Record everything that runs (the default)
    #[arg(short = 'a', long, help_heading = "Targets", conflicts_with_all = ["pids", "cgroups", "containers", "units", "comms", "words"])]
    pub all: bool,
    /// Do not record the children of the processes given with -p, or of the command
    #[arg(long, help_heading = "Targets")]
    pub no_inherit: bool,
    /// Record the profiler itself, too
    #[arg(long, help_heading = "Targets")]
    pub include_self: bool,
    /// Start a command, record it from its first instruction until it ends, and exit with its status
    #[arg(last = true, value_name = "CMD", help_heading = "Targets", num_args = 1..)]
    pub words: Vec<OsString>,

    /// Kind of profile; several as cpu,heap: one file each [default: cpu]
    #[arg(short = 'e', long = "event", value_name = "KIND", value_delimiter = ',', help_heading = "Sampling")]
    pub kinds: Vec<KindArg>,
    #[command(flatten)]
    pub custom: CustomArgs,
    /// Samples a second and CPU [default: 99; 997 for page faults]
    #[arg(short = 'F', long = "frequency", value_name = "HZ", value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Sampling")]
    pub frequency: Option<u32>,
    #[command(flatten)]
    pub heap: HeapArgs,
    #[command(flatten)]
    pub waits: WaitArgs,
    /// How long: 30s, 5m, 1h, 500ms, or a number of seconds. Without it until Ctrl-C, or until the command or the processes end
    #[arg(short = 'd', long, value_name = "TIME", value_parser = parse_duration, help_heading = "Sampling")]
    pub duration: Option<Duration>,
    /// What ticks: the kernel's CPU clock, or hardware cycles where the machine has counters
    #[arg(long, default_value = "cpu-clock", help_heading = "Sampling")]
    pub clock: ClockArg,
    /// Only user code
    #[arg(long, conflicts_with = "kernel_only", help_heading = "Sampling")]
    pub user_only: bool,
    /// Only the kernel
    #[arg(long, help_heading = "Sampling")]
    pub kernel_only: bool,
    /// Tell threads apart: labels `tid` and `thread`
    #[arg(long, help_heading = "Sampling")]
    pub per_thread: bool,
    /// Walk user stacks by frame pointers alone, for comparison
    #[arg(long, help_heading = "Sampling")]
    pub frame_pointers: bool,

    /// Where to write. {kind}, {pid} and {comm} are replaced; - is standard output [default: {kind}.prof, with --split {kind}.{comm}.{pid}.prof, or the ending of --format]
    #[arg(short = 'o', long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// pprof, text, folded or svg; by default told by the ending of FILE: .prof .pb.gz, .txt, .folded, .svg
    #[arg(long, value_name = "FORMAT", value_parser = parse_format, help_heading = "Output")]
    pub format: Option<Format>,
    /// Write one file for each process
    #[arg(long, value_name = "BY", help_heading = "Output")]
    pub split: Option<SplitArg>,
    /// A folder with separate debug files, beside /usr/lib/debug; may be given several times
    #[arg(long = "debug-dir", value_name = "DIR", help_heading = "Output")]
    pub debug_dirs: Vec<PathBuf>,
    /// Print nothing but errors
    #[arg(short = 'q', long, action = ArgAction::SetTrue, help_heading = "Output")]
    pub quiet: bool,

    /// Memory that the profiler may use in all, maps included
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = parse_memory_limit, help_heading = "Limits")]
    pub memory_limit: u64,
    /// Memory of the unwind tables; a part of --memory-limit
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_unwind_memory, help_heading = "Limits")]
    pub unwind_memory: u64,
    /// Measure and show what the eBPF programs themselves cost, and where allocators were probed
    #[arg(long, help_heading = "Limits")]
    pub self_cost: bool,
    /// Size of the ring between kernel and user space (for tests)
    #[arg(long, value_name = "BYTES", hide = true, value_parser = clap::value_parser!(u32).range(4096..))]
    pub ring_bytes: Option<u32>,
    /// Entries of the map of target processes (for tests)
    #[arg(long, value_name = "N", hide = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub target_entries: Option<u32>,
    /// Entries of the map of what the kernel counts (for tests)
    #[arg(long, value_name = "N", hide = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub tally_entries: Option<u32>,
    /// Arm the probes and count nothing, without or with a trap at each return (for benchmarks)
    #[arg(long, value_name = "WHICH", hide = true)]
    pub probes_only: Option<ProbesOnlyArg>,
    /// Stop a thread after each of its samples in user mode, for a debugger that has attached and lets it go on (for tests)
    #[arg(long, hide = true, requires = "pids")]
    pub stop_at_sample: bool,
}

/// The process ids of one -p.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pids(pub(crate) Vec<u32>);

impl RecordArgs {
    /// What is to be recorded.
    pub(crate) fn config(&self) -> Config {
        let events = events(&self.kinds, &self.custom.events(), self.clock);
        let mut bounds = Bounds { window_bytes: self.memory_limit / 2, ..Bounds::default() };
        bounds.ring_bytes = self.ring_bytes.map_or(bounds.ring_bytes, u32::next_power_of_two);
        bounds.tallies = self.tally_entries.unwrap_or(bounds.tallies);
        bounds.live_blocks = self.heap.live_entries;
        bounds.stop_at_sample = self.stop_at_sample;
        bounds.probes = self.probes_only.map_or(ProbeWork::All, |which| match which {
            ProbesOnlyArg::Entries => ProbeWork::Nothing,
            ProbesOnlyArg::Returns => ProbeWork::Returns,
        });
        bounds.target_processes = self.target_entries.unwrap_or(bounds.target_processes);
        Config {
            targets: self.targets(),
            events,
            custom: self.custom.custom().unwrap_or_default(),
            frequency_hz: self.frequency,
            max_overhead: self.heap.max_overhead,
            heap: self.heap.config(),
            moment: match self.heap.moment {
                MomentArg::End => Moment::End,
                MomentArg::Peak => Moment::Peak,
            },
            diff: self.heap.diff,
            sample_bytes: self.heap.sample_bytes,
            waiting: self.waits.waiting(),
            mode: match (self.user_only, self.kernel_only) {
                (true, _) => Mode::User,
                (_, true) => Mode::Kernel,
                _ => Mode::Any,
            },
            duration: self.duration,
            inherit: !self.no_inherit,
            per_thread: self.per_thread,
            include_self: self.include_self,
            debug_dirs: self.debug_dirs.clone(),
            memory_limit: self.memory_limit,
            self_cost: self.self_cost,
            walk: if self.frame_pointers { Walk::FramePointers } else { Walk::Tables },
            unwind_memory: self.unwind_memory.min(self.memory_limit / 2),
            bounds,
        }
    }

    /// The process ids of all -p.
    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> {
        self.pids.iter().flat_map(|pids| &pids.0).copied()
    }

    pub(crate) fn targets(&self) -> Vec<Target> {
        let mut targets: Vec<Target> = self.pids().map(Target::Pid).collect();
        targets.extend(self.cgroups.iter().cloned().map(Target::Cgroup));
        targets.extend(self.containers.iter().cloned().map(Target::Container));
        targets.extend(self.units.iter().cloned().map(Target::Unit));
        targets.extend(self.comms.iter().cloned().map(Target::Comm));
        if !self.words.is_empty() {
            targets.push(Target::Command(self.words.clone()));
        }
        if targets.is_empty() {
            targets.push(Target::All);
        }
        targets
    }

    /// What is asked for together and does not go together: in a few words, and what to do.
    pub(crate) fn misfit(&self) -> Option<&'static str> {
        if self.kinds.iter().any(is_snapshot) && !matches!(self.targets()[..], [Target::Pid(_)]) {
            return Some("a look at threads or goroutines is of one process: give one -p PID, and nothing else");
        }
        if self.clock == ClockArg::Cycles && self.kinds.contains(&KindArg::Wall) {
            return Some("time on the CPU and off it has one scale only by the CPU's clock; leave --clock cycles out");
        }
        let is_only_traced = |kind: &KindArg| TRACED.contains(kind);
        let is_clocked = self.kinds.is_empty() || !self.kinds.iter().all(is_only_traced);
        if (self.frequency.is_some() || self.clock == ClockArg::Cycles) && !is_clocked {
            return Some("-F and --clock are about what is sampled by a clock: -e cpu, wall or faults; leave them out");
        }
        if let Some(misfit) = self.waits.misfit(&self.kinds) {
            return Some(misfit);
        }
        if let Some(misfit) = self.heap.misfit(&self.kinds, self.duration) {
            return Some(misfit);
        }
        let looks = self.kinds.iter().filter(|kind| is_snapshot(kind)).count();
        if (events(&self.kinds, &self.custom.events(), self.clock).len() + looks > 1
            || self.heap.max_overhead.is_some()
            || self.heap.diff.is_some())
            && self.output.as_ref().is_some_and(|output| !output.to_string_lossy().contains("{kind}"))
        {
            return Some("each kind of profile is a file of its own; put {kind} into the name after -o, or leave -o out");
        }
        let is_probed = self.custom.has_probes_in_processes() || self.kinds.iter().any(is_of_calls);
        if is_probed && self.targets().contains(&Target::All) {
            return Some(SAY_WHICH);
        }
        if !self.kinds.iter().any(is_of_calls) {
            return None;
        }
        match () {
            () if self.per_thread => Some("blocks are not told apart by thread; leave --per-thread out"),
            () if self.kernel_only || self.user_only && self.kinds.iter().all(is_of_calls) => {
                Some("allocators are user code; leave --user-only and --kernel-only out")
            }
            () => None,
        }
    }

    /// The pattern of output names.
    pub(crate) fn output(&self) -> &Path {
        match &self.output {
            Some(output) => output,
            None => Path::new(match (self.format, self.split.is_some()) {
                (None | Some(Format::Pprof), false) => "{kind}.prof",
                (None | Some(Format::Pprof), true) => "{kind}.{comm}.{pid}.prof",
                (Some(Format::Text), false) => "{kind}.txt",
                (Some(Format::Text), true) => "{kind}.{comm}.{pid}.txt",
                (Some(Format::Folded), false) => "{kind}.folded",
                (Some(Format::Folded), true) => "{kind}.{comm}.{pid}.folded",
                (Some(Format::Svg), false) => "{kind}.svg",
                (Some(Format::Svg), true) => "{kind}.{comm}.{pid}.svg",
            }),
        }
    }

    /// Whether the command line ends with `--`: a command was meant, perhaps a variable that is empty.
    pub(crate) fn is_command_missing(&self) -> bool {
        self.words.is_empty() && std::env::args_os().next_back().is_some_and(|last| last == "--")
    }

    /// The ending of the name, where it asks for a format that is not written and no other was asked for.
    pub(crate) fn foreign_ending(&self) -> Option<&'static str> {
        self.output.as_deref().filter(|_| self.format.is_none()).and_then(Format::foreign_ending)
    }

    /// The format that was asked for, or that the name tells.
    pub(crate) fn format(&self) -> Format {
        self.format.or_else(|| Format::from_path(self.output())).unwrap_or(Format::Pprof)
    }
}

/// What is recorded where it happens, and not by a clock.
const TRACED: [KindArg; 6] = [KindArg::OffCpu, KindArg::Block, KindArg::Mutex, KindArg::Threadcreate, KindArg::Threads, KindArg::Goroutine];

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parse(words: &[&str]) -> Result<RecordArgs, clap::Error> {
        match Args::try_parse_from(["profiler", "record"].iter().chain(words))?.command {
            Command::Record(arguments) => Ok(*arguments),
            Command::Stacks(_) | Command::Check => panic!("record was asked for"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn without_a_target_everything_is_recorded() {
        let arguments = parse(&[]).expect("valid");
        assert_eq!(arguments.config().targets, [Target::All]);
        assert_eq!((arguments.output(), arguments.format()), (Path::new("{kind}.prof"), Format::Pprof));
    }

    #[test]
    fn targets_are_joined() {
        let arguments = parse(&["-p", "1,2", "-p", "3", "--comm", "nginx*", "-d", "1.5m", "-F", "997", "--user-only"]).expect("valid");
        let config = arguments.config();
        assert_eq!(config.targets, [Target::Pid(1), Target::Pid(2), Target::Pid(3), Target::Comm("nginx*".to_owned())]);
        assert_eq!((config.duration, config.frequency_hz, config.mode), (Some(Duration::from_secs(90)), Some(997), Mode::User));
    }

    #[test]
    fn process_ids_are_read_as_people_and_pidof_write_them() {
        for words in [&["-p", "1,2"][..], &["-p", "1, 2"], &["-p", "1 2\n"], &["-p", "1", "-p", "2"]] {
            assert_eq!(parse(words).expect("valid").pids().collect::<Vec<_>>(), [1, 2], "{words:?}");
        }
        assert!(parse_pids("nginx").is_err_and(|why| why.contains("\"nginx\"") && why.contains("--comm")));
    }

    #[test]
    fn only_an_ending_that_was_chosen_is_judged() {
        assert_eq!(parse(&["-o", "x.json"]).expect("valid").foreign_ending(), Some(".json"));
        assert_eq!(parse(&["-o", "x.json", "--format", "pprof"]).expect("valid").foreign_ending(), None);
        assert_eq!(parse(&[]).expect("valid").foreign_ending(), None);
    }

    #[test]
    fn a_command_keeps_its_own_flags() {
        let arguments = parse(&["-o", "x.svg", "--", "ls", "-l", "--quiet"]).expect("valid");
        assert_eq!(arguments.words, ["ls", "-l", "--quiet"]);
        assert!(!arguments.quiet);
        assert_eq!(arguments.format(), Format::Svg);
    }

    #[test]
    fn a_format_gives_the_name_its_ending() {
        assert_eq!(parse(&["--format", "svg"]).expect("valid").output(), Path::new("{kind}.svg"));
        assert_eq!(parse(&["--format", "folded", "--split", "process"]).expect("valid").output(), Path::new("{kind}.{comm}.{pid}.folded"));
        assert_eq!(parse(&["--format", "folded", "-o", "x"]).expect("valid").output(), Path::new("x"));
    }

    #[test]
    fn nonsense_is_refused() {
        for words in [
            &["-F", "0"][..],
            &["-F", "1000000"],
            &["-d", "0"],
            &["-d", "x"],
            &["-d", "5y"],
            &["--format", "gif"],
            &["-a", "-p", "1"],
            &["-e", "tea"],
            &["-p", ""],
            &["-p", ","],
            &["-p", "0"],
            &["-p", "1,x"],
            &["--memory-limit", "1M"],
            &["--user-only", "--kernel-only"],
            &["--max-overhead", "0%"],
            &["--max-overhead", "101"],
            &["--max-overhead", "x%"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
