//! The marks at which a program tells of its blocks, on the wire: none, why they are of no use, or each with what it tells.

use super::wire::{In, Malformed, Out};
use crate::model::allocator::{AllocatorMark, MARKS_MAX, Marks, Told, UselessMarks};
use crate::model::probe_points::MarkArgument;

impl Out {
    pub(super) fn marks(&mut self, marks: &Marks) {
        match marks {
            Marks::None => self.u8(0),
            Marks::Useless(why) => {
                self.u8(1);
                self.u8(*why as u8);
            }
            Marks::Usable(marks) => {
                self.u8(2);
                let marks = &marks[..marks.len().min(MARKS_MAX)];
                self.u32(marks.len());
                marks.iter().for_each(|mark| self.allocator_mark(mark));
            }
        }
    }

    fn allocator_mark(&mut self, mark: &AllocatorMark) {
        self.u64(mark.offset);
        self.u64(mark.semaphore);
        self.u8(u8::from(mark.is_emulated));
        let (is_alloc, arguments) = match &mark.tells {
            Told::Alloc(arguments) => (true, &arguments[..]),
            Told::Free(block) => (false, std::slice::from_ref(block)),
        };
        self.u8(u8::from(is_alloc));
        arguments.iter().for_each(|argument| self.mark_argument(Some(argument)));
    }
}

impl In<'_> {
    pub(super) fn marks(&mut self) -> Result<Marks, Malformed> {
        Ok(match self.u8()? {
            0 => Marks::None,
            1 => Marks::Useless(match self.u8()? {
                0 => UselessMarks::Malloc,
                1 => UselessMarks::Written,
                2 => UselessMarks::Half,
                3 => UselessMarks::Many,
                _ => return Err(Malformed("marks that are of no use without a reason")),
            }),
            2 => Marks::Usable((0..self.count(MARKS_MAX)?).map(|_| self.allocator_mark()).collect::<Result<_, _>>()?),
            _ => return Err(Malformed("marks of no sort")),
        })
    }

    fn allocator_mark(&mut self) -> Result<AllocatorMark, Malformed> {
        let (offset, semaphore, is_emulated, is_alloc) = (self.u64()?, self.u64()?, self.flag()?, self.flag()?);
        let tells = match is_alloc {
            true => Told::Alloc([self.argument()?, self.argument()?, self.argument()?]),
            false => Told::Free(self.argument()?),
        };
        Ok(AllocatorMark { offset, semaphore, is_emulated, tells })
    }

    fn argument(&mut self) -> Result<MarkArgument, Malformed> {
        self.mark_argument()?.ok_or(Malformed("a mark without its argument"))
    }
}
