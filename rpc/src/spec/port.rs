//! Published ports.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One published port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct PortSpec {
    pub container_port: u16,
    /// The container's port when the manifest says nothing.
    pub host_port: u16,
    #[serde(default)]
    pub protocol: Protocol,
    #[serde(default)]
    #[schema(value_type = String)]
    pub host_ip: HostIp,
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}->{}/{}", self.host_ip, self.host_port, self.container_port, self.protocol)
    }
}

#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Where a port is published on its host.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostIp {
    /// The host's mesh address: reached through WireGuard and from the host itself.
    #[default]
    Mesh,
    /// 127.0.0.1.
    Loopback,
    /// Every address of the host.
    Public,
    /// The addresses of one interface, written `iface:eth1`.
    Interface(String),
    Literal(Ipv4Addr),
}

impl HostIp {
    /// Reads the manifest's text, or says what it may be.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "mesh" => return Ok(Self::Mesh),
            "loopback" | "localhost" => return Ok(Self::Loopback),
            "public" => return Ok(Self::Public),
            _ => {}
        }
        if let Some(name) = text.strip_prefix("iface:") {
            let fits = !name.is_empty()
                && name.len() <= 15
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b));
            return if fits {
                Ok(Self::Interface(name.to_owned()))
            } else {
                Err(format!("\"{name}\" is no interface name"))
            };
        }
        match text.parse::<Ipv4Addr>() {
            Ok(address) if address.is_unspecified() => Ok(Self::Public),
            Ok(address) if address == Ipv4Addr::LOCALHOST => Ok(Self::Loopback),
            Ok(address) if address.is_multicast() || address.is_broadcast() => {
                Err(format!("{address} is no address of a host"))
            }
            Ok(address) => Ok(Self::Literal(address)),
            Err(_) => Err(format!(
                "\"{text}\" is none of: mesh, loopback, public, iface:NAME, an IPv4 address"
            )),
        }
    }
}

impl fmt::Display for HostIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mesh => f.pad("mesh"),
            Self::Loopback => f.pad("loopback"),
            Self::Public => f.pad("public"),
            Self::Interface(name) => write!(f, "iface:{name}"),
            Self::Literal(address) => write!(f, "{address}"),
        }
    }
}

impl TryFrom<String> for HostIp {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<HostIp> for String {
    fn from(host_ip: HostIp) -> Self {
        host_ip.to_string()
    }
}
