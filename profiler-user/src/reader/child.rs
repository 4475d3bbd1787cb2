//! The reader itself: the only caller of `parse`. One request after the other; whatever goes wrong with a file ends the process, and that is enough.

use super::names::{ALT_FOLDER, ALT_NAMES, Arguments, DEBUG, OBJECT};
use super::sandbox;
use super::wire::{Answer, Presence, REQUEST_MAX_BYTES, Request, lines_allowed};
use crate::model::allocator::GivenFunction;
use crate::model::answer::Detail;
use crate::model::answer::{GoPlace, LINES_MAX, LINES_MEAN, LoadSegment, SymbolLine, bounded};
use crate::model::mapping::ObjectId;
use crate::model::probe_points::WantedPoints;
use crate::model::profile::Unresolved;
use crate::parse::allocator;
use crate::parse::decl_line::{Declarations, Declared};
use crate::parse::demangle::names;
use crate::parse::eh_frame;
use crate::parse::elf;
use crate::parse::go_heap::{self, Symbols};
use crate::parse::go_table;
use crate::parse::go_waits;
use crate::parse::goroutines;
use crate::parse::linkage::Linkage;
use crate::parse::native::{NativeSymbols, Paths, RawLine};
use crate::parse::pclntab::{GoLine, GoTable};
use crate::parse::perf_map::{self, PERF_MAP_MAX_BYTES};
use crate::parse::probe_points::probe_points;
use crate::sys::file_map::FileMap;
use crate::sys::file_pages;
use crate::sys::handover::{receive_all, send_all, send_descriptors};
use crate::sys::seccomp::alarm;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::exit;
use std::time::{Duration, Instant};

/// What a reader keeps of its files in memory.
pub(super) const FILE_BYTES_MAX: u64 = 8 << 20;

/// Addresses that are looked up before it is seen to what of the file is in memory: each may bring in 64 KiB, in less than a microsecond.
const LOOK_UPS_MAX: usize = 128;

/// How many objects are kept, with what was read of them, for the next request.
const OBJECTS_KEPT: usize = 4;

/// Ends in nothing else than the end of the process.
pub(super) fn run(arguments: &Arguments) -> ! {
    // What a panic would print may be the file's words; and nobody reads it.
    std::panic::set_hook(Box::new(|_| {}));
    let served = enter(arguments).and_then(|mut state| state.serve(arguments));
    exit(i32::from(served.is_err()));
}

/// Says hello on both sockets and enters the sandbox. Descriptor 0 is for requests, 1 for the keeper.
fn enter(arguments: &Arguments) -> io::Result<State> {
    let memory = File::options().read(true).write(true).open("/proc/self/mem")?;
    let usage = Usage { file: File::open("/proc/self/statm")?, page_bytes: rustix::param::page_size() as u64 };
    let process = rustix::process::getpid();
    let this = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())?;
    // Only `ps` sees it.
    let _ = rustix::thread::set_name(c"profiler-reader");
    file_pages::bound(FILE_BYTES_MAX)?;
    let listener = sandbox::enter(arguments)?;
    send_descriptors(io::stdout().as_fd(), 0, &[listener.as_fd(), memory.as_fd()])?;
    send_descriptors(io::stdin().as_fd(), process.as_raw_nonzero().get() as u32, &[this.as_fd()])?;
    drop((listener, memory));
    Ok(State { objects: Vec::new(), usage, data_limit_bytes: arguments.data_limit_bytes })
}

/// What a reader keeps between requests.
struct State {
    objects: Vec<(ObjectKey, ObjectSymbols)>,
    usage: Usage,
    data_limit_bytes: u64,
}

#[derive(Clone, PartialEq, Eq)]
struct ObjectKey {
    object: ObjectId,
    detail: Detail,
    debug: Presence,
    alt: Presence,
}

