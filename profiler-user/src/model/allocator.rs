//! Functions of an allocator, as they stand in a file: where they begin, where a probe is cheap, and what their arguments are.

use super::probe_points::MarkArgument;

/// What a file has of an allocator.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Allocator {
    /// The functions to probe, by their entry; no two have the same entry.
    pub functions: Vec<AllocatorFunction>,
    /// Code of the allocator itself: file offsets, first and behind the last, sorted, none overlap, at most [`OWN_MAX`]. A call that comes from there is a part
    /// of another call.
    pub own: Vec<(u64, u64)>,
    /// Of the functions that were asked for by name: the places in that list of those that the file has.
    pub given: Vec<u32>,
    /// Where the file tells itself of blocks.
    pub marks: Marks,
}

/// Places at which a program tells of the blocks that it has sampled itself: USDT marks of the provider [`MARKS_PROVIDER`], as OpenTelemetry has agreed on them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Marks {
    /// There are none.
    #[default]
    None,
    /// There are these, at most [`MARKS_MAX`], and no function of an allocator.
    Usable(Vec<AllocatorMark>),
    /// There are some, and why they are of no use.
    Useless(UselessMarks),
}

/// Why marks are not probed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum UselessMarks {
    /// The file takes its memory from another one's `malloc`, which counts it.
    Malloc = 0,
    /// Where a mark has its arguments, or where it is, is not understood.
    Written = 1,
    /// Nothing makes a block, or nothing gives one back.
    Half = 2,
    /// There are more than are looked at.
    Many = 3,
}

/// Whose marks they are.
pub const MARKS_PROVIDER: &str = "otel_memory";
/// Marks of one file at most.
pub const MARKS_MAX: usize = 256;

/// A place at which a program tells of a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AllocatorMark {
    /// File offset of the instruction.
    pub offset: u64,
    /// File offset of the word that says that somebody looks; 0: there is none.
    pub semaphore: u64,
    /// Whether the kernel emulates the instruction.
    pub is_emulated: bool,
    /// What is told, and where the numbers are.
    pub tells: Told,
}

/// What a mark tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// `alloc(block, size, weighted_bytes)`: there is a block, which stands for so many bytes.
    Alloc([MarkArgument; 3]),
    /// `free(block)`: it is given back.
    Free(MarkArgument),
}

impl Told {
    /// The mark's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Alloc(_) => "alloc",
            Self::Free(_) => "free",
        }
    }
}

/// Stretches of own code at most.
pub const OWN_MAX: usize = 4;
/// Functions of one file at most.
pub const FUNCTIONS_MAX: usize = 64;
/// Other names of one function that are kept.
pub const ALIASES_MAX: usize = 8;

/// A function to probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AllocatorFunction {
    /// Its symbol.
    pub name: String,
    /// Other symbols of it, at most [`ALIASES_MAX`].
    pub aliases: Vec<String>,
    /// What it does with which arguments.
    pub call: AllocatorCall,
    /// File offset of its first instruction.
    pub entry: u64,
    /// Where a probe can wait for the return, too: the arguments are in their registers and the stack pointer is where the call left it.
    pub at_entry: ProbePlace,
    /// Where a probe is cheapest that needs only the arguments: they are in their registers, the stack pointer may have moved. It is reached by every call that
    /// matters (a `free` may leave before it when there is nothing to free).
    pub after_entry: ProbePlace,
    /// It jumps on to another function here that is probed: with a null pointer (`Realloc`), or with an alignment that every block has (`Memalign`, up to 16 bytes).
    /// That one counts such a call.
    pub forwards: bool,
    /// It is an allocator's because the user says so, and not by its name: which place it has in that list.
    pub given: Option<u32>,
}

/// A function of an allocator that the user has named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GivenFunction {
    /// What it does with which arguments.
    pub call: AllocatorCall,
    /// Its symbol.
    pub name: String,
}

/// An allocator that the user has named, by its functions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GivenAllocator {
    /// The file that has them: its path, its name, or its name without a version.
    pub library: String,
    /// Its functions; at least one makes blocks, and one gives them back.
    pub functions: Vec<GivenFunction>,
}

/// Functions that can be named in all.
pub const GIVEN_MAX: usize = 64;
/// What functions are like, by the names of the C library.
const LIKE: [(&str, AllocatorCall); 8] = [
    ("malloc", AllocatorCall::Malloc),
    ("calloc", AllocatorCall::Calloc),
    ("realloc", AllocatorCall::Realloc),
    ("memalign", AllocatorCall::Memalign),
    ("aligned_alloc", AllocatorCall::Memalign),
    ("posix_memalign", AllocatorCall::PosixMemalign),
    ("aligned_new", AllocatorCall::AlignedNew),
    ("free", AllocatorCall::Free),
];

