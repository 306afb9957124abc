//! `meshctl nodes`.

use anyhow::Result;

use crate::cli::NodesArgs;

pub(super) async fn run(args: &NodesArgs) -> Result<()> {
    let _ = (args, super::client(&args.show.socket));
    anyhow::bail!("in the making")
}
