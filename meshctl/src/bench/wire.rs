//! The lines of a measurement.

use std::fmt;
use std::str::FromStr;

pub(crate) const SECONDS_MAX: u8 = 30;
/// Longest line of an answer.
pub(crate) const LINE_MAX_BYTES: u64 = 160;
pub(crate) const TOKEN_BYTES: usize = 16;

/// Which way the bytes go, seen from the asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Down,
    Up,
}

/// What the asker wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// On the path beside the tunnel, not on this connection.
    pub(crate) beside: bool,
    pub(crate) direction: Direction,
    /// 1 to [`SECONDS_MAX`].
    pub(crate) seconds: u8,
}

/// What the asked one says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The bytes begin now.
    Go,
    /// Connect to this port of the underlay address and say the token.
    At {
        port: u16,
        token: String,
    },
    /// What arrived of what was sent up.
    Got {
        bytes: u64,
        micros: u64,
    },
    No(String),
}

impl Request {
    /// Whether a line of the probe port is of this kind at all, sound or not.
    pub(crate) fn is_one(line: &[u8]) -> bool {
        line.starts_with(b"bench ")
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let beside = if self.beside { "beside " } else { "" };
        let direction = if self.direction == Direction::Down { "down" } else { "up" };
        write!(f, "bench {beside}{direction} {}", self.seconds)
    }
}

impl FromStr for Request {
    type Err = &'static str;

    fn from_str(line: &str) -> Result<Self, &'static str> {
        let words = line.strip_prefix("bench ").ok_or("no measurement")?;
        let (beside, words) = match words.strip_prefix("beside ") {
            Some(words) => (true, words),
            None => (false, words),
        };
        let (direction, seconds) = words.split_once(' ').ok_or("the request is not understood")?;
        let direction = match direction {
            "down" => Direction::Down,
            "up" => Direction::Up,
            _ => return Err("the request is not understood"),
        };
        let seconds = seconds.parse().ok().filter(|seconds| (1..=SECONDS_MAX).contains(seconds));
        Ok(Self { beside, direction, seconds: seconds.ok_or("it lasts 1 to 30 seconds")? })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Go => f.write_str("bench go"),
            Self::At { port, token } => write!(f, "bench at {port} {token}"),
            Self::Got { bytes, micros } => write!(f, "bench got {bytes} {micros}"),
            Self::No(why) => write!(f, "bench no {why}"),
        }
    }
}

impl FromStr for Answer {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let words = line.strip_prefix("bench ").ok_or(())?;
        if let Some(why) = words.strip_prefix("no ") {
            return Ok(Self::No(why.to_owned()));
        }
        let words: Vec<&str> = words.split(' ').collect();
        match words.as_slice() {
            ["go"] => Ok(Self::Go),
            ["at", port, token] => {
                let port = port.parse().ok().filter(|port| *port > 0).ok_or(())?;
                let is_token =
                    token.len() == 2 * TOKEN_BYTES && token.bytes().all(|b| b.is_ascii_hexdigit());
                if is_token { Ok(Self::At { port, token: (*token).to_owned() }) } else { Err(()) }
            }
            ["got", bytes, micros] => Ok(Self::Got {
                bytes: bytes.parse().map_err(drop)?,
                micros: micros.parse().map_err(drop)?,
            }),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written_and_nothing_else_is() {
        for (line, beside, direction, seconds) in [
            ("bench down 1", false, Direction::Down, 1),
            ("bench up 30", false, Direction::Up, 30),
            ("bench beside down 3", true, Direction::Down, 3),
        ] {
            let request = Request { beside, direction, seconds };
            assert_eq!(line.parse(), Ok(request));
            assert_eq!(request.to_string(), line);
        }
        for line in [
            "ping",
            "bench ",
            "bench down",
            "bench down 0",
            "bench down 31",
            "bench down -1",
            "bench sideways 3",
            "bench beside beside up 3",
            "bench down 3 x",
            "bench down 1e1",
        ] {
            assert!(line.parse::<Request>().is_err(), "{line}");
        }
    }

    #[test]
    fn answers_are_read_as_they_are_written_and_nothing_else_is() {
        let token = "0123456789abcdef0123456789abcdef".to_owned();
        for answer in [
            Answer::Go,
            Answer::At { port: 7, token: token.clone() },
            Answer::Got { bytes: 1, micros: 2 },
            Answer::No("it is busy".to_owned()),
        ] {
            assert_eq!(answer.to_string().parse(), Ok(answer));
        }
        for line in [
            "",
            "pong",
            "bench",
            "bench at 0 0123456789abcdef0123456789abcdef",
            "bench at 7 short",
            "bench got 1",
            "bench got x 1",
            "bench go x",
        ] {
            assert_eq!(line.parse::<Answer>(), Err(()), "{line}");
        }
    }
}
