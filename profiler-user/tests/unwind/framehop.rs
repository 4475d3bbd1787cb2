//! Live stacks, walked by us and by framehop, a second unwinder by other authors: python3, perl, a C++ compiler and hard stacks in C, stopped at many
//! instants and stepped through a few instructions each. From each frame of our walk both find the same caller, or one of them says that it cannot.
//!
//! Where framehop cannot follow the table it takes the frame pointer instead, without a word: where the table has nothing, or an expression that reads
//! memory (signal frames, stacks aligned anew). gimli says where that is; such a step is counted and says nothing.

use super::stopped::{Mapping, Stopped, Subject};
use super::{look_up, skip, spoil};
use ::framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use ::framehop::{ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder as _};
use anyhow::{Context as _, Result, ensure};
use gimli::{CfaRule, EhFrame, LittleEndian, RegisterRule, UnwindContext, UnwindSection as _, X86_64};
use object::{Object as _, ObjectSection as _, ObjectSegment as _};
use profiler::model::unwind::UnwindTable;
use profiler::parse::eh_frame::unwind_table_for;
use profiler::parse::machine::Machine;
use profiler_common::ended::Ended;
use profiler_common::unwind::Registers;
use profiler_common::unwind::rule::{Rule, step};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

/// Frames of one stack: `deep` of the hard ones has 207.
const FRAMES_MAX: usize = 1_024;
/// Instants of each program.
const INSTANTS: usize = 150;
/// Instructions that it is stepped through at each.
const STEPS: usize = 10;

/// What the tests run or build with.
const NEEDS: [&str; 4] = ["/usr/bin/python3", "/usr/bin/perl", "/usr/bin/gcc", "/usr/bin/g++"];

/// A file, as both unwinders know it.
struct Image {
    table: UnwindTable,
    bytes: Vec<u8>,
}

/// All code of a process at one instant.
struct Code<'a> {
    mappings: Vec<(Mapping, &'a Image)>,
    second: UnwinderX86_64<Arc<[u8]>>,
}

/// The files that were met.
#[derive(Default)]
struct Images {
    files: HashMap<String, Image>,
    /// Whether their rules are made wrong.
    spoil: bool,
}

impl Images {
    fn take_in(&mut self, mapping: &Mapping, stopped: &Stopped) -> Result<()> {
        if self.files.contains_key(&mapping.name) {
            return Ok(());
        }
        let bytes = if mapping.name.starts_with('/') { std::fs::read(&mapping.name).ok() } else { stopped.bytes(mapping) };
        let bytes = bytes.with_context(|| format!("reading {}", mapping.name))?;
        let mut table = unwind_table_for(&bytes, Machine::X86_64)?;
        if self.spoil {
            table.parts.iter_mut().for_each(spoil);
        }
        self.files.insert(mapping.name.clone(), Image { table, bytes });
        Ok(())
    }

    fn code(&self, mappings: Vec<Mapping>) -> Result<Code<'_>> {
        let mut second = UnwinderX86_64::new();
        let mut known = Vec::new();
        for mapping in mappings {
            let image = self.files.get(&mapping.name).context("taken in before")?;
            second.add_module(module(&mapping, image)?);
            known.push((mapping, image));
        }
        Ok(Code { mappings: known, second })
    }
}

