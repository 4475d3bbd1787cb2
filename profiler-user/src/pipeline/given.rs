//! Allocators that the user has named: in which files their functions are meant, and what there is to say of those that are nowhere.

use super::file_name::is_file;
use crate::model::allocator::{Allocator, AllocatorFunction, GivenAllocator, GivenFunction};
use std::collections::BTreeSet;

/// The allocators, and where they were found.
pub(super) struct Given {
    allocators: Vec<GivenAllocator>,
    /// Those whose file somebody maps.
    mapped: BTreeSet<usize>,
    /// Functions that a file of the name lacks, and no other has.
    lacking: BTreeSet<u32>,
    found: BTreeSet<u32>,
}

impl Given {
    pub(super) fn new(allocators: Vec<GivenAllocator>) -> Self {
        Self { allocators, mapped: BTreeSet::new(), lacking: BTreeSet::new(), found: BTreeSet::new() }
    }

    /// The functions of all of them, one behind the other.
    pub(super) fn functions(&self) -> Vec<GivenFunction> {
        self.allocators.iter().flat_map(|allocator| allocator.functions.clone()).collect()
    }

    /// What of a file's functions is meant, that is mapped by these paths: those that are an allocator's by their names, and those that were named for this file.
    pub(super) fn of_file(&mut self, allocator: &Allocator, paths: &BTreeSet<&[u8]>) -> Allocator {
        let mut meant = BTreeSet::new();
        let mut first = 0;
        for (at, given) in self.allocators.iter().enumerate() {
            let places = first..first + given.functions.len() as u32;
            first = places.end;
            if paths.iter().any(|path| is_file(&given.library, path)) {
                self.mapped.insert(at);
                self.lacking.extend(places.clone().filter(|place| !allocator.given.contains(place)));
                self.found.extend(places.clone().filter(|place| allocator.given.contains(place)));
                meant.extend(given.functions.iter().map(|function| function.name.as_str()));
            }
        }
        // Two files may have one of a name, and then the number is that of the first.
        let is_meant = |function: &&AllocatorFunction| function.given.is_none() || meant.contains(function.name.as_str());
        Allocator { functions: allocator.functions.iter().filter(is_meant).cloned().collect(), ..allocator.clone() }
    }

    /// What was not found: in a file of the name, or because nobody maps one.
    pub(super) fn missing(&self) -> impl Iterator<Item = String> + '_ {
        let functions = self.allocators.iter().flat_map(|given| given.functions.iter().map(|function| (&given.library, &function.name)));
        let is_lacking = |(place, _): &(usize, _)| self.lacking.contains(&(*place as u32)) && !self.found.contains(&(*place as u32));
        functions
            .enumerate()
            .filter(is_lacking)
            .map(|(_, (library, name))| format!("--allocator {library}: it has no function with a symbol {name}"))
    }

    /// Those whose file nobody mapped.
    pub(super) fn unmapped(&self) -> impl Iterator<Item = String> + '_ {
        let nowhere = self.allocators.iter().enumerate().filter(|(at, _)| !self.mapped.contains(at));
        nowhere.map(|(_, given)| format!("--allocator {}: no process that was recorded maps it", given.library))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::allocator::{AllocatorCall, ProbePlace};

    #[test]
    fn functions_are_meant_in_the_file_that_they_were_named_for() {
        let given = |text| GivenAllocator::parse(text).expect("valid");
        let mut all =
            Given::new(vec![given("liba:malloc=get,free=put"), given("libb:malloc=get,free=gone"), given("libc:malloc=x,free=y")]);
        let function = |name: &str, given| {
            let place = ProbePlace { offset: 1, pushed: 0, is_emulated: true };
            let (call, entry, forwards) = (AllocatorCall::Malloc, 1, false);
            AllocatorFunction { name: name.into(), aliases: Vec::new(), call, entry, at_entry: place, after_entry: place, forwards, given }
        };
        let file =
            Allocator { functions: vec![function("get", Some(0)), function("malloc", None)], given: vec![0, 1, 2], ..Allocator::default() };
        let names = |found: Allocator| found.functions.into_iter().map(|function| function.name).collect::<Vec<_>>();
        assert_eq!(names(all.of_file(&file, &BTreeSet::from([b"/lib/liba.so.1".as_slice()]))), ["get", "malloc"]);
        assert_eq!(names(all.of_file(&file, &BTreeSet::from([b"/lib/other.so".as_slice()]))), ["malloc"]);
        assert_eq!(all.missing().count(), 0);
        let only_get = Allocator { given: vec![0, 2], ..file };
        assert_eq!(names(all.of_file(&only_get, &BTreeSet::from([b"/lib/libb.so".as_slice()]))), ["get", "malloc"]);
        assert_eq!(all.missing().collect::<Vec<_>>(), ["--allocator libb: it has no function with a symbol gone"]);
        assert_eq!(all.unmapped().collect::<Vec<_>>(), ["--allocator libc: no process that was recorded maps it"]);
        assert_eq!(all.functions().len(), 6);
    }
}
