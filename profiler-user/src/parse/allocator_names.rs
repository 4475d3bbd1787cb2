//! What an allocator's functions are called, and what they do by their name.

use crate::model::allocator::AllocatorCall;

/// What allocators put before the names of C: jemalloc (as Rust's crate builds it, too), tcmalloc, mimalloc.
const PREFIXES: [&str; 5] = ["_rjem_", "rjem_", "je_", "tc_", "mi_"];

/// Beginnings of names in the allocators of C libraries; also of local ones, where a file has a table of them.
const RELATED: [&str; 22] = [
    "__libc_malloc",
    "__libc_calloc",
    "__libc_realloc",
    "__libc_free",
    "__libc_memalign",
    "__libc_mall",
    "__malloc",
    "__posix_memalign",
    "_int_",
    "_mid_memalign",
    "alloc_new_heap",
    "arena_get",
    "heap_trim",
    "int_mallinfo",
    "mallctl",
    "mallinfo",
    "malloc_",
    "mallopt",
    "munmap_chunk",
    "ptmalloc_",
    "sysmalloc",
    "tcache_",
];

/// A function's name without an allocator's prefix, and the prefix.
fn split(name: &str) -> (&str, &str) {
    PREFIXES.into_iter().find_map(|prefix| Some((prefix, name.strip_prefix(prefix)?))).unwrap_or(("", name))
}

/// Whether an allocator put its prefix before the name: then the name means what it says, even of a local symbol.
pub(super) fn is_prefixed(name: &str) -> bool {
    !split(name).0.is_empty()
}

/// Whether having this function makes a file an allocator.
pub(super) fn is_malloc(name: &str) -> bool {
    split(name).1 == "malloc"
}

/// The function that others jump on to with what they free.
pub(super) fn is_free(name: &str) -> bool {
    split(name).1 == "free"
}

/// C++'s own operators (and what mimalloc has for them), that most libraries define by calls of malloc and free.
pub(super) fn is_operator(name: &str) -> bool {
    ["_Znwm", "_Znam", "_ZdlPv", "_ZdaPv", "mi_new"].into_iter().any(|operator| name.starts_with(operator))
}

/// Whole pages: of those allocators that have it call another function, it does nothing else.
pub(super) fn is_valloc(name: &str) -> bool {
    matches!(split(name).1, "valloc" | "pvalloc")
}

/// What a function does with which arguments, by its name. `reallocarray` is none: it calls `realloc`.
pub(super) fn call_of(name: &str) -> Option<AllocatorCall> {
    let (prefix, plain) = split(name);
    match plain {
        "malloc" | "valloc" | "pvalloc" => Some(AllocatorCall::Malloc),
        "calloc" => Some(AllocatorCall::Calloc),
        "realloc" => Some(AllocatorCall::Realloc),
        "aligned_alloc" | "memalign" => Some(AllocatorCall::Memalign),
        "posix_memalign" => Some(AllocatorCall::PosixMemalign),
        "free" | "cfree" => Some(AllocatorCall::Free),
        // jemalloc's own: the flags behind the size do not change what is counted.
        "mallocx" if !matches!(prefix, "tc_" | "mi_") => Some(AllocatorCall::Malloc),
        "rallocx" if !matches!(prefix, "tc_" | "mi_") => Some(AllocatorCall::Realloc),
        "dallocx" | "sdallocx" if !matches!(prefix, "tc_" | "mi_") => Some(AllocatorCall::Free),
        _ if prefix == "mi_" => of_mimalloc(plain),
        _ if prefix.is_empty() => operator(name),
        _ => None,
    }
}

/// What mimalloc adds, and what its operators jump on to; the arguments behind the ones that are said do not matter.
fn of_mimalloc(plain: &str) -> Option<AllocatorCall> {
    match plain {
        "zalloc" | "new" | "new_nothrow" => Some(AllocatorCall::Malloc),
        "malloc_aligned" | "new_aligned" | "new_aligned_nothrow" => Some(AllocatorCall::AlignedNew),
        "free_size" | "free_aligned" | "free_size_aligned" => Some(AllocatorCall::Free),
        _ => None,
    }
}

/// The operators, by their mangled names for 64-bit sizes.
fn operator(name: &str) -> Option<AllocatorCall> {
    match name {
        "_Znwm" | "_Znam" | "_ZnwmRKSt9nothrow_t" | "_ZnamRKSt9nothrow_t" => Some(AllocatorCall::Malloc),
        "_ZnwmSt11align_val_t" | "_ZnamSt11align_val_t" | "_ZnwmSt11align_val_tRKSt9nothrow_t" | "_ZnamSt11align_val_tRKSt9nothrow_t" => {
            Some(AllocatorCall::AlignedNew)
        }
        _ if name.starts_with("_ZdlPv") || name.starts_with("_ZdaPv") => Some(AllocatorCall::Free),
        _ => None,
    }
}

/// Whether a function is a part of the allocator that has `families` of prefixes (of `""`, the plain names).
pub(super) fn is_related(name: &str, families: &[&str]) -> bool {
    // They free what a library keeps, copy texts into new blocks or multiply sizes, and call a function that is probed: calls of theirs count.
    if ["dup", "freeres", "realpath", "reallocarr", "reallocn"].into_iter().any(|caller| name.contains(caller)) {
        return false;
    }
    let plain = split(name);
    let known = RELATED.into_iter().any(|beginning| plain.1.starts_with(beginning)) || call_of(plain.1).is_some();
    if plain.0.is_empty() { known && !is_operator(name) && families.contains(&"") } else { families.contains(&plain.0) }
}

/// The prefix of a function that makes a file an allocator.
pub(super) fn family(name: &str) -> &str {
    split(name).0
}
