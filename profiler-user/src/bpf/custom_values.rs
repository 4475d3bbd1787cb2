//! What a probe of a custom profile is told: its expressions as recipes, by the machine's registers and the kernel's types.

use super::btf::KernelTypes;
use super::error::BpfError;
use super::system_calls;
use super::tracepoint::{Field, Tracepoints};
use crate::model::custom::{Action, CustomProbe, CustomProfile, Expression, PROBES_MAX, Place, nearest};
use crate::model::probe_points::{Mark, MarkArgument, MarkPlace};
use profiler_common::custom::{
    ACTION_ADD, ACTION_BEGIN, ACTION_END, ACTION_REMOVE, CustomSite, MEMORY_KERNEL, MEMORY_NONE, MEMORY_USER, SITE_AT_ENTRY, SITE_GLOBAL,
    SITE_KEYED, SITE_MAY_BE_NULL, SITE_MAY_FAIL, VALUE_CONTEXT, VALUE_KEPT, VALUE_NUMBER, VALUE_PROCESS, VALUE_THREAD, Value,
};
use profiler_common::source::Source;

/// Where arguments of functions are in the registers that a probe sees (`pt_regs`), bytes; then those of system calls, then what is returned.
#[cfg(not(target_arch = "aarch64"))]
const FUNCTION_ARGUMENTS: [u32; 6] = [112, 104, 96, 88, 72, 64];
#[cfg(not(target_arch = "aarch64"))]
const CALL_ARGUMENTS: [u32; 6] = [112, 104, 96, 56, 72, 64];
#[cfg(not(target_arch = "aarch64"))]
const RETURNED: u32 = 80;
#[cfg(target_arch = "aarch64")]
const FUNCTION_ARGUMENTS: [u32; 6] = [0, 8, 16, 24, 32, 40];
#[cfg(target_arch = "aarch64")]
const CALL_ARGUMENTS: [u32; 6] = [272, 8, 16, 24, 32, 40];
#[cfg(target_arch = "aarch64")]
const RETURNED: u32 = 0;

/// Where registers of x86-64 are there, by their DWARF numbers.
const REGISTERS: [u32; 16] = [80, 96, 88, 40, 104, 112, 32, 152, 72, 64, 56, 48, 24, 16, 8, 0];

/// One of a profile's probes.
#[derive(Clone, Copy)]
pub(super) struct Probe<'a> {
    pub(super) at: (usize, usize),
    pub(super) profile: &'a CustomProfile,
}

/// What is armed for a function.
pub(super) enum FunctionSites {
    /// At its beginning.
    Entry(CustomSite),
    /// Where it returns.
    Return(CustomSite),
    /// At both ends.
    Both(CustomSite, CustomSite),
}

/// Where a tracepoint's program is hooked, and what it is told.
pub(super) struct Traced {
    pub(super) hook: String,
    pub(super) site: CustomSite,
}

