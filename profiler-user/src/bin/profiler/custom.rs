//! `--profile`: profiles of what is added and removed, ready-made or by probes that are named with `--add` and `--remove`.

use clap::{ArgAction, Args};
use profiler::config::Event;
use profiler::model::custom::{Action, CustomProbe, CustomProfile, Expression, nearest};

/// What is added and removed.
#[derive(Args, Clone, Debug)]
pub(crate) struct CustomArgs {
    /// What is added and removed, where it was added and is still there at the end, as runtime/pprof's custom profiles: fds, sockets, live-threads,
    /// live-mappings (system calls take longer meanwhile, but for live-threads), or any NAME for the probes of --add and --remove
    #[arg(long = "profile", value_name = "NAME", value_delimiter = ',', help_heading = "Sampling")]
    pub profiles: Vec<String>,
    /// Of --profile NAME: what adds to it, PROBE[:key=EXPR][:weight=EXPR]; may be given several times. A PROBE is uprobe:LIB:FUNC, uretprobe:LIB:FUNC,
    /// usdt:LIB:PROVIDER:NAME or tracepoint:CATEGORY:NAME, an EXPR arg0 to arg5, ret, tid, pid, a number, or a field of a tracepoint as fd or task.pid. Such as
    /// uretprobe:libc.so.6:fopen:key=ret
    #[arg(long = "add", value_name = "PROBE", help_heading = "Sampling", value_parser = parse_add)]
    pub adds: Vec<CustomProbe>,
    /// Of --profile NAME: what removes from it, PROBE:key=EXPR, such as uprobe:libc.so.6:fclose:key=arg0; may be given several times. Without it what was added
    /// is counted
    #[arg(long = "remove", value_name = "PROBE", help_heading = "Sampling", value_parser = parse_remove)]
    pub removes: Vec<CustomProbe>,
    /// Of --profile NAME: keys are of the whole machine, and not of a process each
    #[arg(long, action = ArgAction::SetTrue, requires = "adds", help_heading = "Sampling")]
    pub global_keys: bool,
}

/// What to do where everything that runs would be probed.
pub(crate) const SAY_WHICH: &str = "each allocation of a recorded process costs it a trap, and so does each call that is probed; say which: -p PID, --comm GLOB, \
    --cgroup PATH, --container ID, --unit NAME or -- CMD";

fn parse_add(text: &str) -> Result<CustomProbe, String> {
    CustomProbe::parse(Action::Add, text).map_err(|why| why.to_string())
}

fn parse_remove(text: &str) -> Result<CustomProbe, String> {
    CustomProbe::parse(Action::Remove, text).map_err(|why| why.to_string())
}

/// Ready-made profiles that know more than the grammar can say.
const BUILT_IN: [(&str, Event); 2] = [("fds", Event::Descriptors), ("sockets", Event::Sockets)];
/// Ready-made profiles that are made of probes.
const PRESETS: [&str; 2] = ["live-threads", "live-mappings"];
/// Names of profiles that are no custom ones.
const TAKEN: [&str; 14] = [
    "cpu",
    "faults",
    "mmap",
    "heap",
    "heap-base",
    "allocs",
    "alloc-shares",
    "off-cpu",
    "block",
    "mutex",
    "threadcreate",
    "wall",
    "threads",
    "goroutine",
];
/// `CLONE_THREAD` of include/uapi/linux/sched.h.
const CLONE_THREAD: u64 = 0x0001_0000;

impl CustomArgs {
    /// The events of what is ready-made in the kernel's part, and the profiles of probes.
    pub(crate) fn events(&self) -> Vec<Event> {
        let built_in = self.profiles.iter().filter_map(|name| built_in(name));
        built_in.chain((0..self.custom().map_or(0, |custom| custom.len() as u16)).map(Event::Custom)).collect()
    }

    /// The profiles of probes.
    ///
    /// # Errors
    /// A name that is nothing, or probes that do not fit together, and what to do.
    pub(crate) fn custom(&self) -> Result<Vec<CustomProfile>, String> {
        let mut found: Vec<CustomProfile> = Vec::new();
        let mut named: Vec<&str> = Vec::new();
        for name in self.profiles.iter().filter(|name| built_in(name).is_none()) {
            match preset(name) {
                Some(profile) if !found.contains(&profile) => found.push(profile),
                Some(_) => {}
                None => named.push(name),
            }
        }
        let all = || BUILT_IN.iter().map(|(name, _)| *name).chain(PRESETS);
        let has_probes = !self.adds.is_empty() || !self.removes.is_empty();
        match named[..] {
            [] if has_probes => Err(
                "--add and --remove are of a profile that you name; give --profile NAME, with another name than those of ready-made ones"
                    .into(),
            ),
            [] => Ok(found),
            [name] if has_probes && TAKEN.contains(&name) => {
                Err(format!("--profile {name}: so a kind of -e is called; give it another name"))
            }
            [name] if has_probes => {
                let probes = self.adds.iter().chain(&self.removes).cloned().collect();
                found.push(CustomProfile::new(name, self.global_keys, probes).map_err(|why| why.to_string())?);
                Ok(found)
            }
            [name] => {
                let meant = nearest(name, all()).map_or(String::new(), |near| format!(" (is it {near}?)"));
                let all: Vec<&str> = all().collect();
                Err(format!(
                    "--profile {name}: no ready-made profile has that name{meant}; they are {}; of another one say what is added with --add PROBE",
                    all.join(", ")
                ))
            }
            [name, other, ..] => Err(format!("--profile {name},{other}: one profile can be made of --add and --remove at a time")),
        }
    }

