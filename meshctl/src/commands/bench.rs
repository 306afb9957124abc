//! `meshctl bench`: throughput through the tunnel, against the path beside it.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use knit_runtime::terminal::{self, Output, printable};
use serde::Serialize;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use super::{seen, target};
use crate::bench::stream::{self, Arrived};
use crate::bench::wire::{Answer, Direction, Request};
use crate::cli::BenchArgs;

const CONNECT_MAX: Duration = Duration::from_secs(3);
/// A daemon that knows the word answers within a round trip.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// All rates in megabits a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Measured {
    node: String,
    address: String,
    seconds: u8,
    tunnel: Rates,
    /// Absent when the path beside the tunnel could not be measured.
    beside: Option<Rates>,
    why_not_beside: Option<String>,
    underlay: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Rates {
    down_mbit: u64,
    up_mbit: u64,
}

/// Where a measurement is asked for.
struct Place<'a> {
    probe: SocketAddr,
    interface: &'a str,
    underlay: Option<IpAddr>,
    seconds: u8,
}

pub(super) async fn run(args: &BenchArgs) -> Result<ExitCode> {
    let client = super::client(&args.show.socket);
    let (node, is_ours) = seen::node(&client).await?;
    anyhow::ensure!(
        is_ours,
        "this is a Go daemon: bench needs `meshctl join` on both ends. Between Go daemons, use iperf3 on the mesh addresses"
    );
    let (peers, _) = seen::peers(&client).await?;
    let target = target::find(&args.node, &node, &peers).map_err(anyhow::Error::msg)?;
    let name = printable(&target.name);
    let Some(peer) = &target.peer else { bail!("that is this node itself: name another one") };
    anyhow::ensure!(
        peer.knit != Some(false),
        "{name} runs the Go daemon, which does not know how to measure: use iperf3 on the mesh addresses"
    );
    let endpoint: Option<SocketAddr> = peer.info.endpoint.parse().ok();
    let place = Place {
        probe: SocketAddr::new(target.ip, node.probe_port),
        interface: &node.status.interface,
        underlay: endpoint.map(|endpoint| endpoint.ip()),
        seconds: args.seconds,
    };
    if matches!(args.show.output, Output::Table | Output::Wide) {
        terminal::eprintln(&format!("measuring {} s each way …", args.seconds));
    }
    let tunnel = place.rates(false).await.with_context(|| format!("{name} was not measured"))?;
    let beside = place.rates(true).await;
    let why_not_beside = beside.as_ref().err().map(|error| format!("{error:#}"));
    let measured = Measured {
        node: target.name.clone(),
        address: target.ip.to_string(),
        seconds: args.seconds,
        tunnel,
        beside: beside.ok(),
        why_not_beside,
        underlay: place.underlay.map(|ip| ip.to_string()),
    };
    let name = |measured: &Measured| measured.node.clone();
    terminal::print_value(args.show.output, &measured, name, |measured, _| text(measured))?;
    Ok(ExitCode::SUCCESS)
}

impl Place<'_> {
    async fn rates(&self, beside: bool) -> Result<Rates> {
        let down_mbit = self.rate(beside, Direction::Down).await?;
        Ok(Rates { down_mbit, up_mbit: self.rate(beside, Direction::Up).await? })
    }

    async fn rate(&self, beside: bool, direction: Direction) -> Result<u64> {
        let request = Request { beside, direction, seconds: self.seconds };
        let mut tunnel = self.ask(request).await?;
        let arrived = if beside {
            let Answer::At { port, token } = answer(&mut tunnel).await? else {
                bail!("its answer is not understood");
            };
            let underlay = self.underlay.context("where its host is reached is not known")?;
            let to = SocketAddr::new(underlay, port);
            let connecting = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(to)).await;
            let mut stream = match connecting {
                Ok(Ok(stream)) => BufReader::new(stream),
                Ok(Err(error)) => bail!("TCP to {to}: {error}"),
                Err(_) => bail!("TCP to {to} is not answered: a firewall or a NAT is in the way"),
            };
            stream.write_all(format!("{token}\n").as_bytes()).await?;
            transfer(&mut stream, request).await?
        } else {
            transfer(&mut tunnel, request).await?
        };
        arrived.mbit_per_second().context("nothing arrived")
    }

    /// Asks through the tunnel and no other way.
    async fn ask(&self, request: Request) -> Result<BufReader<TcpStream>> {
        let socket = if self.probe.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        let bound = socket.bind_device(Some(self.interface.as_bytes()));
        bound.with_context(|| format!("no socket on {}: run as root", self.interface))?;
        let connecting = tokio::time::timeout(CONNECT_MAX, socket.connect(self.probe)).await;
        let stream = match connecting {
            Ok(connected) => connected
                .with_context(|| format!("TCP {} does not answer in the mesh", self.probe))?,
            Err(_) => bail!("nothing answers at {} in the mesh: see `meshctl ping`", self.probe),
        };
        let mut stream = BufReader::new(stream);
        stream.write_all(format!("{request}\n").as_bytes()).await?;
        Ok(stream)
    }
}

