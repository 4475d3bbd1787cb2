//! Any rules, registers and memory through `step()` of both machines. The body is that of the tests, which run it for a bounded time on every change.
#![no_main]

#[allow(dead_code, reason = "its other half is the body of the other target")]
#[path = "../../profiler-user/tests/unwind/bounded.rs"]
mod bounded;

use profiler::parse::machine::Machine;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for machine in [Machine::X86_64, Machine::Arm64] {
        bounded::any_walk(bytes, machine);
    }
});
