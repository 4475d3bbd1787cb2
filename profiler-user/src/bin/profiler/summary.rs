//! What the terminal shows: a line while it runs, the hottest functions at the end, what was lost, and how to look further.

use profiler::bpf::ProgramCost;
use profiler::encode::Format;
use profiler::encode::top::{hottest, whole};
use profiler::model::allocator::Placement;
use profiler::model::kind::Kind;
use profiler::model::label::{Label, LabelValue};
use profiler::model::profile::{Profile, TOTALS_WITHHELD};
use profiler::model::text::{printable, shell_word};
use profiler::pipeline::{Control, Progress};
use profiler::unwind::Costs;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

/// Functions that are listed.
const TOP: usize = 10;
/// Probed functions that are listed.
const PLACEMENTS_MAX: usize = 40;
/// Characters of a function's name.
const NAME_WIDTH: usize = 90;

/// Says something to whoever watches. Nobody may: what was recorded matters more than a standard error that is full or closed.
pub(crate) fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// What is said while a recording runs: one line when it has begun, and one that is written again and again, which only a terminal gets.
pub(crate) struct ProgressLine {
    is_quiet: bool,
    has_command: bool,
    is_shown: bool,
}

impl ProgressLine {
    pub(crate) fn new(quiet: bool, has_command: bool) -> Self {
        Self { is_quiet: quiet, has_command, is_shown: !quiet && std::io::stderr().is_terminal() }
    }

    /// Clears it.
    pub(crate) fn end(&self) {
        if self.is_shown {
            say("\r\x1b[K");
        }
    }
}

impl Control for ProgressLine {
    fn started(&mut self) {
        if !self.is_quiet {
            say(match self.has_command {
                true => "recording; it ends with the command\n",
                false => "recording; Ctrl-C ends it and writes the profile\n",
            });
        }
    }

    fn told(&mut self, news: &str) {
        if !self.is_quiet {
            self.end();
            say(&format!("{news}\n"));
        }
    }

    fn progress(&mut self, progress: &Progress) {
        if self.is_shown {
            let Progress { elapsed, samples, lost, processes } = progress;
            say(&format!(
                "\r\x1b[K{}s  {samples} samples  {lost} lost  {processes} processes  ({})",
                elapsed.as_secs(),
                if self.has_command { "it ends with the command" } else { "Ctrl-C ends and writes" }
            ));
        }
    }
}

/// What a terminal shows while names are found.
pub(crate) struct NamingLine {
    is_shown: bool,
}

impl NamingLine {
    /// Shows it, unless it is to be quiet.
    pub(crate) fn show(quiet: bool) -> Self {
        let is_shown = !quiet && std::io::stderr().is_terminal();
        if is_shown {
            say("finding names (Ctrl-C twice ends without a profile)");
        }
        Self { is_shown }
    }
}

impl Drop for NamingLine {
    fn drop(&mut self) {
        if self.is_shown {
            say("\r\x1b[K");
        }
    }
}

/// Prints the end of a recording.
pub(crate) fn print(profile: &Profile, files: &[PathBuf], format: Format) {
    let mut text = String::new();
    top(profile, &mut text);
    text.push_str(&accounts(profile));
    if let Some(first) = files.first() {
        let wrote = if files.len() == 1 { printable(&first.to_string_lossy()).into_owned() } else { format!("{} files", files.len()) };
        text.push_str(&format!("wrote {wrote}{}\n", look_further(format, &shell_word(&first.to_string_lossy()))));
    }
    say(&text);
}

/// Prints how to see what has grown between two profiles.
pub(crate) fn print_growth(base: &Path, heap: &Path) {
    let word = |path: &Path| shell_word(&path.to_string_lossy());
    say(&format!("what has grown: go tool pprof -top -diff_base {} {}\n", word(base), word(heap)));
}

/// What opens a file of that format.
fn look_further(format: Format, file: &str) -> String {
    match format {
        Format::Pprof => format!("; look further: go tool pprof -http=: {file}"),
        Format::Svg => format!("; look further: open {file} in a browser"),
        Format::Text | Format::Folded => format!("; look further: less {file}"),
    }
}

