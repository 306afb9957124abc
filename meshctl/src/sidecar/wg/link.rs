//! Network interfaces by rtnetlink: create, delete, address, probe.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use ipnet::{Ipv4Net, Ipv6Net};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Error, Handle, LinkUnspec, LinkWireguard, RouteMessageBuilder};

use super::WgError;

/// Marks the routes that are ours: a number that no routing daemon uses.
const ROUTE_PROTOCOL: RouteProtocol = RouteProtocol::Other(0x6b);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkKind {
    WireGuard,
    Tun,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) index: u32,
    pub(crate) kind: LinkKind,
}

/// A netlink connection; must be made inside a tokio runtime.
pub(crate) struct Links(Handle);

impl Links {
    pub(crate) fn connect() -> Result<Self, WgError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(WgError::Link)?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    pub(crate) async fn find(&self, name: &str) -> Result<Option<Link>, WgError> {
        let mut found = Box::pin(self.0.link().get().match_name(name).execute());
        match found.try_next().await {
            Ok(message) => Ok(message.map(|message| link_of(name, &message))),
            Err(error) if errno(&error) == Some(nix::errno::Errno::ENODEV as i32) => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    pub(crate) async fn add_wireguard(&self, name: &str) -> Result<(), WgError> {
        let message = LinkWireguard::new(name).build();
        self.0.link().add(message).execute().await.map_err(|error| failed(&error))
    }

    /// Removes the interface; that there is none is no error.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), WgError> {
        match self.find(name).await? {
            None => Ok(()),
            Some(link) => {
                self.0.link().del(link.index).execute().await.map_err(|error| failed(&error))
            }
        }
    }

    /// Asks by really making one, under a name of our own: a leftover device cannot fool that,
    /// and the kernel loads its module for it.
    pub(crate) async fn kernel_has_wireguard(&self) -> Result<bool, WgError> {
        let probe = format!("knitp{}", std::process::id() % 1_000_000_000);
        let message = LinkWireguard::new(&probe).build();
        match self.0.link().add(message).execute().await {
            Ok(()) => {
                self.delete(&probe).await?;
                Ok(true)
            }
            Err(error) if errno(&error) == Some(nix::errno::Errno::EOPNOTSUPP as i32) => Ok(false),
            Err(error) => Err(failed(&error)),
        }
    }

    pub(crate) async fn bring_up(&self, name: &str, mtu: u32) -> Result<(), WgError> {
        let message = LinkUnspec::new_with_name(name).mtu(mtu).up().build();
        self.0.link().set(message).execute().await.map_err(|error| failed(&error))
    }

    pub(crate) async fn addresses(&self, index: u32) -> Result<Vec<Ipv4Net>, WgError> {
        Ok(self.address_messages(index).await?.iter().filter_map(net_of).collect())
    }

    /// Leaves `address` as the interface's only IPv4 address. It is there before others go.
    pub(crate) async fn set_address(&self, name: &str, address: Ipv4Net) -> Result<(), WgError> {
        let link = self.find(name).await?;
        let index = link.ok_or_else(|| gone(name))?.index;
        self.add_address(index, address).await?;
        let mut removed = false;
        for message in self.address_messages(index).await? {
            if net_of(&message).is_some_and(|net| net.addr() != address.addr()) {
                removed = true;
                let deleting = self.0.address().del(message).execute().await;
                deleting.map_err(|error| failed(&error))?;
            }
        }
        if removed {
            // The kernel drops secondary addresses together with their primary one.
            self.add_address(index, address).await?;
        }
        Ok(())
    }

    /// Leaves `wanted` as the interface's only IPv6 address of the mesh's `prefix`. Fails where the
    /// host has no IPv6 for the interface.
    pub(crate) async fn set_ipv6(
        &self,
        name: &str,
        wanted: Option<Ipv6Addr>,
        prefix: Ipv6Net,
    ) -> Result<(), WgError> {
        let index = self.find(name).await?.ok_or_else(|| gone(name))?.index;
        let found = self.0.address().get().set_link_index_filter(index).execute();
        let found: Vec<_> = found.try_collect().await.map_err(|error| failed(&error))?;
        let mut is_there = false;
        for message in found {
            let Some(ip) = ipv6_of(&message).filter(|ip| prefix.contains(ip)) else { continue };
            if Some(ip) == wanted {
                is_there = true;
            } else {
                let deleting = self.0.address().del(message).execute().await;
                deleting.map_err(|error| failed(&error))?;
            }
        }
        match wanted {
            Some(ip) if !is_there => {
                let adding = self.0.address().add(index, ip.into(), prefix.prefix_len());
                adding.execute().await.map_err(|error| failed(&error))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The networks that the host reaches by other interfaces than `name`: its LANs, its container
    /// networks, what its administrator routes. The default route is none of them.
    pub(crate) async fn networks_beside(&self, name: &str) -> Result<Vec<Ipv4Net>, WgError> {
        let index = self.find(name).await?.map(|link| link.index);
        let routes = self.main_routes().await?;
        let beside = routes.iter().filter(|route| output_interface(route) != index);
        Ok(beside.filter_map(destination).collect())
    }

    /// Leaves `wanted` as the networks that we route to `name`; other routes are not ours to touch.
    pub(crate) async fn set_routes(&self, name: &str, wanted: &[Ipv4Net]) -> Result<(), WgError> {
        let index = self.find(name).await?.ok_or_else(|| gone(name))?.index;
        let mut present = Vec::new();
        for route in self.main_routes().await? {
            let is_ours =
                route.header.protocol == ROUTE_PROTOCOL && output_interface(&route) == Some(index);
            let Some(net) = destination(&route).filter(|_| is_ours) else { continue };
            if wanted.contains(&net) {
                present.push(net);
            } else {
                self.0.route().del(route).execute().await.map_err(|error| failed(&error))?;
            }
        }
        for net in wanted.iter().filter(|net| !present.contains(net)) {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(net.network(), net.prefix_len())
                .output_interface(index)
                .scope(RouteScope::Link)
                .protocol(ROUTE_PROTOCOL)
                .build();
            // Not `replace`: a route that somebody else made stays.
            match self.0.route().add(route).execute().await {
                Err(error) if errno(&error) != Some(nix::errno::Errno::EEXIST as i32) => {
                    return Err(failed(&error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    async fn main_routes(&self) -> Result<Vec<RouteMessage>, WgError> {
        let every = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let found: Vec<_> = self
            .0
            .route()
            .get(every)
            .execute()
            .try_collect()
            .await
            .map_err(|error| failed(&error))?;
        let is_main = |route: &RouteMessage| {
            route.header.table == RouteHeader::RT_TABLE_MAIN
                && route.header.kind == RouteType::Unicast
        };
        Ok(found.into_iter().filter(is_main).collect())
    }

    async fn add_address(&self, index: u32, address: Ipv4Net) -> Result<(), WgError> {
        let ip = IpAddr::V4(address.addr());
        let adding = self.0.address().add(index, ip, address.prefix_len()).replace();
        adding.execute().await.map_err(|error| failed(&error))
    }

    async fn address_messages(&self, index: u32) -> Result<Vec<AddressMessage>, WgError> {
        let addresses = self.0.address().get().set_link_index_filter(index).execute();
        let all: Vec<_> = addresses.try_collect().await.map_err(|error| failed(&error))?;
        Ok(all.into_iter().filter(|message| net_of(message).is_some()).collect())
    }
}

fn link_of(name: &str, message: &LinkMessage) -> Link {
    let mut kind = LinkKind::Other;
    for attribute in &message.attributes {
        let LinkAttribute::LinkInfo(infos) = attribute else { continue };
        if infos.contains(&LinkInfo::Kind(InfoKind::Wireguard)) {
            kind = LinkKind::WireGuard;
        } else if infos.contains(&LinkInfo::Kind(InfoKind::Tun)) {
            kind = LinkKind::Tun;
        }
    }
    Link { name: name.to_owned(), index: message.header.index, kind }
}

fn net_of(message: &AddressMessage) -> Option<Ipv4Net> {
    let local = message.attributes.iter().find_map(|attribute| {
        let AddressAttribute::Local(IpAddr::V4(ip)) = attribute else { return None };
        Some(*ip)
    });
    Ipv4Net::new(local?, message.header.prefix_len).ok()
}

fn ipv6_of(message: &AddressMessage) -> Option<Ipv6Addr> {
    message.attributes.iter().find_map(|attribute| {
        let AddressAttribute::Address(IpAddr::V6(ip)) = attribute else { return None };
        Some(*ip)
    })
}

/// Where a route leads; `None` for the default route.
fn destination(route: &RouteMessage) -> Option<Ipv4Net> {
    let to = route.attributes.iter().find_map(|attribute| {
        let RouteAttribute::Destination(RouteAddress::Inet(ip)) = attribute else { return None };
        Some(*ip)
    });
    Ipv4Net::new(to?, route.header.destination_prefix_length).ok()
}

fn output_interface(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| {
        let RouteAttribute::Oif(index) = attribute else { return None };
        Some(*index)
    })
}

fn errno(error: &Error) -> Option<i32> {
    let Error::NetlinkError(message) = error else { return None };
    message.code.map(|code| -code.get())
}

fn failed(error: &Error) -> WgError {
    WgError::Link(match errno(error) {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error.to_string()),
    })
}

fn gone(name: &str) -> WgError {
    WgError::Link(io::Error::new(io::ErrorKind::NotFound, format!("interface {name} is gone")))
}
