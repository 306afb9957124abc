//! Holds `packaging/etc/mesh.toml` and `docs/configuration.md` to the flags of `join`.

use std::path::Path;

use clap::CommandFactory as _;
use knit_runtime::config::reference::{Reference, Shape};

use super::{Cli, join_args_of};

fn reference() -> Reference {
    let command = Cli::command();
    let shapes = [Shape::of_flags(command.find_subcommand("join").unwrap())];
    let examples = include_str!("examples.toml");
    Reference::new("meshctl join", "/etc/knit/mesh.toml", &shapes, examples).unwrap()
}

#[test]
fn the_file_of_the_package_and_the_page_are_what_the_flags_say() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    reference().hold(repository).unwrap();
}

#[test]
fn each_key_is_read_and_each_default_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mesh.toml");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        format!("{:?}", join_args_of(&path).unwrap_or_else(|error| panic!("{error:#}")))
    };
    reference().hold_values(load).unwrap();
}
