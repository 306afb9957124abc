//! Holds `packaging/etc/agent.toml` and `docs/configuration.md` to the types.

use std::path::Path;

use knit_runtime::config::reference::{Reference, Shape};

use super::{Options, PolicyOptions};

fn reference() -> Reference {
    let shapes = [Shape::of::<Options>(""), Shape::of::<PolicyOptions>("policy")];
    let examples = include_str!("examples.toml");
    Reference::new("knit-agent run", "/etc/knit/agent.toml", &shapes, examples).unwrap()
}

#[test]
fn the_file_of_the_package_and_the_page_are_what_the_types_say() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    reference().hold(repository).unwrap();
}

#[test]
fn each_key_is_read_and_each_default_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let options = Options { config: Some(path.clone()), ..Options::default() };
        options.resolve().unwrap_or_else(|error| panic!("{error}"))
    };
    reference().hold_values(load).unwrap();
}
