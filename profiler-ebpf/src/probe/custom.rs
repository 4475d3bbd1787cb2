//! Custom profiles: a probe adds a key with the stack that added it, another one removes it. What each does, and where its key is, its site says.
//!
//! One program for each sort of probe; all of them are this one, which follows the site's recipe. The keys that live are kept with the blocks of heap, told
//! apart by a hash of the source.

use crate::emit;
use crate::live::{self, Former, take_away};
use crate::maps::CUSTOM_SITES;
use crate::pending::{Returned, Slot};
use crate::place::{OfProbe, Place as _};
use crate::probe::descriptor::{SystemCall, are_native};
use crate::probe::heap::blocks::{are_counted, give_up};
use crate::probe::heap::call::{entered_at, returned_from};
use crate::settings::setting;
use crate::stack::{From, mix, process_hash, take};
use crate::tally::{Added, begin, count, has_room, is_known};
use crate::target::{is_own, is_wanted};
use crate::task::{Current, read_kernel};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_get_attach_cookie, bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_user};
use aya_ebpf::programs::{ProbeContext, RawTracePointContext, RetProbeContext};
use profiler_common::counter::Counter;
use profiler_common::custom::{
    ACTION_BEGIN, ACTION_END, ACTION_REMOVE, CustomSite, MEMORY_KERNEL, MEMORY_USER, SITE_AT_ENTRY, SITE_GLOBAL, SITE_KEYED,
    SITE_MAY_BE_NULL, SITE_MAY_FAIL, SITE_OF_BLOCKS, VALUE_CONTEXT, VALUE_KEPT, VALUE_PROCESS, VALUE_THREAD, Value, cut, is_error,
};
use profiler_common::loss::Loss;
use profiler_common::process::ProcessKey;
use profiler_common::record::{RecordKind, TallyRecord};
use profiler_common::sampling::{ONE_BLOCK, blocks_for};
use profiler_common::size_class::class_bytes;
use profiler_common::source::Source;
use profiler_common::tally::{LiveBlock, LiveKey, PendingKey, TallyKey};

/// Where a key that is kept from the entry of a call leaves room for what tells its probe from others at the same call.
const PAIR_SHIFT: u32 = 55;

/// One hit of a probe.
struct Hit<'a> {
    site: &'a CustomSite,
    source: Source,
    /// Where the context is, as a number: which part of it is read, is for the site to say.
    context: u64,
    id: u64,
    task: Current,
    process: ProcessKey,
}

impl<'a> Hit<'a> {
    /// By the cookie of the probe; None while nothing is counted.
    #[inline(always)]
    fn at(context: *mut c_void) -> Option<Self> {
        if !are_counted() {
            return None;
        }
        // SAFETY: the context of a program that is attached with a cookie.
        let cookie = unsafe { bpf_get_attach_cookie(context) };
        // SAFETY: a live map value, which user space writes before it arms the probe.
        let site: &'a CustomSite = unsafe { &*CUSTOM_SITES.get_ptr(cookie as u32)? };
        let source = Source::try_from(site.source as u16).ok()?;
        // SAFETY: no arguments, no preconditions.
        let id = unsafe { bpf_get_current_pid_tgid() };
        let task = Current::task();
        let process = task.process((id >> 32) as u32);
        Some(Self { site, source, context: core::hint::black_box(context as u64), id, task, process })
    }

    #[inline(always)]
    fn has(&self, flag: u32) -> bool {
        self.site.flags & flag != 0
    }

    /// A number that the site asks for. `kept` is what the entry of the call has kept of it.
    #[inline(always)]
    fn value(&self, value: &Value, kept: u64) -> u64 {
        let mut number = match value.from {
            VALUE_CONTEXT => read_kernel::<u64>(self.context.wrapping_add(u64::from(value.at))),
            VALUE_THREAD => return self.id & 0xffff_ffff,
            VALUE_PROCESS => return self.id >> 32,
            VALUE_KEPT => return kept,
            _ => return value.number,
        };
        let address = number.wrapping_add(value.number);
        if value.memory == MEMORY_KERNEL {
            number = read_kernel(address);
        } else if value.memory == MEMORY_USER {
            number = read_user(address, value.bytes);
        }
        cut(number, value.bytes, value.is_signed != 0)
    }