/// What was read of an object, and the files that more is read of.
struct ObjectSymbols {
    segments: Vec<LoadSegment>,
    go: Option<GoTable>,
    native: NativeSymbols,
    /// Found when an address has no other name.
    linkage: Option<Linkage>,
    declarations: Declarations,
    detail: Detail,
    object: FileMap,
    debug: Option<FileMap>,
    alt: Option<FileMap>,
}

impl State {
    fn serve(&mut self, arguments: &Arguments) -> io::Result<()> {
        let stdin = io::stdin();
        let socket = stdin.as_fd();
        loop {
            let Some(request) = receive(socket)? else { return Ok(()) };
            alarm(arguments.alarm_seconds);
            let answer = self.answer(request).encode();
            alarm(0);
            let length = u32::try_from(answer.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            let deadline = Instant::now() + Duration::from_secs(u64::from(arguments.alarm_seconds));
            send_all(socket, &length.to_le_bytes(), deadline)?;
            send_all(socket, &answer, deadline)?;
        }
    }

    fn answer(&mut self, request: Request) -> Answer {
        let answer = match request {
            Request::Identify => identify(),
            Request::Symbolize { object, detail, debug, alt, offsets } => {
                self.symbolize(ObjectKey { object, detail, debug, alt }, &offsets).map(Answer::Lines)
            }
            Request::PerfMap { addresses } => perf_map(&addresses),
            Request::Unwind => unwind_table(),
            Request::Allocator(given) => allocator(&given),
            Request::GoHeap => go_heap(),
            Request::Goroutines => goroutines(),
            Request::GoWaits => go_waits(),
            Request::Points(wanted) => points(&wanted),
        };
        answer.unwrap_or_else(Answer::Refused)
    }

    fn symbolize(&mut self, key: ObjectKey, offsets: &[u64]) -> Result<Vec<Result<Vec<SymbolLine>, Unresolved>>, String> {
        let object = self.object(key)?;
        let addresses: Vec<Option<u64>> = offsets.iter().map(|offset| elf::virtual_address(&object.segments, *offset)).collect();
        object.look_up(&addresses)
    }

    /// The object, read now or before; the last one used is the last one forgotten.
    fn object(&mut self, key: ObjectKey) -> Result<&mut ObjectSymbols, String> {
        match self.objects.iter().position(|(held, _)| *held == key) {
            Some(at) => {
                let held = self.objects.remove(at);
                self.objects.push(held);
            }
            None => {
                if self.usage.data_bytes() > self.data_limit_bytes / 2 {
                    self.objects.clear();
                }
                if self.objects.len() >= OBJECTS_KEPT {
                    self.objects.remove(0);
                }
                let object = ObjectSymbols::open(&key)?;
                self.objects.push((key, object));
            }
        }
        self.objects.last_mut().map(|(_, object)| object).ok_or_else(|| "no object".to_owned())
    }
}

/// How much memory this process has, asked while nothing can be opened any more.
struct Usage {
    file: File,
    page_bytes: u64,
}

impl Usage {
    /// What counts against `RLIMIT_DATA`: the sixth number of `statm`, in pages.
    fn data_bytes(&self) -> u64 {
        let mut text = [0; 128];
        let read = rustix::io::pread(&self.file, &mut text, 0).unwrap_or(0);
        let pages = std::str::from_utf8(&text[..read]).ok().and_then(|text| text.split(' ').nth(5)?.parse::<u64>().ok());
        pages.unwrap_or(0).saturating_mul(self.page_bytes)
    }
}

impl ObjectSymbols {
    fn open(key: &ObjectKey) -> Result<Self, String> {
        let object = map(OBJECT)?;
        let facts = elf::facts(object.bytes()).map_err(|error| error.to_string())?;
        let given = |presence, name: &str| (presence == Presence::Given).then(|| PathBuf::from(name));
        let paths = Paths { object: OBJECT.into(), debug: given(key.debug, DEBUG), alt_folder: given(key.alt, ALT_FOLDER) };
        let map_given = |presence, name: &str| (presence == Presence::Given && key.detail == Detail::Full).then(|| map(name)).transpose();
        Ok(Self {
            segments: facts.segments,
            go: (facts.is_go && key.detail == Detail::Full).then(|| go_table::find(object.bytes())).flatten(),
            native: NativeSymbols::new(paths, key.detail, elf::code_sections(object.bytes())),
            linkage: None,
            declarations: Declarations::default(),
            detail: key.detail,
            debug: map_given(key.debug, DEBUG)?,
            alt: map_given(key.alt, &format!("{ALT_NAMES}alt"))?,
            object,
        })
    }

