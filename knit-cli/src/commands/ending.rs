//! Waiting until the containers of a deployment are gone.

use std::process::ExitCode;
use std::time::Duration;

use knit_link::http::{ApiClient, HttpError};
use knit_rpc::api::DeploymentView;
use knit_runtime::terminal::eprintln;
use tokio::time::{Instant, sleep};

use crate::cli::EndingArgs;

const POLL: Duration = Duration::from_millis(150);
/// As for `knit deploy`: it goes on, but not within the time given.
const EXIT_TIMEOUT: u8 = 4;

/// How a deployment ends, in words that complete "web is …" and "web is being …".
pub(super) struct Ending {
    pub(super) done: &'static str,
    /// Said behind it when it is done.
    pub(super) note: String,
    /// Whether a deployment has ended; `None` stands for one that is not there any more.
    pub(super) is_done: fn(Option<&DeploymentView>) -> bool,
}

/// Waits for the end that the server has accepted, and says how it went.
pub(super) async fn wait(
    client: &ApiClient,
    args: &EndingArgs,
    ending: &Ending,
) -> anyhow::Result<ExitCode> {
    let (project, name) = (&args.name.project, &args.name.name);
    if args.detach {
        eprintln(&format!("{name} is being {}", ending.done));
        return Ok(ExitCode::SUCCESS);
    }
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    loop {
        let is_done = match client.deployment(project, name).await {
            Ok(view) => (ending.is_done)(Some(&view)),
            Err(error) if error.status() == Some(404) => (ending.is_done)(None),
            // A server that restarts meanwhile goes on where it was.
            Err(HttpError::Unreachable { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        if is_done {
            eprintln(&format!("{name} is {}{}", ending.done, ending.note));
            return Ok(ExitCode::SUCCESS);
        }
        if Instant::now() > deadline {
            eprintln(&format!(
                "{name} is not {} after {} s; the server goes on: see `knit status`",
                ending.done, args.timeout
            ));
            return Ok(ExitCode::from(EXIT_TIMEOUT));
        }
        sleep(POLL).await;
    }
}
