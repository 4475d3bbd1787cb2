//! Custom profiles: what is added and removed, by which probes. Read from text, in the grammar of `--add` and `--remove`.

use std::fmt;
use std::str::FromStr;

/// A profile of what was added, and not removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CustomProfile {
    /// Its name.
    pub name: String,
    /// Keys are of the whole machine, and not of a process.
    pub global_keys: bool,
    /// What adds and removes; at least one adds.
    pub probes: Vec<CustomProbe>,
}

/// One probe of a profile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CustomProbe {
    /// What it does.
    pub action: Action,
    /// Where it is.
    pub place: Place,
    /// What is added or removed.
    pub key: Option<Expression>,
    /// How much is added.
    pub weight: Option<Expression>,
    /// One of these bits is set in a field of the tracepoint, or nothing has happened.
    pub only: Option<(Expression, u64)>,
}

/// What a probe does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// It adds.
    Add,
    /// It removes.
    Remove,
}

/// Where a probe is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Place {
    /// At the beginning of a function.
    Entry(Function),
    /// Where a function returns.
    Return(Function),
    /// At a place that the program's authors have marked.
    Usdt {
        /// The file's name, or its path.
        library: String,
        /// Whose mark it is.
        provider: String,
        /// Its name.
        name: String,
    },
    /// At a tracepoint of the kernel.
    Tracepoint {
        /// Its group.
        category: String,
        /// Its name.
        name: String,
    },
}

/// A function of a file.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Function {
    /// The file's name, or its path.
    pub library: String,
    /// Its symbol.
    pub name: String,
}

/// Where a number is found.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Expression {
    /// An argument, by its number.
    Argument(u8),
    /// What a function or a system call returned.
    Returned,
    /// An argument of a tracepoint by its name, or a member of the structure that it points to.
    Field {
        /// Its name.
        name: String,
        /// A member's name.
        member: Option<String>,
    },
    /// The thread's id.
    Thread,
    /// The process's id.
    Process,
    /// Itself.
    Number(u64),
}

/// Arguments that have registers of their own.
pub const ARGUMENTS: u8 = 6;
/// Arguments that a mark in a program can have.
pub const USDT_ARGUMENTS: u8 = 12;
/// The longest name of a profile.
const NAME_MAX: usize = 64;
/// Probes of one profile at most: both ends of a call are told by so few bits.
pub const PROBES_MAX: usize = 64;

/// What is wrong with the text of a probe, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

const FORMS: &str = "uprobe:LIB:FUNC, uretprobe:LIB:FUNC, usdt:LIB:PROVIDER:NAME or tracepoint:CATEGORY:NAME";

impl FromStr for Expression {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        if let Some(number) = number(text) {
            return Ok(Self::Number(number));
        }
        if let Some(at) = text.strip_prefix("arg").filter(|at| !at.is_empty() && at.bytes().all(|byte| byte.is_ascii_digit())) {
            return at
                .parse()
                .map(Self::Argument)
                .map_err(|_| Unreadable(format!("{text}: there is no such argument; they begin with arg0")));
        }
        let is_word = |word: &str| {
            word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && !word.is_empty()
                && !word.as_bytes()[0].is_ascii_digit()
        };
        match text.split_once('.') {
            _ if text == "ret" => Ok(Self::Returned),
            _ if text == "tid" => Ok(Self::Thread),
            _ if text == "pid" => Ok(Self::Process),
            None if is_word(text) => Ok(Self::Field { name: text.to_owned(), member: None }),
            Some((name, member)) if is_word(name) && is_word(member) => {
                Ok(Self::Field { name: name.to_owned(), member: Some(member.to_owned()) })
            }
            _ => Err(Unreadable(format!(
                "{text:?} is no expression; it is arg0 to arg5, ret, tid, pid, a number, or a field of a tracepoint as fd or task.pid"
            ))),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(Function { library, name }) => write!(to, "uprobe:{library}:{name}"),
            Self::Return(Function { library, name }) => write!(to, "uretprobe:{library}:{name}"),
            Self::Usdt { library, provider, name } => write!(to, "usdt:{library}:{provider}:{name}"),
            Self::Tracepoint { category, name } => write!(to, "tracepoint:{category}:{name}"),
        }
    }
}

