//! The capabilities of this thread: which of the six it has, and what is lost without each.

use super::row::{Need, Row, State};
use crate::model::text::shell_word;
use std::path::Path;

/// `CAP_SYS_ADMIN`.
const SYS_ADMIN: u32 = 21;
/// `CAP_DAC_OVERRIDE`.
const DAC_OVERRIDE: u32 = 1;
/// The inode of the machine's own user namespace (`PROC_USER_INIT_INO` of include/linux/proc_ns.h).
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";
/// What is given to the program's file.
const FILE_CAPABILITIES: &str = "cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,cap_checkpoint_restore,cap_syslog+ep";

/// A capability that the profiler uses.
struct Capability {
    feature: &'static str,
    /// Its number (include/uapi/linux/capability.h).
    number: u32,
    /// A stronger one that the kernel takes instead.
    instead: Option<u32>,
    need: Need,
    purpose: &'static str,
    without: &'static str,
}

impl Capability {
    fn name(&self) -> &'static str {
        self.feature.rsplit(' ').next().unwrap_or(self.feature)
    }
}

const ALL: [Capability; 6] = [
    Capability {
        feature: "capability CAP_BPF",
        number: 39,
        instead: Some(SYS_ADMIN),
        need: Need::Record,
        purpose: "loading eBPF programs and their maps",
        without: "nothing can be recorded",
    },
    Capability {
        feature: "capability CAP_PERFMON",
        number: 38,
        instead: Some(SYS_ADMIN),
        need: Need::Record,
        purpose: "perf events of every process, and programs that read memory",
        without: "nothing can be recorded",
    },
    Capability {
        feature: "capability CAP_SYS_PTRACE",
        number: 19,
        instead: None,
        need: Need::Feature,
        purpose: "mappings of other users' processes",
        without: "stacks of other users' processes have no names",
    },
    Capability {
        feature: "capability CAP_DAC_READ_SEARCH",
        number: 2,
        instead: Some(DAC_OVERRIDE),
        need: Need::Feature,
        purpose: "programs and libraries that only their owner may read",
        without: "functions of such files have no names",
    },
    Capability {
        feature: "capability CAP_CHECKPOINT_RESTORE",
        number: 40,
        instead: Some(SYS_ADMIN),
        need: Need::Feature,
        purpose: "the very file that is mapped, in containers and after an upgrade too",
        without: "functions of files that were deleted, or that others have replaced, have no names",
    },
    Capability {
        feature: "capability CAP_SYSLOG",
        number: 34,
        instead: None,
        need: Need::Feature,
        purpose: "names of the kernel's functions",
        without: "functions of the kernel may have no names",
    },
];

/// Rights that recording needs and this process has not.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RightsError {
    /// Capabilities are missing.
    #[error("recording needs {}: {}", names(.missing), ways_out_of(.program))]
    Missing {
        /// Their names.
        missing: Vec<&'static str>,
        /// The path of this program.
        program: String,
    },
    /// Capabilities are missing, and nothing that is executed from here can get them.
    #[error("recording needs {}, and no_new_privs is set here (a container or a service does that), under which nothing gains rights; outside of it, {}", names(.missing), ways_out_of(.program))]
    Final {
        /// Their names.
        missing: Vec<&'static str>,
        /// The path of this program.
        program: String,
    },
    /// The capabilities are those of a user namespace, which the kernel does not take.
    #[error("recording needs {} of the whole machine, and this process is root in a user namespace only: run it outside of it (no rootless container, no unshare -U)", names(.missing))]
    UserNamespace {
        /// Their names.
        missing: Vec<&'static str>,
    },
}

fn names(missing: &[&str]) -> String {
    missing.join(" and ")
}

fn ways_out_of(program: &str) -> String {
    let program = shell_word(program);
    format!("run it as root (sudo {program} ...), or give the program its capabilities once: sudo setcap {FILE_CAPABILITIES} {program}")
}

/// How this program gets all the capabilities that it uses.
pub fn ways_out() -> String {
    ways_out_of(&program())
}

fn program() -> String {
    let path = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
    // A binary that was replaced while it ran: its name is no name any more.
    if path.is_empty() || path.ends_with(" (deleted)") { "profiler".to_owned() } else { path }
}

/// What this thread may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rights {
    /// Its effective capabilities.
    effective: u64,
    /// They count for the whole machine.
    is_machine_wide: bool,
    /// What is executed cannot add to them: `no_new_privs`, as containers and services set it.
    is_final: bool,
}

impl Rights {
    /// The rights of the calling thread; none if the kernel does not tell.
    pub(super) fn own() -> Self {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        // Without user namespaces there is no link.
        let namespace = std::fs::read_link("/proc/self/ns/user");
        Self {
            effective: parse_effective(&status),
            is_machine_wide: namespace.map_or(true, |link| link == Path::new(INITIAL_USER_NAMESPACE)),
            is_final: status.lines().any(|line| line.strip_prefix("NoNewPrivs:").is_some_and(|value| value.trim() == "1")),
        }
    }

    /// Whether a capability, by its number, is there and counts.
    fn has(self, number: u32) -> bool {
        self.is_machine_wide && self.effective & (1 << number) != 0
    }

    /// `CAP_SYS_ADMIN`.
    pub(super) fn is_admin(self) -> bool {
        self.has(SYS_ADMIN)
    }

    fn has_capability(self, capability: &Capability) -> bool {
        self.has(capability.number) || capability.instead.is_some_and(|instead| self.has(instead))
    }

