//! What this kernel and these privileges allow.

/// Rights that recording needs and this process has not.
#[derive(Debug, thiserror::Error)]
#[error(
    "recording needs {missing}: run it as root (sudo profiler ...), or give the program its capabilities once: sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,cap_checkpoint_restore,cap_syslog+ep {program}"
)]
pub struct RightsError {
    /// The names of the capabilities.
    missing: String,
    /// The path of this program.
    program: String,
}

/// Capabilities without which nothing can be recorded, with their numbers (include/uapi/linux/capability.h).
const NEEDED: [(&str, u32); 2] = [("CAP_BPF", 39), ("CAP_PERFMON", 38)];
/// Stands for both.
const SYS_ADMIN: u32 = 21;

/// Checks the rights that recording needs.
///
/// # Errors
/// Some are missing; the error names them and the ways to get them.
pub fn missing_for_record() -> Result<(), RightsError> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let has = |number: u32| effective.is_none_or(|bits| bits & (1 << number) != 0);
    let missing: Vec<&str> = NEEDED.iter().filter(|(_, number)| !has(*number) && !has(SYS_ADMIN)).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let program = std::env::current_exe().map_or_else(|_| "profiler".to_owned(), |path| path.display().to_string());
    Err(RightsError { missing: missing.join(" and "), program })
}
