//! The peer: `perf record -g` beside us, and its samples as shares by function, so that both can be compared.

use crate::profile::{Profile, UNNAMED};
use crate::run::Folder;
use crate::waiting;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// How many functions of each side are compared.
const TOP: usize = 10;

/// Samples by function.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Functions {
    /// All samples.
    pub samples: i64,
    /// By the function on top of the stack.
    pub flat: BTreeMap<String, i64>,
    /// By every function on the stack, once a sample.
    pub cumulative: BTreeMap<String, i64>,
}

impl Functions {
    /// Counts a stack, leaf first.
    fn add(&mut self, stack: &[String], samples: i64) {
        self.samples += samples;
        let leaf = stack.first().map_or(UNNAMED, String::as_str);
        *self.flat.entry(leaf.to_owned()).or_default() += samples;
        for name in stack.iter().collect::<BTreeSet<_>>() {
            *self.cumulative.entry(name.clone()).or_default() += samples;
        }
    }

    /// Of a profile of ours. An inlined function counts for the real one around it: perf is asked for those alone, since its own look-up of inlined
    /// functions takes minutes.
    pub fn of_profile(profile: &Profile) -> Self {
        let mut functions = Self::default();
        for sample in &profile.samples {
            let name = |location: &usize| {
                let last = profile.locations[*location].lines.last();
                last.map_or(UNNAMED.to_owned(), |(function, _)| comparable(&profile.functions[*function].name))
            };
            let stack: Vec<String> = sample.locations.iter().map(name).collect();
            functions.add(&stack, sample.values[0]);
        }
        functions
    }

    /// Of what `perf script` prints: stacks of lines `ADDRESS SYMBOL`, leaf first, an empty line behind each.
    pub fn of_script(text: &str) -> Self {
        let mut functions = Self::default();
        for stack in text.split("\n\n") {
            let names: Vec<String> =
                stack.lines().filter_map(|line| line.trim().split_once(' ')).map(|(_, name)| comparable(name)).collect();
            if !names.is_empty() {
                functions.add(&names, 1);
            }
        }
        functions
    }

    /// The share of a function, in points.
    fn points(&self, of: &BTreeMap<String, i64>, name: &str) -> f64 {
        100.0 * of.get(name).copied().unwrap_or(0) as f64 / self.samples as f64
    }

    /// The functions with the greatest own share.
    fn top(&self) -> BTreeSet<String> {
        let mut rows: Vec<(&String, &i64)> = self.flat.iter().collect();
        rows.sort_by_key(|(name, samples)| (-**samples, (*name).clone()));
        rows.into_iter().take(TOP).map(|(name, _)| name.clone()).collect()
    }
}

/// What the two tools write differently: perf's word for no name, and suffixes of clones that compilers make.
fn comparable(name: &str) -> String {
    let name = name.trim().trim_end_matches(" (inlined)");
    if matches!(name, "[unknown]" | UNNAMED | "") {
        return UNNAMED.to_owned();
    }
    let end = [".isra.", ".constprop.", ".part.", ".cold", ".lto_priv.", "@@", "@plt"].iter().filter_map(|suffix| name.find(suffix)).min();
    name[..end.unwrap_or(name.len())].to_owned()
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compare {
    /// Shares of the functions on top only: the code keeps no frame pointers, so perf does not know its callers.
    Flat,
    /// Cumulative shares too.
    FlatAndCumulative,
}

/// Checks that over the union of both top tens no share differs by more than so many points.
///
/// # Errors
/// One does; with the whole table.
pub fn agree(ours: &Functions, perfs: &Functions, compare: Compare, points: f64) -> Result<()> {
    let mut table = format!("{} samples here, {} in perf\n", ours.samples, perfs.samples);
    let mut worst: f64 = 0.0;
    for name in ours.top().union(&perfs.top()) {
        let flat = (ours.points(&ours.flat, name), perfs.points(&perfs.flat, name));
        let cumulative = (ours.points(&ours.cumulative, name), perfs.points(&perfs.cumulative, name));
        table += &format!("flat {:6.2} {:6.2}  cum {:6.2} {:6.2}  {name}\n", flat.0, flat.1, cumulative.0, cumulative.1);
        worst = worst.max((flat.0 - flat.1).abs());
        if compare == Compare::FlatAndCumulative {
            worst = worst.max((cumulative.0 - cumulative.1).abs());
        }
    }
    println!("{table}");
    ensure!(worst <= points, "shares differ by {worst:.2} points:\n{table}");
    Ok(())
}

/// A running `perf record -g`.
#[derive(Debug)]
pub struct Perf {
    child: Child,
    folder: Folder,
    pid: u32,
}

impl Perf {
    /// Records for so many seconds, to look at one process afterwards. The whole machine, as we do: a clock of its own for a process starts anew with each
    /// time that it is scheduled, so short turns of a server are all sampled where they begin (`finish_task_switch`).
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(pid: u32, frequency_hz: u32, seconds: u32) -> Result<Self> {
        let folder = Folder::create()?;
        let mut command = Command::new("perf");
        command.args(["record", "-q", "--no-bpf-event", "-g", "-e", "cpu-clock", "-F", &frequency_hz.to_string(), "-a"]);
        command.arg("-o").arg(folder.join("perf.data")).args(["--", "sleep", &seconds.to_string()]);
        let child = command.stdin(Stdio::null()).spawn().context("starting perf")?;
        Ok(Self { child, folder, pid })
    }

    /// Waits for its end and reads its samples.
    ///
    /// # Errors
    /// It fails.
    pub fn finish(mut self) -> Result<Functions> {
        let status = waiting::for_end("perf record", &mut self.child)?;
        ensure!(status.success(), "perf record: {status}");
        let data: PathBuf = self.folder.join("perf.data");
        let output = Command::new("perf")
            .args(["script", "--no-inline", "-F", "ip,sym", "--pid", &self.pid.to_string(), "-i"])
            .arg(&data)
            .output()?;
        ensure!(output.status.success(), "perf script: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Functions::of_script(&String::from_utf8_lossy(&output.stdout)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Compare, Functions, agree};

    #[test]
    fn stacks_of_perf_script_are_read() {
        let functions = Functions::of_script("  55d0 leaf.isra.0\n  55e0 main\n\n  77 [unknown]\n\n\n  55d1 leaf\n  55e0 main\n");
        assert_eq!((functions.samples, functions.flat["leaf"], functions.flat["?"], functions.cumulative["main"]), (3, 2, 1, 2));
    }

    #[test]
    fn a_share_that_differs_is_found() {
        let script = |a: usize, b: usize| Functions::of_script(&[" 1 a\n 2 main\n\n".repeat(a), " 3 b\n 2 main\n\n".repeat(b)].concat());
        assert!(agree(&script(50, 50), &script(51, 49), Compare::FlatAndCumulative, 2.0).is_ok());
        assert!(agree(&script(50, 50), &script(54, 46), Compare::Flat, 2.0).is_err());
    }
}
