//! What is asked of heap and allocs.

use crate::choices::{KindArg, MomentArg, is_of_calls};
use crate::values::{parse_duration, parse_sample_bytes, parse_share};
use clap::Args;
use profiler::config::HeapConfig;
use profiler::model::allocator::{GIVEN_MAX, GivenAllocator};
use profiler_common::limits::LIVE_BLOCKS_MAX;
use std::time::Duration;

/// How blocks of memory are recorded.
#[derive(Args, Debug)]
pub(crate) struct HeapArgs {
    /// Of heap and allocs: mean distance between sampled blocks, such as 512K; 1 records every block
    #[arg(long, value_name = "SIZE", default_value = "512K", value_parser = parse_sample_bytes, help_heading = "Sampling")]
    pub sample_bytes: u64,
    /// Of heap and allocs: what probes may take of the processes' CPU time, such as 2%. Beyond it less is recorded: heap, then allocs, then who allocates by
    /// turns (alloc-shares), then page faults, each in a file of its own
    #[arg(long, value_name = "PERCENT", value_parser = parse_share, help_heading = "Sampling")]
    pub max_overhead: Option<f64>,
    /// Of heap: the moment that is shown of what is in use
    #[arg(long = "at", value_name = "MOMENT", default_value = "end", help_heading = "Sampling")]
    pub moment: MomentArg,
    /// Of heap: show what is in use twice, at the end and so long before, for what has grown since; it ends after twice that time unless -d says otherwise
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Sampling")]
    pub diff: Option<Duration>,
    /// Of heap: how old what is in use is, as a label `age` by tens of milliseconds
    #[arg(long, help_heading = "Sampling")]
    pub age: bool,
    /// Of heap: what is freed within this time, such as 10ms, has a label `lifetime=temporary`
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Sampling")]
    pub temporary: Option<Duration>,
    /// Of heap and allocs: an allocator of another name, LIB:malloc=NAME,free=NAME; also calloc=, realloc=, memalign=, aligned_alloc=, posix_memalign=, aligned_new=
    /// for functions that take the same arguments. It is recorded beside those that are known by their names; may be given several times
    #[arg(long = "allocator", value_name = "LIB:MALLOC=NAME,..", value_parser = GivenAllocator::parse, help_heading = "Sampling")]
    pub allocators: Vec<GivenAllocator>,
    /// Of heap: sampled blocks that are followed at once. Where more live, one in 2, 4, 8 .. is followed to its end, and stands for the others
    #[arg(long, value_name = "N", default_value_t = LIVE_BLOCKS_MAX, value_parser = clap::value_parser!(u32).range(1..=16_777_216), help_heading = "Limits")]
    pub live_entries: u32,
}

impl HeapArgs {
    /// What is asked for beside what is in use.
    pub(crate) fn config(&self) -> HeapConfig {
        HeapConfig { age: self.age, temporary: self.temporary, allocators: self.allocators.clone() }
    }

    /// How that is written on a command line.
    pub(crate) fn written(&self) -> String {
        let age = if self.age { " --age" } else { "" };
        let temporary = self.temporary.map_or(String::new(), |most| format!(" --temporary {}", most.as_secs_f64()));
        let allocators: String = self.allocators.iter().map(|allocator| format!(" --allocator {allocator}")).collect();
        format!("{age}{temporary}{allocators}")
    }

    /// What does not go together with these kinds, and what to do.
    pub(crate) fn misfit(&self, kinds: &[KindArg], duration: Option<Duration>) -> Option<&'static str> {
        if self.max_overhead.is_some() && !kinds.iter().any(is_of_calls) {
            return Some("--max-overhead is about the probes of -e heap and -e allocs; leave it out");
        }
        if (self.diff.is_some() || self.moment == MomentArg::Peak) && !kinds.contains(&KindArg::Heap) {
            return Some("--diff and --at peak are about what is in use; they need -e heap");
        }
        if !self.allocators.is_empty() && !kinds.iter().any(is_of_calls) {
            return Some("--allocator is about what -e heap and -e allocs probe; leave it out");
        }
        if self.allocators.iter().map(|allocator| allocator.functions.len()).sum::<usize>() > GIVEN_MAX {
            return Some("--allocator names more functions than 64 in all");
        }
        if (self.age || self.temporary.is_some()) && !kinds.contains(&KindArg::Heap) {
            return Some("--age and --temporary are about how long blocks live; they need -e heap");
        }
        if self.age && self.moment == MomentArg::Peak {
            return Some("--age is of what is in use at the end; leave --at peak out");
        }
        if self.diff.zip(duration).is_some_and(|(apart, duration)| apart >= duration) {
            return Some("--diff must be shorter than -d: its first moment lies within the recording");
        }
        None
    }
}
