//! Turns `--seed HOST[:PORT]` into addresses, again and again: a name may move.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;

const RETRY: Duration = Duration::from_secs(2);

/// Sends all addresses at once and whenever they are looked up again.
pub(super) fn resolve_for_ever(
    seeds: Vec<String>,
    default_port: u16,
    every: Duration,
) -> mpsc::Receiver<Vec<SocketAddr>> {
    let (to, from) = mpsc::channel(1);
    tokio::spawn(async move {
        while !seeds.is_empty() {
            let (addresses, complete) = resolve(&seeds, default_port).await;
            if to.send(addresses).await.is_err() {
                return;
            }
            tokio::time::sleep(if complete { every } else { RETRY }).await;
        }
        // No seeds: keep the channel open so that its reader waits instead of spinning.
        to.closed().await;
    });
    from
}

async fn resolve(seeds: &[String], default_port: u16) -> (Vec<SocketAddr>, bool) {
    let mut addresses = Vec::new();
    let mut complete = true;
    for seed in seeds {
        match tokio::net::lookup_host(with_port(seed, default_port)).await {
            Ok(found) => addresses.extend(found),
            Err(error) => {
                tracing::warn!(seed, %error, "the seed cannot be resolved; trying again");
                complete = false;
            }
        }
    }
    (addresses, complete)
}

fn with_port(seed: &str, default_port: u16) -> String {
    let bare_v6 = seed.parse::<std::net::Ipv6Addr>().is_ok();
    if bare_v6 {
        return format!("[{seed}]:{default_port}");
    }
    let has_port = seed.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { seed.to_owned() } else { format!("{seed}:{default_port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_get_the_exchange_port_unless_they_name_one() {
        for (seed, expected) in [
            ("192.0.2.1", "192.0.2.1:52448"),
            ("192.0.2.1:7", "192.0.2.1:7"),
            ("host.example", "host.example:52448"),
            ("2001:db8::1", "[2001:db8::1]:52448"),
            ("[2001:db8::1]", "[2001:db8::1]:52448"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
        ] {
            assert_eq!(with_port(seed, 52448), expected, "{seed}");
        }
    }
}
