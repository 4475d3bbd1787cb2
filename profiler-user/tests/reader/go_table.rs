//! Go programs, stripped or not, movable or not, are named as Go's runtime names them, and inlined calls as their DWARF has them.

use super::{Folder, id, run};
use profiler::model::address::FileAddress;
use profiler::model::mapping::ObjectId;
use profiler::reader::{ObjectFacts, Reader, SymbolLine, SymbolizeRequest};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Says for addresses of its own code, from the one given on in the given steps, what Go's runtime calls them.
const SUBJECT: &str = r#"package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
)

type pair[K any] struct{ k K }

func (p *pair[K]) get() K { return p.k }

func number(at int) uint64 {
	n, _ := strconv.ParseUint(os.Args[at], 10, 64)
	return n
}

func main() {
	list := []int{5, 4, (&pair[int]{3}).get()}
	sort.Slice(list, func(i, j int) bool { return list[i] < list[j] })
	if _, err := json.Marshal(list); err != nil {
		panic(err)
	}
	for pc := number(1); pc < number(2); pc += number(3) {
		if f := runtime.FuncForPC(uintptr(pc)); f != nil {
			file, line := f.FileLine(uintptr(pc))
			fmt.Printf("%d\t%s\t%s\t%d\n", pc, f.Name(), file, line)
		}
	}
}
"#;

/// The subject's folder, with the source.
fn subject(name: &str) -> Folder {
    let folder = Folder::new(name);
    std::fs::write(folder.0.join("main.go"), SUBJECT).unwrap();
    std::fs::write(folder.0.join("go.mod"), "module example.com/subject\n\ngo 1.20\n").unwrap();
    folder
}

fn go_build(folder: &Folder, name: &str, flags: &[&str]) -> PathBuf {
    let go = std::env::var("PROFILER_TEST_GO").unwrap_or_else(|_| "go".into());
    run(Command::new(go).current_dir(&folder.0).env("GOTOOLCHAIN", "local").args(["build", "-o", name]).args(flags).arg("."));
    folder.0.join(name)
}

fn open(path: &Path) -> (Reader, File, ObjectId) {
    let file = File::open(path).unwrap();
    let object = id(&file);
    (super::reader(), file, object)
}

fn facts(program: &Path) -> ObjectFacts {
    let (mut reader, file, id) = open(program);
    reader.identify(id, file.as_fd()).unwrap()
}

/// The lines of addresses of the file's own, innermost first.
fn lines(program: &Path, addresses: &[u64]) -> Vec<Vec<SymbolLine>> {
    let code = *facts(program).segments.iter().find(|segment| segment.executable).unwrap();
    let offsets: Vec<FileAddress> =
        addresses.iter().map(|address| FileAddress(address - code.virtual_address + code.file_offset)).collect();
    let (mut reader, file, object) = open(program);
    let request = SymbolizeRequest { object, file: file.as_fd(), debug: None, alt: None, offsets: &offsets };
    reader.symbolize(request).unwrap().into_iter().map(Result::unwrap_or_default).collect()
}

/// What the runtime of the (not movable) program says of every `step`th address of its text.
fn said_by_runtime(program: &Path, step: u64) -> Vec<(u64, String, String, u32)> {
    let headers = run(Command::new("readelf").arg("-SW").arg(program));
    let text = headers.lines().find(|line| line.contains(" .text ")).unwrap();
    let fields: Vec<&str> = text.split_whitespace().collect();
    let at = fields.iter().position(|field| *field == ".text").unwrap();
    let number = |field: &str| u64::from_str_radix(field, 16).unwrap();
    let (begin, size) = (number(fields[at + 2]), number(fields[at + 4]));
    let said = run(Command::new(program).args([begin, begin + size, step].map(|number| number.to_string())));
    // Go's runtime has no name for the function whose name comes first in its table.
    let named = |said: &(u64, String, String, u32)| !said.1.is_empty();
    let line = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        (fields[0].parse().unwrap(), fields[1].to_owned(), fields[2].replace('?', ""), fields[3].parse().unwrap())
    };
    said.lines().map(line).filter(named).collect()
}