    /// Whether a key says that the call has failed which returned it.
    #[inline(always)]
    fn is_failure(&self, key: u64) -> bool {
        self.has(SITE_MAY_FAIL) && is_error(key) || self.has(SITE_MAY_BE_NULL) && key == 0
    }

    /// Under what a key lives. A process that becomes another program begins anew, as its memory does.
    #[inline(always)]
    fn live_key(&self, key: u64) -> LiveKey {
        let source = u64::from(self.source.number());
        if self.has(SITE_GLOBAL) {
            return LiveKey { block: key, process: mix(setting!(seed), source) & 0xffff_ffff };
        }
        let image = mix(process_hash(&self.process), u64::from(self.process.exec_generation));
        LiveKey { block: key, process: u64::from(self.process.tgid) << 32 | mix(image, source) & 0xffff_ffff }
    }

    /// Whether nothing was asked for that happens here.
    #[inline(always)]
    fn is_other(&self) -> bool {
        self.site.mask != 0 && self.value(&self.site.tested, 0) & self.site.mask == 0
    }

    /// Takes a key away.
    #[inline(always)]
    fn remove(&self) {
        let key = self.value(&self.site.key, 0);
        if self.is_failure(key) {
            return;
        }
        match take_away(&self.live_key(key)) {
            Some(held) => live::freed(self.source, &held),
            None => OfProbe::add(self.source, Counter::OtherFrees, 1),
        }
    }

    /// Adds a key where its stack is at hand.
    #[inline(always)]
    fn add(&self, from: &From<'_>) {
        OfProbe::add(self.source, Counter::Runs, 1);
        let key = self.value(&self.site.key, 0);
        if self.is_failure(key) {
            return OfProbe::add(self.source, Counter::Filtered, 1);
        }
        let weight = self.value(&self.site.weight, 0);
        if let Some(tally) = self.named(from) {
            self.added(key, weight, tally);
        }
    }

    /// Counts a key that was added, and follows it.
    #[inline(always)]
    fn added(&self, key: u64, weight: u64, tally: TallyKey) {
        let (bytes, stands_for) = match self.block_size() {
            Some(size) => (size, blocks_for(size, weight)),
            None => (weight, ONE_BLOCK),
        };
        let mut block = LiveBlock { tally, bytes, stands_for, ..LiveBlock::default() };
        count(&block, 1, Added::Allocated);
        OfProbe::add(self.source, Counter::Samples, 1);
        if self.has(SITE_KEYED) {
            let former = if self.has(SITE_OF_BLOCKS) { Former::Unseen } else { Former::Replaced };
            live::follow(self.source, &self.live_key(key), &mut block, former);
        }
    }

    /// The size of the block that is added, where a process says which it has sampled.
    #[inline(always)]
    fn block_size(&self) -> Option<u64> {
        self.has(SITE_OF_BLOCKS).then(|| self.value(&self.site.tested, 0))
    }

    /// A call has begun that will add a key.
    #[inline(always)]
    fn begun(&self, call: PendingKey, (key, weight): (u64, u64), tally: TallyKey) {
        let Some(mut slot) = Slot::claim(&self.pair(call)) else { return };
        if let Some(former) = slot.former().filter(|former| former.has_old != 0) {
            give_up(former);
        }
        let pending = slot.call();
        (pending.new.tally, pending.new.bytes, pending.old_block, pending.has_old) = (tally, weight, key, 0);
        slot.waits();
    }

    /// It returns. One that had begun before it was probed is not known.
    #[inline(always)]
    fn end(&self, call: PendingKey) {
        let call = self.pair(call);
        let Some(returned) = Returned::find(&call) else { return };
        let pending = returned.call();
        let (tally, weight, key) = (pending.new.tally, pending.new.bytes, pending.old_block);
        if !returned.leave(&call) {
            return;
        }
        let (key, weight) = (self.value(&self.site.key, key), self.value(&self.site.weight, weight));
        if self.is_failure(key) {
            return OfProbe::add(self.source, Counter::Filtered, 1);
        }
        self.added(key, weight, tally);
    }

