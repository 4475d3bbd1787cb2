//! The compiled object: embedded, given the constants of the run, and its maps by name.

use super::error::BpfError;
use super::options::CaptureOptions;
use super::waits;
use crate::config::{Event, Traced};
use aya::maps::{Map, MapData, MapError};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use profiler_common::limits::{
    ADDRESS_SPACES_MAX, CUSTOM_SITES_MAX, LOCKS_MAX, OPEN_DESCRIPTORS_MAX, PENDING_CALLS_MAX, PROBE_PLACES_PER_CPU, SITES_MAX, SLEEPS_MAX,
    TARGET_CGROUPS_MAX, TARGET_COMMS_MAX,
};
use profiler_common::target::{TargetCgroup, TargetComm};
use profiler_common::wait::WAITS_MUTEX;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd};
use zerocopy::IntoBytes as _;

/// The object that `cargo xtask ebpf` built from `profiler-ebpf`; 8-byte aligned, as an ELF file must be to be read in place.
#[cfg(not(target_arch = "aarch64"))]
pub static EMBEDDED_OBJECT: &[u8] = aya::include_bytes_aligned!("object/profiler.bpf.o");
/// The same, for arm64.
#[cfg(target_arch = "aarch64")]
pub static EMBEDDED_OBJECT: &[u8] = aya::include_bytes_aligned!("object/profiler.aarch64.bpf.o");

pub(super) fn load_object(options: &CaptureOptions) -> Result<Ebpf, BpfError> {
    let mut cgroups = [TargetCgroup::default(); TARGET_CGROUPS_MAX];
    cgroups.iter_mut().zip(&options.cgroups).for_each(|(slot, group)| *slot = *group);
    let mut comms = [TargetComm::default(); TARGET_COMMS_MAX];
    comms.iter_mut().zip(&options.comms).for_each(|(slot, comm)| *slot = *comm);
    let has_descriptors = options.traced.contains(&Traced::Descriptors);
    let has_custom = !options.custom.is_empty();
    let is_followed = options.calls == Some(Event::Heap) || has_custom;
    let are_probed = options.calls.is_some() || has_custom;
    EbpfLoader::new()
        .btf(None)
        .verifier_log_level(VerifierLogLevel::STATS)
        .override_global("SETTINGS", options.settings.as_bytes(), true)
        .override_global("OFFSETS", options.offsets.as_bytes(), true)
        .override_global("TARGET_CGROUPS", cgroups.as_bytes(), true)
        .override_global("TARGET_COMMS", comms.as_bytes(), true)
        .map_max_entries("RING", options.ring_bytes)
        .map_max_entries("TARGET_PROCESSES", options.target_processes)
        .map_max_entries("PROBE_PLACES", if are_probed || !options.traced.is_empty() { probe_places() } else { 1 })
        .map_max_entries("SLEEPS", if options.settings.waits != 0 { SLEEPS_MAX } else { 1 })
        .map_max_entries("LOCKS", if options.settings.waits & WAITS_MUTEX != 0 { LOCKS_MAX } else { 1 })
        .map_max_entries("LOCK_PLACES", if options.settings.waits & WAITS_MUTEX != 0 { LOCKS_MAX } else { 1 })
        .map_max_entries("LOCKS_FREE", if options.settings.waits & WAITS_MUTEX != 0 { LOCKS_MAX } else { 1 })
        .map_max_entries("DELAYS", if waits::are_counted(options) { options.tallies } else { 1 })
        .map_max_entries("SITES", if options.calls.is_some() { SITES_MAX } else { 1 })
        .map_max_entries("CUSTOM_SITES", if are_probed { CUSTOM_SITES_MAX } else { 1 })
        .map_max_entries("TALLIES", if are_probed || has_descriptors { options.tallies } else { 1 })
        .map_max_entries("TALLY_OWNERS", if are_probed || has_descriptors || waits::are_counted(options) { options.tallies } else { 1 })
        .map_max_entries(
            "ADDRESS_SPACES",
            if options.budget || options.traced.contains(&Traced::Mappings) { ADDRESS_SPACES_MAX } else { 1 },
        )
        .map_max_entries("DESCRIPTORS", if has_descriptors { OPEN_DESCRIPTORS_MAX } else { 1 })
        .map_max_entries("LIVE", if is_followed { options.live_blocks } else { 1 })
        .map_max_entries("PENDING", if is_followed { PENDING_CALLS_MAX } else { 64 })
        .load(EMBEDDED_OBJECT)
        .map_err(|error| BpfError::Load(describe(&error)))
}

/// Places for the programs of probes: some for each CPU that there may be.
fn probe_places() -> u32 {
    PROBE_PLACES_PER_CPU * aya::util::nr_cpus().map_or(256, |cpus| cpus as u32)
}

/// The maps by name, as numbers that stay open as long as the maps.
pub(super) fn map_descriptors(ebpf: &Ebpf) -> Vec<(String, RawFd)> {
    ebpf.maps().filter_map(|(name, map)| Some((name.to_owned(), data_of(map)?.fd().as_fd().as_raw_fd()))).collect()
}

/// What all maps that the programs refer to have in common.
fn data_of(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::LruHashMap(data) | Map::PerCpuArray(data) | Map::RingBuf(data) | Map::Stack(data) => {
            Some(data)
        }
        _ => None,
    }
}

/// A map of the object, which is ours from now on.
pub(super) fn map<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, BpfError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or_else(|| BpfError::Load(format!("the embedded object has no map {name}")))?;
    M::try_from(map).map_err(|error| map_error(name, &error))
}

/// The descriptor of a map that the programs refer to.
pub(super) fn declared<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<BorrowedFd<'a>, BpfError> {
    match ebpf.map(name) {
        Some(aya::maps::Map::Array(data)) => Ok(data.fd().as_fd()),
        _ => Err(BpfError::Load(format!("the embedded object has no array {name}"))),
    }
}

pub(super) fn map_error(map: &'static str, error: &dyn std::error::Error) -> BpfError {
    BpfError::Map { map, reason: describe(error) }
}

/// An error with its causes, on one line and at most some hundred characters: a verifier's log has thousands of lines, and its end says why.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().rev().nth(1_500) {
        Some((at, _)) => format!("... {}", &text[at..]),
        None => text,
    }
}
