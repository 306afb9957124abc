//! `docs/database.md`: its diagram and its columns are made from the database that the migrations
//! make. `KNIT_UPDATE_DOCS=1` writes them anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use knit_server::store::Store;
use sqlx::{Connection as _, Row as _, SqliteConnection};

use crate::support::Home;

const GENERATED: &str =
    "<!-- From here on the page is made by knit-server/tests/it/schema.rs. -->\n";

struct Table {
    name: String,
    columns: Vec<Column>,
    /// Own columns, the table that they name, and whether the database holds them to it.
    references: Vec<(String, String, bool)>,
}

struct Column {
    name: String,
    kind: String,
    can_be_null: bool,
    is_key: bool,
    default: Option<String>,
}

#[tokio::test]
async fn the_page_of_the_database_shows_what_the_migrations_make() {
    let home = Home::new();
    let path = home.dir.path().join("knit.db");
    Store::open(&path, &home.identity().cluster).await.unwrap().close().await;
    let mut raw = SqliteConnection::connect(&path.display().to_string()).await.unwrap();
    let tables = tables(&mut raw).await;
    raw.close().await.unwrap();

    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/database.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (written, shown) = text.split_once(GENERATED).expect("the mark before what is made");
    for table in &tables {
        let entry = format!("\n| `{}` |", table.name);
        assert!(written.contains(&entry), "the page does not say what {} holds", table.name);
    }
    let made = format!("{}\n{}", diagram(&tables), columns(&tables, &comments()));
    if std::env::var_os("KNIT_UPDATE_DOCS").is_some() {
        std::fs::write(&page, format!("{written}{GENERATED}{made}")).unwrap();
    } else {
        assert!(shown == made, "docs/database.md is old: run this test with KNIT_UPDATE_DOCS=1");
    }
}

async fn tables(raw: &mut SqliteConnection) -> Vec<Table> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_master
         WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '_sqlx_%'
         ORDER BY name",
    )
    .fetch_all(&mut *raw)
    .await
    .expect("the tables");
    let mut tables = Vec::new();
    for name in names {
        let columns = table_columns(raw, &name).await;
        let keys: Vec<(String, String)> =
            sqlx::query_as("SELECT \"from\", \"table\" FROM pragma_foreign_key_list($1)")
                .bind(&name)
                .fetch_all(&mut *raw)
                .await
                .expect("the foreign keys");
        let references = keys.into_iter().map(|(from, to)| (from, to, true)).collect();
        tables.push(Table { name, columns, references });
    }
    let known: Vec<String> = tables.iter().map(|table| table.name.clone()).collect();
    for table in &mut tables {
        name_loose_references(table, &known);
    }
    tables
}

async fn table_columns(raw: &mut SqliteConnection, table: &str) -> Vec<Column> {
    let rows = sqlx::query("SELECT * FROM pragma_table_info($1) ORDER BY cid")
        .bind(table)
        .fetch_all(raw)
        .await
        .expect("the columns");
    let column = |row: &sqlx::sqlite::SqliteRow| Column {
        name: row.get("name"),
        kind: row.get("type"),
        can_be_null: !row.get::<bool, _>("notnull") && row.get::<i64, _>("pk") == 0,
        is_key: row.get::<i64, _>("pk") > 0,
        default: row.get("dflt_value"),
    };
    rows.iter().map(column).collect()
}

/// What names a row of another table by convention alone: `project`, `node_id`.
fn name_loose_references(table: &mut Table, known: &[String]) {
    for column in &table.columns {
        let noun = column.name.strip_suffix("_id").unwrap_or(&column.name);
        let other = format!("{noun}s");
        let is_held = table.references.iter().any(|(from, ..)| *from == column.name);
        let is_name = column.name.ends_with("_id") || column.name == "project";
        if is_name && !is_held && known.contains(&other) {
            table.references.push((column.name.clone(), other, false));
        }
    }
    table.references.sort();
}

/// As Mermaid draws it.
fn diagram(tables: &[Table]) -> String {
    let mut text = "## Diagram\n\n```mermaid\nerDiagram\n".to_owned();
    for table in tables {
        for (from, to, is_held) in &table.references {
            let line = if *is_held { "--" } else { ".." };
            let is_null = |column: &Column| column.name == *from && column.can_be_null;
            let at_most = if table.columns.iter().any(is_null) { "|o" } else { "||" };
            let _ = writeln!(text, "    {to} {at_most}{line}o{{ {} : {from}", table.name);
        }
    }
    for table in tables {
        let _ = writeln!(text, "    {} {{", table.name);
        for column in &table.columns {
            let is_reference = table.references.iter().any(|(from, ..)| *from == column.name);
            let mark = match (column.is_key, is_reference) {
                (true, true) => " PK, FK",
                (true, false) => " PK",
                (false, true) => " FK",
                (false, false) => "",
            };
            let _ = writeln!(text, "        {} {}{mark}", column.kind, column.name);
        }
        text.push_str("    }\n");
    }
    text + "```\n"
}

fn columns(tables: &[Table], comments: &BTreeMap<(String, String), String>) -> String {
    let mut text = "## Columns\n".to_owned();
    for table in tables {
        let _ = writeln!(text, "\n### {}\n\n| column | type | |\n|---|---|---|", table.name);
        for column in &table.columns {
            let key = if column.is_key { ", key" } else { "" };
            let null = if column.can_be_null { ", or null" } else { "" };
            let mut said: Vec<String> = Vec::new();
            said.extend(comments.get(&(table.name.clone(), column.name.clone())).cloned());
            said.extend(table.references.iter().filter(|(from, ..)| *from == column.name).map(
                |(_, to, is_held)| {
                    let by = if *is_held { "" } else { " (not held by a constraint)" };
                    format!("Names one of [{to}](#{to}){by}.")
                },
            ));
            said.extend(column.default.as_ref().map(|value| format!("Default `{value}`.")));
            let said = said.join(" ").replace('|', "\\|");
            let kind = column.kind.to_lowercase();
            let _ = writeln!(text, "| `{}` | {kind}{key}{null} | {said} |", column.name);
        }
    }
    text
}

/// What the migrations say right above a column.
fn comments() -> BTreeMap<(String, String), String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    let mut found = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(file).expect("a migration");
        let (mut table, mut said) = (None, Vec::new());
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let named = match words.as_slice() {
                ["--", ..] => {
                    said.push(line.trim().trim_start_matches("-- ").to_owned());
                    continue;
                }
                ["CREATE", "TABLE", name, ..] => {
                    table = Some((*name).to_owned());
                    None
                }
                ["ALTER", "TABLE", name, "ADD", "COLUMN", column, ..] => {
                    Some(((*name).to_owned(), (*column).to_owned()))
                }
                [column, ..] if line.starts_with("    ") => {
                    table.clone().map(|name| (name, (*column).to_owned()))
                }
                _ => {
                    table = None;
                    None
                }
            };
            if let (Some(named), false) = (named, said.is_empty()) {
                found.insert(named, said.join(" "));
            }
            said.clear();
        }
    }
    found
}
