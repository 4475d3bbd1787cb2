//! Finds the places at which a program tells itself of its blocks: the marks `otel_memory:alloc` and `otel_memory:free`.
//!
//! The contract is OpenTelemetry's (design document 00003 of its eBPF profiler): `alloc(block, size, weighted_bytes)` at a block that the process has sampled,
//! which stands for `weighted_bytes` without bias, and `free(block)` when such a block is given back. Whoever samples may be a wrapper of another allocator, which
//! sees the same blocks: where `malloc` is another file's, that one is probed, and not the marks.

use super::probe_place::is_emulated;
use super::probe_points::{self, Noted};
use crate::model::allocator::{AllocatorMark, MARKS_MAX, MARKS_PROVIDER, Marks, Told, UselessMarks};

/// What a file has of them, if it has no function of an allocator.
pub(super) fn marks<'a>(file: &object::File<'a>, bytes: &'a [u8], imports_malloc: bool) -> Marks {
    let all = probe_points::marks(file, bytes);
    of_notes(&all, imports_malloc, &|offset| is_emulated(bytes.get(offset as usize..).unwrap_or_default()))
}

fn of_notes(all: &[Noted<'_>], imports_malloc: bool, is_emulated: &dyn Fn(u64) -> bool) -> Marks {
    let of_memory: Vec<&Noted<'_>> =
        all.iter().filter(|noted| noted.provider == MARKS_PROVIDER && matches!(noted.name, "alloc" | "free")).collect();
    if of_memory.is_empty() {
        return Marks::None;
    }
    if imports_malloc {
        return Marks::Useless(UselessMarks::Malloc);
    }
    if of_memory.len() > MARKS_MAX {
        return Marks::Useless(UselessMarks::Many);
    }
    // One that is not understood would leave blocks out, or leave them there for ever.
    let Some(mut usable) = of_memory.into_iter().map(|noted| usable(noted, is_emulated)).collect::<Option<Vec<_>>>() else {
        return Marks::Useless(UselessMarks::Written);
    };
    let has = |name: &str| usable.iter().any(|mark: &AllocatorMark| mark.tells.name() == name);
    if !has("alloc") || !has("free") {
        return Marks::Useless(UselessMarks::Half);
    }
    usable.sort_by_key(|mark| mark.offset);
    usable.dedup_by_key(|mark| mark.offset);
    Marks::Usable(usable)
}

fn usable(noted: &Noted<'_>, is_emulated: &dyn Fn(u64) -> bool) -> Option<AllocatorMark> {
    let mark = noted.mark.as_ref()?;
    let argument = |at: usize| *mark.arguments.get(at)?;
    let tells = match noted.name {
        "alloc" => Told::Alloc([argument(0)?, argument(1)?, argument(2)?]),
        _ => Told::Free(argument(0)?),
    };
    Some(AllocatorMark { offset: mark.offset, semaphore: mark.semaphore, is_emulated: is_emulated(mark.offset), tells })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::probe_points::{Mark, MarkArgument, MarkPlace};

    fn noted(name: &'static str, offset: u64, arguments: usize) -> Noted<'static> {
        let argument = MarkArgument { bytes: 8, is_signed: false, at: MarkPlace::Register(5) };
        Noted { provider: MARKS_PROVIDER, name, mark: Some(Mark { offset, semaphore: 8, arguments: vec![Some(argument); arguments] }) }
    }

    #[test]
    fn marks_are_used_only_where_all_of_them_can_be() {
        let of = |all: &[Noted<'_>], imports_malloc| of_notes(all, imports_malloc, &|offset| offset == 7);
        let Marks::Usable(usable) = of(&[noted("free", 9, 1), noted("alloc", 7, 3), noted("mmap", 5, 0)], false) else {
            panic!("both are there");
        };
        let told: Vec<_> = usable.iter().map(|mark| (mark.tells.name(), mark.offset, mark.is_emulated)).collect();
        assert_eq!(told, [("alloc", 7, true), ("free", 9, false)]);
        assert_eq!(of(&[noted("free", 9, 1), noted("alloc", 7, 3)], true), Marks::Useless(UselessMarks::Malloc));
        assert_eq!(of(&[noted("alloc", 7, 3)], false), Marks::Useless(UselessMarks::Half));
        assert_eq!(of(&[noted("free", 9, 1), noted("alloc", 7, 2)], false), Marks::Useless(UselessMarks::Written));
        let lost = Noted { mark: None, ..noted("alloc", 7, 3) };
        assert_eq!(of(&[noted("free", 9, 1), noted("alloc", 7, 3), lost], false), Marks::Useless(UselessMarks::Written));
        let many: Vec<_> = (0..=MARKS_MAX as u64).map(|at| noted("free", at, 1)).collect();
        assert_eq!(of(&many, false), Marks::Useless(UselessMarks::Many));
        assert_eq!(of(&[Noted { provider: "libc", ..noted("alloc", 7, 3) }, noted("mmap", 5, 2)], false), Marks::None);
    }
}
