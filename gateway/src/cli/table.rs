//! Tables of plain text: columns as wide as their widest cell, two blanks between them, no lines.

use std::fmt;

/// A table. Cells must not hold colour.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    /// Which columns hold numbers, and stand to the right.
    right: &'static [usize],
}

impl Table {
    pub(super) fn new(head: &[&str], right: &'static [usize]) -> Table {
        Table {
            rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()],
            right,
        }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().map(|row| cell(row, column)).max().unwrap_or(0))
            .collect();
        for (n, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                line += &match self.right.contains(&column) {
                    true => format!("{gap}{cell:>width$}"),
                    false => format!("{gap}{cell:width$}"),
                };
            }
            write!(f, "{}{}", if n == 0 { "" } else { "\n" }, line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", "N"], &[1]);
        table.row(["ä".into(), "12".into()]);
        table.row(["longer".into(), "3".into()]);
        assert_eq!(table.to_string(), "NAME     N\nä       12\nlonger   3");
    }
}
