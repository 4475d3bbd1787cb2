//! The budget of a recording of calls: what it allows and what was spent, by the processes that are probed.

use super::governor::{Governor, Order, Step};
use crate::bpf::Spent;
use crate::model::process::Pid;
use crate::model::profile::TOTALS_WITHHELD;
use crate::process::{cpu_time, ticks_since_boot};
use rustix::time::{ClockId, clock_gettime};
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// How often the budget is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// Of so many looks one reads the CPU time of each process, after the first ones: of a server of many, that takes longer than all else that a look does.
const LOOKS_FOR_CPU: u32 = 4;
/// The first ones.
const LOOKS_FIRST: u32 = 20;
/// Of less CPU time than this nothing is said: it is a few ticks of the kernel's clock.
const TOLD_FROM: Duration = Duration::from_millis(100);

/// What is allowed, and what was taken.
pub(super) struct Budget {
    share: f64,
    governor: Governor,
    begun: Instant,
    /// When it began, in the kernel's ticks.
    begun_ticks: u64,
    /// CPU time of each process.
    cpu: HashMap<Pid, Had>,
    /// What those have had whose numbers others have now.
    gone: Duration,
    turns: u32,
    looks: u32,
    spent: Spent,
    traps: Settled,
    entries: Settled,
    /// What arming and disarming has taken.
    arming: Duration,
    /// What processes can have had that have ended since they were read last, or before they were read at all.
    unread: Unread,
    /// What had been spent of how much CPU time when the last stretch ended.
    told: (Duration, Duration),
}

impl Budget {
    pub(super) fn new(step: Step, share: f64) -> Self {
        let governor = Governor::new(step, share);
        let (cpu, spent, arming) = (HashMap::new(), Spent::default(), Duration::ZERO);
        let (traps, entries) = (Settled::default(), Settled::default());
        let (unread, told, gone) = (Unread::begin(), (Duration::ZERO, Duration::ZERO), Duration::ZERO);
        let (begun, begun_ticks) = (Instant::now(), ticks_since_boot());
        Self { share, governor, begun, begun_ticks, cpu, gone, turns: 0, looks: 0, spent, traps, entries, arming, unread, told }
    }

    /// Arms or disarms. That is paid for, too, by all the time that it lasts: the kernel holds the lock of an address space for each breakpoint, and in a server of
    /// many processes it takes as long as the traps of a turn, of CPUs that they could have.
    pub(super) fn pay<T>(&mut self, arms: impl FnOnce() -> T) -> T {
        self.pay_if(|| (arms(), true))
    }

    /// The same of what may turn out to arm nothing.
    pub(super) fn pay_if<T>(&mut self, arms: impl FnOnce() -> (T, bool)) -> T {
        let (begun, own) = (Instant::now(), own_time());
        let (done, has_armed) = arms();
        if has_armed {
            self.arming += own_time().saturating_sub(own).max(begun.elapsed());
        }
        done
    }

    /// What to do now, when the traps have taken so much of the time of these processes, and `ended` have ended that were probed.
    pub(super) fn order(&mut self, processes: &BTreeSet<Pid>, ended: u64, spent: Spent) -> Order {
        if self.looks < LOOKS_FIRST || self.looks.is_multiple_of(LOOKS_FOR_CPU) {
            self.read_cpu(processes);
            let had = self.cpu() + self.unread.look(ended);
            self.traps.settle(spent.all, had);
            self.entries.settle(spent.entries, had);
        }
        self.looks = self.looks.wrapping_add(1);
        self.spent = Spent { all: self.traps.by_now(spent.all) + self.arming, entries: self.entries.by_now(spent.entries) };
        let order = self.governor.order(self.begun.elapsed(), self.cpu(), &self.spent);
        self.turns += u32::from(order == Order::Arm);
        order
    }

    fn read_cpu(&mut self, processes: &BTreeSet<Pid>) {
        for pid in processes {
            if let Some(now) = cpu_time(*pid) {
                // Who began since has had all of it since.
                let first = if now.started_ticks > self.begun_ticks { Duration::ZERO } else { now.used };
                let had = self.cpu.entry(*pid).or_insert(Had { started_ticks: now.started_ticks, first, last: first });
                if had.started_ticks != now.started_ticks {
                    self.gone += had.last.saturating_sub(had.first);
                    *had = Had { started_ticks: now.started_ticks, first, last: first };
                }
                had.last = now.used;
            }
        }
    }

    fn cpu(&self) -> Duration {
        self.gone + self.cpu.values().map(|had| had.last.saturating_sub(had.first)).sum::<Duration>()
    }

    /// What the traps have taken, and arming them by turns, in words.
    pub(super) fn note(&self) -> String {
        let (spent, cpu) = (self.spent.all.as_secs_f64(), self.cpu().as_secs_f64());
        let share = 100.0 * spent / cpu.max(0.001);
        let turns = if self.turns > 0 { format!(", armed in {} turns of 200 ms", self.turns) } else { String::new() };
        format!(
            "budget: probes took {share:.2} % of the processes' CPU time by then ({spent:.2}s of {cpu:.2}s), {:.2} % allowed{turns}",
            100.0 * self.share
        )
    }

