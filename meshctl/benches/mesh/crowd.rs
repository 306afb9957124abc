//! Many idle peers on one host, as one real daemon sees them.
//!
//! ```text
//!   announces, REPLY ──sealed by the core──┐
//!   handshakes, keepalives ──gotatun's Tunn─┼──> the daemon
//!   probes ──> one TUN device with all their addresses ──> a listener that says `pong`
//! ```
//!
//! Each has its own LAN address, key and mesh address; none starts anything but its announces.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gotatun::noise::index_table::IndexTable;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::noise::{Tunn, TunnResult};
use gotatun::packet::{Packet, WgKind};
use gotatun::x25519;
use meshctl_core::derive::{MULTICAST_PORT, MeshKeys};
use meshctl_core::envelope::{self, Kind, NONCE_LEN};
use meshctl_core::key::{PrivateKey, PublicKey};
use meshctl_core::secret::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tun_rs::{AsyncDevice, DeviceBuilder};

use crate::support::Lan;

const ANNOUNCE_EVERY: Duration = Duration::from_secs(5);
const TIMERS_EVERY: Duration = Duration::from_millis(250);
const WIREGUARD_PORT: u16 = 51_820;
/// LAN and mesh addresses end in this and the numbers after it.
const FIRST: u8 = 20;
const DEVICE: &str = "crowd0";

/// Runs until it is dropped.
pub(crate) struct Crowd {
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Crowd {
    /// `count` peers on a host, of the daemon with this key and mesh address on host 1.
    pub(crate) fn start(lan: &Lan, host: u8, count: u8, key: &str, mesh_ip: &str) -> Self {
        let text = std::fs::read_to_string(lan.secret_file()).unwrap();
        let keys = MeshKeys::derive(&Secret::parse(&text).unwrap());
        let target: PublicKey = key.parse().unwrap();
        let mesh_ip: Ipv4Addr = mesh_ip.parse().unwrap();
        let [a, b, c, _] = mesh_ip.octets();
        let ip = |arguments: String| {
            let status = lan.command(host, "ip").args(arguments.split(' ')).status();
            assert!(status.unwrap().success(), "ip {arguments}");
        };
        ip(format!("tuntap add dev {DEVICE} mode tun"));
        ip(format!("link set {DEVICE} mtu 1420 up"));
        for number in 0..count {
            let last = FIRST + number;
            ip(format!("addr add 192.168.77.{last}/24 dev eth0"));
            // A neighbouring network, so that no address is that of the daemon.
            ip(format!("addr add {a}.{b}.{}.{last}/32 dev {DEVICE}", c ^ 1));
        }
        ip(format!("route add {mesh_ip} dev {DEVICE}"));
        let stop = CancellationToken::new();
        let ended = stop.clone();
        let namespace = std::path::Path::new("/var/run/netns").join(lan.namespace(host));
        let thread = std::thread::spawn(move || {
            let namespace = std::fs::File::open(namespace).unwrap();
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let _peers = Box::pin(serve(&keys, target, [a, b, c ^ 1], count)).await;
                ended.cancelled().await;
            });
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

struct Peer {
    key: PublicKey,
    lan_ip: Ipv4Addr,
    mesh_ip: Ipv4Addr,
    tunnel: Mutex<Tunn>,
    limiter: Arc<RateLimiter>,
    wireguard: UdpSocket,
}

/// Daemon's WireGuard address.
const THERE: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 168, 77, 1)), WIREGUARD_PORT);

async fn serve(keys: &MeshKeys, target: PublicKey, net: [u8; 3], count: u8) -> Vec<Arc<Peer>> {
    let device = DeviceBuilder::new().name(DEVICE).inherit_enable_state().build_async().unwrap();
    let device = Arc::new(device);
    let mut peers = Vec::new();
    for number in 0..count {
        let private = PrivateKey::from_random([number + 1; 32]);
        let secret = x25519::StaticSecret::from(*private.expose());
        let public = x25519::PublicKey::from(&secret);
        let limiter = Arc::new(RateLimiter::new(&public, 100));
        let target = x25519::PublicKey::from(target.to_bytes());
        let index = IndexTable::from_os_rng();
        let lan_ip = Ipv4Addr::new(192, 168, 77, FIRST + number);
        let tunnel = Tunn::new(secret, target, Some(*keys.psk), Some(25), index, limiter.clone());
        let peer = Arc::new(Peer {
            key: private.public(),
            lan_ip,
            mesh_ip: Ipv4Addr::new(net[0], net[1], net[2], FIRST + number),
            tunnel: Mutex::new(tunnel),
            limiter,
            wireguard: UdpSocket::bind((lan_ip, WIREGUARD_PORT)).await.unwrap(),
        });
        tokio::spawn(receive(peer.clone(), device.clone()));
        tokio::spawn(keep_time(peer.clone()));
        tokio::spawn(exchange(peer.clone(), keys.clone(), number));
        peers.push(peer);
    }
    tokio::spawn(send(peers.clone(), device));
    tokio::spawn(pong(keys.probe_port()));
    peers
}

