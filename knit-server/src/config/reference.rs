//! Holds `packaging/etc/server.toml` and `docs/configuration.md` to the types.

use std::path::Path;

use knit_runtime::config::reference::{Reference, Shape};

use super::oidc::{Allow, OidcTable};
use super::{Config, Options};

fn reference() -> Reference {
    let shapes = [
        Shape::of::<Options>(""),
        Shape::of::<OidcTable>("oidc"),
        Shape::of::<Allow>("oidc.allow").in_a_list(),
    ];
    let examples = include_str!("examples.toml");
    Reference::new("knit-server run", "/etc/knit/server.toml", &shapes, examples).unwrap()
}

#[test]
fn the_file_of_the_package_and_the_page_are_what_the_types_say() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    reference().hold(repository).unwrap();
}

#[test]
fn each_key_is_read_and_each_default_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.toml");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let flags = Options { config: Some(path.clone()), ..Options::default() };
        Config::load(flags).unwrap_or_else(|error| panic!("{error}"))
    };
    reference().hold_values(load).unwrap();
}
