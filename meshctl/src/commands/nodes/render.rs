//! How the rows are printed.

use anyhow::Result;
use jiff::Timestamp;
use knit_runtime::terminal::table::{Cell, Table};
use knit_runtime::terminal::{self, Colour, Output};

use super::rows::Row;

pub(super) fn print(rows: &[Row], output: Output) -> Result<()> {
    Ok(terminal::print_rows(output, rows, |row| row.name.clone(), table)?)
}

fn table(rows: &[Row], wide: bool) -> Table {
    let mut table = Table::new(wide)
        .column("name")
        .column("mesh address")
        .column("endpoint")
        .column("last seen")
        .column("latency")
        .column("state")
        .column("instances")
        .column("labels")
        .wide_column("message")
        .wide_column("node id")
        .wide_column("public key");
    let now = now();
    for row in rows {
        table.row([
            Cell::from(row.name.as_str()),
            Cell::from(or_dash(row.mesh_ip.clone())),
            Cell::from(or_dash(row.endpoint.clone())),
            Cell::from(last_seen(row, now)),
            Cell::from(or_dash(row.latency_ms.map(|ms| format!("{ms} ms")))),
            Cell::coloured(colour_of(&row.state), &row.state),
            Cell::from(or_dash(row.instances.map(|count| count.to_string()))),
            Cell::from(or_dash(labels(row))),
            Cell::from(or_dash(row.message.clone())),
            Cell::from(or_dash(row.id.clone())),
            Cell::from(or_dash(row.pubkey.clone())),
        ]);
    }
    table
}

fn now() -> Timestamp {
    let millis = i64::try_from(knit_runtime::clock::now().as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn last_seen(row: &Row, now: Timestamp) -> String {
    if row.local {
        return "this host".to_owned();
    }
    let Some(at) = row.last_seen else { return "-".to_owned() };
    match now.duration_since(at).as_secs().max(0) {
        secs @ 0..120 => format!("{secs} s ago"),
        secs @ 120..7200 => format!("{} min ago", secs / 60),
        secs => format!("{} h ago", secs / 3600),
    }
}

fn labels(row: &Row) -> Option<String> {
    let labels = row.labels.as_ref().filter(|labels| !labels.is_empty())?;
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Some(pairs.join(","))
}

fn colour_of(state: &str) -> Colour {
    match state {
        "ready" => Colour::Green,
        "lost" | "duplicate" => Colour::Red,
        "discovered" => Colour::Dim,
        _ => Colour::Yellow,
    }
}

fn or_dash(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
}
