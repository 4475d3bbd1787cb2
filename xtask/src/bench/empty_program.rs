//! The floor of what a sample costs: a program of two instructions, run at each tick of the same clock, timed by the same statistics of the kernel.

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::programs::perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent};
use aya::programs::{PerfEvent, Program};
use aya::sys::{Stats, enable_stats};
use object::write::{Object, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Duration;

/// `r0 = 0; exit` (Documentation/bpf/standardization/instruction-set.rst of the kernel).
const RETURN_ZERO: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
const NAME: &str = "empty";

/// Nanoseconds that a run of the empty program takes, at so many ticks a second of every CPU, over so much time.
///
/// # Errors
/// It cannot be loaded, or hardly ran.
pub(super) fn cost(frequency_hz: u32, time: Duration) -> Result<f64> {
    let _statistics: OwnedFd = enable_stats(Stats::RunTime).context("turning the statistics of programs on")?;
    let mut ebpf = Ebpf::load(&object()?).context("loading the empty program")?;
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
    ensure!(info.run_count() > least, "the empty program ran {} times in {time:?}", info.run_count());
    Ok(info.run_time().as_nanos() as f64 / info.run_count() as f64)
}

/// An object as a compiler makes one of the two instructions.
fn object() -> Result<Vec<u8>> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let license = object.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    object.append_section_data(license, b"GPL\0", 1);
    let text = object.add_section(Vec::new(), b"perf_event".to_vec(), SectionKind::Text);
    object.append_section_data(text, &RETURN_ZERO, 8);
    object.add_symbol(Symbol {
        name: NAME.into(),
        value: 0,
        size: RETURN_ZERO.len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(text),
        flags: SymbolFlags::None,
    });
    object.write().context("writing the object of the empty program")
}
