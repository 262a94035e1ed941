//! Columns as `istioctl` prints them: left-aligned, and as far apart as the command has it.

/// Spaces between columns, where a command has no other.
const PADDING: usize = 5;

/// Rows under a header; each column is as wide as its widest cell.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    padding: usize,
    least: usize,
}

impl Table {
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Self {
        Table {
            rows: vec![header.map(str::to_owned).to_vec()],
            padding: PADDING,
            least: 0,
        }
    }

    /// With so many spaces between the columns.
    pub(crate) fn padded(self, padding: usize) -> Self {
        Table { padding, ..self }
    }

    /// With columns of some width at least, the spaces behind them included.
    pub(crate) fn at_least(self, least: usize) -> Self {
        Table { least, ..self }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Sorts the rows below the header.
    pub(crate) fn sort(&mut self) {
        if let Some(rows) = self.rows.get_mut(1..) {
            rows.sort();
        }
    }

    /// Puts a word before the first cell of each row.
    pub(crate) fn mark(&mut self, mark: &str) {
        for row in self.rows.iter_mut().skip(1) {
            if let Some(cell) = row.first_mut() {
                cell.insert_str(0, mark);
            }
        }
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                line.push_str(cell);
                // As `istioctl` has it also before a last cell that is empty.
                if column + 1 < row.len() {
                    let width = (widths[column] + self.padding).max(self.least);
                    let pad = width - cell.chars().count();
                    line.extend(std::iter::repeat_n(' ', pad));
                }
            }
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// One line of cells, each at the right end of its column.
pub(crate) fn right_aligned<const N: usize>(cells: &[String; N], widths: &[usize; N]) -> String {
    let cells = cells.iter().zip(widths);
    cells
        .map(|(cell, width)| format!("{cell:>width$}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["NAME", "CDS"]);
        table.row(["b".into(), "SYNCED".into()]);
        table.row(["a-long-name".into(), String::new()]);
        table.sort();
        assert_eq!(
            table.to_string(),
            "NAME            CDS\na-long-name     \nb               SYNCED\n"
        );
        table.mark("x/");
        assert_eq!(
            table.padded(1).to_string(),
            "NAME          CDS\nx/a-long-name \nx/b           SYNCED\n"
        );
    }
}
