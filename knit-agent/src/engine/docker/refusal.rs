//! Docker's words, and whether waiting will mend it.

use bollard::errors::Error;

use crate::engine::EngineError;

/// Pieces of Docker's answers that mean: asking again will not help.
const PERMANENT: [&str; 25] = [
    "manifest unknown",
    "manifest for",
    "pull access denied",
    "repository does not exist",
    "no matching manifest",
    "invalid reference format",
    "unauthorized",
    "authentication required",
    "access to the resource is denied",
    "no basic auth credentials",
    "no such host",
    "server misbehaving",
    "dial tcp",
    "executable file not found",
    "no such file or directory",
    "exec format error",
    "permission denied",
    "is not a directory",
    "not a directory",
    "address already in use",
    "port is already allocated",
    "no command specified",
    "invalid mount",
    "duplicate mount point",
    "invalid mode",
];

/// Tells a Docker that does not answer from one that refuses, and a lasting refusal from a
/// passing one. What cannot be resolved or reached is reported as lasting: whoever waits for a
/// deployment learns it within seconds, and it is still tried again, slowly.
pub(super) fn explain(socket: &str, error: &Error) -> EngineError {
    let refused = |status, words: &str| EngineError::Refused {
        permanent: is_permanent(status, words),
        words: words.to_owned(),
    };
    if let Error::DockerResponseServerError { status_code, message } = error {
        return refused(*status_code, message);
    }
    if let Error::DockerStreamError { error } = error {
        return refused(0, error);
    }
    if let Error::JsonDataError { message, .. } = error {
        let words = format!("Docker's answer was not understood: {message}");
        return EngineError::Refused { words, permanent: false };
    }
    EngineError::Unreachable { socket: socket.to_owned(), problem: chain(error) }
}

fn is_permanent(status: u16, words: &str) -> bool {
    let words = words.to_lowercase();
    status == 400 || PERMANENT.iter().any(|piece| words.contains(piece))
}

/// The innermost cause says what happened; the outer layers only say who was told.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waiting_will_not_mend_is_known() {
        for (status, words, permanent) in [
            (404, "manifest for nginx:nope not found: manifest unknown: manifest unknown", true),
            (
                404,
                "pull access denied for nosuch, repository does not exist or may require 'docker login'",
                true,
            ),
            (
                500,
                "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io on 127.0.0.11:53: server misbehaving",
                true,
            ),
            (
                400,
                "OCI runtime create failed: exec: \"/nope\": stat /nope: no such file or directory",
                true,
            ),
            (
                500,
                "driver failed programming external connectivity: listen tcp4 127.0.0.1:80: bind: address already in use",
                true,
            ),
            (404, "No such image: app:1", false),
            (500, "context canceled", false),
            (409, "removal of container x is already in progress", false),
        ] {
            let error =
                Error::DockerResponseServerError { status_code: status, message: words.to_owned() };
            let explained = explain("/s", &error);
            assert_eq!(explained.is_permanent(), permanent, "{words}");
            assert_eq!(explained.to_string(), words, "Docker's own words");
        }
    }
}