    /// What Go's table does not know is native code.
    fn look_up(&mut self, addresses: &[Option<u64>]) -> Result<Vec<Result<Vec<SymbolLine>, Unresolved>>, String> {
        let mut found: Vec<Vec<SymbolLine>> =
            addresses.iter().map(|address| address.map_or_else(Vec::new, |address| self.go_lines(address))).collect();
        let native: Vec<usize> = (0..found.len()).filter(|at| found[*at].is_empty() && addresses[*at].is_some()).collect();
        let asked: Vec<u64> = native.iter().filter_map(|at| addresses[*at]).collect();
        if !asked.is_empty() {
            for (places, asked) in native.chunks(LOOK_UPS_MAX).zip(asked.chunks(LOOK_UPS_MAX)) {
                let raw = self.native.look_up(asked).map_err(|error| error.to_string())?;
                for ((at, raw), declared) in places.iter().zip(raw).zip(self.declared(asked)) {
                    found[*at] = lines(raw, &declared);
                    if let Some(address) = addresses[*at].filter(|_| found[*at].is_empty()) {
                        found[*at].extend(self.linkage_line(address));
                    }
                }
                file_pages::look();
            }
        }
        if found.iter().map(Vec::len).sum::<usize>() > lines_allowed(found.len()) {
            found.iter_mut().for_each(|lines| keep(lines, LINES_MEAN));
        }
        Ok(found.into_iter().map(|lines| if lines.is_empty() { Err(Unresolved::NoSymbol) } else { Ok(lines) }).collect())
    }

    /// An entry of the procedure linkage table.
    fn linkage_line(&mut self, address: u64) -> Option<SymbolLine> {
        let linkage = self.linkage.get_or_insert_with(|| Linkage::find(self.object.bytes()));
        let (name, system_name) = names(&linkage.name(self.object.bytes(), address)?);
        let (name, system_name) = (format!("{name}@plt").into(), format!("{system_name}@plt").into());
        Some(SymbolLine { name, system_name, filename: String::new().into(), ..SymbolLine::default() })
    }

    fn go_lines(&self, address: u64) -> Vec<SymbolLine> {
        let lines = self.go.as_ref().map(|go| go.look_up(self.object.bytes(), address)).unwrap_or_default();
        let line = |line: GoLine| {
            let (name, system_name) = names(&line.name);
            let (name, system_name, filename) = (name.into(), system_name.into(), line.filename.into());
            let go = Some(GoPlace { offset: line.offset, is_wrapper: line.is_wrapper, is_inlined: line.is_inlined });
            SymbolLine { name, system_name, filename, line: line.line, column: 0, start_line: line.start_line, go }
        };
        lines.into_iter().map(line).collect()
    }