/// The mapping as framehop wants it.
fn module(mapping: &Mapping, image: &Image) -> Result<Module<Arc<[u8]>>> {
    let file = object::File::parse(&*image.bytes)?;
    let holds = |(offset, size): (u64, u64)| offset < mapping.offset + (mapping.end - mapping.start) && mapping.offset < offset + size;
    let segment = file.segments().find(|segment| holds(segment.file_range())).context("a segment for the mapping")?;
    let bias = mapping.start.wrapping_sub(mapping.offset).wrapping_sub(segment.address().wrapping_sub(segment.file_range().0));
    let range = |name| file.section_by_name(name).map(|section| section.address()..section.address() + section.size());
    let data = |name| file.section_by_name(name).and_then(|section| section.data().ok()).map(Arc::from);
    let sections = ExplicitModuleSectionInfo {
        text_svma: range(".text"),
        text: data(".text"),
        got_svma: range(".got"),
        eh_frame_svma: range(".eh_frame"),
        eh_frame: data(".eh_frame"),
        eh_frame_hdr_svma: range(".eh_frame_hdr"),
        eh_frame_hdr: data(".eh_frame_hdr"),
        ..ExplicitModuleSectionInfo::default()
    };
    Ok(Module::new(mapping.name.clone(), mapping.start..mapping.end, bias, sections))
}

/// What was seen, counted.
#[derive(Default, Debug)]
struct Seen {
    stacks: usize,
    frames: usize,
    /// Both found the same caller, or both the root.
    agreed: usize,
    /// Framehop had nothing to go by.
    guessed: usize,
    /// We ended in words before the root.
    ours_ended: usize,
    /// So did framehop.
    theirs_ended: usize,
    places: HashSet<u64>,
    wrong: usize,
    first_wrong: Option<String>,
}

/// One step of both from the same registers.
enum Verdict {
    Agreed,
    Guessed,
    OursEnded,
    TheirsEnded,
    Wrong(String),
}

impl Code<'_> {
    fn find(&self, address: u64) -> Option<(&Mapping, &Image)> {
        let (mapping, image) = self.mappings.iter().find(|(mapping, _)| (mapping.start..mapping.end).contains(&address))?;
        Some((mapping, image))
    }

    /// As `profiler::unwind` finds it.
    fn rule(&self, address: u64) -> Option<Rule> {
        let (mapping, image) = self.find(address)?;
        if image.table.parts.is_empty() {
            return Some(Rule::FRAME_POINTER);
        }
        Some(look_up(&image.table, address - mapping.start + mapping.offset))
    }

    /// Walks one stack by our rules, with the memory of the process in place of a copy; framehop takes each step too.
    fn walk(&self, stopped: &Stopped, cache: &mut CacheX86_64, seen: &mut Seen) {
        let all = &stopped.registers;
        let mut at = Registers { ip: all.rip, sp: all.rsp, fp: all.rbp, bx: all.rbx };
        let mut is_interrupted = true;
        seen.stacks += 1;
        for depth in 0..FRAMES_MAX {
            let lookup = at.ip.wrapping_sub(u64::from(!is_interrupted));
            let rule = self.rule(lookup).unwrap_or(Rule::NONE);
            let register = |number| if depth == 0 { stopped.register(number) } else { None };
            let ours = step(rule, &at, |place| stopped.word(place), register);
            let theirs = self.framehop(&at, is_interrupted, stopped, cache);
            seen.frames += 1;
            seen.places.insert(at.ip);
            match self.verdict(lookup, ours, &theirs) {
                Verdict::Agreed => seen.agreed += 1,
                Verdict::Guessed => seen.guessed += 1,
                Verdict::OursEnded => seen.ours_ended += 1,
                Verdict::TheirsEnded => seen.theirs_ended += 1,
                Verdict::Wrong(place) => {
                    seen.wrong += 1;
                    seen.first_wrong
                        .get_or_insert_with(|| format!("{place}: {rule:x?} leads from {at:x?} to {ours:x?}, framehop to {theirs:x?}"));
                }
            }
            let Ok(caller) = ours else { return };
            is_interrupted = rule.leads_to_interrupted();
            at = caller;
        }
    }

    /// One step of framehop's: instruction, stack and frame pointer; none at the root.
    fn framehop(
        &self,
        at: &Registers,
        is_interrupted: bool,
        stopped: &Stopped,
        cache: &mut CacheX86_64,
    ) -> Result<Option<Registers>, String> {
        let mut registers = UnwindRegsX86_64::new(at.ip, at.sp, at.fp);
        let returned = if is_interrupted { None } else { FrameAddress::from_return_address(at.ip) };
        let address = returned.unwrap_or_else(|| FrameAddress::from_instruction_pointer(at.ip));
        let mut read = |place| stopped.word(place).ok_or(());
        let stepped = self.second.unwind_frame(address, &mut registers, cache, &mut read).map_err(|error| error.to_string())?;
        Ok(stepped.filter(|ip| *ip != 0).map(|ip| Registers { ip, sp: registers.sp(), fp: registers.bp(), bx: 0 }))
    }

    fn verdict(&self, lookup: u64, ours: Result<Registers, Ended>, theirs: &Result<Option<Registers>, String>) -> Verdict {
        match (ours, theirs) {
            (Err(Ended::Root), Ok(None)) => return Verdict::Agreed,
            // A frame pointer of 0 is one that our rule calls lost.
            (Ok(ours), Ok(Some(theirs))) if (ours.ip, ours.sp) == (theirs.ip, theirs.sp) && (ours.fp == theirs.fp || ours.fp == 0) => {
                return Verdict::Agreed;
            }
            (Err(ended), _) if ended != Ended::Root => return Verdict::OursEnded,
            _ => {}
        }
        let Some((mapping, image)) = self.find(lookup) else { return Verdict::Guessed };
        let offset = lookup - mapping.start + mapping.offset;
        match theirs {
            _ if !has_form(&image.bytes, offset) => Verdict::Guessed,
            Err(_) => Verdict::TheirsEnded,
            Ok(_) => Verdict::Wrong(format!("{}+{offset:#x}", mapping.name)),
        }
    }
}

