//! Where metrics may be scraped: on loopback or inside the mesh, nowhere else.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// `IP:PORT`, or `mesh:PORT` for whatever the mesh address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetricsAddress {
    Mesh(u16),
    Of(SocketAddr),
}

/// Where to listen, once the mesh address is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Loopback(SocketAddr),
    /// On the mesh address, also after it has moved, and on the mesh interface alone.
    Mesh(u16),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "metrics have no password, so {0} is refused: write --metrics 127.0.0.1:{1} for this host alone, or --metrics mesh:{1} for the mesh"
)]
pub(crate) struct Refused(IpAddr, u16);

impl FromStr for MetricsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        if let Some(port) = text.strip_prefix("mesh:").and_then(port) {
            return Ok(Self::Mesh(port));
        }
        let bare_port = text.strip_prefix(':').and_then(port);
        if let Some(port) = bare_port {
            return Err(Refused(IpAddr::from([0, 0, 0, 0]), port).to_string());
        }
        let of_localhost = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        of_localhost
            .as_deref()
            .unwrap_or(text)
            .parse::<SocketAddr>()
            .ok()
            .filter(|address| address.port() > 0)
            .map(Self::Of)
            .ok_or_else(|| {
                "metrics are served at 127.0.0.1:PORT, [::1]:PORT or mesh:PORT".to_owned()
            })
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mesh(port) => write!(f, "mesh:{port}"),
            Self::Of(address) => address.fmt(f),
        }
    }
}

impl MetricsAddress {
    /// Where that is on a node with this mesh address.
    pub(crate) fn place(self, mesh_ip: IpAddr) -> Result<Place, Refused> {
        match self {
            Self::Mesh(port) => Ok(Place::Mesh(port)),
            Self::Of(address) if address.ip().to_canonical().is_loopback() => {
                Ok(Place::Loopback(address))
            }
            Self::Of(address) if address.ip() == mesh_ip => Ok(Place::Mesh(address.port())),
            Self::Of(address) => Err(Refused(address.ip(), address.port())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_loopback_and_the_mesh_is_served() {
        let mesh_ip = "10.45.0.1".parse().unwrap();
        let loopback = |text: &str| Some(Place::Loopback(text.parse().unwrap()));
        for (text, expected) in [
            ("127.0.0.1:9464", loopback("127.0.0.1:9464")),
            ("127.8.8.8:1", loopback("127.8.8.8:1")),
            ("localhost:9464", loopback("127.0.0.1:9464")),
            ("[::1]:9464", loopback("[::1]:9464")),
            ("mesh:9464", Some(Place::Mesh(9464))),
            ("10.45.0.1:9464", Some(Place::Mesh(9464))),
            ("10.45.0.2:9464", None),
            ("0.0.0.0:9464", None),
            ("[::]:9464", None),
            ("[::ffff:192.0.2.1]:9464", None),
            ("192.0.2.1:9464", None),
        ] {
            let place = text.parse::<MetricsAddress>().unwrap().place(mesh_ip);
            assert_eq!(place.ok(), expected, "{text}");
        }
        for (text, expected) in [
            (":9464", "write --metrics 127.0.0.1:9464 for this host alone"),
            ("9464", "are served at"),
            ("127.0.0.1:0", "are served at"),
            ("mesh:x", "are served at"),
            ("host.example:1", "are served at"),
        ] {
            let refused = text.parse::<MetricsAddress>().unwrap_err();
            assert!(refused.contains(expected), "{text}: {refused}");
        }
    }
}
