//! Taking the stack of the interrupted task into scratch: the kernel part by the kernel, the user part by our own walk, hashed on the way.

mod kernel;
mod known;
mod lookup;
pub mod registers;
mod return_probe;
pub mod unfinished;
mod user;
mod window;

use crate::emit::Wake;
use crate::maps::Scratch;
use crate::place::Place;
use crate::settings::setting;
use crate::task::Current;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::programs::PerfEventContext;
use profiler_common::ended::Ended;
use profiler_common::process::ProcessKey;
use profiler_common::record::{FORM_UNFINISHED, FORM_WALKED, RecordKind, StackHeader};
pub use registers::{Interrupted, current_call, interrupted};
use unfinished::Allowed;
use user::Leaf;

/// A stack in scratch, ready to be sent.
pub struct Taken<P> {
    pub place: P,
    pub scratch: *mut Scratch,
    pub hash: u64,
    /// Words behind the header: addresses, and what an unfinished stack carries.
    pub words: u32,
    /// Where the bytes of an unfinished stack go on, beyond those that are in scratch; 0: they do not.
    pub more_at: u64,
    /// Whether the drain is to see it at once.
    pub wake: Wake,
}

/// An odd constant with its bits well mixed (2^64 divided by the golden ratio).
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

/// One word into the hash.
#[inline(always)]
pub fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(MIX);
    mixed ^ (mixed >> 32)
}

/// What a stack is taken from.
pub enum From<'a> {
    /// A tick, which may have interrupted the kernel.
    Tick { context: &'a PerfEventContext, at: &'a Interrupted },
    /// The scheduler, or another place in the kernel, where the current task has called it; `kernel`: its part is wanted.
    Kernel { context: *mut c_void, kernel: bool },
    /// A probe in user code; `is_entry`: the stack pointer is where the call left it.
    Probe { is_entry: bool },
}

impl From<'_> {
    #[inline(always)]
    fn leaf(&self) -> Leaf {
        match self {
            Self::Tick { .. } => Leaf::Anywhere,
            Self::Probe { is_entry: true } => Leaf::AtEntry,
            Self::Probe { is_entry: false } | Self::Kernel { .. } => Leaf::AtCall,
        }
    }
}

/// Takes the stack of the current task.
#[inline(always)]
pub fn take<P: Place>(place: P, from: &From<'_>, process: &ProcessKey, task: Current) -> Option<Taken<P>> {
    let scratch = place.scratch()?;
    let start = mix(process_hash(process), u64::from(process.exec_generation));
    let kernel_frames = match from {
        From::Tick { context, at } if at.is_kernel && setting!(kernel_stacks) != 0 => kernel::take(context.as_ptr(), scratch, 0),
        From::Kernel { context, kernel: true } if setting!(kernel_stacks) != 0 => kernel::take(*context, scratch, kernel::OWN_FRAMES),
        _ => 0,
    };
    let user = if setting!(user_stacks) != 0 {
        user::walk(place, process, (task, from.leaf()), (start, kernel_frames))
    } else {
        user::Walked::none(start)
    };
    let (mut words, mut form, mut hash, mut more_at) = (kernel_frames + user.frames, FORM_WALKED, user.hash, 0);
    let mut wake = Wake::WhenMuchWaits;
    if let Some(walk) = user.unfinished {
        let allowed = unfinished::is_allowed(process.tgid);
        if allowed != Allowed::Not {
            if allowed == Allowed::AndWakes {
                wake = Wake::Now;
            }
            let appended = unfinished::append(scratch, words, walk);
            words += appended.words;
            more_at = appended.more_at;
            form = FORM_UNFINISHED;
            // Two of them may have the same addresses so far, and not the same bytes.
            // SAFETY: no arguments, no preconditions.
            hash = mix(hash, unsafe { bpf_ktime_get_ns() });
        }
    }
    let ended = user.ended;
    // The same addresses by another list may be another stack: what they were walked with is a part of what they are.
    hash = mix(hash, u64::from(user.list));
    hash = mix(kernel::hash(place, hash, kernel_frames), u64::from(ended) | u64::from(kernel_frames) << 8);
    if setting!(per_thread) != 0 {
        // What is counted in the kernel is counted by hash.
        // SAFETY: no arguments, no preconditions.
        hash = mix(hash, unsafe { bpf_get_current_pid_tgid() });
    }
    if hash == 0 {
        hash = 1; // 0 is an empty slot.
    }
    let header = StackHeader {
        kind: RecordKind::Stack as u16,
        ended,
        form,
        kernel_frames: kernel_frames as u16,
        user_frames: user.frames as u16,
        stack_hash: hash,
        list: user.list,
        reserved: 0,
    };
    // SAFETY: scratch is this program's own.
    unsafe { (*scratch).header = header };
    Some(Taken { place, scratch, hash, words, more_at, wake })
}

/// A hash of a process that no other process can guess.
#[inline(always)]
pub fn process_hash(process: &ProcessKey) -> u64 {
    mix(mix(setting!(seed), process.start_boot_ns), u64::from(process.tgid))
}

/// No user part was taken.
pub const NO_USER: Ended = Ended::NoUserStack;
