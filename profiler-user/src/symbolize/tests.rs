//! From windows to profiles, with a reader that answers by rule and files of our own.

use super::native::{LinesOrWhy, NativeReader};
use super::split::split;
use super::{READER_BYTES_WANTED, Sources, shares, symbolize};
use crate::model::address::FileAddress;
use crate::model::kind::Kind;
use crate::model::label::{Label, LabelValue};
use crate::model::loss::{Balance, Endings, Losses};
use crate::model::mapping::{InodeId, MappedRange, Mapping, MappingId, MappingKind, ObjectId};
use crate::model::process::{Pid, ProcessId, ProcessInfo, ProcessKey, Tid};
use crate::model::profile::{Location, Profile, Unresolved};
use crate::model::stack::Frame;
use crate::model::window::{Counts, Dictionary, SampleKey, ThreadInfo, Window};
use crate::object::ObjectStore;
use crate::process::LINKED_TEXT;
use crate::reader::{DATA_BYTES_MIN, ObjectFacts, REST_BYTES_MAX, ReaderError, SymbolLine, SymbolizeRequest};
use foldhash::{HashMap, HashMapExt as _};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// Names an offset by itself, an inlined function in front at odd ones; notes what it was asked; fails where it is told to.
#[derive(Clone, Default)]
struct Fake {
    asked: Arc<Mutex<Vec<(ObjectId, usize)>>>,
    bad: Option<ObjectId>,
}

fn line(name: String) -> SymbolLine {
    SymbolLine {
        system_name: format!("_Z{name}").into(),
        name: name.into(),
        filename: "/src/a.c".into(),
        line: 7,
        column: 2,
        start_line: 5,
        go: None,
    }
}

impl NativeReader for Fake {
    fn identify(&mut self, object: ObjectId, _: BorrowedFd<'_>) -> Result<ObjectFacts, ReaderError> {
        if self.bad == Some(object) {
            Err(ReaderError::Died)
        } else {
            Ok(ObjectFacts { build_id: Some(vec![0xab, 0x01]), ..ObjectFacts::default() })
        }
    }

    fn symbolize(&mut self, request: SymbolizeRequest<'_>) -> Result<Vec<LinesOrWhy>, ReaderError> {
        self.asked.lock().expect("unpoisoned").push((request.object, request.offsets.len()));
        let answer = |offset: &FileAddress| match offset.0 {
            0x1fff => Err(Unresolved::NoSymbol),
            odd if odd % 2 == 1 => Ok(vec![line("inlined".into()), line(format!("f{odd:x}"))]),
            even => Ok(vec![line(format!("f{even:x}"))]),
        };
        Ok(request.offsets.iter().map(answer).collect())
    }

    fn perf_map(&mut self, _: ObjectId, _: BorrowedFd<'_>, addresses: &[u64]) -> Result<Vec<Option<String>>, ReaderError> {
        Ok(addresses.iter().map(|address| (address % 2 == 0).then(|| format!("<jit> {address:x}"))).collect())
    }
}

/// A window that is put together by hand.
struct Bench {
    window: Window,
}

const PERIOD: u64 = 10_000_000;

impl Bench {
    fn new(kind: Kind) -> Self {
        let window = Window {
            blocks: HashMap::default(),
            notes: Vec::new(),
            kind,
            start: SystemTime::UNIX_EPOCH,
            duration: Duration::from_secs(1),
            period: PERIOD,
            tallies: HashMap::new(),
            dictionary: Arc::default(),
            losses: Losses::default(),
            endings: Endings::default(),
            balance: Balance::default(),
        };
        Self { window }
    }

    fn dictionary(&mut self) -> &mut Dictionary {
        Arc::get_mut(&mut self.window.dictionary).expect("nobody else has it")
    }

    fn map(&mut self, kind: MappingKind, start: u64, end: u64, file_offset: u64, name: &str) -> MappingId {
        self.dictionary().mappings.push(Mapping { kind, start, end, file_offset, name: name.into() })
    }

    fn process(&mut self, pid: u32, main: Option<MappingId>) -> ProcessId {
        let labels: Arc<[Label]> = vec![Label::text("container", "abc"), Label::text("unit", ""), Label::text("comm", "liar")].into();
        self.dictionary().processes.push(ProcessInfo { pid: Pid(pid), comm: format!("comm{pid}").into(), labels, main, ended: None });
        ProcessId(self.dictionary().processes.len() as u32 - 1)
    }