impl CustomProbe {
    /// Reads `PROBE[:key=EXPR][:weight=EXPR]`.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn parse(action: Action, text: &str) -> Result<Self, Unreadable> {
        let mut words: Vec<&str> = text.split(':').collect();
        let (mut key, mut weight) = (None, None);
        while let Some((name, expression)) = words.last().and_then(|word| word.split_once('=')) {
            let slot = match name {
                "key" => &mut key,
                "weight" => &mut weight,
                _ => return Err(Unreadable(format!("{text}: there is no {name:?}; what follows a probe is key=EXPR or weight=EXPR"))),
            };
            if slot.is_some() {
                return Err(Unreadable(format!("{text}: {name} is given twice; leave one out")));
            }
            *slot = Some(expression.parse::<Expression>().map_err(|why| Unreadable(format!("{text}: {why}")))?);
            words.pop();
        }
        let probe = Self { action, place: place(&words, text)?, key, weight, only: None };
        probe.check().map_err(|why| Unreadable(format!("{text}: {why}")))?;
        Ok(probe)
    }

    /// Its expressions.
    fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.key.iter().chain(&self.weight)
    }

    /// Whether it needs what the function returns.
    pub fn needs_return(&self) -> bool {
        self.expressions().any(|expression| *expression == Expression::Returned)
    }

    /// Whether it needs what the function was called with.
    pub fn needs_entry(&self) -> bool {
        self.expressions().any(|expression| matches!(expression, Expression::Argument(_)))
    }

    /// What the place of the probe does not have.
    fn check(&self) -> Result<(), String> {
        if self.action == Action::Remove {
            if self.key.is_none() {
                return Err("nothing says what is removed; add :key=EXPR".into());
            }
            if self.weight.is_some() {
                return Err("what is removed has the weight that it was added with; leave weight out".into());
            }
        }
        if matches!(self.place, Place::Entry(_) | Place::Return(_)) && self.action == Action::Remove {
            match self.place {
                Place::Entry(_) if self.needs_return() => {
                    return Err("a removal by ret is where the function returns; say uretprobe:".into());
                }
                Place::Return(_) if self.needs_entry() => {
                    return Err("arguments are no longer there when a function returns; say uprobe: for a removal by one".into());
                }
                _ => {}
            }
        }
        self.expressions().try_for_each(|expression| self.check_one(expression))
    }

    fn check_one(&self, expression: &Expression) -> Result<(), String> {
        let most = if matches!(self.place, Place::Usdt { .. }) { USDT_ARGUMENTS } else { ARGUMENTS };
        match (expression, &self.place) {
            (Expression::Argument(at), place) if *at >= most && !matches!(place, Place::Tracepoint { .. }) => {
                Err(format!("there is no arg{at}; they are arg0 to arg{}", most - 1))
            }
            (Expression::Field { name, member }, Place::Entry(_) | Place::Return(_) | Place::Usdt { .. }) => {
                let shown = member.as_ref().map_or(name.clone(), |member| format!("{name}.{member}"));
                Err(format!("{shown} is the name of a field, which only tracepoints have; say arg0 to arg{}, or ret", most - 1))
            }
            (Expression::Returned, Place::Usdt { .. }) => Err("a mark in a program returns nothing; say arg0 to arg11".into()),
            (Expression::Returned, Place::Tracepoint { category, name }) if category != "syscalls" || !name.starts_with("sys_exit_") => {
                Err("only tracepoints syscalls:sys_exit_... have ret; say the name of a field".into())
            }
            _ => Ok(()),
        }
    }
}