#[test]
fn a_stripped_program_has_the_names_and_lines_of_its_runtime() {
    let folder = subject("stripped");
    let program = go_build(&folder, "program", &["-ldflags=-s -w"]);
    let facts = facts(&program);
    assert!(facts.is_go && facts.has_go_table && !facts.has_symbols && !facts.has_debug_info);
    let said = said_by_runtime(&program, 61);
    assert!(said.len() > 5000, "{}", said.len());
    let addresses: Vec<u64> = said.iter().map(|said| said.0).collect();
    let found = lines(&program, &addresses);
    for (found, (address, name, filename, line)) in found.iter().zip(&said) {
        let innermost = found.first().unwrap_or_else(|| panic!("nothing at {address:#x}, which is {name}"));
        assert_eq!(
            (&*printed(&innermost.name), &*innermost.filename, innermost.line),
            (name.as_str(), filename.as_str(), *line),
            "at {address:#x}: {found:?}"
        );
    }
    assert!(found.iter().filter(|found| found.len() > 1).count() > 300);
}

/// Name, line and start line of each function, outermost last.
fn chain(lines: &[SymbolLine]) -> Vec<(String, u32, u32)> {
    lines.iter().map(|line| (line.name.to_string(), line.line, line.start_line)).collect()
}

/// What Go prints of a name: type arguments are none of it.
fn printed(name: &str) -> String {
    match (name.find('['), name.rfind(']')) {
        (Some(open), Some(close)) => format!("{}[...]{}", &name[..open], &name[close + 1..]),
        _ => name.to_owned(),
    }
}

#[test]
fn inlined_functions_and_start_lines_are_those_of_the_debug_information() {
    let folder = subject("inlined");
    let program = go_build(&folder, "program", &[]);
    let native = folder.0.join("native");
    run(Command::new("objcopy").args(["--rename-section", ".gopclntab=.hidden"]).arg(&program).arg(&native));
    assert!(!facts(&native).has_go_table);
    let addresses: Vec<u64> = said_by_runtime(&program, 61).iter().map(|said| said.0).collect();
    let (by_table, by_dwarf) = (lines(&program, &addresses), lines(&native, &addresses));
    // Between functions nothing runs, and the debug information of functions that the compiler made up is thin.
    let written = |lines: &[SymbolLine]| lines.last().is_some_and(|line| line.line > 0 && *line.filename != *"<autogenerated>");
    let compared: Vec<usize> = (0..addresses.len()).filter(|at| written(&by_table[*at])).collect();
    assert!(compared.len() * 100 > addresses.len() * 90);
    // For functions that it makes of a statement (`defer`), and for assembly, Go's debug information has no line of declaration.
    let alike = |(table, dwarf): (&(String, u32, u32), &(String, u32, u32))| {
        table.0 == dwarf.0 && table.1 == dwarf.1 && (table.2 == dwarf.2 || dwarf.2 == 0)
    };
    let same = |table: &[_], dwarf: &[_]| table.len() == dwarf.len() && table.iter().zip(dwarf).all(alike);
    let differing: Vec<&usize> = compared.iter().filter(|at| !same(&chain(&by_table[**at]), &chain(&by_dwarf[**at]))).collect();
    let declared = compared.iter().filter(|at| by_dwarf[**at].last().is_some_and(|line| line.start_line > 0)).count();
    assert!(declared * 100 > compared.len() * 95);
    for at in &differing {
        println!("{:#x}: {:?} but {:?}", addresses[**at], chain(&by_table[**at]), chain(&by_dwarf[**at]));
    }
    assert!(differing.is_empty(), "{} of {} differ", differing.len(), compared.len());
}

#[test]
fn a_program_that_can_be_moved_is_read_as_well() {
    let folder = subject("movable");
    for (name, flags) in
        [("inner", ["-buildmode=pie", "-ldflags=-s -w"]), ("outer", ["-buildmode=pie", "-ldflags=-s -w -linkmode=external"])]
    {
        let program = go_build(&folder, name, &flags);
        let code = *facts(&program).segments.iter().find(|segment| segment.executable).unwrap();
        let addresses: Vec<u64> = (code.virtual_address..code.virtual_address + code.file_size).step_by(61).collect();
        let found = lines(&program, &addresses);
        let whole = found.iter().filter(|found| found.first().is_some_and(|line| line.line > 0 && !line.filename.is_empty())).count();
        assert!(whole * 100 > addresses.len() * 90, "{name}: {whole} of {}", addresses.len());
        assert!(found.iter().filter(|found| found.len() > 1).count() > 300, "{name}");
    }
}
