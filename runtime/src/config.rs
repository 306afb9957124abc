//! Configuration files: TOML, read whole, refused with file, line and column.

pub mod reference;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The file is not what the program expects; the parser's words carry line and column.
    #[error("{} is not a valid configuration: {}", path.display(), detail.trim_end())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's words, with the line they are about.
        detail: String,
    },
    /// A file that it names could not be read.
    #[error("{}: {key} names {}, which cannot be read", path.display(), named.display())]
    Named {
        /// The configuration file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it names.
        named: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
}

/// Reads a configuration of type `T` from the TOML file at `path`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text)
        .map_err(|error| ConfigError::Parse { path: path.to_owned(), detail: error.to_string() })
}

/// Makes sure that the file which `key` of the configuration at `path` names can be read, if it
/// names one.
pub fn readable(path: &Path, key: &'static str, named: Option<&Path>) -> Result<(), ConfigError> {
    let Some(named) = named else { return Ok(()) };
    let (path, named) = (path.to_owned(), named.to_owned());
    match std::fs::read(&named) {
        Ok(_) => Ok(()),
        Err(source) => Err(ConfigError::Named { path, key, named, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        port: u16,
    }

    fn with_file<T>(text: &str, use_it: impl FnOnce(&Path) -> T) -> T {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sample.toml");
        std::fs::write(&path, text).unwrap();
        use_it(&path)
    }

    fn load_text(text: &str) -> Result<Sample, ConfigError> {
        with_file(text, load)
    }

    #[test]
    fn a_valid_file_is_read() {
        assert_eq!(load_text("port = 7400\n").unwrap().port, 7400);
    }

    #[test]
    fn errors_name_the_file_and_the_line() {
        let error = load_text("\nport = \"many\"\n").unwrap_err().to_string();
        assert!(error.contains("sample.toml"), "{error}");
        assert!(error.contains("line 2"), "{error}");
        let error = load_text("prot = 1\n").unwrap_err().to_string();
        assert!(error.contains("prot"), "{error}");
    }

    #[test]
    fn a_missing_file_is_said_by_name() {
        let error = load::<Sample>(Path::new("/nonexistent/knit.toml")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read the configuration file /nonexistent/knit.toml");
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let (path, gone) = (Path::new("/etc/knit/x.toml"), Path::new("/nonexistent/ca.pem"));
        assert!(readable(path, "ca", None).is_ok());
        assert!(readable(path, "ca", Some(Path::new("/etc/hostname"))).is_ok());
        assert_eq!(
            readable(path, "ca", Some(gone)).unwrap_err().to_string(),
            "/etc/knit/x.toml: ca names /nonexistent/ca.pem, which cannot be read"
        );
    }
}