fn place(words: &[&str], text: &str) -> Result<Place, Unreadable> {
    if words.iter().any(|word| word.is_empty()) {
        return Err(Unreadable(format!("{text:?}: a part of the probe is empty; a probe is {FORMS}")));
    }
    let own = |word: &&str| (*word).to_owned();
    match words {
        ["uprobe", library, name] => Ok(Place::Entry(Function { library: own(library), name: own(name) })),
        ["uretprobe", library, name] => Ok(Place::Return(Function { library: own(library), name: own(name) })),
        ["usdt", library, provider, name] => Ok(Place::Usdt { library: own(library), provider: own(provider), name: own(name) }),
        ["tracepoint", category, name] => Ok(Place::Tracepoint { category: own(category), name: own(name) }),
        [sort @ ("uprobe" | "uretprobe" | "usdt" | "tracepoint"), ..] => {
            Err(Unreadable(format!("{text:?}: {sort} has another form; a probe is {FORMS}, then :key=EXPR and :weight=EXPR")))
        }
        _ => Err(Unreadable(format!("{text:?} is no probe; a probe is {FORMS}"))),
    }
}

impl CustomProfile {
    /// Puts a profile together.
    ///
    /// # Errors
    /// What does not fit, and what to do.
    pub fn new(name: &str, global_keys: bool, probes: Vec<CustomProbe>) -> Result<Self, Unreadable> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(is_plain) {
            return Err(Unreadable(format!("--profile {name:?}: a name has 1 to {NAME_MAX} letters, digits, - and _")));
        }
        let profile = Self { name: name.to_owned(), global_keys, probes };
        if profile.probes.len() > PROBES_MAX {
            return Err(Unreadable(format!("--profile {name}: it may have {PROBES_MAX} probes")));
        }
        let adds = || profile.probes.iter().filter(|probe| probe.action == Action::Add);
        if adds().next().is_none() {
            return Err(Unreadable(format!("--profile {name}: nothing is added; say by which probe with --add PROBE")));
        }
        if let Some(probe) = adds().find(|probe| profile.has_removes() && probe.key.is_none()) {
            return Err(Unreadable(format!("--add {}: it has no key, and what is removed is found by it; add :key=EXPR", probe.place)));
        }
        Ok(profile)
    }

    /// Whether anything is removed; else what was added is counted.
    pub fn has_removes(&self) -> bool {
        self.probes.iter().any(|probe| probe.action == Action::Remove)
    }

    /// Whether what is added weighs something.
    pub fn has_weight(&self) -> bool {
        self.probes.iter().any(|probe| probe.weight.is_some())
    }

    /// Whether processes are probed, and not the kernel alone.
    pub fn has_probes_in_processes(&self) -> bool {
        self.probes.iter().any(|probe| !matches!(probe.place, Place::Tracepoint { .. }))
    }

    /// Whether every system call of the machine is looked at.
    pub fn has_system_calls(&self) -> bool {
        self.probes.iter().any(|probe| matches!(&probe.place, Place::Tracepoint { category, .. } if category == "syscalls"))
    }
}

/// Of these names the one that is nearest to another, if one is near: what was meant by a slip of the pen.
pub fn nearest<'a>(meant: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (meant.len() / 3).clamp(1, 3);
    names.into_iter().filter_map(|name| Some((distance(meant.as_bytes(), name.as_bytes(), most)?, name))).min().map(|(_, name)| name)
}

