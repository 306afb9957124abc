//! `meshctl join`: the mesh daemon, a drop-in for `wgmesh`.
//!
//! ```text
//!   net::{multicast, exchange} ──datagrams──> engine_room ──> core::Mesh::handle ──effects──┐
//!   rpc_server <──queries, status──> engine_room <── ticks, device peers, latencies         │
//!                                        └──> wg (peers), net (datagrams), state (files) <──┘
//! ```
//!
//! Invariant: the interface outlives the daemon. Only `--teardown` and `mesh.leave` remove it.

mod actor;
mod clock;
mod forwarding;
#[cfg(test)]
mod fuzz;
pub(crate) mod metrics;
mod net;
mod rotation;
mod rpc_server;
pub(crate) mod secret;
mod seeds;
mod state;
mod trust;
pub(crate) mod wg;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ipnet::Ipv4Net;
use meshctl_core::derive::{MULTICAST_PORT, MeshKeys, MeshSubnet, mesh_ipv6};
use meshctl_core::mesh::{Mesh, Settings, Trust};
use meshctl_core::message::sanitize_hostname;
use meshctl_core::state_file::Identity;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::cli::JoinArgs;
use actor::{Actor, Inputs, Sockets};
use clock::Clock;
use forwarding::Forwarding;
use metrics::{Measured, MetricsAddress};
use net::bench::Bench;
use net::exchange::Exchange;
use net::multicast::Multicast;
use net::{interfaces, probe, stun};
use rpc_server::listener::Listener;
use state::StateDir;
use wg::{Links, Setup};

/// Datagrams and queries that may wait for the actor.
const QUEUE_MAX: usize = 1024;
const SEEDS_RESOLVE_EVERY: Duration = Duration::from_mins(1);

/// Runs the daemon until it is told to stop.
pub(crate) async fn run(args: JoinArgs) -> Result<()> {
    let stop = knit_runtime::signal::shutdown();
    let given = secret::load(args.secret_file.as_deref())?;
    // Whichever secret follows another one keeps the mesh's ports and subnet.
    let keys = MeshKeys::derive(&given);
    let subnet = subnet(&args, &keys)?;
    check_ports(&args, &keys)?;

    // The socket first: a second daemon must fail before it touches the first one's device.
    let socket = Listener::bind(&socket_path(&args), args.socket_group.as_deref())?;
    let state = StateDir::open(&args.state_dir, &args.interface)?;
    let (keys, successor) = rotation::resume(&state, given)?;
    let mut identity = state.identity()?;
    let public_key = identity.private_key.public();
    let cached = state.peers();

    let clock = Clock::start();
    let trust = trust::load(&args.trust, &identity.private_key, state.revocations())?;
    let settings =
        Settings { successor, ..settings(&args, &keys, &identity, subnet, trust.clone()) };
    let mesh = Mesh::new(settings, identity.mesh_ip, &cached, clock.now());
    check_routes(&mesh)?;
    keep_addresses(&state, &mut identity, &mesh)?;

    let place = |metrics: MetricsAddress| metrics.place(mesh.mesh_ip().into());
    let metrics = args.metrics.map(place).transpose()?;

    let links = Links::connect()?;
    let setup = Setup {
        interface: args.interface.clone(),
        private_key: identity.private_key.clone(),
        listen_port: args.listen_port,
        offload: !args.no_offload,
    };
    let device = wg::open(&links, args.engine, &setup, subnet.net()).await?;
    links.set_address(&args.interface, in_subnet(mesh.mesh_ip(), subnet)?).await?;

    let forwarding = forwarding(&args, &keys, subnet).await?;

    let (datagrams, datagram_queue) = mpsc::channel(QUEUE_MAX);
    let sockets = open_sockets(&args, &keys, &datagrams)?;
    announce_in_log(&args, &keys, &mesh, device.engine());

    let (queries, query_queue) = mpsc::channel(QUEUE_MAX);
    let (probes, probed) = mpsc::channel(actor::PROBES_MAX);
    let (address, address_v6) =
        (watch::Sender::new(Some(mesh.mesh_ip().into())), watch::Sender::new(None));
    serve_probes(&args, keys.probe_port(), [&address, &address_v6], &queries);
    if let Some(place) = metrics {
        let (interface, queries) = (args.interface.clone(), queries.clone());
        metrics::http::serve(place, address.subscribe(), interface, queries).await?;
    }
    let leave = CancellationToken::new();
    let actor = Actor {
        clock,
        mesh,
        device,
        links,
        sockets,
        state,
        identity,
        interface: args.interface.clone(),
        address,
        address_v6,
        ipv6_refused: false,
        forwarding,
        stop,
        leave: leave.clone(),
        teardown: args.teardown,
        said: String::new(),
        measured: Measured::default(),
        probes,
        asker: probe::Asker::default(),
    };
    let statuses = actor.watch_status();
    let server = rpc_server::Server { queries, statuses: statuses.subscribe(), leave };
    let _socket_file = socket.serve(server);
    let seeds = seeds::resolve_for_ever(args.seeds, keys.gossip_port, SEEDS_RESOLVE_EVERY);
    let stun = stun::ask_for_ever(args.stun);
    let certificates = trust::follow(args.trust.certificate, public_key, trust.certificate);
    let inputs = Inputs {
        datagrams: datagram_queue,
        queries: query_queue,
        seeds,
        probed,
        stun,
        certificates,
    };
    actor.run(inputs, statuses).await
}