/// The ten hottest functions by their own time.
fn top(profile: &Profile, text: &mut String) {
    let mut column = profile.kind.default_column();
    if profile.kind == Kind::Heap && profile.total(column) == 0 {
        column = 1; // Nothing lives: what was allocated is what there is to show.
    }
    let total = whole(profile, column).max(1) as f64;
    let hot = hottest(profile, column, TOP);
    if hot.is_empty() {
        text.push_str(&format!("no samples: {}\n", profile.kind.nothing()));
        return;
    }
    text.push_str(&match profile.kind.is_of_blocks() {
        true => format!("  flat%   cum%  function ({})\n", profile.sample_types[column].name),
        false => "  flat%   cum%  function\n".to_owned(),
    });
    for function in hot {
        let name: String = printable(&function.name).chars().take(NAME_WIDTH).collect();
        let share = |value: i64| 100.0 * value as f64 / total;
        text.push_str(&format!("{:6.2}% {:6.2}%  {name}\n", share(function.flat), share(function.cumulative)));
    }
}

/// Samples, losses and how stacks ended.
fn accounts(profile: &Profile) -> String {
    let balance = &profile.balance;
    if profile.kind.is_of_blocks() {
        return notes(profile) + &blocks(profile) + &losses(profile);
    }
    if profile.kind.is_of_waits() || profile.kind == Kind::ThreadCreate {
        return notes(profile) + &waits(profile) + &losses(profile);
    }
    let text = format!(
        "{} samples of {} {} in {:.1}s ({} idle, {} not asked for, {} lost)\n",
        balance.samples,
        balance.ticks,
        profile.kind.event(),
        profile.duration.as_secs_f64(),
        balance.idle,
        balance.filtered,
        profile.losses.samples()
    );
    text + &losses(profile)
}

/// Waits, or threads that were started.
fn waits(profile: &Profile) -> String {
    let balance = &profile.balance;
    let time = match profile.kind.is_of_waits() {
        true => format!(": {:.3}s in all", profile.total(1) as f64 / 1e9),
        false => String::new(),
    };
    let is_of_goroutine = |label: &Label| &*label.key == "waiter" && matches!(&label.value, LabelValue::Text(who) if &**who == "goroutine");
    let of_goroutines = profile.samples.iter().filter(|sample| sample.labels.iter().any(is_of_goroutine));
    let recorded = of_goroutines.fold(0_i64, |sum, sample| sum.saturating_add(sample.values[0]));
    let recorded = if recorded > 0 { format!(", {recorded} more of goroutines by Go's own profile") } else { String::new() };
    format!(
        "{} {} of {} taken in {:.1}s ({} lost){recorded}{time}\n",
        balance.samples,
        profile.kind.event(),
        balance.ticks,
        profile.duration.as_secs_f64(),
        profile.losses.samples()
    )
}

/// Comments that the terminal shows: what there is to say of single processes and of allocators, what a budget has taken, how sure what is in use is, and which waits are
/// not in the sums.
const SHOWN: [&str; 10] = [
    "process ",
    "processes ",
    "--allocator ",
    "otel_memory: ",
    "budget: ",
    TOTALS_WITHHELD,
    "there was more at once ",
    "inuse_space is an estimate ",
    "left out: ",
    "not charged: ",
];

/// What there is to say beside the sums.
fn notes(profile: &Profile) -> String {
    profile
        .comments
        .iter()
        .filter(|comment| SHOWN.iter().any(|beginning| comment.starts_with(beginning)))
        .map(|note| format!("{}\n", printable(note)))
        .collect()
}

/// What was allocated, and what of it lives.
fn blocks(profile: &Profile) -> String {
    let balance = &profile.balance;
    let mut text = match balance.ticks {
        0 if profile.total(1) == 0 => return format!("no allocation was seen in {:.1}s\n", profile.duration.as_secs_f64()),
        0 => format!("no allocation was seen in {:.1}s; Go's own profiles say: ", profile.duration.as_secs_f64()),
        calls => format!(
            "{} sampled of {calls} allocations in {:.1}s ({} lost): ",
            balance.samples,
            profile.duration.as_secs_f64(),
            profile.losses.samples()
        ),
    };
    if profile.comments.iter().any(|comment| comment.starts_with(TOTALS_WITHHELD)) {
        return text + TOTALS_WITHHELD + "\n";
    }
    text.push_str(&format!("{} allocated", size(profile.total(1))));
    if profile.kind.tells_what_lives() {
        text.push_str(&format!(", {} of it in use", size(profile.total(3))));
    }
    text.push('\n');
    text
}