    fn sample(&mut self, process: ProcessId, frames: &[(MappingId, u64)]) {
        let frames: Vec<Frame> =
            frames.iter().map(|(mapping, address)| Frame { mapping: *mapping, address: FileAddress(*address) }).collect();
        let key = SampleKey { process, thread: None, stack: self.dictionary().stacks.intern(&frames), class: 0 };
        let counts = self.window.tallies.entry(key).or_default();
        *counts = Counts { events: counts.events + 2, weight: counts.weight + 3 };
    }

    fn symbolize(&self, store: &ObjectStore, fake: &Fake) -> Profile {
        let readers = vec![Box::new(fake.clone()) as Box<dyn NativeReader>, Box::new(fake.clone())];
        let profile = symbolize(std::slice::from_ref(&self.window), &mut Sources::with_readers(store, &[], readers)).remove(0);
        assert_eq!(profile.check(), Ok(()));
        profile
    }
}

fn names(profile: &Profile, location: &Location) -> Vec<String> {
    let lines = location.lines.as_ref().expect("it has names");
    lines.iter().map(|line| profile.functions[line.function].name.to_string()).collect()
}

/// Our own program, opened as a mapping's file.
fn own_program(store: &mut ObjectStore) -> MappingKind {
    let path = std::env::current_exe().expect("our path");
    let stat = rustix::fs::stat(&path).expect("our program");
    let file = InodeId { major: rustix::fs::major(stat.st_dev), minor: rustix::fs::minor(stat.st_dev), inode: stat.st_ino };
    let path = path.into_os_string().into_encoded_bytes();
    let range = MappedRange { start: 0x1000, end: 0x2000, file_offset: 0, file, generation: None, path };
    let kind = store.resolve(Pid(std::process::id()), &range);
    assert!(matches!(kind, MappingKind::Object(_)), "our own program can be opened");
    kind
}

#[test]
fn each_address_of_a_file_is_asked_once_and_named_everywhere() {
    let (mut store, fake, mut bench) = (ObjectStore::new(), Fake::default(), Bench::new(Kind::Cpu));
    let kind = own_program(&mut store);
    let first = bench.map(kind.clone(), 0x55_0000_0000, 0x55_0000_4000, 0x1000, "/bin/x (deleted)");
    let again = bench.map(kind, 0x56_0000_0000, 0x56_0000_4000, 0x1000, "/bin/x");
    let (one, two) = (bench.process(10, Some(first)), bench.process(20, Some(again)));
    bench.sample(one, &[(first, 0x1233), (first, 0x2000)]);
    bench.sample(two, &[(again, 0x1233), (again, 0x1fff)]);
    let profile = bench.symbolize(&store, &fake);
    assert_eq!(fake.asked.lock().expect("unpoisoned").iter().map(|(_, count)| *count).collect::<Vec<_>>(), [3]);
    assert_eq!(profile.mappings.len(), 1);
    assert_eq!((profile.mappings[0].filename.as_ref(), profile.mappings[0].build_id.as_ref()), ("/bin/x", "ab01"));
    assert_eq!(profile.locations.len(), 3);
    assert_eq!(profile.locations[0].address, 0x55_0000_0233);
    assert_eq!(names(&profile, &profile.locations[0]), ["inlined", "f1233"]);
    assert_eq!(profile.locations[2].lines, Err(Unresolved::NoSymbol));
    assert_eq!(profile.samples[0].locations[0], profile.samples[1].locations[0]);
    assert_eq!(profile.samples[0].values, [2, 3 * PERIOD as i64]);
    assert_eq!(profile, bench.symbolize(&store, &fake));
}

#[test]
fn many_addresses_are_asked_for_in_chunks() {
    let (mut store, fake, mut bench) = (ObjectStore::new(), Fake::default(), Bench::new(Kind::CpuCycles));
    let kind = own_program(&mut store);
    let mapping = bench.map(kind, 0, 0x10_0000, 0, "/bin/x");
    let process = bench.process(10, None);
    for at in 0..5_000 {
        bench.sample(process, &[(mapping, 0x2_0000 + 2 * at)]);
    }
    let profile = bench.symbolize(&store, &fake);
    assert_eq!(fake.asked.lock().expect("unpoisoned").iter().map(|(_, count)| *count).collect::<Vec<_>>(), [4096, 904]);
    assert_eq!(profile.total(0), 10_000);
    assert_eq!(profile.total(1), 15_000, "cycles are not multiplied by a period");
    assert_eq!(names(&profile, &profile.locations[4_999]), [format!("f{:x}", 0x2_0000 + 2 * 4_999)]);
}

