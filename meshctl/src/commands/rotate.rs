//! `meshctl rotate`: a new secret for the mesh, on this node.

use anyhow::{Context as _, Result};
use knit_link::mesh::MeshError;
use knit_runtime::terminal::{self, printable};

use super::authority::span_secs;
use crate::cli::RotateArgs;
use crate::sidecar;

pub(super) async fn run(args: &RotateArgs) -> Result<()> {
    let grace = &args.grace;
    let grace_secs = span_secs(grace)
        .with_context(|| format!("`{grace}` is no span: write one such as `24h` or `7d`"))?;
    let secret = sidecar::secret::load(Some(&args.secret_file))?;
    match super::client(&args.socket).rotate(&secret.uri(), grace_secs).await {
        Ok(started) => {
            terminal::eprintln(&format!(
                "This node accepts both secrets until {}. Do the same on every other node, and put the new\n\
                 secret in the place of the old one in each secret file; `meshctl status` tells who is behind.",
                printable(&started.until)
            ));
            Ok(())
        }
        Err(MeshError::Unsupported { path, .. }) => anyhow::bail!(
            "the daemon on {} cannot change its secret: only `meshctl join` can, and only on every node of a mesh",
            path.display()
        ),
        Err(error) => Err(error.into()),
    }
}
