//! What a reader knows of good files.

use super::*;

#[test]
fn functions_inlined_functions_and_lines_of_a_program() {
    let folder = Folder::new("inlining");
    let program = folder.compile("program", INLINING, &["-g", "-O1"]);
    let outer = address_of(&program, "outer");
    let mut reader = reader();
    let answers = ask(&mut reader, &program, &[outer, outer + 6, 0x7fff_ffff]).unwrap();
    let last = answers[1].as_ref().unwrap();
    assert_eq!(
        last.iter().map(|line| (line.name.as_str(), line.line, line.start_line)).collect::<Vec<_>>(),
        [("inner", 4, 3), ("outer", 7, 6)]
    );
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
    answer.into_iter().map(|line| (line.name, line.line, line.start_line)).collect()
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