impl<'a> Probe<'a> {
    fn of(&self) -> &'a CustomProbe {
        &self.profile.probes[self.at.1]
    }

    /// What does not depend on where it is.
    fn site(&self, flags: u32) -> CustomSite {
        let source = Source::custom(self.at.0 as u16).map_or(0, Source::number);
        let is_add = self.of().action == Action::Add;
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        CustomSite {
            source: u32::from(source),
            action: if is_add { ACTION_ADD } else { ACTION_REMOVE },
            flags: flags | flag(is_add && self.profile.has_removes(), SITE_KEYED) | flag(self.profile.global_keys, SITE_GLOBAL),
            pair: (self.at.0 * PROBES_MAX + self.at.1) as u32,
            ..CustomSite::default()
        }
    }

    /// The same with its key and its weight.
    fn valued<E>(&self, flags: u32, value: impl Fn(&Expression) -> Result<Value, E>) -> Result<CustomSite, E> {
        let of = |expression: &Option<Expression>| expression.as_ref().map_or(Ok(number(0)), &value);
        Ok(CustomSite { key: of(&self.of().key)?, weight: of(&self.of().weight)?, ..self.site(flags) })
    }

    /// Whose key is what a call has returned adds nothing where that says that it failed.
    fn failures(&self, flags: u32) -> u32 {
        if self.of().key == Some(Expression::Returned) { flags } else { 0 }
    }

    /// At a function.
    pub(super) fn of_function(&self) -> FunctionSites {
        let probe = self.of();
        let is_both = match probe.place {
            Place::Return(_) => probe.needs_entry(),
            _ => probe.needs_return(),
        };
        let failures = self.failures(SITE_MAY_FAIL | SITE_MAY_BE_NULL);
        // What the other end tells.
        let kept = Value { from: VALUE_KEPT, ..Value::default() };
        let entry = |expression: &Expression| match expression {
            Expression::Argument(at) => context(FUNCTION_ARGUMENTS[usize::from(*at).min(5)]),
            Expression::Returned => number(0),
            other => plain(other),
        };
        let leave = |expression: &Expression| match expression {
            Expression::Returned => context(RETURNED),
            Expression::Argument(_) => kept,
            other => plain(other),
        };
        let valued = |flags, value: &dyn Fn(&Expression) -> Value| {
            let Ok(site) = self.valued(flags, |expression| Ok::<_, std::convert::Infallible>(value(expression)));
            site
        };
        let (first, last) = (valued(SITE_AT_ENTRY, &entry), valued(failures, &leave));
        match probe.place {
            _ if is_both && probe.action == Action::Add => {
                FunctionSites::Both(CustomSite { action: ACTION_BEGIN, ..first }, CustomSite { action: ACTION_END, ..last })
            }
            Place::Return(_) => FunctionSites::Return(last),
            _ => FunctionSites::Entry(first),
        }
    }

    /// At a mark of a program.
    ///
    /// # Errors
    /// An argument that is not there, or not understood.
    pub(super) fn of_mark(&self, mark: &Mark) -> Result<CustomSite, BpfError> {
        let refused = |why: String| BpfError::Custom(format!("{}: {why}", self.of().place));
        self.valued(0, |expression| match expression {
            Expression::Argument(at) => match mark.arguments.get(usize::from(*at)) {
                Some(Some(argument)) => Ok(of_mark_argument(argument)),
                Some(None) => Err(refused(format!("where arg{at} is, is written in a way that is not understood here; use another one"))),
                None => Err(refused(format!("there is no arg{at}; it has {} arguments", mark.arguments.len()))),
            },
            other => Ok(plain(other)),
        })
    }

    /// At a tracepoint.
    ///
    /// # Errors
    /// There is no such tracepoint, or field of it.
    pub(super) fn of_tracepoint(&self, types: &KernelTypes) -> Result<Option<Traced>, BpfError> {
        let Place::Tracepoint { category, name } = &self.of().place else { return Ok(None) };
        let refused = |why: String| BpfError::Custom(format!("tracepoint:{category}:{name}: {why}"));
        if category == "syscalls" {
            return self.of_system_call(name).map(Some).map_err(refused);
        }
        let tracepoints = Tracepoints::new(types);
        let arguments = tracepoints.arguments(name).map_err(|near| {
            let meant = near.map_or("bpftrace -l 'tracepoint:*' lists them".to_owned(), |near| format!("is it {near}?"));
            refused(format!("this kernel has no such tracepoint; {meant}"))
        })?;
        let value = |expression: &Expression| match expression {
            Expression::Argument(at) if usize::from(*at) >= arguments.len() => {
                let names: Vec<&str> = arguments.iter().map(|(name, _)| *name).collect();
                Err(refused(format!("there is no arg{at}; its fields are: {}", names.join(", "))))
            }
            Expression::Argument(at) => Ok(context(8 * u32::from(*at))),
            Expression::Field { name, member } => tracepoints.field(&arguments, name, member.as_deref()).map(of_field).map_err(refused),
            other => Ok(plain(other)),
        };
        let mut site = self.valued(0, value)?;
        if let Some((tested, mask)) = &self.of().only {
            (site.tested, site.mask) = (value(tested)?, *mask);
            // So only starts of threads are told. C libraries say nothing of the frame at a clone: it is that of an entry.
            site.flags |= SITE_AT_ENTRY;
        }
        Ok(Some(Traced { hook: name.clone(), site }))
    }

    fn of_system_call(&self, name: &str) -> Result<Traced, String> {
        let begins = name.strip_prefix("sys_enter_").map(|call| ("sys_enter", call));
        let (hook, call) = begins
            .or_else(|| name.strip_prefix("sys_exit_").map(|call| ("sys_exit", call)))
            .ok_or("tracepoints of system calls are sys_enter_NAME and sys_exit_NAME")?;
        let system_call = system_calls::number(call).ok_or_else(|| {
            let meant = nearest(call, system_calls::names()).map_or(String::new(), |near| format!("; is it {hook}_{near}?"));
            format!("this machine has no system call {call}{meant}")
        })?;
        let fields = || fields_of_call(call);
        let value = |expression: &Expression| match expression {
            Expression::Argument(at) => CALL_ARGUMENTS
                .get(usize::from(*at))
                .map(|at| of_call_argument(*at))
                .ok_or_else(|| format!("there is no arg{at}; system calls have arg0 to arg5")),
            Expression::Field { name, member: None } => {
                let fields = fields().unwrap_or_default();
                let at = fields.iter().position(|field| field == name).ok_or_else(|| match fields.is_empty() {
                    true => format!("the names of its fields cannot be read here; say arg0 to arg5 instead of {name}"),
                    false => format!("there is no field {name}; there are: {}", fields.join(", ")),
                })?;
                Ok(of_call_argument(CALL_ARGUMENTS[at.min(5)]))
            }
            Expression::Field { name, .. } => Err(format!("{name} is a number, or an address of the process, and has no members")),
            Expression::Returned => Ok(context(8)),
            other => Ok(plain(other)),
        };
        let site = self.valued(self.failures(SITE_MAY_FAIL), value)?;
        Ok(Traced { hook: hook.to_owned(), site: CustomSite { system_call: system_call + 1, ..site } })
    }
}

