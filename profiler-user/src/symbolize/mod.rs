//! Symbolize: a window to a profile. Each distinct frame is named once; what cannot be named says why.

mod build;
pub mod kernel;
mod native;
mod sources;
pub mod split;

use crate::model::answer::SymbolLine;
use crate::model::mapping::{MappingId, MappingKind};
use crate::model::process::ProcessKey;
use crate::model::profile::{Profile, Unresolved};
use crate::model::window::Window;
use kernel::KernelSymbols;
use native::{Job, Source};
pub use sources::Sources;
use sources::{Found, Names};
use std::collections::HashMap;
use std::path::PathBuf;

/// Names everything in a window that can be named.
pub fn symbolize(window: &Window, sources: &mut Sources<'_>) -> Profile {
    let mut found = Found { names: vec![None; window.stacks.distinct_frames().len()], build_ids: HashMap::new() };
    name_kernel(window, &mut found);
    let jobs = jobs(window, sources);
    native::run(jobs, sources, &mut found);
    build::profile(window, found)
}

fn name_kernel(window: &Window, found: &mut Found) {
    let mut symbols = None;
    for (index, frame) in window.stacks.distinct_frames().iter().enumerate() {
        let mapping = window.mappings.get(frame.mapping);
        found.names[index] = match mapping.kind {
            MappingKind::Kernel | MappingKind::KernelModule => {
                let symbols = symbols.get_or_insert_with(KernelSymbols::load);
                Some(kernel_names(symbols.as_ref().ok(), frame.address.0))
            }
            MappingKind::Unopened(_) => Some(Err(Unresolved::FileGone)),
            MappingKind::Lost => Some(Err(Unresolved::NoSymbol)),
            MappingKind::Object(_) | MappingKind::Anonymous(_) | MappingKind::Vdso => None,
        };
    }
    if let Some(Ok(symbols)) = symbols {
        let kernel = window.mappings.iter().filter(|(_, mapping)| mapping.kind == MappingKind::Kernel);
        found.build_ids.extend(kernel.map(|(id, _)| (id, symbols.build_id())));
    }
}

fn kernel_names(symbols: Option<&KernelSymbols>, address: u64) -> Names {
    let (name, _start) = symbols.ok_or(Unresolved::KernelHidden)?.lookup(address).ok_or(Unresolved::NoSymbol)?;
    Ok(vec![SymbolLine { name: name.into(), system_name: name.into(), ..SymbolLine::default() }])
}

/// The frames to be named by readers, file by file.
fn jobs<'a>(window: &Window, sources: &Sources<'a>) -> Vec<Job<'a>> {
    #[derive(PartialEq, Eq, Hash, Clone)]
    enum Of {
        Object(crate::model::mapping::ObjectId),
        Process(ProcessKey),
        Vdso,
    }
    let mut frames: HashMap<Of, Vec<u32>> = HashMap::new();
    let mut mappings: HashMap<Of, Vec<MappingId>> = HashMap::new();
    let of = |kind: &MappingKind| match kind {
        MappingKind::Object(id) => Some(Of::Object(*id)),
        MappingKind::Anonymous(process) => Some(Of::Process(*process)),
        MappingKind::Vdso => Some(Of::Vdso),
        _ => None,
    };
    for (index, frame) in window.stacks.distinct_frames().iter().enumerate() {
        if let Some(of) = of(&window.mappings.get(frame.mapping).kind) {
            frames.entry(of).or_default().push(index as u32);
        }
    }
    for (id, mapping) in window.mappings.iter() {
        if let Some(of) = of(&mapping.kind).filter(|of| frames.contains_key(of)) {
            mappings.entry(of).or_default().push(id);
        }
    }
    let distinct = window.stacks.distinct_frames();
    let job = |(of, frames): (Of, Vec<u32>)| {
        let mappings = mappings.remove(&of).unwrap_or_default();
        let path = mappings.first().map(|id| PathBuf::from(window.mappings.get(*id).name.as_ref())).unwrap_or_default();
        let source = match of {
            Of::Object(id) => Source::File { id, file: sources.objects.file(id) },
            Of::Process(process) => Source::PerfMap(sources.objects.perf_map(process)),
            Of::Vdso => Source::Vdso,
        };
        let addresses = frames.iter().map(|index| distinct[*index as usize].address).collect();
        Job { source, path, frames, addresses, mappings }
    };
    let mut jobs: Vec<Job<'a>> = frames.into_iter().map(job).collect();
    // The longest first, so that no reader is left with it alone at the end.
    jobs.sort_by_key(|job| std::cmp::Reverse(job.frames.len()));
    jobs
}
