//! What commands print: tables for people, JSON for programs.

pub(crate) mod human;

use crate::exit::Fail;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::Write;

/// How a command prints what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: the bare list, or one object.
    Json,
}

/// Prints a line. A reader that went away (`| head`) is no error of ours.
pub(crate) fn say(text: impl AsRef<str>) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{}", text.as_ref().trim_end_matches('\n'));
    let _ = stdout.flush();
}

/// Tells the person beside the output: progress, warnings.
pub(crate) fn tell(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.as_ref());
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Fail> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Fail::failed(format!("write JSON: {e}")))?;
    say(text);
    Ok(())
}

/// A table of `rows` below `header`, as wide as the terminal at most.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().map(|h| h.to_uppercase()));
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(|cell| clean(&cell)).collect::<Vec<_>>()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    trimmed(&table)
}

/// Names and values of one thing, one per line; what is empty is left out.
pub(crate) fn facts(rows: &[(&str, String)]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    let said = rows.iter().filter(|(_, value)| !value.is_empty());
    table.add_rows(said.map(|(name, value)| vec![format!("{name}:"), clean(value)]));
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    trimmed(&table)
}

fn trimmed(table: &Table) -> String {
    table.trim_fmt().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Without control characters: what a user wrote into a description must not move the cursor of an operator.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain() {
        let shown =
            table(&["id", "name"], [vec!["1".into(), "box".into()], vec!["12".into(), "a\u{1b}[2J".into()]]);
        assert_eq!(shown, "ID  NAME\n1   box\n12  a\u{fffd}[2J");
    }

    #[test]
    fn facts_leave_out_what_is_empty() {
        assert_eq!(facts(&[("name", "box".into()), ("error", String::new())]), "name: box");
    }
}
