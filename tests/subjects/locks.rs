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
static HELD: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
static TAKEN: AtomicU64 = AtomicU64::new(0);
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

fn has(ms: u64, at: usize) {
    let from = Instant::now();
    sleep(Duration::from_millis(ms));
    HELD[at].fetch_add(from.elapsed().as_nanos() as u64, Ordering::Relaxed);
}

#[inline(always)]
fn holds(ms: u64, at: usize) {
    if IS_RWLOCK.load(Ordering::Relaxed) {
        let guard = acquire(|| RWLOCK.write().unwrap());
        has(ms, at);
        drop(black_box(guard));
    } else {
        let guard = acquire(|| MUTEX.lock().unwrap());
        has(ms, at);
        drop(black_box(guard));
    }
}

#[no_mangle]
#[inline(never)]
fn holds_one() {
    holds(black_box(2), 0);
}

#[no_mangle]
#[inline(never)]
fn holds_three() {
    holds(black_box(6), 1);
}

#[no_mangle]
#[inline(never)]
fn holds_six() {
    holds(black_box(12), 2);
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
        TAKEN.fetch_add(1, Ordering::Relaxed);
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
            for number in 0..100 {
                // Two at once would be one, and the last one would be waited for for ever.
                while TAKEN.load(Ordering::Relaxed) < number {
                    sleep(Duration::from_millis(1));
                }
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
    let [one, three, six] = HELD.each_ref().map(|held| held.load(Ordering::Relaxed));
    println!("waited {} held {one} {three} {six}", WAITED.load(Ordering::Relaxed));
    stdin().read_line(&mut line).unwrap();
}