async fn transfer(stream: &mut BufReader<TcpStream>, request: Request) -> Result<Arrived> {
    match answer(stream).await? {
        Answer::Go => {}
        Answer::At { .. } | Answer::Got { .. } | Answer::No(_) => {
            bail!("its answer is not understood")
        }
    }
    let span = Duration::from_secs(request.seconds.into());
    if request.direction == Direction::Down {
        return Ok(stream::receive(stream, span).await?);
    }
    stream::send(stream, span).await?;
    let line = stream::line(stream, stream::TAIL_MAX + ANSWER_MAX).await?;
    match line.parse() {
        Ok(Answer::Got { bytes, micros }) => {
            Ok(Arrived { bytes, took: Duration::from_micros(micros) })
        }
        Ok(_) | Err(()) => bail!("its answer is not understood"),
    }
}

async fn answer(stream: &mut BufReader<TcpStream>) -> Result<Answer> {
    let line = stream::line(stream, ANSWER_MAX).await;
    let line = line.context(
        "it does not know how to measure: it runs a Go daemon, or an older `meshctl join`",
    )?;
    match line.parse() {
        Ok(Answer::No(why)) => bail!("it refuses: {}", printable(&why)),
        Ok(answer) => Ok(answer),
        Err(()) => bail!("its answer is not understood"),
    }
}

fn text(measured: &Measured) -> String {
    let rate = |mbit: u64| format!("{mbit} Mbit/s");
    let row = |name: &str, down: String, up: String| format!("{name:<10}  {down:>14}  {up:>14}\n");
    let mut text = format!("{} ({})\n", printable(&measured.node), measured.address);
    text += &row("", "down".to_owned(), "up".to_owned());
    text += &row("tunnel", rate(measured.tunnel.down_mbit), rate(measured.tunnel.up_mbit));
    match (&measured.beside, &measured.why_not_beside) {
        (Some(beside), _) => {
            text += &row("beside it", rate(beside.down_mbit), rate(beside.up_mbit));
            let ratio = |through: u64, beside: u64| match (through * 100).checked_div(beside) {
                Some(percent) => format!("{percent} %"),
                None => "-".to_owned(),
            };
            let down = ratio(measured.tunnel.down_mbit, beside.down_mbit);
            text += &row("ratio", down, ratio(measured.tunnel.up_mbit, beside.up_mbit));
        }
        (None, why) => {
            let why = why.as_deref().unwrap_or("nobody knows why");
            let _ = writeln!(text, "beside it   not measured: {}", printable(why));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_stand_under_each_other_with_their_ratio() {
        let measured = Measured {
            node: "fra".into(),
            address: "10.45.0.2".into(),
            seconds: 3,
            tunnel: Rates { down_mbit: 512, up_mbit: 0 },
            beside: Some(Rates { down_mbit: 10_000, up_mbit: 0 }),
            why_not_beside: None,
            underlay: None,
        };
        assert_eq!(
            text(&measured),
            concat!(
                "fra (10.45.0.2)\n",
                "                      down              up\n",
                "tunnel          512 Mbit/s        0 Mbit/s\n",
                "beside it     10000 Mbit/s        0 Mbit/s\n",
                "ratio                  5 %               -\n",
            )
        );
        let why_not_beside = Some("a NAT".into());
        let alone = Measured { beside: None, why_not_beside, ..measured };
        assert!(text(&alone).ends_with("beside it   not measured: a NAT\n"));
    }
}
