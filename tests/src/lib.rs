//! What the promises of `tests/tests/` stand on: it builds subjects (small programs that do one known thing), records them with the built binary, and
//! reads the profiles back with a decoder of its own, which shares no line with the product's encoder.

pub mod cgroup;
pub mod contended;
pub mod forged;
pub mod gdb;
pub mod house;
pub mod manifest;
pub mod nginx;
pub mod pairs;
pub mod peak;
pub mod perf;
pub mod planted;
pub mod postgres;
pub mod pprof_tool;
pub mod probes;
pub mod profile;
pub mod run;
pub mod served;
pub mod side_by_side;
pub mod skip;
pub mod speedscope;
pub mod subject;
pub mod symbols;
pub mod waiting;
