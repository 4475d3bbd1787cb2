//! What a reader knows of good files.

use super::{Folder, INLINING, address_of, ask, id, program, reader, run};
use profiler::model::address::FileAddress;
use profiler::model::profile::Unresolved;
use profiler::reader::SymbolizeRequest;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn functions_inlined_functions_and_lines_of_a_program() {
    let folder = Folder::new("inlining");
    let program = folder.compile("program", INLINING, &["-g", "-O1"]);
    let outer = address_of(&program, "outer");
    let mut reader = reader();
    let answers = ask(&mut reader, &program, &[outer, outer + 6, 0x7fff_ffff]).unwrap();
    let last = answers[1].as_ref().unwrap();
    assert_eq!(last.iter().map(|line| (&*line.name, line.line, line.start_line)).collect::<Vec<_>>(), [("inner", 4, 3), ("outer", 7, 6)]);
    assert!(last[0].filename.ends_with("program.c"), "{last:?}");
    assert_eq!(answers[2], Err(Unresolved::NoSymbol));
}

#[test]
fn a_reader_has_no_rights() {
    let mut reader = reader();
    let file = File::open("/proc/self/exe").unwrap();
    let facts = reader.identify(id(&file), file.as_fd()).unwrap();
    assert!(facts.has_symbols);
    let status = std::fs::read_to_string(format!("/proc/{}/status", reader.pid().unwrap())).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    for capabilities in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(capabilities), "0000000000000000", "{capabilities}");
    }
    assert_eq!((field("Seccomp:"), field("NoNewPrivs:")), ("2".into(), "1".into()));
    if rustix::process::geteuid().is_root() {
        assert_eq!(
            (field("Uid:"), field("Gid:"), field("Groups:")),
            ("65534\t65534\t65534\t65534".into(), "65534\t65534\t65534\t65534".into(), String::new())
        );
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", reader.pid().unwrap())).unwrap();
    assert!(limits.lines().any(|line| line.starts_with("Max data size") && line.contains("805306368")), "{limits}");
}

#[test]
fn a_perf_map_of_a_gigabyte_of_garbage_costs_only_its_end() {
    let folder = Folder::new("perf-map");
    let path = folder.0.join("perf-1.map");
    let map = File::options().create(true).read(true).write(true).truncate(true).open(&path).unwrap();
    map.set_len(5 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&map, b"\n7f0000001000 40 LazyCompile:*hot /srv/a.js:3\n", (5 << 30) - 80).unwrap();
    let mut reader = reader();
    let names = reader.perf_map(id(&map), map.as_fd(), &[0x7f00_0000_1010, 1]).unwrap();
    assert_eq!(names, [Some("LazyCompile:*hot /srv/a.js:3".to_owned()), None]);
}