    fn declared(&mut self, addresses: &[u64]) -> Vec<Vec<Declared>> {
        match self.detail {
            Detail::Full => {
                let debug = self.debug.as_ref().unwrap_or(&self.object);
                self.declarations.look_up(debug.bytes(), self.alt.as_ref().map(FileMap::bytes), addresses)
            }
            Detail::SymbolsOnly => vec![Vec::new(); addresses.len()],
        }
    }
}

fn identify() -> Result<Answer, String> {
    let map = map(OBJECT)?;
    elf::facts(map.bytes()).map(Answer::Facts).map_err(|error| error.to_string())
}

fn unwind_table() -> Result<Answer, String> {
    let map = map(OBJECT)?;
    eh_frame::unwind_table(map.bytes()).map(Answer::Unwind).map_err(|error| error.to_string())
}

fn allocator(given: &[GivenFunction]) -> Result<Answer, String> {
    let map = map(OBJECT)?;
    allocator::allocator(map.bytes(), given).map(Answer::Allocator).map_err(|error| error.to_string())
}

fn points(wanted: &WantedPoints) -> Result<Answer, String> {
    let map = map(OBJECT)?;
    probe_points(map.bytes(), wanted).map(Answer::Points).map_err(|error| error.to_string())
}

fn go_heap() -> Result<Answer, String> {
    let map = map(OBJECT)?;
    Ok(Answer::GoHeap(go_heap::places(map.bytes(), Symbols::Used)))
}

fn goroutines() -> Result<Answer, String> {
    let map = map(OBJECT)?;
    Ok(Answer::Goroutines(goroutines::places(map.bytes(), Symbols::Used)))
}

fn go_waits() -> Result<Answer, String> {
    let map = map(OBJECT)?;
    Ok(Answer::GoWaits(go_waits::places(map.bytes(), Symbols::Used)))
}

/// Read and not mapped: its owner writes to it while we read, and may well make it shorter.
fn perf_map(addresses: &[u64]) -> Result<Answer, String> {
    let read = || {
        let file = File::open(OBJECT)?;
        let length = file.metadata()?.len();
        let mut bytes = vec![0; length.min(PERF_MAP_MAX_BYTES) as usize];
        let mut filled = 0;
        let from = length - bytes.len() as u64;
        while filled < bytes.len() {
            match rustix::io::pread(&file, &mut bytes[filled..], from + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        io::Result::Ok(bytes)
    };
    let bytes = read().map_err(|error| format!("the perf map cannot be read: {error}"))?;
    Ok(Answer::Names(perf_map::names(&bytes, addresses)))
}

fn map(name: &str) -> Result<FileMap, String> {
    let mapped = File::open(name).and_then(|file| FileMap::new(file.as_fd(), file.metadata()?.len()));
    mapped.map_err(|error| format!("the file cannot be mapped: {error}"))
}

/// The lines of one address, ready to be sent; too deep an inlining loses its middle. `declared` is outermost first.
fn lines(raw: Vec<RawLine>, declared: &[Declared]) -> Vec<SymbolLine> {
    let unknown = Declared::default();
    let depth = raw.len();
    let mut lines: Vec<SymbolLine> = raw
        .into_iter()
        .enumerate()
        .map(|(at, raw)| symbol_line(raw, declared.get(depth - 1 - at).unwrap_or(&unknown)))
        .filter(|line| !line.name.is_empty())
        .collect();
    keep(&mut lines, LINES_MAX);
    lines
}

/// Keeps the innermost lines, and the function itself.
fn keep(lines: &mut Vec<SymbolLine>, most: usize) {
    if lines.len() > most {
        lines.drain(most - 1..lines.len() - 1);
    }
}

fn symbol_line(raw: RawLine, declared: &Declared) -> SymbolLine {
    let known_name = if raw.name.is_empty() { declared.shared_name.as_deref().unwrap_or_default() } else { &raw.name };
    let (name, system_name) = names(known_name);
    SymbolLine {
        name: name.into(),
        system_name: system_name.into(),
        filename: bounded(&raw.filename).into(),
        line: raw.line,
        column: raw.column,
        start_line: declared.start_line,
        go: None,
    }
}

/// The next request; none when the profiler has closed its end.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Request>> {
    let for_ever = Instant::now() + Duration::from_secs(u64::from(u32::MAX));
    let mut length = [0; 4];
    match receive_all(socket, &mut length, for_ever) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > REQUEST_MAX_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    receive_all(socket, &mut bytes, for_ever)?;
    Request::decode(&bytes).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
