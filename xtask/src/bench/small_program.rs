//! What ours is measured against: programs of a few instructions, run at each tick of the same clock and timed by the same statistics of the kernel.

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::programs::perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent};
use aya::programs::{PerfEvent, Program};
use aya::sys::{Stats, enable_stats};
use object::write::{Object, Relocation, SectionId, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind, SymbolScope};
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Duration;

/// A program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Small {
    /// It does nothing: the floor.
    Empty,
    /// `bpf_get_stackid` of the user stack: the kernel's own walk by frame pointers, with which most tracers make do.
    StackId,
}

// Instructions are 8 bytes: opcode, registers, offset (2), constant (4) (Documentation/bpf/standardization/instruction-set.rst of the kernel).
const RETURN_ZERO: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
/// `r2 = the map; r3 = BPF_F_USER_STACK; call bpf_get_stackid`.
const GET_STACKID: [u8; 32] = [0x18, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb7, 3, 0, 0, 0, 1, 0, 0, 0x85, 0, 0, 0, 27, 0, 0, 0];
/// `R_BPF_64_64`: the address of a symbol, in the constants of a double instruction.
const MAP_RELOCATION: u32 = 1;
/// `struct bpf_map_def`: BPF_MAP_TYPE_STACK_TRACE, key and value sizes, entries, flags, and two words that aya knows.
const STACKS: [u32; 7] = [7, 4, 127 * 8, 16_384, 0, 0, 0];
const NAME: &str = "small";

impl Small {
    fn instructions(self) -> Vec<u8> {
        match self {
            Self::Empty => RETURN_ZERO.to_vec(),
            Self::StackId => [&GET_STACKID[..], &RETURN_ZERO].concat(),
        }
    }
}

/// Nanoseconds that a run of the program takes, at so many ticks a second of every CPU, over so much time.
///
/// # Errors
/// It cannot be loaded, or hardly ran.
pub(super) fn cost(small: Small, frequency_hz: u32, time: Duration) -> Result<f64> {
    let _statistics: OwnedFd = enable_stats(Stats::RunTime).context("turning the statistics of programs on")?;
    let mut ebpf = Ebpf::load(&object(small)?).context("loading the small program")?;
    let program: &mut PerfEvent = ebpf.program_mut(NAME).context("the object has the program")?.try_into()?;
    program.load()?;
    let period = SamplePolicy::Period(1_000_000_000 / u64::from(frequency_hz));
    for cpu in aya::util::online_cpus().map_err(|(what, error)| anyhow::anyhow!("{what}: {error}"))? {
        let every_process = PerfEventScope::AllProcessesOneCpu { cpu };
        program.attach(PerfEventConfig::Software(SoftwareEvent::CpuClock), every_process, period, false)?;
    }
    sleep(time);
    let info = ebpf.program(NAME).map(Program::info).context("the program is loaded")??;
    let least = (f64::from(frequency_hz) * time.as_secs_f64() / 2.0) as u64;
    ensure!(info.run_count() > least, "the small program ran {} times in {time:?}", info.run_count());
    Ok(info.run_time().as_nanos() as f64 / info.run_count() as f64)
}

/// An object as a compiler makes one.
fn object(small: Small) -> Result<Vec<u8>> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let license = object.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    object.append_section_data(license, b"GPL\0", 1);
    let text = object.add_section(Vec::new(), b"perf_event".to_vec(), SectionKind::Text);
    let instructions = small.instructions();
    object.append_section_data(text, &instructions, 8);
    object.add_symbol(symbol(NAME, SymbolKind::Text, text, instructions.len()));
    if small == Small::StackId {
        let maps = object.add_section(Vec::new(), b"maps".to_vec(), SectionKind::Data);
        let definition: Vec<u8> = STACKS.iter().flat_map(|word| word.to_le_bytes()).collect();
        object.append_section_data(maps, &definition, 4);
        let map = object.add_symbol(symbol("STACKS", SymbolKind::Data, maps, definition.len()));
        let flags = RelocationFlags::Elf { r_type: MAP_RELOCATION };
        object.add_relocation(text, Relocation { offset: 0, symbol: map, addend: 0, flags })?;
    }
    object.write().context("writing the object of the small program")
}

fn symbol(name: &str, kind: SymbolKind, section: SectionId, size: usize) -> Symbol {
    Symbol {
        name: name.into(),
        value: 0,
        size: size as u64,
        kind,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    }
}
