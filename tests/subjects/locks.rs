//! Locks of Rust's library with a contention that is known, as in `locks.c`: the word is `mutex`, `rwlock` or `condvar`.
use std::hint::black_box;
use std::io::stdin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, RwLock};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

static MUTEX: Mutex<u64> = Mutex::new(0);
static RWLOCK: RwLock<u64> = RwLock::new(0);
static CONDVAR: Condvar = Condvar::new();
static WAITED: AtomicU64 = AtomicU64::new(0);
static OVER: AtomicBool = AtomicBool::new(false);
static IS_RWLOCK: AtomicBool = AtomicBool::new(false);

#[inline(never)]
fn acquire<T>(lock: impl FnOnce() -> T) -> T {
    let from = Instant::now();
    let guard = lock();
    let took = from.elapsed();
    if took > Duration::from_micros(100) {
        WAITED.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }
    black_box(guard)
}

#[inline(always)]
fn holds(ms: u64) {
    if IS_RWLOCK.load(Ordering::Relaxed) {
        let guard = acquire(|| RWLOCK.write().unwrap());
        sleep(Duration::from_millis(ms));
        drop(black_box(guard));
    } else {
        let guard = acquire(|| MUTEX.lock().unwrap());
        sleep(Duration::from_millis(ms));
        drop(black_box(guard));
    }
}

#[no_mangle]
#[inline(never)]
fn holds_one() {
    holds(black_box(2));
}

#[no_mangle]
#[inline(never)]
fn holds_three() {
    holds(black_box(6));
}

#[no_mangle]
#[inline(never)]
fn holds_six() {
    holds(black_box(12));
}

#[no_mangle]
#[inline(never)]
fn only_wants() {
    if IS_RWLOCK.load(Ordering::Relaxed) {
        drop(acquire(|| RWLOCK.read().unwrap()));
    } else {
        drop(acquire(|| MUTEX.lock().unwrap()));
    }
}

fn contend() {
    let turns: [fn(); 6] = [holds_one, holds_three, holds_six, only_wants, only_wants, only_wants];
    scope(|threads| {
        for turn in turns {
            threads.spawn(move || {
                while !OVER.load(Ordering::Relaxed) {
                    turn();
                    sleep(Duration::from_micros(200));
                }
            });
        }
        sleep(Duration::from_secs(3));
        OVER.store(true, Ordering::Relaxed);
    });
}

#[no_mangle]
#[inline(never)]
fn awaits() {
    acquire(|| {
        let mut given = MUTEX.lock().unwrap();
        while *given == 0 {
            given = CONDVAR.wait(given).unwrap();
        }
        *given = 0;
    });
}

#[no_mangle]
#[inline(never)]
fn notifies() {
    *MUTEX.lock().unwrap() = 1;
    CONDVAR.notify_one();
}

fn condition_variable() {
    scope(|threads| {
        threads.spawn(|| {
            for _ in 0..100 {
                sleep(Duration::from_millis(10));
                notifies();
            }
        });
        for _ in 0..100 {
            awaits();
        }
    });
}

fn main() {
    let mut line = String::new();
    let what = std::env::args().nth(1).unwrap_or_default();
    IS_RWLOCK.store(what == "rwlock", Ordering::Relaxed);
    println!("ready");
    stdin().read_line(&mut line).unwrap();
    if what == "condvar" { condition_variable() } else { contend() }
    println!("waited {}", WAITED.load(Ordering::Relaxed));
    stdin().read_line(&mut line).unwrap();
}
