//! What the terminal shows: a line while it runs, the hottest functions at the end, what was lost, and how to look further.

use profiler::bpf::ProgramCost;
use profiler::encode::top::{hottest, whole};
use profiler::model::profile::Profile;
use profiler::model::text::printable;
use profiler::pipeline::{Control, Progress};
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

/// Functions that are listed.
const TOP: usize = 10;
/// Characters of a function's name.
const NAME_WIDTH: usize = 90;

/// What is said while a recording runs: one line when it has begun, and one that is written again and again, which only a terminal gets.
pub(crate) struct ProgressLine {
    is_quiet: bool,
    is_shown: bool,
}

impl ProgressLine {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { is_quiet: quiet, is_shown: !quiet && std::io::stderr().is_terminal() }
    }

    /// Clears it.
    pub(crate) fn end(&self) {
        if self.is_shown {
            eprint!("\r\x1b[K");
        }
    }
}

impl Control for ProgressLine {
    fn started(&mut self) {
        if !self.is_quiet {
            eprintln!("recording; Ctrl-C ends it and writes the profile");
        }
    }

    fn progress(&mut self, progress: &Progress) {
        if self.is_shown {
            let Progress { elapsed, samples, lost, processes } = progress;
            eprint!("\r\x1b[K{}s  {samples} samples  {lost} lost  {processes} processes  (Ctrl-C ends and writes)", elapsed.as_secs());
            let _ = std::io::stderr().flush();
        }
    }
}

/// Prints the end of a recording.
pub(crate) fn print(profile: &Profile, files: &[PathBuf]) {
    let mut text = String::new();
    top(profile, &mut text);
    text.push_str(&accounts(profile));
    match files {
        [] => {}
        [one] => text.push_str(&format!(
            "wrote {}; look further: go tool pprof -http=: {}\n",
            printable(&one.to_string_lossy()),
            shell_word(&one.to_string_lossy())
        )),
        [first, ..] => text.push_str(&format!(
            "wrote {} files; look further: go tool pprof -http=: {}\n",
            files.len(),
            shell_word(&first.to_string_lossy())
        )),
    }
    eprint!("{text}");
}

/// The ten hottest functions by their own time.
fn top(profile: &Profile, text: &mut String) {
    let column = profile.sample_types.len() - 1;
    let total = whole(profile, column).max(1) as f64;
    let hot = hottest(profile, column, TOP);
    if hot.is_empty() {
        text.push_str("no samples: nothing that was asked for used the CPU in that time\n");
        return;
    }
    text.push_str("  flat%   cum%  function\n");
    for function in hot {
        let name: String = printable(&function.name).chars().take(NAME_WIDTH).collect();
        let share = |value: i64| 100.0 * value as f64 / total;
        text.push_str(&format!("{:6.2}% {:6.2}%  {name}\n", share(function.flat), share(function.cumulative)));
    }
}

/// Samples, losses and how stacks ended.
fn accounts(profile: &Profile) -> String {
    let balance = &profile.balance;
    let mut text = format!(
        "{} samples of {} ticks in {:.1}s ({} idle, {} not asked for, {} lost)\n",
        balance.samples,
        balance.ticks,
        profile.duration.as_secs_f64(),
        balance.idle,
        balance.filtered,
        profile.losses.samples()
    );
    let losses: Vec<String> = profile.losses.iter().map(|(loss, events)| format!("{} {events}", loss.label())).collect();
    if !losses.is_empty() {
        let whose = if balance.is_narrowed { " (on the whole machine, whoever ran)" } else { "" };
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
        eprintln!("program {}: {} runs, {nanoseconds} ns each, {} instructions verified", cost.name, cost.runs, cost.verified_instructions);
    }
}

/// A word as a shell takes it back.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./{}+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", printable(text).replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::shell_word;

    #[test]
    fn the_command_can_be_pasted() {
        assert_eq!(shell_word("cpu.prof"), "cpu.prof");
        assert_eq!(shell_word("my file's.prof"), "'my file'\\''s.prof'");
    }
}