/// C++ with a template that is inlined, and with what two programs share.
const SHARING: &str = "#include <map>
#include <string>
#include <vector>
volatile long sink;
template <typename T> static inline __attribute__((always_inline)) void inner(std::vector<T> &v) {
    for (T x : v) sink += x;
}
__attribute__((noinline)) void outer(std::vector<int> &v) {
    inner(v);
}
__attribute__((noinline)) void other(std::map<std::string, int> &m) { m[\"a\"] = (int)sink; }
int main() {
    std::vector<int> v(100, 1);
    std::map<std::string, int> m;
    outer(v);
    other(m);
    return 0;
}
";

/// `outer` and all that is inlined into it, as (name, line, start line), from a program and its debug files.
fn outer_of(program: &Path, debug: Option<&Path>, alt: Option<&Path>, at: u64) -> Vec<(String, u32, u32)> {
    let open = |path: Option<&Path>| path.map(|path| File::open(path).unwrap());
    let (file, debug, alt) = (File::open(program).unwrap(), open(debug), open(alt));
    let request = SymbolizeRequest {
        object: id(&file),
        file: file.as_fd(),
        debug: debug.as_ref().map(AsFd::as_fd),
        alt: alt.as_ref().map(AsFd::as_fd),
        offsets: &[FileAddress(at)],
    };
    let answer = reader().symbolize(request).unwrap().remove(0).unwrap();
    answer.into_iter().map(|line| (line.name.to_string(), line.line, line.start_line)).collect()
}

#[test]
fn a_separate_debug_file_and_a_shared_one_give_what_the_whole_program_gives() {
    let folder = Folder::new("dwz");
    let at = |name: &str| folder.0.join(name);
    for name in ["a", "b"] {
        std::fs::write(at(&format!("{name}.cc")), format!("{SHARING}int {name}_only() {{ return 1; }}\n")).unwrap();
        run(Command::new("g++").args(["-g", "-O1", "-o"]).arg(at(name)).arg(at(&format!("{name}.cc"))));
        run(Command::new("objcopy").arg("--only-keep-debug").arg(at(name)).arg(at(&format!("{name}.debug"))));
        run(Command::new("objcopy").arg("--strip-debug").arg(at(name)).arg(at(&format!("{name}.stripped"))));
    }
    let outer = address_of(&at("a"), "_Z5outerRSt6vectorIiSaIiEE") + 16;
    let whole = outer_of(&at("a"), None, None, outer);
    assert!(whole.len() > 1 && whole[whole.len() - 2].0 == "inner<int>", "{whole:?}");
    assert_eq!(whole.last().unwrap().2, 8);
    assert_eq!(outer_of(&at("a.stripped"), Some(&at("a.debug")), None, outer), whole);
    run(Command::new("dwz").current_dir(&folder.0).args(["-m", "shared.debug", "a.debug", "b.debug"]));
    let shared = outer_of(&at("a.stripped"), Some(&at("a.debug")), Some(&at("shared.debug")), outer);
    assert_eq!(shared, whole);
}

#[test]
fn a_file_in_a_container_is_read_by_its_descriptor() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "needs root");
        return;
    }
    let folder = Folder::new("container");
    let program = folder.compile("program", INLINING, &["-g", "-O1"]);
    let outer = address_of(&program, "outer");
    let inside = folder.0.join("inside");
    std::fs::create_dir(&inside).unwrap();
    // A mount namespace of its own, where the program lies in a file system that nobody else sees.
    let script = format!(
        "mount -t tmpfs none {0} && cp {1} {0}/program && chmod 700 {0}/program && echo ready && exec sleep 60",
        inside.display(),
        program.display()
    );
    let mut container = Command::new("unshare").args(["-m", "sh", "-c", &script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(container.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let path = PathBuf::from(format!("/proc/{}/root{}/program", container.id(), inside.display()));
    let answers = ask(&mut reader(), &path, &[outer]);
    container.kill().unwrap();
    container.wait().unwrap();
    assert!(!inside.join("program").exists());
    assert_eq!(answers.unwrap()[0].as_ref().unwrap().last().unwrap().name.to_string(), "outer");
}

#[test]
fn the_page_of_code_that_the_kernel_gives_is_an_object_like_any_other() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let range = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap().split(' ').next().unwrap();
    let (begin, end) = range.split_once('-').unwrap();
    let [begin, end] = [begin, end].map(|number| u64::from_str_radix(number, 16).unwrap());
    let mut image = vec![0; (end - begin) as usize];
    std::os::unix::fs::FileExt::read_exact_at(&File::open("/proc/self/mem").unwrap(), &mut image, begin).unwrap();
    let folder = Folder::new("vdso");
    let path = folder.0.join("vdso");
    std::fs::write(&path, &image).unwrap();
    let symbols = run(Command::new("readelf").args(["-W", "--dyn-syms"]).arg(&path));
    let symbol = symbols.lines().find(|line| line.contains("__vdso_clock_gettime")).unwrap();
    let at = u64::from_str_radix(symbol.split_whitespace().nth(1).unwrap(), 16).unwrap();
    let memory: File = rustix::fs::memfd_create("vdso", rustix::fs::MemfdFlags::CLOEXEC).unwrap().into();
    std::os::unix::fs::FileExt::write_all_at(&memory, &image, 0).unwrap();
    let request = SymbolizeRequest { object: id(&memory), file: memory.as_fd(), debug: None, alt: None, offsets: &[FileAddress(at + 4)] };
    let name = reader().symbolize(request).unwrap().remove(0).unwrap().remove(0).name;
    assert!(name.contains("clock_gettime"), "{name}");
}

#[test]
fn a_user_without_rights_has_readers_too() {
    if !rustix::process::geteuid().is_root() {
        // Then every other test here shows it.
        return;
    }
    let folder = Folder::new("user");
    for (from, to) in [(program(), "profiler"), (std::env::current_exe().unwrap(), "tests")] {
        std::fs::copy(from, folder.0.join(to)).unwrap();
    }
    std::fs::set_permissions(&folder.0, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut user = Command::new("setpriv");
    user.args(["--reuid=4711", "--regid=4711", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
    user.arg(folder.0.join("tests")).args([
        "--exact",
        "naming::a_reader_has_no_rights",
        "naming::functions_inlined_functions_and_lines_of_a_program",
    ]);
    let said = run(user.env("PROFILER_TEST_PROGRAM", folder.0.join("profiler")).current_dir(&folder.0));
    assert!(said.contains("2 passed"), "{said}");
}

/// Entries of the procedure linkage table have the names that binutils gives them.
#[test]
fn the_linkage_table_is_named_as_binutils_names_it() {
    let mut reader = reader();
    let (mut named, mut others) = (0, Vec::new());
    for file in ["/usr/bin/perl", "/usr/bin/git", "/usr/lib/x86_64-linux-gnu/libcrypto.so.3", "/usr/lib/x86_64-linux-gnu/libstdc++.so.6"] {
        if !Path::new(file).exists() {
            continue;
        }
        let listing = Command::new("objdump").args(["-d", "-j", ".plt", "-j", ".plt.got", "-j", ".plt.sec", file]).output().unwrap();
        let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
        let headings = listing.lines().filter_map(|line| line.strip_suffix("@plt>:")?.split_once(" <"));
        // Addresses of these sections are their places in the file: they lie in the first two segments of a movable file.
        let wanted: Vec<(u64, &str)> = headings
            .filter(|(_, name)| !name.starts_with("*ABS*"))
            .map(|(address, name)| (u64::from_str_radix(address, 16).unwrap(), name.split('@').next().unwrap()))
            .collect();
        let answers = ask(&mut reader, Path::new(file), &wanted.iter().map(|(address, _)| address + 2).collect::<Vec<_>>()).unwrap();
        for ((address, name), answer) in wanted.iter().zip(answers) {
            let found = answer.as_deref().ok().and_then(|lines| lines.first()).map(|line| line.system_name.to_string());
            match found {
                Some(found) if found == format!("{name}@plt") => named += 1,
                found => others.push(format!("{file} {address:#x}: {found:?} and not {name}@plt")),
            }
        }
    }
    assert!(named > 500 && others.is_empty(), "{named} named alike, {} not: {:?}", others.len(), &others[..others.len().min(5)]);
}
