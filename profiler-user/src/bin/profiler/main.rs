//! The binary's face.

fn main() {
    profiler::reader::init();
}
