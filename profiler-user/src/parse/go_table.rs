//! Finding Go's table of functions in a program: where it is, which version it has, and what the structure says that goes with it.

use super::go_module;
use super::pclntab::{GoTable, InlineTrees, Version};

/// Finds the table in an ELF file and reads its header. `None`: there is none, or not one that is known here.
pub fn find(bytes: &[u8]) -> Option<GoTable> {
    let file = object::File::parse(bytes).ok()?;
    go_module::table_sections(&file, bytes).find_map(|section| {
        let mut table = GoTable::parse(bytes, section.range)?;
        if table.version == Version::Go116 {
            table.inline_trees = InlineTrees::ByAddress(super::elf::segments(&file));
            return Some(table);
        }
        let module = go_module::find(&file, bytes, section.address, &table)?;
        table.text = module.text;
        let with = |trees| {
            let mut table = table.clone();
            table.inline_trees = trees;
            table
        };
        let found = module.inline_trees(&file).map(InlineTrees::At).map(with);
        Some(found.into_iter().find(|table| table.inline_trees_fit(bytes)).unwrap_or(table))
    })
}