impl std::fmt::Display for GivenAllocator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, function) in self.functions.iter().enumerate() {
            let like = LIKE.iter().find(|(_, call)| *call == function.call).map_or("", |(like, _)| like);
            let before = if at == 0 { format!("{}:", self.library) } else { ",".to_owned() };
            write!(f, "{before}{like}={}", function.name)?;
        }
        Ok(())
    }
}

impl GivenAllocator {
    /// Reads `LIB:malloc=NAME,free=NAME`: what each function is like, by the name that the C library has for it.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = "write LIB:malloc=NAME,free=NAME, such as libpool.so:malloc=pool_get,free=pool_put";
        let (library, functions) = text.split_once(':').filter(|(library, _)| !library.is_empty()).ok_or(form)?;
        let functions = functions.split(',').map(|function| {
            let (like, name) = function.split_once('=').filter(|(_, name)| !name.is_empty()).ok_or_else(|| form.to_owned())?;
            let call = LIKE.iter().find(|(known, _)| *known == like).map(|(_, call)| *call).ok_or_else(|| {
                let known: Vec<&str> = LIKE.iter().map(|(known, _)| *known).collect();
                format!("{like:?} is nothing that a function can be like; there are {}", known.join(", "))
            })?;
            Ok(GivenFunction { call, name: name.to_owned() })
        });
        let functions = functions.collect::<Result<Vec<_>, String>>()?;
        let has = |is: &dyn Fn(AllocatorCall) -> bool| functions.iter().any(|function| is(function.call));
        if !has(&|call| call != AllocatorCall::Free) {
            return Err("nothing makes a block; add malloc=NAME".to_owned());
        }
        if !has(&|call| call == AllocatorCall::Free) {
            return Err("nothing gives a block back, and all would seem to leak; add free=NAME".to_owned());
        }
        Ok(Self { library: library.to_owned(), functions })
    }
}

/// A place for a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbePlace {
    /// File offset of the instruction.
    pub offset: u64,
    /// How far below its value at the entry the stack pointer is there, bytes.
    pub pushed: u32,
    /// Whether the kernel emulates the instruction, or has to execute it step by step, at six times the price.
    pub is_emulated: bool,
}

/// Where a function was probed, and in how many processes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    /// The file that has it, as it was mapped first.
    pub file: String,
    /// Its symbols.
    pub names: Vec<String>,
    /// How far behind its entry the probe is, bytes.
    pub distance: u64,
    /// Whether the kernel emulates the instruction there.
    pub is_emulated: bool,
    /// Processes that it was armed in.
    pub processes: u64,
}

/// What a function does, with its arguments in the order of the calling convention.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum AllocatorCall {
    /// `malloc(size)`, `operator new(size)`, `valloc(size)`: returns the block.
    Malloc = 0,
    /// `calloc(count, size)`.
    Calloc = 1,
    /// `realloc(old, size)`.
    Realloc = 2,
    /// `aligned_alloc(alignment, size)`, `memalign(alignment, size)`.
    Memalign = 3,
    /// `operator new(size, alignment)`.
    AlignedNew = 4,
    /// `posix_memalign(&block, alignment, size)`: returns 0 or an error.
    PosixMemalign = 5,
    /// `free(block)`, `cfree(block)`, `operator delete(block, ...)`.
    Free = 6,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocator_is_named_by_what_its_functions_are_like() {
        let given = GivenAllocator::parse("libpool.so:malloc=pool_get,realloc=pool_more,free=pool_put,free=pool_put_all").expect("valid");
        let calls: Vec<_> = given.functions.iter().map(|function| (function.call, function.name.as_str())).collect();
        assert_eq!(given.library, "libpool.so");
        assert_eq!(given.to_string(), "libpool.so:malloc=pool_get,realloc=pool_more,free=pool_put,free=pool_put_all");
        assert_eq!(calls[1..3], [(AllocatorCall::Realloc, "pool_more"), (AllocatorCall::Free, "pool_put")]);
    }

    #[test]
    fn what_names_no_allocator_is_refused_with_what_to_do() {
        for (text, say) in [
            ("", "write LIB:"),
            (":malloc=a,free=b", "write LIB:"),
            ("malloc=a,free=b", "write LIB:"),
            ("lib:malloc,free=b", "write LIB:"),
            ("lib:malloc=,free=b", "write LIB:"),
            ("lib:grab=a,free=b", "there are malloc, calloc"),
            ("lib:free=b", "add malloc=NAME"),
            ("lib:malloc=a", "add free=NAME"),
        ] {
            let refused = GivenAllocator::parse(text).expect_err(text);
            assert!(refused.contains(say), "{text}: {refused}");
        }
    }
}