fn number(number: u64) -> Value {
    Value { from: VALUE_NUMBER, bytes: 8, number, ..Value::default() }
}

fn context(at: u32) -> Value {
    Value { from: VALUE_CONTEXT, at, memory: MEMORY_NONE, bytes: 8, ..Value::default() }
}

/// What is the same wherever the probe is.
fn plain(expression: &Expression) -> Value {
    match expression {
        Expression::Thread => Value { from: VALUE_THREAD, ..Value::default() },
        Expression::Process => Value { from: VALUE_PROCESS, ..Value::default() },
        Expression::Number(value) => number(*value),
        // Those that are not are refused when the probe is read.
        Expression::Argument(_) | Expression::Returned | Expression::Field { .. } => number(0),
    }
}

/// The registers of a system call are the tracepoint's first argument.
fn of_call_argument(at: u32) -> Value {
    Value { memory: MEMORY_KERNEL, number: u64::from(at), ..context(0) }
}

fn of_field(field: Field) -> Value {
    let value = Value { bytes: field.shape.bytes, is_signed: u32::from(field.shape.is_signed), ..context(8 * field.argument as u32) };
    match field.member_at {
        Some(at) => Value { memory: MEMORY_KERNEL, number: u64::from(at), ..value },
        None => value,
    }
}

/// An argument of a mark.
pub(super) fn of_mark_argument(argument: &MarkArgument) -> Value {
    let register = |number: u8| context(REGISTERS[usize::from(number) & 15]);
    let value = match argument.at {
        MarkPlace::Number(value) => number(value as u64),
        MarkPlace::Register(at) => register(at),
        MarkPlace::Memory(at, offset) => Value { memory: MEMORY_USER, number: offset as u64, ..register(at) },
    };
    Value { bytes: u32::from(argument.bytes), is_signed: u32::from(argument.is_signed), ..value }
}

/// The names of a system call's arguments, from the description of its tracepoint, where that can be read.
fn fields_of_call(call: &str) -> Option<Vec<String>> {
    let text = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .iter()
        .find_map(|root| std::fs::read_to_string(format!("{root}/events/syscalls/sys_enter_{call}/format")).ok())?;
    let name = |line: &str| {
        let declared = line.trim().strip_prefix("field:")?.split('\t').next()?;
        let name = declared.rsplit([' ', '*']).next()?;
        Some(name.trim_end_matches(|end: char| !end.is_ascii_alphanumeric() && end != '_').to_owned())
    };
    Some(text.lines().filter_map(name).skip_while(|name| name != "__syscall_nr").skip(1).collect())
}
