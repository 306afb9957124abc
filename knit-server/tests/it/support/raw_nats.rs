//! A client of NATS that says what it likes and hears every word: one line for each answer.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// How long NATS may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

pub(crate) struct RawNats {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
}

impl RawNats {
    /// Logs in with a token; what NATS says when it does not take it.
    pub(crate) fn connect(at: SocketAddr, key: &KeyPair, jwt: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(at).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(ANSWER_MAX)).map_err(|error| error.to_string())?;
        let lines = BufReader::new(stream.try_clone().map_err(|error| error.to_string())?);
        let mut client = Self { stream, lines };
        let info = client.line()?;
        let info = info.strip_prefix("INFO ").ok_or(&*info)?;
        let info: Value = serde_json::from_str(info).map_err(|error| error.to_string())?;
        let nonce = info["nonce"].as_str().ok_or("it gives no nonce")?;
        let signature = key.sign(nonce.as_bytes()).map_err(|error| error.to_string())?;
        let connect = json!({
            "verbose": true, "pedantic": false, "headers": true, "no_responders": true,
            "lang": "raw", "version": "0", "protocol": 1,
            "jwt": jwt, "sig": URL_SAFE_NO_PAD.encode(signature),
        });
        match client.say(&format!("CONNECT {connect}"))?.as_str() {
            "+OK" => Ok(client),
            refusal => Err(refusal.to_owned()),
        }
    }

    /// Sends a command; its answer is `+OK` or what is wrong with it.
    pub(crate) fn say(&mut self, command: &str) -> Result<String, String> {
        self.stream.write_all(format!("{command}\r\n").as_bytes()).map_err(|e| e.to_string())?;
        self.line()
    }

    pub(crate) fn publish(&mut self, subject: &str, reply: &str, body: &str) -> String {
        let answer = self.say(&format!("PUB {subject} {reply} {}\r\n{body}", body.len()));
        answer.unwrap_or_else(|error| error)
    }

    /// The next line that is no ping and nothing that was said at the login.
    pub(crate) fn line(&mut self) -> Result<String, String> {
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).map_err(|error| error.to_string())?;
            if read == 0 {
                return Err("the connection was closed".to_owned());
            }
            match line.trim_end() {
                "PING" => self.stream.write_all(b"PONG\r\n").map_err(|error| error.to_string())?,
                line => return Ok(line.to_owned()),
            }
        }
    }

    /// Everything that comes until NATS closes the connection.
    pub(crate) fn until_closed(mut self) -> Vec<String> {
        std::iter::from_fn(|| self.line().ok()).collect()
    }
}