/// From the daemon to the device.
async fn receive(peer: Arc<Peer>, device: Arc<AsyncDevice>) {
    let mut buffer = vec![0; 2048];
    while let Ok((len, from)) = peer.wireguard.recv_from(&mut buffer).await {
        let packet = Packet::copy_from(&buffer[..len]);
        let Ok(packet) = peer.limiter.verify_packet(from, packet) else { continue };
        let result = peer.tunnel.lock().unwrap().handle_incoming_packet(packet);
        match result {
            TunnResult::WriteToNetwork(answer) => peer.put(answer),
            TunnResult::WriteToTunnel(packet) if !packet.is_empty() => {
                // Beyond the IP packet there is padding.
                let len = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
                let _ = device.send(&packet[..len.min(packet.len())]).await;
            }
            TunnResult::WriteToTunnel(_) | TunnResult::Done | TunnResult::Err(_) => {}
        }
    }
}

/// From the device to the daemon.
async fn send(peers: Vec<Arc<Peer>>, device: Arc<AsyncDevice>) {
    let mut buffer = vec![0; 2048];
    while let Ok(len) = device.recv(&mut buffer).await {
        let from = buffer.get(12..16).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        let Some(peer) = peers.iter().find(|peer| Some(peer.mesh_ip.octets()) == from) else {
            continue;
        };
        let packet = Packet::copy_from(&buffer[..len]);
        let sealed = peer.tunnel.lock().unwrap().handle_outgoing_packet(packet, None);
        if let Some(sealed) = sealed {
            peer.put(sealed);
        }
    }
}

impl Peer {
    fn put(&self, packet: WgKind) {
        let packet: Packet = packet.into();
        let _ = self.wireguard.try_send_to(&packet, THERE);
    }
}

async fn keep_time(peer: Arc<Peer>) {
    loop {
        tokio::time::sleep(TIMERS_EVERY).await;
        let due = peer.tunnel.lock().unwrap().update_timers();
        if let Ok(Some(packet)) = due {
            peer.put(packet);
        }
    }
}

/// Announces, and answers a HELLO.
async fn exchange(peer: Arc<Peer>, keys: MeshKeys, number: u8) {
    let socket = UdpSocket::bind((peer.lan_ip, keys.gossip_port)).await.unwrap();
    let group = SocketAddr::from((keys.multicast_group, MULTICAST_PORT));
    socket2::SockRef::from(&socket).set_multicast_if_v4(&peer.lan_ip).unwrap();
    // They do not all start at once.
    tokio::time::sleep(Duration::from_millis(u64::from(number) * 20)).await;
    let mut announces = tokio::time::interval(ANNOUNCE_EVERY);
    let mut buffer = vec![0; 2048];
    loop {
        tokio::select! {
            _ = announces.tick() => {
                let _ = socket.send_to(&peer.say(&keys, Kind::Announce), group).await;
            }
            received = socket.recv_from(&mut buffer) => {
                let Ok((len, from)) = received else { continue };
                let opened = envelope::open(&keys.gossip_key, &buffer[..len], now());
                if opened.is_ok_and(|opened| opened.kind == Some(Kind::Hello)) {
                    let _ = socket.send_to(&peer.say(&keys, Kind::Reply), from).await;
                }
            }
        }
    }
}

impl Peer {
    fn say(&self, keys: &MeshKeys, kind: Kind) -> Vec<u8> {
        let message = serde_json::json!({
            "protocol": envelope::PROTOCOL,
            "wg_pubkey": self.key.to_string(),
            "hostname": format!("peer-{}", self.lan_ip),
            "mesh_ip": self.mesh_ip.to_string(),
            "wg_endpoint": format!("0.0.0.0:{WIREGUARD_PORT}"),
            "introducer": false,
            "timestamp": now(),
        });
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).unwrap();
        envelope::seal(&keys.gossip_key, nonce, kind, message.to_string().as_bytes())
    }
}

fn now() -> i64 {
    i64::try_from(knit_runtime::clock::now().as_millis() / 1000).unwrap()
}

async fn pong(port: u16) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.unwrap();
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while stream.read(&mut buffer).await.is_ok_and(|len| len > 0) {
                if stream.write_all(b"pong\n").await.is_err() {
                    return;
                }
            }
        });
    }
}
