//! The processes of the target, as the programs look them up.

use super::error::BpfError;
use aya::maps::{Array, HashMap, MapData, MapError};
use profiler_common::target::target_mark;

/// Who is of the target, and marks of those who may be, which are looked at first.
pub(super) struct Targets {
    processes: HashMap<MapData, u32, u64>,
    marks: Array<MapData, u64>,
}

impl Targets {
    pub(super) fn new(processes: HashMap<MapData, u32, u64>, marks: Array<MapData, u64>) -> Self {
        Self { processes, marks }
    }

    /// Takes a process in. `start_boot_ns` 0: whoever has the pid when it is first sampled.
    pub(super) fn add(&mut self, pid: u32, start_boot_ns: u64) -> Result<(), BpfError> {
        let failed = |error: MapError| BpfError::Map { map: "TARGET_PROCESSES", reason: error.to_string() };
        self.marks.set(target_mark(pid), 1, 0).map_err(failed)?;
        self.processes.insert(pid, start_boot_ns, 0).map_err(failed)
    }
}
