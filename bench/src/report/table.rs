//! Tables in Markdown that can be read as they are: columns as wide as what is in them, numbers to the right.

use std::fmt::Write as _;

/// A table: its first column is text, the others are figures.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    /// Adds a row; it has as many cells as there are columns.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        // A bar in a cell would begin another one.
        self.rows.push(cells.into_iter().map(|cell| cell.into().replace('|', "\\|")).collect());
    }

    /// The table in Markdown, with an empty line after it.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (n, row) in self.rows.iter().enumerate() {
            for (column, width) in widths.iter().enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                let _infallible = match column {
                    0 => write!(text, "| {cell:<width$} "),
                    _ => write!(text, "| {cell:>width$} "),
                };
            }
            text += "|\n";
            if n == 0 {
                for (column, width) in widths.iter().enumerate() {
                    text.extend(["|", &"-".repeat(width + 1), if column == 0 { "-" } else { ":" }]);
                }
                text += "|\n";
            }
        }
        text + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = Table::new(&["who", "seconds"]);
        table.row(["Mothball", "7.80 s"]);
        table.row(["a|b", "150–161"]);
        let expected = "| who      | seconds |\n\
                        |----------|--------:|\n\
                        | Mothball |  7.80 s |\n\
                        | a\\|b     | 150–161 |\n\n";
        assert_eq!(table.render(), expected);
    }
}