#[test]
fn a_file_that_breaks_its_reader_stays_without_names_alone() {
    let (mut store, mut bench) = (ObjectStore::new(), Bench::new(Kind::Cpu));
    let MappingKind::Object(id) = own_program(&mut store) else { panic!("an object") };
    let gone = ObjectId { inode: id.inode + 1, ..id };
    let bad = bench.map(MappingKind::Object(id), 0x1000, 0x3000, 0, "/bin/bad");
    let evicted = bench.map(MappingKind::Object(gone), 0x1000, 0x3000, 0, "/bin/gone");
    let unopened = bench.map(MappingKind::Unopened(InodeId { major: 0, minor: 1, inode: 9 }), 0x1000, 0x3000, 0, "/bin/unopened");
    let vdso = bench.map(MappingKind::Vdso, 0x7000, 0x9000, 0, "[vdso]");
    let process = bench.process(10, Some(bad));
    bench.sample(process, &[(bad, 0x10), (evicted, 0x10), (unopened, 0x10), (vdso, 0x10)]);
    let profile = bench.symbolize(&store, &Fake { bad: Some(id), ..Fake::default() });
    let whys: Vec<_> = profile.locations.iter().map(|location| location.lines.clone().err()).collect();
    assert_eq!(whys, [Some(Unresolved::FileBad), Some(Unresolved::FileGone), Some(Unresolved::FileGone), None]);
    assert_eq!(names(&profile, &profile.locations[3]), ["f10"]);
    let starts: Vec<_> = profile.mappings.iter().map(|mapping| mapping.start).collect();
    assert_eq!(starts.iter().collect::<std::collections::HashSet<_>>().len(), 4);
}

#[test]
fn jit_code_is_named_by_the_map_of_its_own_process() {
    let (mut store, mut bench, pid) = (ObjectStore::new(), Bench::new(Kind::Cpu), std::process::id());
    let path = format!("/tmp/perf-{pid}.map");
    std::fs::write(&path, "1000 1000 f\n").expect("a perf map");
    let mine = ProcessKey { start_boot_ns: 0, tgid: pid, exec_generation: 0 };
    store.keep_perf_map(mine);
    std::fs::remove_file(&path).expect("removed");
    let other = ProcessKey { exec_generation: 1, ..mine };
    let jit = bench.map(MappingKind::Anonymous(mine), 0x1000, 0x3000, 0, "//anon");
    let foreign = bench.map(MappingKind::Anonymous(other), 0x1000, 0x3000, 0, "//anon");
    let process = bench.process(pid, None);
    bench.sample(process, &[(jit, 0x1010), (foreign, 0x1010), (jit, 0x1011)]);
    let profile = bench.symbolize(&store, &Fake::default());
    assert_eq!(names(&profile, &profile.locations[0]), ["<jit> 1010"]);
    assert_ne!(profile.functions[0].name, profile.functions[0].system_name, "pprof would cut the <jit> out");
    assert_eq!(profile.locations[1].lines, Err(Unresolved::NoPerfMap));
    assert_eq!(profile.locations[2].lines, Err(Unresolved::NoSymbol));
    assert_ne!(profile.locations[0].address, profile.locations[1].address);
}

#[test]
fn labels_are_such_that_every_reader_takes_them() {
    let (store, mut bench) = (ObjectStore::new(), Bench::new(Kind::Cpu));
    let process = bench.process(0, None);
    bench.dictionary().threads.push(ThreadInfo { tid: Tid(0), name: "".into() });
    let stack = bench.dictionary().stacks.intern(&[]);
    bench.window.tallies.insert(SampleKey { process, thread: Some(0), stack, class: 0 }, Counts { events: 1, weight: 1 });
    let profile = bench.symbolize(&store, &Fake::default());
    let keys: Vec<_> = profile.samples[0].labels.iter().map(|label| label.key.as_ref()).collect();
    assert_eq!(keys, ["pid", "comm", "tid", "container"]);
    assert_eq!(profile.samples[0].labels[0].value, LabelValue::Number { value: 0, unit: "pid" });
    assert_eq!(profile.samples[0].labels[1].value, LabelValue::Text("comm0".into()));
}

