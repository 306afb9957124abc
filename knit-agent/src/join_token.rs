//! The join token that this host was given, until it is spent.

use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use knit_rpc::join::{JoinToken, NoJoinToken};

const FILE: &str = "join.token";
/// Its name among systemd's credentials.
const CREDENTIAL: &str = "join-token";
const MODE: u32 = 0o600;
/// A join token has far fewer characters.
const BYTES_MAX: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum JoinTokenError {
    #[error("{} cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{place}: {problem}")]
    Token { place: String, problem: NoJoinToken },
}

/// Where the token waits.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// The token that waits, if one does.
pub fn load(state_dir: &Path) -> Result<Option<JoinToken>, JoinTokenError> {
    read(&path(state_dir))
}

/// The token that systemd hands in, if it does. It stays there when it was spent.
pub fn load_credential(credentials: Option<&Path>) -> Result<Option<JoinToken>, JoinTokenError> {
    credentials.map_or(Ok(None), |directory| read(&directory.join(CREDENTIAL)))
}

fn read(path: &Path) -> Result<Option<JoinToken>, JoinTokenError> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, &path.display().to_string()).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(JoinTokenError::Read { path: path.to_owned(), source }),
    }
}

/// It was spent.
pub fn forget(state_dir: &Path) {
    let path = path(state_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, file = %path.display(), "a spent join token was not removed");
        }
        Ok(()) | Err(_) => {}
    }
}

/// Takes a token from a file or from standard input, never from the command line, where every user
/// of the host can see it. The agent joins with it at its next try.
pub fn take(state_dir: &Path, file: Option<&Path>) -> Result<JoinToken, JoinTokenError> {
    let (text, place) = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|source| JoinTokenError::Read { path: path.to_owned(), source })?;
            (text, path.display().to_string())
        }
        None => (line()?, "standard input".to_owned()),
    };
    let token = parse(&text, &place)?;
    let path = path(state_dir);
    let write = |source| JoinTokenError::Write { path: path.clone(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(write)?;
    let line = format!("{}\n", token.expose());
    knit_runtime::file::write_atomic(&path, line.as_bytes(), MODE).map_err(write)?;
    Ok(token)
}

fn line() -> Result<String, JoinTokenError> {
    let mut text = String::new();
    let read = |source| JoinTokenError::Read { path: "standard input".into(), source };
    // A person ends the line, a pipe ends the input.
    let mut input = io::stdin().lock().take(BYTES_MAX);
    io::BufRead::read_line(&mut input, &mut text).map_err(read)?;
    Ok(text)
}

fn parse(text: &str, place: &str) -> Result<JoinToken, JoinTokenError> {
    JoinToken::parse(text)
        .map_err(|problem| JoinTokenError::Token { place: place.to_owned(), problem })
}
