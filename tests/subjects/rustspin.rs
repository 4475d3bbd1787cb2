//! Burns CPU in `rustspin::inner_module::spin_here`, called by `rustspin::outer`, until it is ended.

use std::hint::black_box;

mod inner_module {
    use std::hint::black_box;

    /// Burns CPU.
    #[inline(never)]
    pub fn spin_here(rounds: u64) -> u64 {
        let mut value = black_box(1u64);
        for _ in 0..rounds {
            value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        }
        black_box(value)
    }
}

#[inline(never)]
fn outer() {
    black_box(inner_module::spin_here(black_box(300_000)));
}

fn main() {
    println!("ready");
    loop {
        outer();
    }
}
