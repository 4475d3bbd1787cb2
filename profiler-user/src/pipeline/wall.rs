//! Wall time: what ran by the clock's ticks and what did not by the scheduler's times, on one scale. It is made of two windows that are closed already.

use crate::config::{Config, Event};
use crate::model::kind::Kind;
use crate::model::loss::Balance;
use crate::model::window::{Counts, SampleKey, Window};
use profiler_common::wait::CLASS_RUNNING;

/// Adds the window of wall time, where it was asked for, and leaves out those that were only made for it.
pub(super) fn joined(mut windows: Vec<Window>, config: &Config) -> Vec<Window> {
    if !config.events.contains(&Event::Wall) {
        return windows;
    }
    let of_kind = |kind| windows.iter().find(|window| window.kind == kind);
    let wall = of_kind(Kind::Cpu).zip(of_kind(Kind::OffCpu)).map(|(cpu, off_cpu)| join(cpu, off_cpu));
    let asked = config.kinds();
    windows.retain(|window| asked.contains(&window.kind) || !matches!(window.kind, Kind::Cpu | Kind::OffCpu));
    windows.extend(wall);
    windows
}

/// One window of both. A tick that was lost weighs what a tick does; a sleep that was lost weighs nothing, for nobody knows how long it was.
fn join(cpu: &Window, off_cpu: &Window) -> Window {
    let mut wall = Window { kind: Kind::Wall, ..off_cpu.clone() };
    for (key, counts) in &cpu.tallies {
        let ran = wall.tallies.entry(SampleKey { class: CLASS_RUNNING, ..*key }).or_default();
        *ran = Counts { events: ran.events + counts.events, weight: ran.weight + counts.weight * cpu.period };
    }
    wall.period = cpu.period;
    wall.losses.merge(&cpu.losses);
    cpu.endings.iter().for_each(|(ended, events)| wall.endings.add(ended, events));
    wall.balance = Balance {
        ticks: cpu.balance.ticks + off_cpu.balance.ticks,
        idle: cpu.balance.idle + off_cpu.balance.idle,
        filtered: cpu.balance.filtered + off_cpu.balance.filtered,
        samples: cpu.balance.samples + off_cpu.balance.samples,
        is_narrowed: cpu.balance.is_narrowed,
    };
    wall
}