    /// The same at the end of a stretch, and what it means for what was counted in it.
    pub(super) fn notes(&mut self) -> Vec<String> {
        // Without arming, which takes nothing of theirs.
        let (traps, cpu) = (self.spent.all.saturating_sub(self.arming), self.cpu() + self.unread.sum);
        let (traps_before, cpu_before) = std::mem::replace(&mut self.told, (traps, cpu));
        let had = cpu.saturating_sub(cpu_before);
        let is_disturbed = had >= TOLD_FROM && traps.saturating_sub(traps_before) * 2 > had;
        let withheld = is_disturbed.then(|| {
            format!("{TOTALS_WITHHELD}: probes took more than half of the processes' time, which did less in it than they do otherwise; shares hold")
        });
        std::iter::once(self.note()).chain(withheld).collect()
    }

    /// What was given up, in words.
    pub(super) fn told(&self, step: Step) -> String {
        let goes_on = match step {
            Step::Heap => "what lives is recorded",
            Step::Allocs => "what is allocated goes on being recorded, in allocs",
            Step::Shares => "who allocates goes on being looked at by turns, in alloc-shares",
            Step::Faults => "page faults and address spaces that grow go on being recorded, in faults and mmap",
        };
        format!("after {:.1}s, {}; {goes_on}", self.begun.elapsed().as_secs_f64(), self.note())
    }
}

/// The most CPU time that processes can have had which were not read: one CPU each, and all of them no more than there are.
struct Unread {
    looked: Instant,
    ended: u64,
    cpus: u32,
    sum: Duration,
}

impl Unread {
    fn begin() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
        Self { looked: Instant::now(), ended: 0, cpus, sum: Duration::ZERO }
    }

    /// What it is when `ended` have ended since the beginning.
    fn look(&mut self, ended: u64) -> Duration {
        let (now, since) = (Instant::now(), ended.saturating_sub(self.ended));
        let each = now.duration_since(self.looked);
        self.sum += each * self.cpus.min(u32::try_from(since).unwrap_or(u32::MAX));
        (self.looked, self.ended) = (now, ended);
        self.sum
    }
}

/// What a process has had.
struct Had {
    /// When it began: its number may be another one's later.
    started_ticks: u64,
    /// When it was first seen, and last.
    first: Duration,
    last: Duration,
}

/// What was spent by an account that takes traps to be dear, and no more of each stretch than the processes had CPU time in it.
#[derive(Default)]
struct Settled {
    sum: Duration,
    /// By the account, and the processes' CPU time, when it was settled last.
    account: Duration,
    cpu: Duration,
}

impl Settled {
    fn settle(&mut self, account: Duration, cpu: Duration) {
        self.sum += account.saturating_sub(self.account).min(cpu.saturating_sub(self.cpu));
        (self.account, self.cpu) = (account, cpu);
    }

    fn by_now(&self, account: Duration) -> Duration {
        self.sum + account.saturating_sub(self.account)
    }
}

/// CPU time of this process.
fn own_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_processes_had_is_no_less_than_it_can_be() {
        let mut unread = Unread { looked: Instant::now() - Duration::from_secs(10), cpus: 2, ..Unread::begin() };
        assert_eq!(unread.look(0), Duration::ZERO);
        unread.looked = Instant::now() - Duration::from_secs(10);
        let one = unread.look(1).as_secs();
        unread.looked = Instant::now() - Duration::from_secs(10);
        let many = unread.look(100).as_secs();
        assert_eq!((one, many), (10, 30));
    }

    #[test]
    fn where_traps_take_most_of_the_time_totals_are_withheld_for_that_stretch() {
        let (pid, second) = (Pid(std::process::id()), Duration::from_secs(1));
        let mut budget = Budget::new(Step::Heap, 0.5);
        let had = |last| Had { started_ticks: 1, first: Duration::ZERO, last };
        budget.cpu.insert(pid, had(second));
        budget.spent.all = second * 6 / 10;
        assert!(budget.notes()[1].starts_with(TOTALS_WITHHELD));
        budget.cpu.insert(pid, had(second * 3));
        budget.spent.all = second;
        assert_eq!(budget.notes().len(), 1);
    }

    #[test]
    fn traps_take_no_more_than_there_was() {
        let ms = Duration::from_millis;
        let mut settled = Settled::default();
        settled.settle(ms(30), ms(100));
        assert_eq!(settled.by_now(ms(40)), ms(40));
        settled.settle(ms(300), ms(200));
        assert_eq!(settled.by_now(ms(310)), ms(140));
        settled.settle(ms(310), ms(400));
        assert_eq!(settled.by_now(ms(310)), ms(140));
    }
}