    #[inline(always)]
    fn pair(&self, call: PendingKey) -> PendingKey {
        PendingKey { thread: call.thread, return_at: call.return_at ^ u64::from(self.site.pair) << PAIR_SHIFT }
    }

    /// Takes the stack and makes sure that there is a count for it. What found no room is lost, and counted.
    #[inline(always)]
    fn named(&self, from: &From<'_>) -> Option<TallyKey> {
        let Some(place) = OfProbe::claim() else {
            OfProbe::lose(self.source, Loss::NoScratch);
            return None;
        };
        let key = self.named_in(place, from);
        place.leave();
        key
    }

    #[inline(always)]
    fn named_in(&self, place: OfProbe, from: &From<'_>) -> Option<TallyKey> {
        let Some(stack) = take(place, from, &self.process, self.task) else {
            OfProbe::lose(self.source, Loss::NoScratch);
            return None;
        };
        let key = TallyKey::new(self.source, stack.hash, self.block_size().map_or(0, class_bytes));
        if is_known(&key) {
            return Some(key);
        }
        // SAFETY: no arguments, no preconditions.
        let time_ns = unsafe { bpf_ktime_get_ns() };
        let (kind, tid) = (RecordKind::Tally as u16, self.id as u32);
        let record = TallyRecord { kind, is_shared: 0, tid, process: self.process, time_ns, key };
        let is_begun = has_room(self.source, record.process.tgid)
            && emit::tally(self.source, &record, &stack)
            && begin(self.source, &key, self.process.tgid);
        is_begun.then_some(key)
    }
}

/// As many bytes of the process's memory as fit into a number.
#[inline(always)]
fn read_user(address: u64, bytes: u32) -> u64 {
    let mut number = 0u64;
    let bytes = core::hint::black_box(bytes);
    if bytes == 0 || bytes > 8 {
        return 0;
    }
    // SAFETY: the helper writes at most 8 bytes to the local, or fails.
    unsafe { bpf_probe_read_user((&raw mut number).cast(), bytes, address as *const _) };
    number
}

/// A probed function is called.
#[inline(always)]
pub fn called(context: &ProbeContext) {
    let Some(hit) = Hit::at(context.as_ptr()) else { return };
    if hit.site.action == ACTION_REMOVE {
        return hit.remove();
    }
    // The walk is there once for both, or the program's stack would be too large for kernels that give it no other.
    let begins = hit.site.action == ACTION_BEGIN;
    OfProbe::add(hit.source, Counter::Runs, 1);
    let (key, weight) = (hit.value(&hit.site.key, 0), hit.value(&hit.site.weight, 0));
    if !begins && hit.is_failure(key) {
        return OfProbe::add(hit.source, Counter::Filtered, 1);
    }
    let Some(tally) = hit.named(&From::Probe { is_entry: begins || hit.has(SITE_AT_ENTRY) }) else { return };
    if begins {
        hit.begun(entered_at(context.regs), (key, weight), tally);
    } else {
        hit.added(key, weight, tally);
    }
}

/// It returns.
#[inline(always)]
pub fn returned(context: &RetProbeContext) {
    let Some(hit) = Hit::at(context.as_ptr()) else { return };
    match hit.site.action {
        ACTION_REMOVE => hit.remove(),
        ACTION_END => hit.end(returned_from(context.regs)),
        _ => hit.add(&From::Probe { is_entry: false }),
    }
}

/// A tracepoint is met.
#[inline(always)]
pub fn traced(context: &RawTracePointContext) {
    let Some(hit) = Hit::at(context.as_ptr()) else { return };
    if hit.site.system_call != 0 {
        let call = SystemCall::of(context.arg(0));
        if call.number() + 1 != hit.site.system_call || !are_native(&call) {
            return;
        }
    }
    if hit.is_other() {
        return;
    }
    // Whoever has a key may remove it, also when it has another name by now and would not be asked for.
    if hit.site.action == ACTION_REMOVE {
        return hit.remove();
    }
    let tgid = hit.process.tgid;
    if hit.task.is_of_kernel() || (setting!(own_count) != 0 && is_own(tgid)) || !is_wanted(hit.task, tgid) {
        return;
    }
    hit.add(&From::Probe { is_entry: hit.has(SITE_AT_ENTRY) });
}
