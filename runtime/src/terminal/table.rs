//! Columns: a header in capitals, two spaces between columns, nothing behind the last.

use std::fmt;

use super::{Colour, printable};

/// Characters of one value, at most: a stranger's megabyte must not drown the others.
const CELL_CHARS_MAX: usize = 400;

/// Rows under a header; columns marked wide show only when asked for.
#[derive(Debug, Clone, Default)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    wide: bool,
}

#[derive(Debug, Clone)]
struct Column {
    title: String,
    wide: bool,
}

/// One value, perhaps with a colour.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Table {
    /// An empty table; `wide` shows the wide columns too.
    pub fn new(wide: bool) -> Self {
        Self { wide, ..Self::default() }
    }

    /// Adds a column that always shows.
    #[must_use]
    pub fn column(mut self, title: &str) -> Self {
        self.columns.push(Column { title: title.to_uppercase(), wide: false });
        self
    }

    /// Adds a column that shows with `-o wide`.
    #[must_use]
    pub fn wide_column(mut self, title: &str) -> Self {
        self.columns.push(Column { title: title.to_uppercase(), wide: true });
        self
    }

    /// Adds a row: one cell per column, wide ones included.
    pub fn row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn shown(&self) -> Vec<usize> {
        (0..self.columns.len()).filter(|&i| self.wide || !self.columns[i].wide).collect()
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(Cell::width);
        cells.chain([self.columns[column].title.chars().count()]).max().unwrap_or(0)
    }
}

impl Cell {
    /// A value in a colour.
    pub fn coloured(colour: Colour, text: impl AsRef<str>) -> Self {
        Self { text: shown(text.as_ref()), colour: Some(colour) }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }

    fn painted(&self) -> String {
        self.colour.map_or_else(|| self.text.clone(), |colour| super::colour(colour, &self.text))
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        let text = if text.as_ref().is_empty() { "-" } else { text.as_ref() };
        Self { text: shown(text), colour: None }
    }
}

/// A text without control characters, cut where it is too long for a table.
fn shown(text: &str) -> String {
    match text.char_indices().nth(CELL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", printable(&text[..end])),
        None => printable(text),
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.shown();
        let widths: Vec<usize> = shown.iter().map(|&column| self.width(column)).collect();
        let titles: Vec<Cell> =
            shown.iter().map(|&column| Cell::from(&self.columns[column].title)).collect();
        let empty = Cell::default();
        let rows = self.rows.iter().map(|row| {
            shown
                .iter()
                .map(|&column| row.get(column).unwrap_or(&empty).clone())
                .collect::<Vec<_>>()
        });
        for row in std::iter::once(titles).chain(rows) {
            write_row(f, &row, &widths)?;
        }
        Ok(())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &[Cell], widths: &[usize]) -> fmt::Result {
    for (position, (cell, width)) in row.iter().zip(widths).enumerate() {
        write!(f, "{}", cell.painted())?;
        if position + 1 < row.len() {
            f.write_str(&" ".repeat(width - cell.width() + 2))?;
        }
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(wide: bool) -> Table {
        let mut table = Table::new(wide).column("name").wide_column("id").column("state");
        table.row(["web.0", "0123", "running"]);
        table.row(["a-long-name.12", "4567", ""]);
        table
    }

    #[test]
    fn columns_align_and_wide_ones_show_when_asked() {
        assert_eq!(
            sample(false).to_string(),
            "NAME            STATE\nweb.0           running\na-long-name.12  -\n"
        );
        assert_eq!(
            sample(true).to_string(),
            "NAME            ID    STATE\nweb.0           0123  running\na-long-name.12  4567  -\n"
        );
    }

    #[test]
    fn a_value_without_measure_is_cut() {
        let mut table = Table::new(false).column("name").column("labels").column("state");
        table.row(["a", &"x".repeat(100_000), "ready"]);
        let text = table.to_string();
        assert!(text.len() < 2_000 && text.contains("x…  ready"), "{} bytes", text.len());
    }

    #[test]
    fn a_strangers_name_cannot_break_the_table() {
        let mut table = Table::new(false).column("name");
        table.row(["evil\nroot"]);
        assert_eq!(table.to_string(), "NAME\nevil\\nroot\n");
    }
}
