//! Functions that a profile of blocks drops from its stacks with all that they call: it is about who asked an allocator, and not about the allocator.

/// What names of allocators' functions begin with, by themselves or by the library that has them.
const PREFIXES: [&str; 10] = ["__libc_", "__GI___libc_", "__GI_", "__", "je_", "_rjem_", "rjem_", "tc_", "mi_", ""];
/// Entry points of allocators, without those.
const NAMES: [&str; 11] = [
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "memalign",
    "aligned_alloc",
    "posix_memalign",
    "valloc",
    "pvalloc",
    "mallocx",
    "rallocx",
];
/// The same as a pattern, with C++'s; an argument list may follow that.
const PATTERN: &str = r"(__libc_|__GI___libc_|__GI_|__|je_|_rjem_|rjem_|tc_|mi_)?(malloc|calloc|realloc|reallocarray|memalign|aligned_alloc|posix_memalign|valloc|pvalloc|mallocx|rallocx)|operator new(\[\])?(\(.*\))?";

/// Entry points of allocators: those that are known by their names, and these, which the user has named.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EntryPoints {
    /// By the names that the profile has for them.
    pub given: Vec<String>,
}

impl EntryPoints {
    /// Whether a function of this name is one.
    pub fn has(&self, name: &str) -> bool {
        let is_entry_point = |prefix: &&str| name.strip_prefix(*prefix).is_some_and(|rest| NAMES.contains(&rest));
        let is_new = |rest: &str| {
            let rest = rest.strip_prefix("[]").unwrap_or(rest);
            rest.is_empty() || rest.starts_with('(') && rest.ends_with(')')
        };
        PREFIXES.iter().any(is_entry_point)
            || name.strip_prefix("operator new").is_some_and(is_new)
            || self.given.iter().any(|given| without_arguments(given) == without_arguments(name))
    }

    /// What [`Self::has`] is true of, as a pattern for a whole name in the syntax of RE2.
    pub fn pattern(&self) -> String {
        let mut pattern = PATTERN.to_owned();
        for given in &self.given {
            pattern.push('|');
            for letter in without_arguments(given).chars() {
                // All that could mean something; a letter after the sign would mean something else.
                if letter.is_ascii_punctuation() && letter != '_' {
                    pattern.push('\\');
                }
                pattern.push(letter);
            }
            pattern.push_str(r"(\(.*\))?");
        }
        pattern
    }
}

/// A name up to its list of arguments, as pprof matches it (`simplifyFunc` of profile/prune.go, Go 1.26).
fn without_arguments(name: &str) -> &str {
    let mut from = 0;
    while let Some(at) = name[from..].find('(').map(|at| from + at) {
        let rest = &name[at..];
        let skipped = if rest.starts_with("(anonymous namespace)") {
            "(anonymous namespace)".len()
        } else if rest.starts_with("()") && name[..at].ends_with("operator") {
            2
        } else {
            return &name[..at];
        };
        from = at + skipped;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_points_of_allocators_are_dropped() {
        let known = EntryPoints::default();
        for name in [
            "malloc",
            "__libc_calloc",
            "je_malloc",
            "mi_realloc",
            "operator new(unsigned long)",
            "operator new[](unsigned long)",
            "operator new",
        ] {
            assert!(known.has(name), "{name}");
        }
        for name in ["mallocate", "my_malloc", "operator newest", "free", "main", "PyMem_Malloc"] {
            assert!(!known.has(name), "{name}");
        }
    }

    #[test]
    fn what_the_user_names_is_one_and_nothing_like_it() {
        let points = EntryPoints { given: vec!["pool_get".to_owned(), "Pool<int>::get(unsigned long)".to_owned()] };
        for name in ["pool_get", "Pool<int>::get(unsigned long)", "Pool<int>::get", "malloc"] {
            assert!(points.has(name), "{name}");
        }
        for name in ["pool_getter", "pool_ge", "Pool<int>::get_all(unsigned long)", "Pool<char>::get"] {
            assert!(!points.has(name), "{name}");
        }
        assert_eq!(points.pattern(), format!(r"{PATTERN}|pool_get(\(.*\))?|Pool\<int\>\:\:get(\(.*\))?"));
    }

    #[test]
    fn brackets_that_are_no_arguments_stay() {
        for (name, short) in [
            ("f(int (*)(char))", "f"),
            ("(anonymous namespace)::f(int)", "(anonymous namespace)::f"),
            ("S::operator()(int) const", "S::operator()"),
            ("plain", "plain"),
        ] {
            assert_eq!(without_arguments(name), short);
        }
    }
}
