//! How large the programs are to the running kernel: what its verifier walks through, and what it makes of them. For who builds the programs.

use super::btf::KernelTypes;
use super::custom::CustomProbes;
use super::error::{BpfError, is_before_probes};
use super::hold::Hold;
use super::options::CaptureOptions;
use super::probes::Probes;
use super::program::Programs;
use super::program_cost;
use crate::config::{Event, ProbeWork, Tick, Traced};
use crate::model::custom::{Action, CustomProbe, CustomProfile};
use aya::programs::{ProgramInfo, loaded_programs};
use profiler_common::limits::{RING_BYTES, TARGET_CGROUPS_MAX, TARGET_COMMS_MAX, TARGET_PROCESSES_MAX};
use profiler_common::settings::{MODE_ANY, Settings, WALK_TABLES};
use profiler_common::target::{TARGET_CGROUPS, TARGET_COMMS, TARGET_PROCESSES};
use profiler_common::wait::{WAITS_BLOCK, WAITS_MUTEX, WAITS_OFF_CPU};

/// One program, loaded with everything that a run can switch on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProgramSize {
    /// Its name.
    pub name: String,
    /// Instructions that the verifier walked through, each as often as it met it.
    pub verified_instructions: u32,
    /// Bytes of the program as the verifier left it, the functions that it calls included.
    pub translated_bytes: u32,
    /// Bytes of machine code; 0 where programs are interpreted.
    pub jited_bytes: u32,
}

/// Everything that is traced.
const TRACED: [Traced; 4] = [Traced::Mappings, Traced::Descriptors, Traced::Waits, Traced::NewThreads];

/// Loads the programs and reads how large they are, by name.
///
/// # Errors
/// Rights or kernel features are missing, or the verifier refuses a program.
pub fn program_sizes() -> Result<Vec<ProgramSize>, BpfError> {
    let everything = everything()?;
    // A kernel that has no links of many probes has no use for their programs.
    let mut programs = match Programs::load(&everything) {
        Err(BpfError::NoProbeLinks | BpfError::TooOldToTrace | BpfError::TooOldForTracepoints) => {
            Programs::load(&before_probes(everything))?
        }
        other => other?,
    };
    let _descriptors = [programs.ticked(Tick::Clock)?, programs.ticked(Tick::Faults)?];
    for traced in TRACED {
        match programs.trace(traced) {
            Ok(()) | Err(BpfError::TooOldToTrace) => {}
            Err(error) => return Err(error),
        }
    }
    programs.load_iterators()?;
    let unknown = |name: &str| BpfError::Load(format!("the kernel says nothing of the program {name}"));
    let loaded = programs.each().filter(|(_, program)| program.fd().is_ok());
    let mut sizes =
        loaded.map(|(name, program)| Ok(size(name, &program.info().map_err(|_| unknown(name))?))).collect::<Result<Vec<_>, _>>()?;
    // Those of probes are not aya's.
    let of_custom = programs.custom.iter().flat_map(CustomProbes::programs);
    let of_hold = programs.hold.iter().map(Hold::program);
    for (name, program) in programs.probes.iter().flat_map(Probes::programs).chain(of_custom).chain(of_hold) {
        let id = program_cost::number(program, "prog_id").ok_or_else(|| unknown(name))?;
        let info = loaded_programs().filter_map(Result::ok).find(|info| u64::from(info.id()) == id).ok_or_else(|| unknown(name))?;
        sizes.push(size(name, &info));
    }
    sizes.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(sizes)
}

/// What a kernel without links of many probes has a use for.
fn before_probes(everything: CaptureOptions) -> CaptureOptions {
    let settings = Settings { held: 0, ..everything.settings };
    CaptureOptions { calls: everything.calls.filter(|_| !is_before_probes()), custom: Vec::new(), settings, ..everything }
}

fn size(name: &str, info: &ProgramInfo) -> ProgramSize {
    ProgramSize {
        name: name.to_owned(),
        verified_instructions: info.verified_instruction_count().unwrap_or(0),
        translated_bytes: info.size_translated().unwrap_or(0),
        jited_bytes: info.size_jitted(),
    }
}

/// A profile with every sort of program.
fn custom() -> Vec<CustomProfile> {
    let probe = |text| CustomProbe::parse(Action::Add, text).ok();
    let texts = ["uprobe:libc.so.6:malloc:key=arg0", "tracepoint:sched:sched_process_exit:key=tid"];
    CustomProfile::new("all", false, texts.into_iter().filter_map(probe).collect()).into_iter().collect()
}

/// Every branch can be taken: the verifier does not look at code that the settings switch off.
fn everything() -> Result<CaptureOptions, BpfError> {
    let settings = Settings {
        sample_bytes: 1 << 19,
        seed: 1,
        kernel_stacks: 1,
        user_stacks: 1,
        mode: MODE_ANY,
        target: TARGET_PROCESSES | TARGET_CGROUPS | TARGET_COMMS,
        cgroups: TARGET_CGROUPS_MAX as u32,
        comms: TARGET_COMMS_MAX as u32,
        inherit: 1,
        wake_bytes: RING_BYTES / 4,
        weigh_period: 1,
        own_count: 1,
        walk: WALK_TABLES,
        address_bits: crate::sys::address_bits(),
        stop_at_sample: 1,
        count_stepped: 1,
        waits: WAITS_OFF_CPU | WAITS_BLOCK | WAITS_MUTEX,
        sleep_ns: 1_000_000,
        block_ns: 1_000,
        start_ns: 1,
        mutex_fraction: 5,
        per_thread: 1,
        wakers: 1,
        tally_keys: 1,
        temporary_ns: 1,
        held: 1,
        states: 3,
        existing: 1,
        shortest_ns: 1_000,
        longest_ns: 1_000_000,
    };
    Ok(CaptureOptions {
        settings,
        offsets: KernelTypes::load()?.offsets()?,
        processes: Vec::new(),
        cgroups: Vec::new(),
        comms: Vec::new(),
        ticking: Vec::new(),
        calls: Some(Event::Heap),
        traced: TRACED.to_vec(),
        custom: custom(),
        budget: true,
        ring_bytes: RING_BYTES,
        target_processes: TARGET_PROCESSES_MAX,
        tallies: 1,
        live_blocks: 1,
        ages: true,
        probes: ProbeWork::All,
        self_cost: false,
    })
}