/// Answers on both mesh addresses; they measure throughput with one peer at a time between them.
fn serve_probes(
    args: &JoinArgs,
    port: u16,
    addresses: [&watch::Sender<Option<IpAddr>>; 2],
    queries: &mpsc::Sender<rpc_server::Query>,
) {
    let bench = Bench::new(!args.no_bench, queries.clone());
    for address in addresses {
        let (interface, bench) = (args.interface.clone(), bench.clone());
        tokio::spawn(probe::serve(address.subscribe(), interface, port, bench));
    }
}

fn keep_addresses(state: &StateDir, identity: &mut Identity, mesh: &Mesh) -> Result<()> {
    let kept = (identity.mesh_ip, identity.mesh_ipv6);
    identity.mesh_ip = Some(mesh.mesh_ip());
    identity.mesh_ipv6 = mesh.settings().ipv6.or(identity.mesh_ipv6);
    if kept != (identity.mesh_ip, identity.mesh_ipv6) {
        state.keep_identity(identity)?;
    }
    Ok(())
}

fn settings(
    args: &JoinArgs,
    keys: &MeshKeys,
    identity: &Identity,
    subnet: MeshSubnet,
    trust: Trust,
) -> Settings {
    Settings {
        public_key: identity.private_key.public(),
        subnet,
        hostname: sanitize_hostname(&hostname(args)),
        listen_port: args.listen_port,
        boot: knit_runtime::clock::now().as_millis(),
        routes: args.advertise_routes.clone(),
        accept_routes: args.accept_routes.clone(),
        lan: !args.no_lan_discovery,
        gossip: args.gossip,
        ipv6: own_ipv6(args, keys, identity),
        no_ipv6: args.no_ipv6,
        introducer: args.introducer,
        no_punching: args.no_punching,
        force_relay: args.force_relay,
        trust,
        successor: None,
        relays_ipv6: args.introducer && Forwarding::can_ipv6(),
        keys: keys.clone(),
    }
}

/// An introducer forwards from peer to peer; whatever else this node was before, it does not.
async fn forwarding(
    args: &JoinArgs,
    keys: &MeshKeys,
    subnet: MeshSubnet,
) -> Result<Option<Forwarding>> {
    let mut forwarding = Forwarding::new(&args.interface, subnet.net(), keys.v6_net());
    if args.introducer {
        forwarding.assert().await?;
        Ok(Some(forwarding))
    } else {
        tokio::spawn(async move { forwarding.remove().await });
        Ok(None)
    }
}

/// Finds what keeps a daemon from starting with `args`, as far as that shows without its state;
/// nothing is made, changed or connected to. Without a secret in a file, the mesh is not known.
pub(crate) fn check(args: &JoinArgs) -> Result<()> {
    if let Some(net) = args.mesh_subnet {
        MeshSubnet::custom(net)?;
    }
    if let Some(certificate) = &args.trust.certificate {
        trust::check(certificate)?;
    }
    if args.secret_file.is_some() {
        check_ports(args, &MeshKeys::derive(&secret::load(args.secret_file.as_deref())?))?;
    }
    Ok(())
}

