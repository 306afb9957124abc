//! Decides which engine drives the interface, and opens it.

use ipnet::Ipv4Net;

use super::kernel::Kernel;
use super::link::{Link, LinkKind, Links};
use super::userspace::Userspace;
use super::{MTU, Setup, WgError, WireGuard};

/// The user's wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    /// The kernel where it has WireGuard, else userspace.
    Auto,
    Kernel,
    Userspace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Kernel,
    Userspace,
}

/// Makes the interface, or takes over the one an earlier run left, and brings it up.
pub(crate) async fn open(
    links: &Links,
    choice: Choice,
    setup: &Setup,
    subnet: Ipv4Net,
) -> Result<Box<dyn WireGuard>, WgError> {
    let existing = links.find(&setup.interface).await?;
    let engine = match &existing {
        Some(link) => engine_of(link, choice)?,
        None => engine_by_probe(links, choice).await?,
    };
    if let (Some(link), Engine::Userspace) = (&existing, engine) {
        refuse_foreign_tun(links, link, subnet).await?;
    }
    if existing.is_none() && engine == Engine::Kernel {
        links.add_wireguard(&setup.interface).await?;
    }
    let opened = open_with(engine, setup).await;
    if opened.is_err() && existing.is_none() {
        // What was made for nothing does not stay; why it was for nothing is what matters.
        let _ = links.delete(&setup.interface).await;
    }
    let device = opened?;
    links.bring_up(&setup.interface, MTU).await?;
    Ok(device)
}

async fn open_with(engine: Engine, setup: &Setup) -> Result<Box<dyn WireGuard>, WgError> {
    Ok(match engine {
        Engine::Kernel => Box::new(Kernel::open(setup)?),
        Engine::Userspace => Box::new(Userspace::open(setup).await?),
    })
}

/// An interface that exists has its engine already; another is refused, not swapped in.
fn engine_of(link: &Link, choice: Choice) -> Result<Engine, WgError> {
    let name = || link.name.clone();
    match (link.kind, choice) {
        (LinkKind::WireGuard, Choice::Auto | Choice::Kernel) => Ok(Engine::Kernel),
        (LinkKind::Tun, Choice::Auto | Choice::Userspace) => Ok(Engine::Userspace),
        (LinkKind::WireGuard, Choice::Userspace) => {
            Err(WgError::OtherEngine { name: name(), has: "kernel", wanted: "userspace" })
        }
        (LinkKind::Tun, Choice::Kernel) => {
            Err(WgError::OtherEngine { name: name(), has: "userspace", wanted: "kernel" })
        }
        (LinkKind::Other, _) => Err(WgError::NotAMeshInterface { name: name() }),
    }
}

async fn engine_by_probe(links: &Links, choice: Choice) -> Result<Engine, WgError> {
    let kernel_has_it = choice != Choice::Userspace && links.kernel_has_wireguard().await?;
    match (choice, kernel_has_it) {
        (Choice::Auto | Choice::Kernel, true) => Ok(Engine::Kernel),
        (Choice::Kernel, false) => Err(WgError::NoKernelSupport),
        (Choice::Auto, false) | (Choice::Userspace, _) => Ok(Engine::Userspace),
    }
}

/// A TUN device says nothing of its owner: one with addresses of another network is not ours.
async fn refuse_foreign_tun(links: &Links, link: &Link, subnet: Ipv4Net) -> Result<(), WgError> {
    let addresses = links.addresses(link.index).await?;
    let foreign =
        !addresses.is_empty() && !addresses.iter().any(|net| subnet.contains(&net.addr()));
    if foreign {
        let why = "its address lies in another network";
        return Err(WgError::NotOurs { name: link.name.clone(), why });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_interface_keeps_its_engine() {
        let link = |kind| Link { name: "wg0".into(), index: 1, kind };
        let engine = |kind, choice| engine_of(&link(kind), choice).ok();
        assert_eq!(engine(LinkKind::WireGuard, Choice::Auto), Some(Engine::Kernel));
        assert_eq!(engine(LinkKind::Tun, Choice::Auto), Some(Engine::Userspace));
        assert_eq!(engine(LinkKind::Tun, Choice::Userspace), Some(Engine::Userspace));
        assert_eq!(engine(LinkKind::Tun, Choice::Kernel), None);
        assert_eq!(engine(LinkKind::WireGuard, Choice::Userspace), None);
        let refused = engine_of(&link(LinkKind::Other), Choice::Auto).unwrap_err();
        assert!(refused.to_string().contains("choose another --interface"), "{refused}");
    }
}
