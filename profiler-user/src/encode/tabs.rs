//! Columns aligned by tabulators, by the rule of Go's `text/tabwriter` as `runtime/pprof` sets it up (least width 1, tabulators of 8, padding 1),
//! so that our text reads as Go's does.

/// Columns per tabulator.
const TAB: usize = 8;

/// Appends lines of cells. A cell that is followed by another one is padded to its column: the run of adjacent lines that have such a cell
/// there. The last cell of a line is never padded.
pub(super) fn align(lines: &[Vec<String>], out: &mut String) {
    let columns = lines.iter().map(|line| line.len().saturating_sub(1)).max().unwrap_or(0);
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|line| vec![0; line.len().saturating_sub(1)]).collect();
    for column in 0..columns {
        let mut from = 0;
        while from < lines.len() {
            let run = lines[from..].iter().take_while(|line| line.len() > column + 1).count();
            let widest = lines[from..from + run].iter().map(|line| width(&line[column])).max().unwrap_or(0);
            for widths in &mut widths[from..from + run] {
                widths[column] = (widest + 1).next_multiple_of(TAB);
            }
            from += run.max(1);
        }
    }
    for (line, widths) in lines.iter().zip(&widths) {
        for (at, cell) in line.iter().enumerate() {
            out.push_str(cell);
            if let Some(column) = widths.get(at) {
                let tabs = (column - width(cell)).div_ceil(TAB);
                out.extend(std::iter::repeat_n('\t', tabs));
            }
        }
        out.push('\n');
    }
}

/// Characters, as Go counts them.
fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::align;

    fn aligned(lines: &[&str]) -> String {
        let lines: Vec<Vec<String>> = lines.iter().map(|line| line.split('|').map(str::to_owned).collect()).collect();
        let mut out = String::new();
        align(&lines, &mut out);
        out
    }

    #[test]
    fn cells_of_a_column_start_at_the_same_tabulator() {
        assert_eq!(
            aligned(&["#|0x1|main.f|a.go:1", "#|0x22|main.longername|b.go:2"]),
            "#\t0x1\tmain.f\t\ta.go:1\n#\t0x22\tmain.longername\tb.go:2\n"
        );
    }

    #[test]
    fn seven_characters_fill_a_tabulator_and_eight_need_two() {
        assert_eq!(aligned(&["1234567|x"]), "1234567\tx\n");
        assert_eq!(aligned(&["12345678|x"]), "12345678\tx\n");
        assert_eq!(aligned(&["12345678|x", "1|y"]), "12345678\tx\n1\t\ty\n");
        assert_eq!(aligned(&["äöüäöüä|x", "1|y"]), "äöüäöüä\tx\n1\ty\n");
    }

    #[test]
    fn a_line_without_the_cell_ends_the_column() {
        assert_eq!(aligned(&["a|longlonglong|x", "a|last", "a|b|x"]), "a\tlonglonglong\tx\na\tlast\na\tb\tx\n");
    }
}
