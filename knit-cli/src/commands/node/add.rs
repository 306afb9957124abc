//! `knit node add`: makes a host a node, over one ssh connection.
//!
//! ```text
//! check the host ─> mint a join token ─> script + mesh secret + token + programs by stdin
//!                        │                   └─> steps, then the node's id ─> ready? ─> done
//!                        └── revoked, if anything goes wrong before it is spent
//! ```
//!
//! Invariant: neither the secret nor the token is ever an argument, a variable or a file of ours.

mod facts;
mod programs;
mod remote;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use knit_link::http::ApiClient;
use knit_rpc::api::{NodeState, NodeView};
use knit_rpc::id::NodeId;
use knit_rpc::join::{JoinToken, NewJoinToken};
use knit_runtime::ssh::Master;
use knit_runtime::terminal::{self, printable};
use tokio::time::{Instant, sleep};

use super::script;
use crate::cli::AddNodeArgs;
use crate::dev::Progress;
use crate::server;
use facts::Facts;
use programs::Source;
use remote::{Input, Remote};

/// Long enough for a slow line to carry the programs and a slow mirror Docker.
const TOKEN_TTL: Duration = Duration::from_mins(30);
/// Where packages put the secret of this host's mesh.
const OWN_SECRET: &str = "/etc/knit/mesh.secret";
const LOOK_EVERY: Duration = Duration::from_millis(300);
const EXIT_INTERRUPTED: u8 = 130;

pub(super) async fn run(args: AddNodeArgs) -> anyhow::Result<ExitCode> {
    let progress = Progress::new();
    // What is wrong with what was typed is said before anything is touched.
    let given = args.mesh_secret_file.as_deref().map(secret).transpose()?;
    let source = Source::find(args.binaries.as_deref(), args.debs.as_deref())?;
    let client = server::find(&args.server).await?;
    progress.step(&format!("connecting to {}", args.host));
    let ssh = Master::open(&args.host).await?;
    let text = script::text(knit_runtime::clock::now().as_millis() / 1000);
    let remote = Remote::new(&ssh, &args.host, &text, &progress);

    let asked_at = knit_runtime::clock::now();
    let facts = Facts::read(&remote.run(&["--check".to_owned()], Input::default()).await?);
    facts.judge(asked_at, &args.host)?;
    let programs = source.map(|from| from.choose(facts.arch(), &args.host)).transpose()?.flatten();
    let known = known_node(&client, &facts).await?;
    // Programs that were named are to be there, whether the host is a node by now or not.
    let is_enough = args.binaries.is_none() && args.debs.is_none();
    let is_ready = |node: &&NodeView| node.state == NodeState::Ready;
    if let Some(node) = known.as_ref().filter(is_ready).filter(|_| is_enough) {
        progress.step(&format!("{} is the node {} already", args.host, printable(&node.name)));
        terminal::print(&format!("{}\n", node.name))?;
        return Ok(ExitCode::SUCCESS);
    }
    let secret = match given {
        Some(given) => given,
        None if facts.in_mesh => String::new(),
        None => secret(Path::new(OWN_SECRET)).with_context(|| {
            format!(
                "{} is in no mesh: name the file with the secret of yours (--mesh-secret-file)",
                args.host
            )
        })?,
    };
    let token = match &known {
        Some(_) => None,
        None => Some(mint(&client, &args).await?),
    };
    let joining = join(&client, &remote, &args, Input { secret, token: token.clone(), programs });
    let outcome = tokio::select! {
        outcome = joining => outcome.map(Some),
        _ = tokio::signal::ctrl_c() => Ok(None),
    };
    if !matches!(outcome, Ok(Some(_))) {
        revoke(&client, token.as_ref(), &progress).await;
    }
    let Some(node) = outcome? else { return Ok(ExitCode::from(EXIT_INTERRUPTED)) };
    progress.step(&format!("{} is ready", printable(&node.name)));
    terminal::print(&format!("{}\n", node.name))?;
    Ok(ExitCode::SUCCESS)
}

/// Has the host join, and waits until the server counts it as ready.
async fn join(
    client: &ApiClient,
    remote: &Remote<'_>,
    args: &AddNodeArgs,
    input: Input,
) -> anyhow::Result<NodeView> {
    let mut arguments = vec!["--checked".to_owned()];
    if input.programs.is_some() {
        arguments.push("--stream".to_owned());
    }
    if args.no_install {
        arguments.push("--no-install".to_owned());
    }
    if let Some(name) = &args.name {
        arguments.extend(["--name".to_owned(), name.clone()]);
    }
    for seed in &args.seeds {
        arguments.extend(["--seed".to_owned(), seed.clone()]);
    }
    let facts = Facts::read(&remote.run(&arguments, input).await?);
    let id = facts.node.context("the host has joined and does not say as which node")?;
    wait_ready(client, &id, Duration::from_secs(args.timeout)).await
}

async fn wait_ready(
    client: &ApiClient,
    id: &NodeId,
    patience: Duration,
) -> anyhow::Result<NodeView> {
    let deadline = Instant::now() + patience;
    loop {
        let seen = client.node(id).await;
        match &seen {
            Ok(node) if node.state == NodeState::Ready => return Ok(node.clone()),
            Ok(_) | Err(_) if Instant::now() < deadline => sleep(LOOK_EVERY).await,
            Ok(node) => bail!(
                "{} has joined, but is not ready after {} s: it is {}{}; `knit node show {id}` tells more",
                printable(&node.name),
                patience.as_secs(),
                node.state.as_str(),
                node.message
                    .as_ref()
                    .map(|why| format!(" ({})", printable(why)))
                    .unwrap_or_default(),
            ),
            Err(_) => {
                seen.with_context(|| format!("the server does not know the node {id}"))?;
            }
        }
    }
}

/// The node that the host is, if the server knows it.
async fn known_node(client: &ApiClient, facts: &Facts) -> anyhow::Result<Option<NodeView>> {
    let Some(id) = &facts.node else { return Ok(None) };
    let nodes = client.nodes().await?;
    let is_it = |node: &NodeView| node.id.as_ref() == Some(id) && node.state != NodeState::Pending;
    Ok(nodes.into_iter().find(is_it))
}

async fn mint(client: &ApiClient, args: &AddNodeArgs) -> anyhow::Result<JoinToken> {
    let new = NewJoinToken {
        ttl: Some(TOKEN_TTL.as_secs()),
        labels: args.labels.iter().cloned().collect(),
        wg_pubkey: None,
    };
    let minted = client.create_join_token(&new).await?;
    Ok(JoinToken::parse(&minted.token)?)
}

/// A token that was spent meanwhile cannot be revoked, and need not be.
async fn revoke(client: &ApiClient, token: Option<&JoinToken>, progress: &Progress) {
    let Some(token) = token else { return };
    match client.revoke_join_token(&token.public_key()).await {
        Ok(()) => progress.step("the join token was not spent, and is worth nothing any more"),
        Err(error) if error.status() == Some(404) => {}
        Err(error) => progress.step(&format!(
            "the join token could not be revoked, and holds for {} min: {error}",
            TOKEN_TTL.as_secs() / 60
        )),
    }
}

fn secret(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the mesh secret {} cannot be read", path.display()))?;
    let secret = text.trim().to_owned();
    ensure!(
        !secret.is_empty() && !secret.contains('\n'),
        "{} holds no mesh secret: it is one line, as `meshctl init` prints it",
        path.display()
    );
    Ok(secret)
}
