//! `meshctl init`: a new secret, alone on stdout.

use anyhow::{Context as _, Result};
use knit_runtime::terminal;
use meshctl_core::derive::{MeshKeys, Pin};
use meshctl_core::secret::{NEW_SECRET_BYTES, Secret};

use crate::cli::InitArgs;
use crate::sidecar;

pub(super) fn run(args: &InitArgs) -> Result<()> {
    let mut bytes = [0; NEW_SECRET_BYTES];
    getrandom::fill(&mut bytes).context("the system gave no random bytes")?;
    let mut secret = Secret::from_random(&bytes);
    if let Some(path) = &args.successor_of {
        let present = sidecar::secret::load(Some(path))?;
        secret = secret.pinned(Pin::of(&MeshKeys::derive(&present)));
    }
    terminal::print(&format!("{}\n", secret.uri().as_str()))?;
    terminal::eprintln(if args.successor_of.is_some() {
        "Keep it whole in a file of mode 0600: what follows the `?` leads to the same mesh. Then, on each\n\
         node:  meshctl rotate --secret-file FILE"
    } else {
        "Whoever has this secret is a member of the mesh. Keep it in a file of mode 0600, and join\n\
         each node with:  meshctl join --secret-file FILE"
    });
    Ok(())
}
