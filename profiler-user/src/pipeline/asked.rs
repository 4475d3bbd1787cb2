//! What was asked for, as the kernel side and those who arm are told it.

use super::go_waits::GoWaits;
use super::probed::Whom;
use crate::bpf::{CaptureOptions, monotonic_now};
use crate::config::{Config, Event, Mode, Target, Walk};
use crate::go::waits::Which;
use crate::model::process::Pid;
use crate::target::Filter;
use profiler_common::settings::{self, Settings};
use std::io;
use std::os::fd::OwnedFd;

/// What a run asks of the kernel side.
pub(super) fn capture_options(config: &Config, filter: &Filter, offsets: settings::KernelOffsets) -> CaptureOptions {
    CaptureOptions {
        settings: Settings {
            sample_bytes: config.sample_bytes,
            seed: seed(),
            kernel_stacks: u32::from(config.mode != Mode::User),
            user_stacks: u32::from(config.mode != Mode::Kernel),
            mode: match config.mode {
                Mode::Any => settings::MODE_ANY,
                Mode::User => settings::MODE_USER,
                Mode::Kernel => settings::MODE_KERNEL,
            },
            target: filter.bits,
            cgroups: filter.cgroups.len() as u32,
            comms: filter.comms.len() as u32,
            inherit: u32::from(config.inherit),
            wake_bytes: config.bounds.ring_bytes / 4,
            weigh_period: u32::from(config.events.contains(&Event::Cycles)),
            own_count: u32::from(!config.include_self),
            walk: match config.walk {
                Walk::Tables => settings::WALK_TABLES,
                Walk::FramePointers => settings::WALK_FRAME_POINTERS,
            },
            address_bits: crate::sys::address_bits(),
            stop_at_sample: u32::from(config.bounds.stop_at_sample),
            count_stepped: u32::from(config.max_overhead.is_some()),
            waits: config.waits(),
            sleep_ns: config.waiting.sleep_ns,
            block_ns: config.waiting.block_ns,
            shortest_ns: config.waiting.sleeps.shortest_ns,
            longest_ns: config.waiting.sleeps.longest_ns,
            start_ns: monotonic_now().0,
            mutex_fraction: config.waiting.mutex_fraction,
            per_thread: u32::from(config.per_thread),
            wakers: u32::from(config.wakers()),
            states: u32::from(config.waiting.sleeps.states),
            existing: u32::from(config.lists_existing()),
            tally_keys: config.bounds.tallies,
            temporary_ns: config.heap.temporary.map_or(0, |most| u64::try_from(most.as_nanos()).unwrap_or(u64::MAX)),
            held: 0,
        },
        offsets,
        processes: filter.processes.clone(),
        cgroups: filter.cgroups.clone(),
        comms: filter.comms.clone(),
        ticking: config.ticking(),
        calls: config.calls(),
        traced: config.traced(),
        custom: config.custom.clone(),
        budget: config.max_overhead.is_some(),
        ring_bytes: config.bounds.ring_bytes,
        target_processes: config.bounds.target_processes,
        tallies: config.bounds.tallies,
        live_blocks: config.bounds.live_blocks,
        ages: config.heap.age,
        probes: config.bounds.probes,
        self_cost: config.self_cost,
    }
}

/// A random number that no process can guess: stack hashes of this run are not those of any other.
fn seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// The processes whose end is the end of the recording: when nothing but processes was asked for.
pub(super) fn named_alone(config: &Config) -> Vec<Pid> {
    let pids = config.targets.iter().map(|target| if let Target::Pid(pid) = target { Some(Pid(*pid)) } else { None });
    pids.collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// Whose calls are probed.
pub(super) fn whom(filter: &Filter, inherit: bool) -> Whom {
    Whom {
        everyone: false,
        pids: filter.processes.iter().map(|(pid, _)| *pid).collect(),
        comms: filter.comms.clone(),
        folders: filter.folders.clone(),
        inherit: inherit.into(),
    }
}

/// Who looks for the waits of goroutines.
pub(super) fn go_waits(config: &Config, filter: &Filter, wakers: &mut Vec<OwnedFd>) -> io::Result<Option<GoWaits>> {
    let which = [(Event::Block, Which::Block), (Event::Mutex, Which::Mutex)];
    let which: Vec<Which> = which.into_iter().filter(|(event, _)| config.events.contains(event)).map(|(_, which)| which).collect();
    if which.is_empty() {
        return Ok(None);
    }
    let whom = Whom { everyone: config.targets.contains(&Target::All), ..whom(filter, config.inherit) };
    let go_waits = GoWaits::new(whom, which)?;
    wakers.push(go_waits.news()?);
    Ok(Some(go_waits))
}
