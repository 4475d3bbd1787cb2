//! What is asked of waits: `--sleep-rate`, `--state` and the others.

use crate::choices::KindArg;
use crate::values::parse_delay;
use clap::{ArgAction, Args, ValueEnum};
use profiler::config::Waiting;
use profiler::model::kind::Kind;
use profiler_common::wait::{STATE_INTERRUPTIBLE, STATE_RUNNABLE, STATE_STOPPED, STATE_UNINTERRUPTIBLE, STATES_ALL, SleepFilter};

/// How waits are recorded.
#[derive(Args, Clone, Debug)]
pub(crate) struct WaitArgs {
    /// Of off-cpu: times off the CPU that are all recorded, shorter ones are sampled by their length: 1ns (each), 10us, 5ms
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = parse_delay, help_heading = "Sampling")]
    pub sleep_rate: u64,
    /// Of off-cpu: only time in these states, several as runnable,uninterruptible: blocked (asleep or stopped), runnable (waiting for a CPU), and of blocked
    /// alone interruptible (S) or uninterruptible (D)
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', help_heading = "Sampling")]
    pub states: Vec<StateArg>,
    /// Of off-cpu: leave times off the CPU out that are shorter, counted in the states of --state
    #[arg(long, value_name = "TIME", value_parser = parse_bound, help_heading = "Sampling")]
    pub min_block_time: Option<u64>,
    /// Of off-cpu: leave times off the CPU out that are longer
    #[arg(long, value_name = "TIME", value_parser = parse_bound, help_heading = "Sampling")]
    pub max_block_time: Option<u64>,
    /// Of block: waits that are all recorded, shorter ones by chance, as SetBlockProfileRate (which rules waits of goroutines): 1ns (each), 10us
    #[arg(long, value_name = "TIME", default_value = "1ns", value_parser = parse_delay, help_heading = "Sampling")]
    pub block_rate: u64,
    /// Of mutex: one release in N is recorded, and stands for all, as Go's SetMutexProfileFraction
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Sampling")]
    pub mutex_fraction: u32,
    /// Of off-cpu, block and wall: who ended each wait, as a label `waker` with its stack; of mutex who waited, as a label `waiter`
    #[arg(long, help_heading = "Sampling")]
    pub pairs: bool,
    /// Of threadcreate: threads that are there already, too, with a label `existing`; who created them is not known
    #[arg(long, action = ArgAction::SetTrue, help_heading = "Sampling")]
    pub existing: bool,
}

/// Why a thread is off its CPU.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StateArg {
    /// It sleeps, or is stopped
    Blocked,
    /// It waits for a CPU
    Runnable,
    /// It sleeps, and signals wake it (S)
    Interruptible,
    /// It sleeps, and they do not (D)
    Uninterruptible,
}