/// Letters to change, leave out, put in or let change places, until one is the other; None beyond `most`.
fn distance(one: &[u8], other: &[u8], most: usize) -> Option<usize> {
    if one.len().abs_diff(other.len()) > most || one.len() > 256 {
        return None;
    }
    let (mut before, mut above): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=other.len()).collect());
    for (row, mine) in one.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, theirs) in other.iter().enumerate() {
            let mut least = (above[column] + usize::from(mine != theirs)).min(above[column + 1] + 1).min(line[column] + 1);
            if row > 0 && column > 0 && one[row - 1] == *theirs && *mine == other[column - 1] {
                least = least.min(before[column - 1] + 1);
            }
            line.push(least);
        }
        (before, above) = (above, line);
    }
    above.last().copied().filter(|found| *found <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(text: &str) -> Result<CustomProbe, Unreadable> {
        CustomProbe::parse(Action::Add, text)
    }

    #[test]
    fn a_probe_is_read_as_it_is_written() {
        let probe = add("uretprobe:libc.so.6:fopen:key=ret:weight=0x10").expect("valid");
        assert_eq!(probe.place.to_string(), "uretprobe:libc.so.6:fopen");
        assert_eq!((probe.key, probe.weight), (Some(Expression::Returned), Some(Expression::Number(16))));
        let probe = add("tracepoint:task:task_newtask:key=task.pid").expect("valid");
        assert_eq!(probe.key, Some(Expression::Field { name: "task".into(), member: Some("pid".into()) }));
        assert_eq!(add("usdt:python3:python:gc__done:weight=arg0").expect("valid").weight, Some(Expression::Argument(0)));
        assert!(add("uprobe:libc.so.6:malloc:key=ret:weight=arg0").is_ok_and(|probe| probe.needs_return() && probe.needs_entry()));
    }

    #[test]
    fn what_means_nothing_is_refused_with_what_to_do() {
        for (text, say) in [
            ("", "empty"),
            ("fopen", "is no probe"),
            ("kprobe:x:y", "is no probe"),
            ("uprobe:fopen", "uprobe has another form"),
            ("uprobe:libc.so.6:", "empty"),
            ("uprobe:libc.so.6:f:key=arg6", "arg0 to arg5"),
            ("uprobe:libc.so.6:f:key=arg999", "no such argument"),
            ("uprobe:libc.so.6:f:key=rdi+4", "is no expression"),
            ("uprobe:libc.so.6:f:key=fd", "only tracepoints"),
            ("uprobe:libc.so.6:f:key=arg0:key=arg1", "twice"),
            ("uprobe:libc.so.6:f:tag=arg0", "\"tag\""),
            ("usdt:python3:python:line:key=ret", "returns nothing"),
            ("tracepoint:sched:sched_switch:key=ret", "sys_exit_"),
        ] {
            let refused = add(text).expect_err(text).to_string();
            assert!(refused.contains(say), "{text}: {refused}");
        }
        let remove = |text| CustomProbe::parse(Action::Remove, text).expect_err(text).to_string();
        assert!(remove("uprobe:libc.so.6:fclose").contains(":key="));
        assert!(remove("uprobe:libc.so.6:fclose:key=arg0:weight=1").contains("leave weight out"));
        assert!(remove("uretprobe:libc.so.6:fclose:key=arg0").contains("uprobe:"));
        assert!(remove("uprobe:libc.so.6:fclose:key=ret").contains("uretprobe:"));
    }

    #[test]
    fn a_profile_adds_something_and_what_is_removed_has_a_key() {
        let remove = || CustomProbe::parse(Action::Remove, "uprobe:libc.so.6:fclose:key=arg0").expect("valid");
        let refused = |name, probes| CustomProfile::new(name, false, probes).expect_err("refused").to_string();
        assert!(refused("x", vec![remove()]).contains("--add"));
        assert!(refused("x", vec![remove(), add("uretprobe:libc.so.6:fopen").expect("valid")]).contains("no key"));
        assert!(refused("a b", vec![add("uprobe:l:f").expect("valid")]).contains("a name has"));
        let counted = CustomProfile::new("calls", false, vec![add("uprobe:l:f").expect("valid")]).expect("valid");
        assert!(!counted.has_removes() && !counted.has_weight() && counted.has_probes_in_processes());
    }

    #[test]
    fn a_slip_of_the_pen_is_understood() {
        let names = ["fopen", "fclose", "freopen", "malloc"];
        assert_eq!(nearest("fopne", names), Some("fopen"));
        assert_eq!(nearest("mallco", names), Some("malloc"));
        assert_eq!(nearest("something", names), None);
    }
}
