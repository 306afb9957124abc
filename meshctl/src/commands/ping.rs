//! `meshctl ping`: ICMP echo to a node, through the mesh interface and no other way.

mod statistics;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use knit_rpc::jsonrpc::{MeshPeer, PeerState};
use knit_runtime::terminal::{self, Output, printable};
use tokio::time::Instant;

use super::echo::Echo;
use super::target::{self, Target};
use super::{humane, seen};
use crate::cli::PingArgs;
use statistics::{Statistics, Summary};

/// The usual `ping`: 56 bytes of payload.
const PACKET_BYTES: usize = 84;
/// How long the last requests may take.
const LINGER: Duration = Duration::from_secs(2);

pub(super) async fn run(args: &PingArgs) -> Result<ExitCode> {
    let client = super::client(&args.show.socket);
    let (node, _) = seen::node(&client).await?;
    let (peers, _) = seen::peers(&client).await?;
    let target = target::find(&args.node, &node, &peers).map_err(anyhow::Error::msg)?;
    // Packets to this node itself never see the interface.
    let interface = target.peer.is_some().then_some(node.status.interface.as_str());
    let echo = Echo::open(target.ip, interface).with_context(|| {
        format!(
            "no ICMP socket to {} on {}: run as root, or see net.ipv4.ping_group_range",
            target.ip,
            printable(&node.status.interface)
        )
    })?;
    let talks = matches!(args.show.output, Output::Table | Output::Wide);
    if talks {
        let by = interface.map(|name| format!(" over {}", printable(name))).unwrap_or_default();
        terminal::print(&format!("ping {} ({}){by}\n", printable(&target.name), target.ip))?;
    }
    let statistics = ping(&echo, args, talks).await?;
    report(&target, &statistics, args.show.output)?;
    if statistics.received() > 0 {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(peer) = &target.peer {
        terminal::eprintln(&hint(peer));
    }
    Ok(ExitCode::FAILURE)
}

async fn ping(echo: &Echo, args: &PingArgs, talks: bool) -> Result<Statistics> {
    let stop = knit_runtime::signal::shutdown();
    let interval = Duration::from_secs_f64(args.interval);
    let mut waiting: BTreeMap<u16, Instant> = BTreeMap::new();
    let mut statistics = Statistics::default();
    for sequence in 1..=args.count {
        if stop.is_cancelled() {
            break;
        }
        let start = Instant::now();
        statistics.sent += 1;
        match echo.send(sequence, PACKET_BYTES).await {
            Ok(()) => drop(waiting.insert(sequence, start)),
            Err(error) if talks => {
                terminal::print(&format!("seq {sequence}: not sent: {error}\n"))?;
            }
            Err(_) => {}
        }
        let is_last = sequence == args.count;
        let until = start + if is_last { LINGER.max(interval) } else { interval };
        let listening = listen(echo, &mut waiting, &mut statistics, until, is_last, talks);
        tokio::select! {
            done = listening => done?,
            () = stop.cancelled() => break,
        }
    }
    Ok(statistics)
}

/// Takes replies in until `until`; when nothing more is to be sent, only until all are there.
async fn listen(
    echo: &Echo,
    waiting: &mut BTreeMap<u16, Instant>,
    statistics: &mut Statistics,
    until: Instant,
    is_last: bool,
    talks: bool,
) -> Result<()> {
    while !(is_last && waiting.is_empty()) {
        let sequence = match echo.reply(until).await {
            Ok(Some(sequence)) => sequence,
            Ok(None) => break,
            // A router's or the peer's word that it cannot be: ping goes on all the same.
            Err(error) => {
                if talks {
                    terminal::print(&format!("{error}\n"))?;
                }
                tokio::time::sleep_until(until).await;
                break;
            }
        };
        let Some(sent) = waiting.remove(&sequence) else { continue };
        let took = sent.elapsed();
        statistics.answered(took);
        if talks {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            terminal::print(&format!("seq {sequence}: {}\n", humane::round_trip(micros)))?;
        }
    }
    if talks && is_last {
        for sequence in waiting.keys() {
            terminal::print(&format!("seq {sequence}: no answer\n"))?;
        }
    }
    Ok(())
}

fn report(target: &Target, statistics: &Statistics, output: Output) -> Result<()> {
    let summary = Summary {
        node: target.name.clone(),
        address: target.ip.to_string(),
        sent: statistics.sent,
        received: statistics.received(),
        loss_percent: statistics.loss_percent(),
        rtt_us: statistics.round_trips(),
    };
    Ok(terminal::print_value(
        output,
        &summary,
        |summary| summary.node.clone(),
        |summary, _| {
            let mut text = format!(
                "{} sent, {} received, {:.0}% lost\n",
                summary.sent, summary.received, summary.loss_percent
            );
            if let Some(rtt) = summary.rtt_us {
                let [min, avg, max, mdev] =
                    [rtt.min, rtt.avg, rtt.max, rtt.mdev].map(humane::round_trip);
                let _ = writeln!(text, "rtt min {min}, avg {avg}, max {max}, mdev {mdev}");
            }
            text
        },
    )?)
}

/// Why there may be no answer, by what the daemon knows.
fn hint(peer: &MeshPeer) -> String {
    let name = printable(&peer.info.hostname);
    match (&peer.why, peer.state) {
        (Some(why), _) => format!("{name}: {}", printable(why)),
        (None, PeerState::Up) => format!(
            "the tunnel to {name} stands: does a firewall there drop ICMP on its mesh interface?"
        ),
        (None, _) => {
            format!("see `meshctl peers` for what is known of {name}, and `meshctl doctor`")
        }
    }
}