/// Whether the table has a row for the place that framehop can follow: no expression for what it needs.
fn has_form(bytes: &[u8], offset: u64) -> bool {
    let form = || -> Result<bool> {
        let file = object::File::parse(bytes)?;
        let section = file.section_by_name(".eh_frame").context("no .eh_frame")?;
        let mut bases = gimli::BaseAddresses::default().set_eh_frame(section.address());
        for name in [".text", ".got"] {
            let address = file.section_by_name(name).map_or(0, |section| section.address());
            bases = if name == ".text" { bases.set_text(address) } else { bases.set_got(address) };
        }
        let holds = |(first, size): (u64, u64)| (first..first + size).contains(&offset);
        let segment = file.segments().find(|segment| holds(segment.file_range())).context("no segment")?;
        let address = offset - segment.file_range().0 + segment.address();
        let (frames, mut context) = (EhFrame::new(section.data()?, LittleEndian), UnwindContext::new());
        let row = frames.unwind_info_for_address(&bases, &mut context, address, EhFrame::cie_from_offset)?;
        let is_expression = |register| {
            let rule = row.register(register);
            matches!(rule, Some(RegisterRule::Expression(_) | RegisterRule::ValExpression(_)))
        };
        let follows = matches!(row.cfa(), CfaRule::RegisterAndOffset { register, .. } if [X86_64::RSP, X86_64::RBP].contains(register));
        Ok(follows && !is_expression(X86_64::RA) && !is_expression(X86_64::RBP))
    };
    form().unwrap_or(false)
}

/// Stops a program at many instants, and walks it at each and after each of some instructions.
fn watch(words: &[String], images: &mut Images, instants: usize) -> Result<Seen> {
    let (mut subject, mut seen) = (Subject::start(words)?, Seen::default());
    for instant in 0..instants {
        // Not in step with anything that the program does; one that has ended is started again, so its beginning is seen too.
        sleep(Duration::from_micros(200 + 97 * (instant as u64 % 31)));
        let mut stopped = subject.stop()?;
        for _ in 0..STEPS {
            let Some(now) = stopped else { break };
            let mappings = now.code()?;
            for mapping in &mappings {
                images.take_in(mapping, &now)?;
            }
            images.code(mappings)?.walk(&now, &mut CacheX86_64::new(), &mut seen);
            stopped = subject.step()?;
        }
        match stopped {
            Some(_) => subject.go_on(),
            None => subject = Subject::start(words)?,
        }
    }
    Ok(seen)
}

