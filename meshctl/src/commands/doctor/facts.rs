//! What was found out about this host, as plain data. `None` is "could not be found out".

use std::path::PathBuf;

use ipnet::Ipv4Net;
use knit_rpc::jsonrpc::{MeshDetail, MeshPeer};

#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// Whether this command has `CAP_NET_ADMIN`.
    pub(super) is_admin: bool,
    pub(super) kernel_wireguard: Option<bool>,
    pub(super) has_tun: bool,
    pub(super) socket: PathBuf,
    pub(super) daemon: Result<Daemon, Unanswered>,
    /// The mesh interface, by its daemon's word or by the usual name.
    pub(super) interface: String,
    pub(super) has_interface: Option<bool>,
    pub(super) mesh: Option<MeshFacts>,
    /// Who listens on which port.
    pub(super) bound: Vec<Bound>,
    pub(super) firewall: Firewall,
    pub(super) ip_forward: Option<bool>,
    pub(super) has_docker: bool,
    /// Networks that this host reaches without the mesh.
    pub(super) local_networks: Vec<Ipv4Net>,
    pub(super) has_multicast_route: Option<bool>,
    /// `net.ipv4.conf.*.rp_filter` of the mesh interface and `all`, the greater one.
    pub(super) rp_filter: Option<u8>,
    pub(super) paths: Vec<PathFacts>,
    pub(super) files: Vec<FileMode>,
    pub(super) is_secret_weak: Option<bool>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            is_admin: false,
            kernel_wireguard: None,
            has_tun: false,
            socket: PathBuf::new(),
            daemon: Err(Unanswered::default()),
            interface: String::new(),
            has_interface: None,
            mesh: None,
            bound: Vec::new(),
            firewall: Firewall::default(),
            ip_forward: None,
            has_docker: false,
            local_networks: Vec::new(),
            has_multicast_route: None,
            rp_filter: None,
            paths: Vec::new(),
            files: Vec::new(),
            is_secret_weak: None,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Daemon {
    pub(super) node: MeshDetail,
    pub(super) peers: Vec<MeshPeer>,
    /// Whether it is `meshctl join` and not the Go daemon.
    pub(super) is_ours: bool,
}

/// Why no daemon told anything.
#[derive(Debug, Clone, Default)]
pub(super) struct Unanswered {
    pub(super) why: String,
    /// There is one, and its socket is not for this user.
    pub(super) is_denied: bool,
}

/// What the secret or the daemon tells of the mesh.
#[derive(Debug, Clone, Default)]
pub(super) struct MeshFacts {
    pub(super) subnet: Option<Ipv4Net>,
    pub(super) listen_port: u16,
    pub(super) exchange_port: u16,
    pub(super) probe_port: u16,
    pub(super) lan: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) transport: Transport,
    pub(super) port: u16,
    /// `name (pid)`; `None` when it cannot be told.
    pub(super) owner: Option<String>,
}

/// The rules of this host.
#[derive(Debug, Clone, Default)]
pub(super) struct Firewall {
    /// What `nft -j list ruleset` prints.
    pub(super) ruleset: Option<serde_json::Value>,
    /// Rules of the old iptables exist, which nft does not show.
    pub(super) has_legacy: bool,
}

/// How large a packet reaches a peer.
#[derive(Debug, Clone, Default)]
pub(super) struct PathFacts {
    pub(super) peer: String,
    /// Beside the tunnel, with the longest packet that the tunnel makes.
    pub(super) outside: Reached,
    pub(super) inside: Reached,
    /// What the kernel knows of the path beside the tunnel, in bytes.
    pub(super) mtu: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Reached {
    #[default]
    NotAsked,
    /// Not even a short packet is answered.
    Mute,
    ShortOnly,
    Whole,
}

#[derive(Debug, Clone)]
pub(super) struct FileMode {
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    pub(super) is_dir: bool,
}
