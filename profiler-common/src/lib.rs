//! The border between the eBPF programs and the loader, on one page: everything that crosses it, and nothing else.
//!
//! ```text
//!            kernel (profiler-ebpf)                          user space (profiler-user, room `bpf/`)
//!
//!   perf cpu-clock tick ──► cpu program
//!        counted ─────────────► COUNTERS (per CPU) ────────► counts and losses of each source     counter.rs loss.rs source.rs
//!        filtered by ◄──────── SETTINGS, TARGET_* ◄───────── what the user asked for          settings.rs target.rs
//!        stack, once a hash ──► RING: StackHeader + addresses ─┐
//!        sample ──────────────► RING: SampleRecord ────────────┴► `Tally<RawStack>`           record.rs
//!   call of an allocator ──► heap programs
//!        which function ◄───── SITES ◄────────────────────── where its functions are              tally.rs
//!        taken or not           sampling.rs
//!        counted ─────────────► TALLIES ──────────────────► counts by stack and size class       tally.rs size_class.rs
//!        whose a key is ──────► RING: TallyRecord ─────────► a `Tally<RawStack>` without events   record.rs
//!   a look at all threads ──► threads program ──► ThreadRecord, read from the iterator          snapshot.rs
//!   a thread leaves its CPU, is woken, comes back ──► programs of the scheduler
//!        since when ──────────► SLEEPS, LOCKS                                                wait.rs futex.rs
//!        counted ─────────────► DELAYS ───────────────────► waits by stack                       wait.rs
//!   probe of a custom profile ─► custom programs
//!        what it adds or removes ◄ CUSTOM_SITES ◄─────────── recipes of keys and weights              custom.rs
//!   a command becomes a program, its loader has mapped libraries ──► stopped until probes are armed: HOLD   hold.rs
//!   fork / exit ──► follow the targets' children in TARGET_PROCESSES                          target.rs
//! ```
//!
//! Layouts are `#[repr(C)]` with their padding spelled out and derive the `zerocopy` traits, so that reading one from bytes is checked and not
//! promised. No bool, `Option` or Rust enum crosses: an enum crosses as its integer and is rebuilt with `TryFrom` in the file that defines it.
//! The crate is `no_std`, does no I/O and allocates nothing: the kernel programs and the host tests run the same code.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod counter;
pub mod custom;
pub mod descriptor;
pub mod ended;
pub mod futex;
pub mod glob;
pub mod hold;
pub mod limits;
pub mod loss;
pub mod process;
pub mod record;
pub mod sampling;
pub mod settings;
pub mod size_class;
pub mod snapshot;
pub mod source;
pub mod tally;
pub mod target;
pub mod unwind;
pub mod wait;