    /// Whether every system call of the machine is looked at.
    pub(crate) fn has_system_calls(&self) -> bool {
        self.profiles.iter().any(|name| built_in(name).is_some())
            || self.custom().is_ok_and(|custom| custom.iter().any(CustomProfile::has_system_calls))
    }

    /// Whether processes are probed, each of which has to be named.
    pub(crate) fn has_probes_in_processes(&self) -> bool {
        self.custom().is_ok_and(|custom| custom.iter().any(CustomProfile::has_probes_in_processes))
    }

    /// What there is to say of a profile in one line.
    pub(crate) fn written(&self, name: &str) -> String {
        let mut text = format!("--profile {name}");
        if preset(name).is_none() {
            for (option, probes) in [("--add", &self.adds), ("--remove", &self.removes)] {
                probes.iter().for_each(|probe| text.push_str(&format!(" {option} {}", probe.place)));
            }
        }
        text
    }
}

fn built_in(name: &str) -> Option<Event> {
    BUILT_IN.iter().find_map(|(known, event)| (*known == name).then_some(*event))
}

/// A ready-made profile of probes.
fn preset(name: &str) -> Option<CustomProfile> {
    let probe = |action, text| CustomProbe::parse(action, text).ok();
    let (global_keys, probes) = match name {
        "live-threads" => {
            let field = Expression::Field { name: "clone_flags".into(), member: None };
            let started = probe(Action::Add, "tracepoint:task:task_newtask:key=task.pid")?;
            let ended = probe(Action::Remove, "tracepoint:sched:sched_process_exit:key=tid")?;
            (true, vec![CustomProbe { only: Some((field, CLONE_THREAD)), ..started }, ended])
        }
        "live-mappings" => {
            let mapped = probe(Action::Add, "tracepoint:syscalls:sys_exit_mmap:key=ret:weight=arg1")?;
            (false, vec![mapped, probe(Action::Remove, "tracepoint:syscalls:sys_enter_munmap:key=arg0")?])
        }
        _ => return None,
    };
    CustomProfile::new(name, global_keys, probes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(profiles: &[&str], adds: &[&str], removes: &[&str]) -> CustomArgs {
        let probes = |action, texts: &[&str]| texts.iter().map(|text| CustomProbe::parse(action, text).expect("valid")).collect();
        CustomArgs {
            profiles: profiles.iter().map(|name| (*name).to_owned()).collect(),
            adds: probes(Action::Add, adds),
            removes: probes(Action::Remove, removes),
            global_keys: false,
        }
    }

    #[test]
    fn ready_made_ones_and_one_of_ones_own_go_together() {
        let all = args(&["fds", "files", "live-threads"], &["uretprobe:libc:fopen:key=ret"], &["uprobe:libc:fclose:key=arg0"]);
        assert_eq!(all.events(), [Event::Descriptors, Event::Custom(0), Event::Custom(1)]);
        let custom = all.custom().expect("valid");
        assert_eq!(custom.iter().map(|profile| profile.name.as_str()).collect::<Vec<_>>(), ["live-threads", "files"]);
        assert!(custom[0].global_keys && custom[0].has_removes() && !custom[0].has_probes_in_processes());
        assert!(preset("live-mappings").is_some_and(|profile| profile.has_weight() && profile.has_system_calls()));
    }

    #[test]
    fn a_name_that_is_nothing_is_refused_with_what_to_do() {
        for (args, say) in [
            (args(&["fsd"], &[], &[]), "is it fds?"),
            (args(&[], &["uprobe:l:f"], &[]), "--profile NAME"),
            (args(&["fds"], &["uprobe:l:f"], &[]), "another name"),
            (args(&["heap"], &["uprobe:l:f"], &[]), "kind of -e"),
            (args(&["a", "b"], &["uprobe:l:f"], &[]), "at a time"),
            (args(&["a"], &[], &["uprobe:l:f:key=arg0"]), "--add PROBE"),
        ] {
            let refused = args.custom().expect_err(say);
            assert!(refused.contains(say), "{refused}");
        }
    }
}
