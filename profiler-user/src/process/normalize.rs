//! Runtime addresses to frames: a mapping and a file address, valid for as long as the file is.

use super::address_space::{AddressSpace, Range};
use super::kernel_layout::{KernelLayout, LINKED_TEXT};
use super::table::{Describe, Processes};
use crate::model::address::{CodeAddress, FileAddress};
use crate::model::event::ProcessEvent;
use crate::model::mapping::{Mapping, MappingId, MappingKind};
use crate::model::process::{ImageEnd, Pid, ProcessId, ProcessInfo, ProcessKey, Tid};
use crate::model::stack::{Frame, RawAddresses, RawStack, StackId, Tally, UserStack};
use crate::model::text::lossy;
use crate::model::window::{Counts, Dictionary, SampleKey, ThreadInfo};
use foldhash::HashMap;
use profiler_common::ended::Ended;
use std::sync::Arc;

/// Stacks whose normalized form is remembered.
const KNOWN_MAX: usize = 32_768;

/// The hash of a stack that was finished in user space: the kernel side has no name for it.
const UNNAMED: u64 = 0;

/// What makes two ranges the same mapping: for a file what is mapped of it, otherwise where it is as well.
type MappingKey = (MappingKind, u64, u64);

/// The tables that a window's ids refer to, while it is open.
#[derive(Debug, Default)]
pub struct Tables {
    /// What the windows take over.
    pub dictionary: Dictionary,
    mapping_ids: HashMap<MappingKey, MappingId>,
    process_ids: HashMap<ProcessKey, ProcessId>,
    /// The image that each process has now, as far as one was met.
    current: HashMap<Pid, ProcessId>,
    thread_ids: HashMap<ThreadInfo, u32>,
    /// By the kernel side's hash, which covers the process image: the generation of mappings it is valid for, and the result.
    known: HashMap<u64, (u32, StackId, Ended)>,
    frames: Vec<Frame>,
    /// Reasons why stacks are not known, and the address of each.
    reasons: HashMap<&'static str, u64>,
    /// The mappings of the modules and of the kernel itself.
    kernel_ids: [Option<MappingId>; 2],
}

/// Whether threads are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Threads {
    /// Samples of a process are counted together.
    Together,
    /// Each thread is counted alone.
    Apart,
}

/// What a sample needs of its own time.
#[derive(Clone, Debug)]
pub struct Met {
    /// The process image.
    pub process: ProcessId,
    /// The thread, where they are told apart.
    pub thread: Option<u32>,
    /// What was mapped.
    pub space: AddressSpace,
}

/// A sample that can be counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Normalized {
    /// What it is counted under.
    pub key: SampleKey,
    /// Events and weight.
    pub counts: Counts,
    /// How its stack ended.
    pub ended: Ended,
}

impl Tables {
    /// About how much memory the tables hold, bytes.
    pub fn bytes(&self) -> u64 {
        let names = (self.dictionary.processes.len() + self.dictionary.threads.len()) as u64 * 256 + self.mapping_ids.len() as u64 * 320;
        self.dictionary.stacks.bytes() + names + self.known.len() as u64 * 48
    }

    /// Normalizes a sample against the mappings of its own time, which is now in the order of events.
    pub fn normalize(&mut self, tally: &Tally<RawStack>, processes: &mut Processes, context: &mut Context<'_>) -> Normalized {
        let met = self.meet(&tally.of, processes, context);
        self.place(&met, tally, context.kernel)
    }

    /// Notes all that a sample needs of its own time, for a stack that is finished later.
    pub fn meet(&mut self, raw: &RawStack, processes: &mut Processes, context: &mut Context<'_>) -> Met {
        let pid = Pid(raw.process.tgid);
        let thread = match context.threads {
            Threads::Together => None,
            Threads::Apart => Some(self.thread(raw.tid, processes.thread_name(pid, raw.tid))),
        };
        let process = processes.get(pid, context.describe);
        let id = match self.process_ids.get(&raw.process) {
            Some(id) => *id,
            None => {
                let main = process.main.clone();
                let main = main.map(|range| self.mapping(&range, raw.process));
                let info = ProcessInfo { pid, comm: Arc::clone(&process.comm), labels: Arc::clone(&process.labels), main, ended: None };
                let id = ProcessId(self.dictionary.processes.len() as u32);
                self.dictionary.processes.push(info);
                self.process_ids.insert(raw.process, id);
                self.current.insert(pid, id);
                id
            }
        };
        Met { process: id, thread, space: process.space.clone() }
    }

