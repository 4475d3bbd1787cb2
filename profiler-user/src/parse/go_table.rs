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
        table.wrapper = wrapper(&table, bytes);
        let with = |trees| {
            let mut table = table.clone();
            table.inline_trees = trees;
            table
        };
        let found = module.inline_trees(&file).map(InlineTrees::At).map(with);
        Some(found.into_iter().find(|table| table.inline_trees_fit(bytes)).unwrap_or(table))
    })
}

/// The id of what the compiler makes to call another function. Ids are numbered anew when one is added; this is the last one in 1.20 to 1.27, behind that of the
/// function which every program has.
fn wrapper(table: &GoTable, bytes: &[u8]) -> Option<u8> {
    const BEFORE: &str = "runtime.systemstack_switch";
    let ids = table.functions(bytes).map(|(function, _)| (function, table.id(bytes, function)));
    let (_, id) = ids.filter(|(_, id)| *id != 0).find(|(function, _)| table.name(bytes, *function) == BEFORE)?;
    (table.version == Version::Go120).then(|| id.checked_add(1)).flatten()
}
