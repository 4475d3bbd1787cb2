//! The nouns that pass between the rooms. No I/O, no clocks; each stage of a sample has a type of its own.

pub mod address;
pub mod allocator;
pub mod answer;
pub mod container;
pub mod custom;
pub mod dump;
pub mod encoded;
pub mod entry_points;
pub mod event;
pub mod go_heap;
pub mod go_waits;
pub mod goroutines;
pub mod kind;
pub mod label;
pub mod life;
pub mod loss;
pub mod mapping;
pub mod partner;
pub mod probe_points;
pub mod process;
pub mod profile;
pub mod stack;
pub mod text;
pub mod unwind;
pub mod window;
