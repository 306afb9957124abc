//! `meshctl join --config FILE`: each flag of the command is a key of the file.
//!
//! Invariant: what the command line names is not taken from the file, and a key that is no flag is
//! refused.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser as _};
use serde_json::{Map, Value};

use super::{Cli, Command, JoinArgs};

const JOIN: &str = "join";
const CONFIG: &str = "config";

/// Reads the command line, and what the file that it names adds. Errors of the command line end
/// the program with clap's own words.
pub(crate) fn parse(line: Vec<OsString>) -> Result<Cli> {
    let matches = Cli::command().get_matches_from(&line);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let Command::Join(join) = &cli.command else { return Ok(cli) };
    let (Some(path), Some(given)) = (&join.config, matches.subcommand_matches(JOIN)) else {
        return Ok(cli);
    };
    let file: Map<String, Value> = knit_runtime::config::load(path)?;
    with_file(line, given, &file, path)
}

/// What `meshctl join --config` makes of the file alone.
pub(crate) fn join_args_of(file: &Path) -> Result<JoinArgs> {
    let line = ["meshctl", JOIN, "--config"].map(OsString::from);
    let line = line.into_iter().chain([file.as_os_str().to_owned()]).collect();
    let Command::Join(join) = parse(line)?.command else {
        bail!("the command line is that of `join`")
    };
    Ok(*join)
}

fn with_file(
    mut line: Vec<OsString>,
    given: &ArgMatches,
    file: &Map<String, Value>,
    path: &Path,
) -> Result<Cli> {
    for (key, value) in file {
        let added = flags(key, value, given).with_context(|| format!("{}", path.display()))?;
        line.extend(added.into_iter().map(OsString::from));
    }
    Cli::try_parse_from(line).map_err(|error| {
        let text = error.render().to_string();
        let first = text.lines().next().unwrap_or_default();
        anyhow::anyhow!("{}: {}", path.display(), first.trim_start_matches("error: "))
    })
}

/// A key of the file as flags; none when the command line names it.
fn flags(key: &str, value: &Value, given: &ArgMatches) -> Result<Vec<String>> {
    let command = Cli::command();
    let join = command.find_subcommand(JOIN).context("there is no command to configure")?;
    let long = key.replace('_', "-");
    let found = join.get_arguments().find(|arg| arg.get_long() == Some(&long));
    let Some(arg) = found.filter(|_| key != CONFIG && !key.contains('-')) else {
        let keys = join.get_arguments().filter_map(clap::Arg::get_long);
        let keys: Vec<String> =
            keys.filter(|key| *key != CONFIG).map(|key| key.replace('-', "_")).collect();
        bail!("there is no key \"{}\"; there are: {}", key.escape_debug(), keys.join(", "));
    };
    if given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine) {
        return Ok(Vec::new());
    }
    let takes_value = arg.get_action().takes_values();
    let one = |value: &Value| match value {
        Value::String(text) => Ok(format!("--{long}={text}")),
        Value::Number(number) => Ok(format!("--{long}={number}")),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            bail!("{key} is text or a number")
        }
    };
    if !takes_value {
        let is_set = value.as_bool().with_context(|| format!("{key} is true or false"))?;
        return Ok(if is_set { vec![format!("--{long}")] } else { Vec::new() });
    }
    match value.as_array() {
        Some(values) => values.iter().map(one).collect(),
        None => Ok(vec![one(value)?]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn join(line: &str, file: &Value) -> Result<JoinArgs> {
        let line: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let matches = Cli::command().get_matches_from(&line);
        let given = matches.subcommand_matches(JOIN).unwrap();
        let cli = with_file(line, given, file.as_object().unwrap(), Path::new("mesh.toml"))?;
        let Command::Join(join) = cli.command else { panic!("not join") };
        Ok(*join)
    }

    #[test]
    fn keys_are_flags_and_flags_win() {
        let file = json!({
            "interface": "mesh0", "listen_port": 51900, "no_bench": true, "gossip": false,
            "seed": ["a:1", "b"], "advertise_routes": ["10.1.0.0/16", "10.2.0.0/16"],
        });
        let args = join("meshctl join --interface wg7 --seed c", &file).unwrap();
        assert_eq!((args.interface.as_str(), args.listen_port), ("wg7", 51900));
        assert!(args.no_bench && !args.gossip);
        assert_eq!(args.seeds, ["c"]);
        assert_eq!(args.advertise_routes.len(), 2);
        let args = join("meshctl --log-level debug join", &file).unwrap();
        assert_eq!(args.seeds, ["a:1", "b"]);
    }

    #[test]
    fn a_file_is_checked_without_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let (path, secret) = (dir.path().join("mesh.toml"), dir.path().join("secret"));
        std::fs::write(&secret, "a-secret-that-is-long-enough-for-a-mesh").unwrap();
        let checked = |text: &str| {
            std::fs::write(&path, text.replace("SECRET", secret.to_str().unwrap())).unwrap();
            let checked = join_args_of(&path).and_then(|args| crate::sidecar::check(&args));
            checked.map_err(|error| format!("{error:#}"))
        };
        checked("").unwrap();
        checked("secret_file = \"SECRET\"\nlisten_port = 51821\n").unwrap();
        for (text, words) in [
            ("interface = \"0\"", "an interface name"),
            ("secret_file = \"/nonexistent\"", "the mesh secret file /nonexistent"),
            ("secret_file = \"SECRET\"\nlisten_port = 51830", "--listen-port 51830"),
            ("mesh_subnet = \"10.0.0.0/31\"", "too small"),
            ("certificate = \"SECRET\"", "not a certificate"),
        ] {
            let told = checked(text).unwrap_err();
            assert!(told.contains(words), "{text}: {told}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_file() {
        for (file, words) in [
            (json!({ "sed": 1 }), "there is no key \"sed\"; there are: secret_file, interface"),
            (json!({ "listen-port": 1 }), "there is no key \"listen-port\""),
            (json!({ "config": "x" }), "there is no key \"config\""),
            (json!({ "gossip": "yes" }), "gossip is true or false"),
            (json!({ "seed": [{}] }), "seed is text or a number"),
            (json!({ "listen_port": 99_999 }), "99999"),
            (json!({ "interface": "0" }), "interface name"),
        ] {
            let error = format!("{:#}", join("meshctl join", &file).unwrap_err());
            assert!(error.starts_with("mesh.toml: ") && error.contains(words), "{error}");
        }
    }
}