/// Bytes as people write them.
fn size(bytes: i64) -> String {
    let mut number = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if number < 1024.0 {
            return format!("{number:.1} {unit}");
        }
        number /= 1024.0;
    }
    format!("{number:.1} TB")
}

/// What was lost, and how stacks ended.
fn losses(profile: &Profile) -> String {
    let (balance, mut text) = (&profile.balance, String::new());
    let losses: Vec<String> = profile.losses.iter().map(|(loss, events)| format!("{} {events}", loss.label())).collect();
    if !losses.is_empty() {
        let whose = if balance.is_narrowed && !profile.kind.is_of_blocks() { " (on the whole machine, whoever ran)" } else { "" };
        text.push_str(&format!("lost: {}{whose}\n", losses.join(", ")));
    }
    let stacks: u64 = profile.endings.iter().map(|(_, events)| events).sum();
    let endings =
        profile.endings.iter().map(|(ended, events)| format!("{} {:.1}%", ended.label(), 100.0 * events as f64 / stacks.max(1) as f64));
    let endings: Vec<String> = endings.collect();
    if !endings.is_empty() {
        text.push_str(&format!("stacks ended: {}\n", endings.join(", ")));
    }
    text
}

/// Prints what the programs cost.
pub(crate) fn print_self_cost(costs: &[ProgramCost]) {
    for cost in costs.iter().filter(|cost| cost.runs > 0) {
        let nanoseconds = cost.time.as_nanos() as u64 / cost.runs;
        say(&format!(
            "program {}: {} runs, {nanoseconds} ns each, {} instructions verified\n",
            cost.name, cost.runs, cost.verified_instructions
        ));
    }
}

/// Prints where allocators were probed.
pub(crate) fn print_placements(placements: &[Placement]) {
    say(&placements_table(placements));
}

/// A table of them, those of the most processes first.
fn placements_table(placements: &[Placement]) -> String {
    let mut text = String::new();
    if !placements.is_empty() {
        text.push_str("processes  instruction     probe and file\n");
    }
    for placement in placements.iter().take(PLACEMENTS_MAX) {
        let (first, others) = placement.names.split_first().map_or(("?", &[][..]), |(first, others)| (first.as_str(), others));
        let others = if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
        let instruction = if placement.is_emulated { "emulated" } else { "single-stepped" };
        let probe = format!("{first}+{}{others}  {}", placement.distance, placement.file);
        text.push_str(&format!("{:9}  {instruction:14}  {}\n", placement.processes, printable(&probe)));
    }
    if placements.len() > PLACEMENTS_MAX {
        text.push_str(&format!("... and {} more\n", placements.len() - PLACEMENTS_MAX));
    }
    text
}

/// Prints what the unwind tables took.
pub(crate) fn print_unwinding(costs: &Costs) {
    say(&format!(
        "unwind tables: {} files, {} rows, {} kB; {} evicted; {} lists of ranges written; {} stacks finished in user space\n",
        costs.files,
        costs.rows,
        costs.used_bytes / 1024,
        costs.evicted,
        costs.lists,
        costs.finished
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_probes_are_listed_up_to_a_bound() {
        let placement = |at: usize| Placement {
            file: "/lib/liba.so".into(),
            names: vec![format!("free{at}"), "cfree\n".into()],
            distance: 9,
            is_emulated: at > 0,
            processes: 100,
        };
        let table = placements_table(&(0..PLACEMENTS_MAX + 2).map(placement).collect::<Vec<_>>());
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), PLACEMENTS_MAX + 2);
        assert!(lines[1].starts_with("      100  single-stepped  free0+9 (cfree"), "{}", lines[1]);
        assert!(lines[2].starts_with("      100  emulated        free1+9") && lines[2].ends_with("/lib/liba.so"), "{}", lines[2]);
        assert_eq!(lines[PLACEMENTS_MAX + 1], "... and 2 more");
        assert_eq!(placements_table(&[]), "");
    }
}