    /// Notes that the image ends which the process has had until now.
    pub fn note_end(&mut self, event: &ProcessEvent) {
        let (pid, how) = match event {
            ProcessEvent::Exec { pid, .. } => (pid, ImageEnd::Exec),
            ProcessEvent::Exit { pid, tid } if pid.0 == tid.0 => (pid, ImageEnd::Exit),
            _ => return,
        };
        if let Some(id) = self.current.remove(pid) {
            self.dictionary.processes[id.0 as usize].ended = Some(how);
        }
    }

    /// Normalizes a sample against what was noted of its time.
    pub fn place(&mut self, met: &Met, tally: &Tally<RawStack>, kernel: KernelLayout) -> Normalized {
        let (stack, ended) = self.stack(&tally.of.addresses, &met.space, tally.of.process, kernel);
        let class = tally.counted_under.map_or(tally.class, |key| key.class());
        let key = SampleKey { process: met.process, thread: met.thread, stack, class };
        Normalized { key, counts: Counts { events: tally.events, weight: tally.weight }, ended }
    }

    /// The same of a stack whose user part is not known, under a reason that stands in its place as a frame.
    pub fn place_unknown(&mut self, met: &Met, tally: &Tally<RawStack>, kernel: KernelLayout, reason: &'static str) -> Normalized {
        let mut frames = Vec::new();
        for (depth, address) in tally.of.addresses.kernel.iter().enumerate() {
            frames.push(self.kernel_frame(code_address(depth, *address).for_lookup(), kernel));
        }
        // An address in the first page, where nothing is ever mapped; one for each reason.
        let next = 0x200 + self.reasons.len() as u64;
        let at = *self.reasons.entry(reason).or_insert(next);
        let mapping =
            self.intern((MappingKind::Lost, at, at), |kind| Mapping { kind, start: at, end: at, file_offset: 0, name: reason.into() });
        frames.push(Frame { mapping, address: FileAddress(at) });
        let stack = self.dictionary.stacks.intern(&frames);
        let key = SampleKey { stack, ..self.place(met, tally, kernel).key };
        Normalized { key, counts: Counts { events: tally.events, weight: tally.weight }, ended: Ended::NoUserStack }
    }

    fn stack(&mut self, raw: &RawAddresses, space: &AddressSpace, process: ProcessKey, kernel: KernelLayout) -> (StackId, Ended) {
        if let Some((generation, stack, ended)) = self.known.get(&raw.hash)
            && *generation == space.generation
        {
            return (*stack, *ended);
        }
        let mut frames = std::mem::take(&mut self.frames);
        frames.clear();
        for (depth, address) in raw.kernel.iter().enumerate() {
            frames.push(self.kernel_frame(code_address(depth, *address).for_lookup(), kernel));
        }
        let mut how = Ended::NoUserStack;
        if let UserStack::Walked { addresses, ended } = &raw.user {
            how = *ended;
            let mut is_made_code = false;
            for (depth, address) in addresses.iter().enumerate() {
                // No frame of the program: the one behind it is where the call returns to.
                if depth > 0 && space.is_return_probe(*address) {
                    continue;
                }
                let address = code_address(depth, *address).for_lookup();
                match space.find(address) {
                    Some(range) => {
                        is_made_code = matches!(range.kind, MappingKind::Anonymous(_));
                        frames.push(self.user_frame(range, address, process));
                    }
                    None => {
                        // What lies in no executable mapping is no code, and what a walk found beyond it no frame. A leaf is kept: it was executed.
                        how = Ended::NoMapping;
                        if depth == 0 {
                            frames.push(self.unmapped_frame(address, process));
                        }
                        break;
                    }
                }
            }
            if is_made_code && how == Ended::Root {
                // No thread begins in code that was made at run time: it uses rbp for something else, which was 0 here.
                how = Ended::BadFramePointer;
            }
        }
        let stack = self.dictionary.stacks.intern(&frames);
        self.frames = frames;
        if raw.hash != UNNAMED {
            if self.known.len() >= KNOWN_MAX {
                self.known.clear();
            }
            self.known.insert(raw.hash, (space.generation, stack, how));
        }
        (stack, how)
    }