#[test]
fn kernel_frames_keep_their_unslid_address() {
    let (store, mut bench) = (ObjectStore::new(), Bench::new(Kind::Cpu));
    let kernel = bench.map(MappingKind::Kernel, LINKED_TEXT, 0xffff_ffff_c000_0000, 0, "[kernel.kallsyms]_text");
    let process = bench.process(1, None);
    bench.sample(process, &[(kernel, LINKED_TEXT + 0x1234)]);
    let profile = bench.symbolize(&store, &Fake::default());
    assert_eq!((profile.mappings[0].start, profile.mappings[0].limit), (LINKED_TEXT, 0xffff_ffff_c000_0000));
    assert_eq!(profile.locations[0].address, LINKED_TEXT + 0x1234);
    // Whether symbols are hidden is up to who runs this; a wrong reason is not.
    match (super::kernel::KernelSymbols::load(), &profile.locations[0].lines) {
        (Ok(symbols), Ok(_)) => {
            assert_eq!(names(&profile, &profile.locations[0]), [symbols.lookup(LINKED_TEXT + 0x1234).expect("named").0]);
        }
        (loaded, lines) => assert_eq!((loaded.is_err(), lines), (true, &Err(Unresolved::KernelHidden))),
    }
}

#[test]
fn a_part_has_only_its_own() {
    let (mut store, mut bench) = (ObjectStore::new(), Bench::new(Kind::Cpu));
    let kind = own_program(&mut store);
    let first = bench.map(kind, 0x1000, 0x9000, 0, "/bin/x");
    let second = bench.map(MappingKind::Unopened(InodeId { major: 0, minor: 1, inode: 9 }), 0x1000, 0x3000, 0, "/bin/y");
    let (one, two) = (bench.process(10, Some(first)), bench.process(20, Some(second)));
    bench.sample(one, &[(first, 0x10), (first, 0x20)]);
    bench.sample(two, &[(first, 0x20), (second, 0x20)]);
    let whole = bench.symbolize(&store, &Fake::default());
    let parts = split(&whole);
    assert_eq!(parts.iter().map(|part| part.total(1)).sum::<i64>(), whole.total(1));
    let [one, two] = &parts[..] else { panic!("two parts") };
    assert_eq!((one.check(), two.check()), (Ok(()), Ok(())));
    assert_eq!(one.mappings.iter().map(|mapping| mapping.filename.as_ref()).collect::<Vec<_>>(), ["/bin/x"]);
    assert_eq!(two.mappings.iter().map(|mapping| mapping.filename.as_ref()).collect::<Vec<_>>(), ["/bin/y", "/bin/x"]);
    assert_eq!((two.processes[0].pid, two.processes[0].main, two.samples[0].process), (Pid(20), Some(0), Some(0)));
    assert_eq!(names(two, &two.locations[0]), ["f20"]);
    assert_eq!((two.functions.len(), two.locations.len()), (1, 2));
}

#[test]
fn a_part_is_named_after_the_program_that_the_process_was_most() {
    let (mut store, mut bench) = (ObjectStore::new(), Bench::new(Kind::Cpu));
    let kind = own_program(&mut store);
    let script = bench.map(kind, 0x1000, 0x9000, 0, "/bin/sh");
    let program = bench.map(MappingKind::Unopened(InodeId { major: 0, minor: 1, inode: 9 }), 0x1000, 0x3000, 0, "/bin/work");
    let (before, after) = (bench.process(10, Some(script)), bench.process(10, Some(program)));
    bench.sample(before, &[(script, 0x10)]);
    for at in [0x20, 0x30, 0x40] {
        bench.sample(after, &[(program, at)]);
    }
    let whole = bench.symbolize(&store, &Fake::default());
    let parts = split(&whole);
    let [one] = &parts[..] else { panic!("one part, not {}", parts.len()) };
    assert_eq!(one.mappings[0].filename.as_ref(), "/bin/work");
    assert_eq!((one.processes[0].main, one.check()), (Some(0), Ok(())));
}

#[test]
fn there_are_as_many_readers_as_cpus_and_as_have_room() {
    let room_for = |readers: u64| readers * (REST_BYTES_MAX + READER_BYTES_WANTED);
    assert_eq!(shares(room_for(8), 4), (4, 2 * (REST_BYTES_MAX + READER_BYTES_WANTED) - REST_BYTES_MAX));
    assert_eq!(shares(room_for(4), 4), (4, READER_BYTES_WANTED));
    assert_eq!(shares(room_for(4) - 4, 4).0, 3);
    assert_eq!(shares(room_for(4), 2).0, 2);
    assert_eq!(shares(room_for(4), 1).0, 1);
    // A small limit is for one, which cannot do with less.
    assert_eq!(shares(0, 4), (1, DATA_BYTES_MIN));
}
