//! Asks STUN servers what address this host has to others, if the user names any.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use meshctl_core::stun::{StunAnswer, TRANSACTION_LEN, mapped_address, request};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

const ASK_EVERY: Duration = Duration::from_mins(1);
/// A round ends when all have answered, else after this long.
const ROUND_MAX: Duration = Duration::from_secs(3);
const REPEAT: Duration = Duration::from_millis(750);
const DATAGRAM_MAX_BYTES: usize = 1500;

/// One server of one round.
struct Asked<'a> {
    name: &'a str,
    address: SocketAddr,
    transaction: [u8; TRANSACTION_LEN],
}

/// Sends the answers of each round that had any.
pub(crate) fn ask_for_ever(servers: Vec<String>) -> mpsc::Receiver<Vec<StunAnswer>> {
    let (to, from) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut silent = BTreeSet::new();
        while !servers.is_empty() {
            let start = Instant::now();
            let answered = ask(&servers).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "STUN servers cannot be asked");
                Vec::new()
            });
            tell_of_silence(&servers, &answered, &mut silent);
            let answers: Vec<StunAnswer> = answered.into_iter().map(|(_, answer)| answer).collect();
            if !answers.is_empty() && to.send(answers).await.is_err() {
                return;
            }
            tokio::time::sleep_until(start + ASK_EVERY).await;
        }
        // No servers: keep the channel open so that its reader waits instead of spinning.
        to.closed().await;
    });
    from
}

/// Says once of each server that it does not answer, until it does.
fn tell_of_silence(
    servers: &[String],
    answered: &[(String, StunAnswer)],
    silent: &mut BTreeSet<String>,
) {
    for server in servers {
        if answered.iter().any(|(name, _)| name == server) {
            silent.remove(server);
        } else if silent.insert(server.clone()) {
            tracing::warn!(server, "the STUN server does not answer; asking it again each minute");
        }
    }
}

/// One round, from one socket: only so do the answers tell what kind of NAT there is.
async fn ask(servers: &[String]) -> io::Result<Vec<(String, StunAnswer)>> {
    let deadline = Instant::now() + ROUND_MAX;
    let mut asked = Vec::new();
    for name in servers {
        let looked_up = timeout_at(deadline, tokio::net::lookup_host(name)).await;
        let address = looked_up.ok().and_then(Result::ok);
        let Some(address) = address.and_then(|mut found| found.find(SocketAddr::is_ipv4)) else {
            continue;
        };
        let mut transaction = [0; TRANSACTION_LEN];
        getrandom::fill(&mut transaction).map_err(io::Error::other)?;
        asked.push(Asked { name, address, transaction });
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    let mut answered: Vec<(String, StunAnswer)> = Vec::new();
    while answered.len() < asked.len() && Instant::now() < deadline {
        for one in &asked {
            if !answered.iter().any(|(name, _)| name == one.name) {
                // A server that is not there shows by its silence.
                let _ = socket.send_to(&request(one.transaction), one.address).await;
            }
        }
        let until = deadline.min(Instant::now() + REPEAT);
        while answered.len() < asked.len() {
            let mut buffer = [0; DATAGRAM_MAX_BYTES];
            let received = match timeout_at(until, socket.recv_from(&mut buffer)).await {
                Err(_) => break,
                // An earlier request met a closed port.
                Ok(Err(_)) => continue,
                Ok(Ok(received)) => received,
            };
            let (len, from) = received;
            let answer = asked.iter().find_map(|one| {
                let mapped = mapped_address(&buffer[..len], one.transaction)?;
                let is_new = !answered.iter().any(|(name, _)| name == one.name);
                (one.address == from && is_new)
                    .then(|| (one.name.to_owned(), StunAnswer { server: from.ip(), mapped }))
            });
            answered.extend(answer);
        }
    }
    Ok(answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says `port` for the port that it really sees.
    async fn server(port: u16) -> (String, tokio::task::JoinHandle<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let name = socket.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 64];
            loop {
                let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
                assert_eq!(len, 20);
                let mut answer = vec![1, 1, 0, 12];
                answer.extend(&buffer[4..20]);
                answer.extend([0, 1, 0, 8, 0, 1]);
                answer.extend(port.to_be_bytes());
                answer.extend([203, 0, 113, 5]);
                socket.send_to(b"junk", from).await.unwrap();
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        (name, serving)
    }

    #[tokio::test]
    async fn those_that_answer_are_heard_although_another_is_silent() {
        let mute = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (one, _one) = server(4000).await;
        let (two, _two) = server(4001).await;
        let servers = [one, mute.local_addr().unwrap().to_string(), two];
        let answered = ask(&servers).await.unwrap();
        let mapped: Vec<_> = answered.iter().map(|(_, answer)| answer.mapped.to_string()).collect();
        assert_eq!(mapped.len(), 2, "{mapped:?}");
        assert!(mapped.contains(&"203.0.113.5:4000".to_owned()), "{mapped:?}");
        let mut silent = BTreeSet::new();
        tell_of_silence(&servers, &answered, &mut silent);
        assert_eq!(silent.into_iter().collect::<Vec<_>>(), [servers[1].clone()]);
    }
}
