//! Target: a line on the daemon's socket.

use serde_json::Value;

use super::fuzz;
use crate::sidecar::rpc_server::caller::Caller;
use crate::sidecar::rpc_server::{Outcome, scripted};

#[test]
fn every_line_gets_one_line_of_json_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(async { scripted::server() });
    fuzz("socket-line", 20_000, |input| {
        // The framing has taken the line feeds out.
        let line: Vec<u8> = input.iter().copied().filter(|byte| *byte != b'\n').collect();
        let outcome = runtime.block_on(server.handle(&line, Caller::Owner));
        let (name, answer) = match &outcome {
            Outcome::Answer(answer) => ("answer", answer),
            Outcome::Watch(answer) => ("watch", answer),
            Outcome::Unwatch(answer) => ("unwatch", answer),
            Outcome::Leave(answer) => ("leave", answer),
        };
        assert!(!answer.contains(['\n', '\r']), "{answer}");
        let value: Value = serde_json::from_str(answer).unwrap();
        let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert!(value["jsonrpc"] == "2.0" && keys.len() == 3 && value.get("id").is_some());
        assert!(value.get("error").is_some() != value.get("result").is_some(), "{answer}");
        format!("{name} {} {}", value["error"]["code"], value["id"].is_null())
    });
}