#[test]
fn live_stacks_are_those_that_framehop_sees() -> Result<()> {
    if !NEEDS.iter().all(|program| Path::new(program).exists()) {
        return skip(&NEEDS.join(", "));
    }
    for (words, ours_ended_max) in programs()? {
        let seen = watch(&words, &mut Images::default(), INSTANTS)?;
        let Seen { stacks, frames, agreed, guessed, ours_ended, theirs_ended, places, .. } = &seen;
        println!(
            "{}: {stacks} stacks, {frames} frames at {} places: {agreed} agreed, {guessed} guessed by framehop, {ours_ended} ended by us, \
             {theirs_ended} by framehop",
            words[0],
            places.len()
        );
        ensure!(seen.wrong == 0, "{}: {} frames differ, first {:?}", words[0], seen.wrong, seen.first_wrong);
        ensure!(*stacks > 1_000 && *frames > 5 * stacks, "{}: {stacks} stacks with {frames} frames are too few", words[0]);
        ensure!((guessed + theirs_ended) * 20 < *frames, "{}: framehop could not say anything to too many: {seen:?}", words[0]);
        ensure!(*ours_ended as f64 <= *stacks as f64 * ours_ended_max, "{}: {ours_ended} of {stacks} ended before their root", words[0]);
    }
    Ok(())
}

/// The same comparison, with every second rule of each file eight bytes off.
#[test]
fn live_stacks_by_wrong_rules_are_noticed() -> Result<()> {
    if !NEEDS.iter().all(|program| Path::new(program).exists()) {
        return skip(&NEEDS.join(", "));
    }
    let (words, _) = programs()?.swap_remove(0);
    let mut images = Images { spoil: true, ..Images::default() };
    let seen = watch(&words, &mut images, 30)?;
    println!("{} of {} frames are noticed to be wrong, first {:?}", seen.wrong, seen.frames, seen.first_wrong);
    ensure!(seen.wrong > seen.stacks / 4, "{} wrong frames noticed in {} stacks", seen.wrong, seen.stacks);
    Ok(())
}

/// Programs that run for seconds, as a distribution ships them, and hard stacks; each with the share of stacks that we may end before their root: among the
/// hard ones is a context, whose first frame says nothing of a caller.
fn programs() -> Result<Vec<(Vec<String>, f64)>> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/subjects");
    let walks = concat!(env!("CARGO_TARGET_TMPDIR"), "/walks");
    let source = format!("{root}/walks.c");
    let flags = ["-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread", "-o", walks, &source];
    ensure!(Command::new("gcc").args(flags).status()?.success(), "gcc cannot build {source}");
    let compiler = String::from_utf8(Command::new("g++").arg("-print-prog-name=cc1plus").output()?.stdout)?;
    let templates = format!("{root}/templates.cpp");
    let python = "import json, re\nwhile True: [re.sub('[0-9]+', lambda m: m[0] + '!', json.dumps(sorted(json.loads(json.dumps(list(range(300)))), key=lambda n: -n)))]";
    let perl =
        "while (1) { my %h; $h{$_ % 977} .= 'x' for 1..20000; my $s = join ',', sort { $a <=> $b } keys %h; $s =~ s/(\\d+)/<$1>/g; }";
    Ok(vec![
        (words(&["/usr/bin/python3", "-c", python]), 0.005),
        (words(&["/usr/bin/perl", "-e", perl]), 0.005),
        (words(&[compiler.trim(), "-quiet", "-O2", "-imultiarch", "x86_64-linux-gnu", &templates, "-o", "/dev/null"]), 0.005),
        (words(&[walks, "all", "0.02"]), 0.5),
    ])
}
