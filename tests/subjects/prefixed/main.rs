//! The pattern of `blocks.rs`, in a program that brings jemalloc along: `_rjem_malloc` and the like, and no `malloc`.
#[path = "../blocks.rs"]
mod blocks;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    blocks::main();
}