    fn kernel_frame(&mut self, address: u64, kernel: KernelLayout) -> Frame {
        let image = KernelLayout::is_image(address);
        let (kind, start, end, name) = if image {
            (MappingKind::Kernel, LINKED_TEXT, 0xffff_ffff_c000_0000, "[kernel.kallsyms]_text")
        } else {
            (MappingKind::KernelModule, 0xffff_ffff_c000_0000, u64::MAX, "[kernel modules]")
        };
        let mapping = match self.kernel_ids[usize::from(image)] {
            Some(id) => id,
            None => self.intern((kind, 0, 0), |kind| Mapping { kind, start, end, file_offset: 0, name: name.into() }),
        };
        self.kernel_ids[usize::from(image)] = Some(mapping);
        Frame { mapping, address: FileAddress(kernel.unslid(address)) }
    }

    fn user_frame(&mut self, range: &Arc<Range>, address: u64, process: ProcessKey) -> Frame {
        let mapping = match range.id() {
            Some(id) => id,
            None => self.mapping(range, process),
        };
        let offset = address - range.mapped.start;
        let address = match range.kind {
            MappingKind::Object(_) | MappingKind::Unopened(_) => range.mapped.file_offset.wrapping_add(offset),
            MappingKind::Vdso => offset,
            _ => address,
        };
        Frame { mapping, address: FileAddress(address) }
    }

    fn unmapped_frame(&mut self, address: u64, process: ProcessKey) -> Frame {
        let page = address & !0xfff;
        let key = (MappingKind::Anonymous(process), page, page + 0x1000);
        let mapping =
            self.intern(key, |kind| Mapping { kind, start: page, end: page.saturating_add(0x1000), file_offset: 0, name: "//anon".into() });
        Frame { mapping, address: FileAddress(address) }
    }

    /// The mapping of a range. Ranges of memory without a file belong to one process, and so does their id; those of files are shared.
    fn mapping(&mut self, range: &Range, process: ProcessKey) -> MappingId {
        let mapped = &range.mapped;
        let length = mapped.end - mapped.start;
        let (key, shared) = match &range.kind {
            MappingKind::Anonymous(_) => ((MappingKind::Anonymous(process), mapped.start, mapped.end), false),
            kind => ((kind.clone(), mapped.file_offset, length), true),
        };
        let name: Arc<str> = if mapped.path.is_empty() { "//anon".into() } else { lossy(&mapped.path).as_ref().into() };
        let id = self.intern(key, |kind| Mapping { kind, start: mapped.start, end: mapped.end, file_offset: mapped.file_offset, name });
        if shared {
            range.set_id(id);
        }
        id
    }

    fn intern(&mut self, key: MappingKey, make: impl FnOnce(MappingKind) -> Mapping) -> MappingId {
        if let Some(id) = self.mapping_ids.get(&key) {
            return *id;
        }
        let id = self.dictionary.mappings.push(make(key.0.clone()));
        self.mapping_ids.insert(key, id);
        id
    }

    fn thread(&mut self, tid: Tid, name: Arc<str>) -> u32 {
        let info = ThreadInfo { tid, name };
        if let Some(id) = self.thread_ids.get(&info) {
            return *id;
        }
        let id = self.dictionary.threads.len() as u32;
        self.dictionary.threads.push(info.clone());
        self.thread_ids.insert(info, id);
        id
    }
}

/// What normalizing needs beside the tables and the processes.
pub struct Context<'a> {
    /// Where the kernel is.
    pub kernel: KernelLayout,
    /// Whether threads are told apart.
    pub threads: Threads,
    /// Asks for what this room may not know.
    pub describe: &'a mut dyn Describe,
}

/// The leaf was executed; what is above it is where a call returns to.
fn code_address(depth: usize, address: u64) -> CodeAddress {
    if depth == 0 { CodeAddress::InstructionPointer(address) } else { CodeAddress::ReturnAddress(address) }
}