fn check_ports(args: &JoinArgs, keys: &MeshKeys) -> Result<()> {
    anyhow::ensure!(
        args.listen_port != keys.gossip_port,
        "--listen-port {} is this mesh's exchange port: choose another",
        args.listen_port
    );

    anyhow::ensure!(
        args.no_lan_discovery || args.listen_port != MULTICAST_PORT,
        "--listen-port {MULTICAST_PORT} is that of LAN discovery: choose another, or add --no-lan-discovery",
    );
    Ok(())
}

/// Routes are in every message, and a message is one datagram.
fn check_routes(mesh: &Mesh) -> Result<()> {
    let (given, fit) = (mesh.settings().routes.len(), mesh.routes_that_fit());
    let beside = match (mesh.own_certificate().is_some(), mesh.settings().introducer) {
        (false, false) => "",
        (true, false) => " beside its certificate",
        (false, true) => " beside the peers that an introducer tells of",
        (true, true) => " beside its certificate and the peers that an introducer tells of",
    };
    anyhow::ensure!(
        fit == given,
        "--advertise-routes names {given} networks, of which the first {fit} fit the messages of this node{beside}: name fewer and wider ones, or advertise some from another node behind which they are"
    );
    Ok(())
}

fn subnet(args: &JoinArgs, keys: &MeshKeys) -> Result<MeshSubnet> {
    match args.mesh_subnet {
        None => Ok(keys.default_subnet()),
        Some(net) => Ok(MeshSubnet::custom(net)?),
    }
}

/// A mesh IPv6 address is kept as long as it is one of this mesh.
fn own_ipv6(args: &JoinArgs, keys: &MeshKeys, identity: &Identity) -> Option<Ipv6Addr> {
    let kept = identity.mesh_ipv6.filter(|ip| keys.v6_net().contains(ip));
    let derived = || mesh_ipv6(keys.v6_prefix, &identity.private_key.public(), &keys.secret);
    (!args.no_ipv6).then(|| kept.unwrap_or_else(derived))
}

fn in_subnet(address: Ipv4Addr, subnet: MeshSubnet) -> Result<Ipv4Net> {
    Ok(Ipv4Net::new(address, subnet.net().prefix_len())?)
}

fn socket_path(args: &JoinArgs) -> PathBuf {
    let named = args.socket_path.clone();
    named
        .or_else(|| {
            std::env::var_os("WGMESH_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from)
        })
        .unwrap_or_else(|| PathBuf::from(knit_link::mesh::DEFAULT_SOCKET))
}

fn hostname(args: &JoinArgs) -> String {
    let of_host = || nix::unistd::gethostname().ok()?.into_string().ok();
    args.hostname.clone().or_else(of_host).unwrap_or_default()
}

fn open_sockets(
    args: &JoinArgs,
    keys: &MeshKeys,
    datagrams: &mpsc::Sender<net::Datagram>,
) -> Result<Sockets> {
    let exchange = Exchange::bind(keys.gossip_port).with_context(|| {
        format!(
            "the mesh's exchange port, UDP {}, cannot be bound: is another daemon of this mesh running on this host?",
            keys.gossip_port
        )
    })?;
    exchange.listen(datagrams.clone());
    let multicast = if args.no_lan_discovery {
        None
    } else {
        let bound = Multicast::bind(keys.multicast_group, &args.interface);
        bound
            .inspect(|multicast| drop(multicast.listen(datagrams.clone())))
            .inspect_err(|error| {
                tracing::warn!(%error, "no LAN discovery: its port cannot be bound; use --seed");
            })
            .ok()
    };
    Ok(Sockets { exchange, multicast })
}

fn announce_in_log(args: &JoinArgs, keys: &MeshKeys, mesh: &Mesh, engine: &str) {
    tracing::info!(
        engine,
        interface = args.interface,
        mesh.ip = %mesh.mesh_ip(),
        mesh.subnet = %mesh.settings().subnet.net(),
        mesh.id = keys.mesh_id(),
        public_key = %mesh.settings().public_key,
        listen_port = args.listen_port,
        exchange_port = keys.gossip_port,
        lan_discovery = !args.no_lan_discovery,
        seeds = ?args.seeds,
        "joined the mesh"
    );
    let lan = interfaces::lan_addresses(&args.interface).map_or(0, |found| found.len());
    if !args.no_lan_discovery && lan == 0 && args.seeds.is_empty() {
        tracing::warn!("no interface leads to a LAN and no --seed is given: no peer can be found");
    }
}