    fn missing_for_record(self) -> Result<(), RightsError> {
        let missing = ALL.iter().filter(|capability| capability.need == Need::Record && !self.has_capability(capability));
        let missing: Vec<&'static str> = missing.map(Capability::name).collect();
        match (missing.is_empty(), self.is_machine_wide) {
            (true, _) => Ok(()),
            (false, true) if self.is_final => Err(RightsError::Final { missing, program: program() }),
            (false, true) => Err(RightsError::Missing { missing, program: program() }),
            (false, false) => Err(RightsError::UserNamespace { missing }),
        }
    }
}

/// `CapEff` of proc_pid_status(5).
fn parse_effective(status: &str) -> u64 {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    hex.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// Checks the rights that every recording needs: CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN for both.
///
/// # Errors
/// Some are missing; the error names them and the ways to get them.
pub fn missing_for_record() -> Result<(), RightsError> {
    Rights::own().missing_for_record()
}

/// A row a capability.
pub(super) fn rows(rights: &Rights) -> Vec<Row> {
    let row = |capability: &Capability| {
        let row = Row::new(capability.feature, capability.need, capability.purpose);
        if rights.has(capability.number) {
            return row;
        }
        if rights.has_capability(capability) {
            return row.seen(if capability.instead == Some(SYS_ADMIN) {
                "CAP_SYS_ADMIN stands for it"
            } else {
                "CAP_DAC_OVERRIDE stands for it"
            });
        }
        let advice = if rights.is_machine_wide {
            "run it as root, or give the program its capabilities"
        } else {
            "run it outside of the user namespace"
        };
        row.seen(format!("without it {}", capability.without)).but(State::Missing, advice)
    };
    ALL.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(numbers: &[u32]) -> Rights {
        Rights { effective: numbers.iter().fold(0, |bits, number| bits | 1 << number), is_machine_wide: true, is_final: false }
    }

    #[test]
    fn exactly_what_is_missing_is_named_with_both_ways_out() {
        let text = |numbers: &[u32]| rights(numbers).missing_for_record().map_err(|error| error.to_string());
        let both = text(&[]).expect_err("nothing is there");
        assert!(both.starts_with("recording needs CAP_BPF and CAP_PERFMON: "), "{both}");
        assert!(both.contains("sudo setcap cap_bpf,cap_perfmon,") && both.contains("(sudo /"), "{both}");
        assert!(text(&[39, 19, 2]).expect_err("one is not there").starts_with("recording needs CAP_PERFMON: "));
        assert!(text(&[38]).expect_err("one is not there").starts_with("recording needs CAP_BPF: "));
        assert_eq!(text(&[38, 39]), Ok(()));
        assert_eq!(text(&[SYS_ADMIN]), Ok(()));
    }

    #[test]
    fn rights_of_a_user_namespace_do_not_count() {
        let rights = Rights { effective: u64::MAX, is_machine_wide: false, is_final: false };
        assert!(
            matches!(rights.missing_for_record(), Err(RightsError::UserNamespace { missing }) if missing == ["CAP_BPF", "CAP_PERFMON"])
        );
    }

    #[test]
    fn no_way_is_promised_that_cannot_work() {
        let error = Rights { is_final: true, ..rights(&[39]) }.missing_for_record().expect_err("one is not there");
        assert!(matches!(&error, RightsError::Final { missing, .. } if missing == &["CAP_PERFMON"]), "{error}");
        assert_eq!(Rights { is_final: true, ..rights(&[38, 39]) }.missing_for_record(), Ok(()));
    }

    #[test]
    fn stronger_capabilities_stand_for_others_but_not_for_all() {
        let states = |numbers: &[u32]| {
            rows(&rights(numbers)).iter().filter(|row| row.state == State::Missing).map(|row| row.feature).collect::<Vec<_>>()
        };
        assert_eq!(states(&[SYS_ADMIN, DAC_OVERRIDE]), ["capability CAP_SYS_PTRACE", "capability CAP_SYSLOG"]);
        assert_eq!(states(&[39, 38, 19, 2, 40, 34]), [""; 0]);
        assert_eq!(states(&[]).len(), 6);
    }

    #[test]
    fn the_kernel_s_mask_is_read() {
        assert_eq!(parse_effective("CapPrm:\t000001ffffffffff\nCapEff:\t000000c000000000\n"), 1 << 38 | 1 << 39);
        assert_eq!(parse_effective("CapEff:\tgarbage\n"), 0);
        assert_eq!(parse_effective(""), 0);
    }

    #[test]
    fn a_thread_that_gives_up_a_capability_misses_it() {
        let own = rustix::thread::capabilities(None).expect("the kernel tells");
        if !own.effective.contains(rustix::thread::CapabilitySet::BPF) {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "CI must run this as root");
            eprintln!("SKIP: giving up CAP_BPF needs CAP_BPF; run the tests as root");
            return;
        }
        let outcome = std::thread::spawn(|| {
            use rustix::thread::CapabilitySet;
            let mut sets = rustix::thread::capabilities(None).expect("the kernel tells");
            sets.effective.remove(CapabilitySet::BPF | CapabilitySet::SYS_ADMIN);
            rustix::thread::set_capabilities(None, sets).expect("less is always allowed");
            missing_for_record()
        });
        assert!(matches!(outcome.join().expect("it ends"), Err(RightsError::Missing { missing, .. }) if missing == ["CAP_BPF"]));
        assert_eq!(missing_for_record(), Ok(()), "only that thread gave it up");
    }
}