impl StateArg {
    fn bits(self) -> u16 {
        match self {
            Self::Blocked => STATE_INTERRUPTIBLE | STATE_UNINTERRUPTIBLE | STATE_STOPPED,
            Self::Runnable => STATE_RUNNABLE,
            Self::Interruptible => STATE_INTERRUPTIBLE,
            Self::Uninterruptible => STATE_UNINTERRUPTIBLE,
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// A length of time; a bare number is microseconds, as for offcputime's options of these names.
fn parse_bound(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "expected a time such as 10us, 5ms or 2s".to_owned())?;
    let scale = match unit {
        "ns" => 1,
        "" | "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return Err(format!("unknown unit {unit:?}: use ns, us, ms or s")),
    };
    number.checked_mul(scale).ok_or_else(|| "longer than any recording".to_owned())
}

impl WaitArgs {
    /// What is to be recorded.
    pub(crate) fn waiting(&self) -> Waiting {
        let states = self.states.iter().fold(0, |bits, state| bits | state.bits());
        Waiting {
            sleep_ns: self.sleep_rate,
            block_ns: self.block_rate,
            mutex_fraction: self.mutex_fraction,
            pairs: self.pairs,
            sleeps: SleepFilter {
                states: if self.states.is_empty() { STATES_ALL } else { states },
                shortest_ns: self.min_block_time.unwrap_or(0),
                longest_ns: self.max_block_time.unwrap_or(u64::MAX),
            },
            existing_threads: self.existing,
        }
    }

    fn filters(&self) -> bool {
        !self.states.is_empty() || self.min_block_time.is_some() || self.max_block_time.is_some()
    }

    /// What does not go together, and what to do.
    pub(crate) fn misfit(&self, kinds: &[KindArg]) -> Option<&'static str> {
        let (has, usual) = (|kind| kinds.contains(&kind), Waiting::default());
        match () {
            () if self.pairs && ![KindArg::OffCpu, KindArg::Block, KindArg::Wall, KindArg::Mutex].into_iter().any(has) => {
                Some("--pairs is about who waits and who ends it: -e block, mutex, off-cpu or wall")
            }
            () if self.filters() && !has(KindArg::OffCpu) => {
                Some("--state, --min-block-time and --max-block-time are about time off the CPU; they need -e off-cpu")
            }
            () if self.filters() && has(KindArg::Wall) => {
                Some("--state, --min-block-time and --max-block-time would take time out of wall, too; leave -e wall or them out")
            }
            () if self.min_block_time > self.max_block_time && self.max_block_time.is_some() => {
                Some("--min-block-time is longer than --max-block-time: nothing is left")
            }
            () if self.sleep_rate != usual.sleep_ns && !has(KindArg::OffCpu) && !has(KindArg::Wall) => {
                Some("--sleep-rate is about time off the CPU; it needs -e off-cpu or wall")
            }
            () if self.block_rate != usual.block_ns && !has(KindArg::Block) => Some("--block-rate is about waits; it needs -e block"),
            () if self.mutex_fraction != usual.mutex_fraction && !has(KindArg::Mutex) => {
                Some("--mutex-fraction is about releases; it needs -e mutex")
            }
            () if self.existing && !has(KindArg::Threadcreate) => Some("--existing is about threads; it needs -e threadcreate"),
            () => None,
        }
    }

    /// The options of a kind, as they are written; None: it has none of these.
    pub(crate) fn written(&self, kind: Kind) -> Option<String> {
        let pairs = if self.pairs { " --pairs" } else { "" };
        Some(match kind {
            Kind::OffCpu => format!("--sleep-rate {} -e off-cpu{pairs}{}", self.sleep_rate, self.written_filter()),
            Kind::Block => format!("--block-rate {} -e block{pairs}", self.block_rate),
            Kind::Mutex => format!("--mutex-fraction {} -e mutex{pairs}", self.mutex_fraction),
            Kind::ThreadCreate => format!("-e threadcreate{}", if self.existing { " --existing" } else { "" }),
            Kind::Wall => format!("--sleep-rate {} -e wall{pairs}", self.sleep_rate),
            _ => return None,
        })
    }

    fn written_filter(&self) -> String {
        let states: Vec<String> = self.states.iter().map(|state| state.name()).collect();
        let state = if states.is_empty() { String::new() } else { format!(" --state {}", states.join(",")) };
        let bound = |flag: &str, bound: Option<u64>| bound.map_or(String::new(), |ns| format!(" {flag} {ns}ns"));
        state + &bound("--min-block-time", self.min_block_time) + &bound("--max-block-time", self.max_block_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        waits: WaitArgs,
    }

    fn parse(words: &[&str]) -> Result<WaitArgs, clap::Error> {
        Only::try_parse_from(["x"].iter().chain(words)).map(|only| only.waits)
    }

    #[test]
    fn times_are_left_out_by_the_words_of_offcputime() {
        let arguments =
            parse(&["--state", "runnable,uninterruptible", "--min-block-time", "100", "--max-block-time", "2s"]).expect("valid");
        let filter = SleepFilter { states: STATE_RUNNABLE | STATE_UNINTERRUPTIBLE, shortest_ns: 100_000, longest_ns: 2_000_000_000 };
        assert_eq!(arguments.waiting().sleeps, filter);
        assert_eq!(arguments.written_filter(), " --state runnable,uninterruptible --min-block-time 100000ns --max-block-time 2000000000ns");
        assert_eq!(parse(&[]).expect("valid").waiting(), Waiting::default());
        for words in [["--min-block-time", "x"], ["--min-block-time", "5y"], ["--max-block-time", "99999999999s"], ["--state", "asleep"]] {
            assert!(parse(&words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn what_was_asked_for_is_written_as_it_can_be_asked_for_again() {
        let arguments = parse(&["--sleep-rate", "1ms", "--pairs"]).expect("valid");
        let written = arguments.written(Kind::Wall).expect("it has some");
        assert_eq!(written, "--sleep-rate 1000000 -e wall --pairs");
        assert_eq!(parse(&["--sleep-rate", "1000000"]).expect("valid").sleep_rate, arguments.sleep_rate);
    }

    #[test]
    fn what_is_left_out_must_fit_what_is_recorded() {
        let misfit = |words: &[&str], kinds: &[KindArg]| parse(words).expect("valid").misfit(kinds);
        assert!(misfit(&["--state", "blocked"], &[KindArg::OffCpu]).is_none());
        assert!(misfit(&["--state", "blocked"], &[KindArg::Block]).is_some_and(|why| why.contains("-e off-cpu")));
        assert!(misfit(&["--state", "blocked"], &[KindArg::OffCpu, KindArg::Wall]).is_some_and(|why| why.contains("-e wall")));
        let reversed = ["--min-block-time", "2ms", "--max-block-time", "1ms"];
        assert!(misfit(&reversed, &[KindArg::OffCpu]).is_some_and(|why| why.contains("nothing is left")));
        assert!(misfit(&["--existing"], &[KindArg::OffCpu]).is_some_and(|why| why.contains("-e threadcreate")));
        for (words, kind) in [
            (["--sleep-rate", "1us"], KindArg::OffCpu),
            (["--block-rate", "2us"], KindArg::Block),
            (["--mutex-fraction", "2"], KindArg::Mutex),
        ] {
            assert!(
                misfit(&words, &[kind]).is_none() && misfit(&words, &[KindArg::Cpu]).is_some_and(|why| why.contains(words[0])),
                "{words:?}"
            );
        }
        assert!(misfit(&["--pairs"], &[KindArg::Mutex]).is_none() && misfit(&["--pairs"], &[KindArg::Cpu]).is_some());
    }
}
