//! What `--version` says: the version, and which commit of which day was built.
//!
//! `KNIT_COMMIT` and `KNIT_DATE` name them when a release is built; an archive that `git archive`
//! made carries them in `source.txt`. Any other build is one of development: it is not told the
//! commit, so that a commit alone rebuilds nothing.

use std::sync::LazyLock;

/// What was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Source {
    commit: &'static str,
    date: &'static str,
}

static SOURCE: LazyLock<Option<Source>> = LazyLock::new(|| {
    named(option_env!("KNIT_COMMIT"), option_env!("KNIT_DATE"))
        .or_else(|| archived(include_str!("../source.txt")))
});
static TEXT: LazyLock<String> = LazyLock::new(|| text(*SOURCE));

/// The version with what was built, as `0.1.0 (abc1234 2026-11-20)` or `0.1.0 (development)`.
pub fn version() -> &'static str {
    &TEXT
}

/// The day of the commit that was built, as `2026-11-20`.
pub fn date() -> Option<&'static str> {
    SOURCE.map(|source| source.date)
}

fn text(source: Option<Source>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match source {
        Some(Source { commit, date }) => format!("{version} ({commit} {date})"),
        None => format!("{version} (development)"),
    }
}

fn named(commit: Option<&'static str>, date: Option<&'static str>) -> Option<Source> {
    let is_given = |text: &&str| !text.is_empty();
    Some(Source { commit: commit.filter(is_given)?, date: date.filter(is_given)? })
}

/// What git wrote in place of the placeholder; nothing in a working tree.
fn archived(text: &'static str) -> Option<Source> {
    let (commit, date) = text.trim().split_once(' ')?;
    (!commit.starts_with('$')).then_some(Source { commit, date })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_goes_over_the_archive() {
        let source = Source { commit: "abc1234", date: "2026-11-20" };
        assert_eq!(named(Some("abc1234"), Some("2026-11-20")), Some(source));
        assert_eq!(archived("abc1234 2026-11-20\n"), Some(source));
        for (commit, date) in [(Some("abc1234"), None), (Some(""), Some("")), (None, None)] {
            assert_eq!(named(commit, date), None);
        }
    }

    #[test]
    fn a_working_tree_is_development() {
        assert_eq!(archived("$Format:%h %cs$\n"), None);
        assert!(text(None).ends_with(" (development)"));
        let source = Source { commit: "abc1234", date: "2026-11-20" };
        assert!(text(Some(source)).ends_with(" (abc1234 2026-11-20)"));
    }
}
