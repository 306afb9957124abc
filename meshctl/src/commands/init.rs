//! `meshctl init`: a new secret, alone on stdout.

use anyhow::{Context as _, Result};
use knit_runtime::terminal;
use meshctl_core::secret::{NEW_SECRET_BYTES, Secret};

pub(super) fn run() -> Result<()> {
    let mut bytes = [0; NEW_SECRET_BYTES];
    getrandom::fill(&mut bytes).context("the system gave no random bytes")?;
    let secret = Secret::from_random(&bytes);
    terminal::print(&format!("{}\n", secret.uri().as_str()))?;
    terminal::eprintln(
        "Whoever has this secret is a member of the mesh. Keep it in a file of mode 0600, and join\n\
         each node with:  meshctl join --secret-file FILE",
    );
    Ok(())
}
