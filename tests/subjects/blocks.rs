//! blocks, in Rust: at each line of standard input 1,000 boxes of 100 bytes that stay (kept), a vector that grows to 1,000 numbers of 8 bytes and goes (dropped),
//! 100 zeroed vectors of 2,000 bytes that stay (zeroed).
use std::io::BufRead;

#[inline(never)]
fn kept() {
    for _ in 0..1000 {
        std::mem::forget(std::hint::black_box(Box::new([1u8; 100])));
    }
}

#[inline(never)]
fn dropped() {
    let mut numbers: Vec<u64> = Vec::new();
    for number in 0..1000 {
        numbers.push(std::hint::black_box(number));
    }
}

#[inline(never)]
fn zeroed() {
    for _ in 0..100 {
        std::mem::forget(std::hint::black_box(vec![0u8; 2000]));
    }
}

pub fn main() {
    println!("ready");
    for _ in std::io::stdin().lock().lines() {
        kept();
        dropped();
        zeroed();
        println!("done");
    }
}
