//! A process of ours that ptrace holds still: its registers, its memory, and what code it has mapped.

use anyhow::{Context as _, Result, bail};
use nix::libc::user_regs_struct;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::IoSliceMut;
use std::process::{Child, Command, Stdio};

const PAGE: u64 = 4096;

/// Where some code of a process is mapped from.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Mapping {
    pub start: u64,
    pub end: u64,
    pub offset: u64,
    /// A file's path, or `[vdso]`.
    pub name: String,
}

/// A child that can be stopped; killed with the value.
pub(super) struct Subject {
    child: Child,
    pid: Pid,
}

impl Subject {
    /// Starts a program, which then runs.
    pub(super) fn start(words: &[String]) -> Result<Self> {
        let mut command = Command::new(words.first().context("a program")?);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("starting {words:?}"))?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        ptrace::seize(pid, ptrace::Options::empty())?;
        Ok(Self { child, pid })
    }

    /// Stops it where it is; none when it has ended.
    pub(super) fn stop(&self) -> Result<Option<Stopped>> {
        if ptrace::interrupt(self.pid).is_err() {
            return Ok(None);
        }
        self.wait()
    }

    /// Lets a stopped one execute one instruction.
    pub(super) fn step(&self) -> Result<Option<Stopped>> {
        if ptrace::step(self.pid, None).is_err() {
            return Ok(None);
        }
        self.wait()
    }

    /// Lets a stopped one go on.
    pub(super) fn go_on(&self) {
        // One that was killed meanwhile is seen at the next stop.
        let _ = ptrace::cont(self.pid, None);
    }

    /// Its own signals go their way, so that handlers are walked too.
    fn wait(&self) -> Result<Option<Stopped>> {
        loop {
            match waitpid(self.pid, None)? {
                WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(_, Signal::SIGTRAP) => break,
                WaitStatus::Stopped(_, signal) => ptrace::cont(self.pid, signal).or_else(|_| ptrace::kill(self.pid))?,
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Ok(None),
                other => bail!("an unexpected state: {other:?}"),
            }
            if ptrace::interrupt(self.pid).is_err() {
                return Ok(None);
            }
        }
        let Ok(registers) = ptrace::getregs(self.pid) else { return Ok(None) };
        Ok(Some(Stopped { pid: self.pid, registers, pages: RefCell::default() }))
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What it is at one instant.
pub(super) struct Stopped {
    pid: Pid,
    pub registers: user_regs_struct,
    pages: RefCell<HashMap<u64, Option<Vec<u8>>>>,
}

impl Stopped {
    /// A word of its memory.
    pub(super) fn word(&self, at: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        for (place, byte) in (at..).zip(&mut bytes) {
            *byte = self.byte(place)?;
        }
        Some(u64::from_le_bytes(bytes))
    }

    fn byte(&self, at: u64) -> Option<u8> {
        let mut pages = self.pages.borrow_mut();
        let page = pages.entry(at / PAGE).or_insert_with(|| read(self.pid, at / PAGE * PAGE, PAGE as usize));
        page.as_ref().map(|page| page[(at % PAGE) as usize])
    }

    /// A general register of the leaf by its DWARF number.
    pub(super) fn register(&self, number: u8) -> Option<u64> {
        let all = &self.registers;
        let known = [
            all.rax, all.rdx, all.rcx, all.rbx, all.rsi, all.rdi, all.rbp, all.rsp, all.r8, all.r9, all.r10, all.r11, all.r12, all.r13,
            all.r14, all.r15,
        ];
        known.get(usize::from(number)).copied()
    }

    /// The code that it has mapped now.
    pub(super) fn code(&self) -> Result<Vec<Mapping>> {
        let text = std::fs::read_to_string(format!("/proc/{}/maps", self.pid))?;
        text.lines().filter_map(|line| mapping(line).transpose()).collect()
    }

    /// Bytes of it, as the vDSO has no file.
    pub(super) fn bytes(&self, mapping: &Mapping) -> Option<Vec<u8>> {
        read(self.pid, mapping.start, (mapping.end - mapping.start) as usize)
    }
}

fn mapping(line: &str) -> Result<Option<Mapping>> {
    let mut words = line.split_whitespace();
    let mut word = || words.next().context("a short line");
    let (range, rights, offset, _device, _inode) = (word()?, word()?, word()?, word()?, word()?);
    let name = words.collect::<Vec<_>>().join(" ");
    if !rights.contains('x') || !(name.starts_with('/') || name == "[vdso]") {
        return Ok(None);
    }
    let (start, end) = range.split_once('-').context("a range")?;
    let number = |text| u64::from_str_radix(text, 16);
    Ok(Some(Mapping { start: number(start)?, end: number(end)?, offset: number(offset)?, name }))
}

fn read(pid: Pid, from: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    let there = RemoteIoVec { base: usize::try_from(from).ok()?, len: length };
    let got = process_vm_readv(pid, &mut [IoSliceMut::new(&mut bytes)], &[there]).ok()?;
    (got == length).then_some(bytes)
}
