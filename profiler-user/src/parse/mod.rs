//! Pure functions over bytes from strangers. Parses, never opens: the bytes come from whoever calls, and that is `reader/child.rs` alone, so that every
//! one of these functions runs in a process without rights. None of them panics on any bytes; where a library might, the reader is what pays.

pub mod allocator;
mod allocator_marks;
mod allocator_names;
pub mod decl_line;
mod decl_reference;
pub mod demangle;
mod dwarf;
pub mod eh_frame;
pub mod elf;
mod frame_rows;
mod go_frames;
pub mod go_heap;
mod go_module;
mod go_operands;
pub mod go_table;
pub mod go_waits;
pub mod goroutines;
pub mod linkage;
pub mod machine;
mod machine_code;
mod mark_arguments;
pub mod native;
pub mod pclntab;
pub mod perf_map;
mod probe_place;
pub mod probe_points;
mod tail_jumps;
mod unwind_gaps;
mod unwind_gaps_arm64;
mod unwind_parts;
mod unwind_rule;
mod unwind_rule_arm64;
