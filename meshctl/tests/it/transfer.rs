//! What goes through the userspace tunnel arrives as it was sent, in bulk and one by one.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::support::{Lan, eventually};

const BULK: &[&str] = &["--engine", "userspace"];
const SINGLE: &[&str] = &["--engine", "userspace", "--no-offload"];
/// Many times what the kernel hands over at once.
const STREAM_BYTES: usize = 12 << 20;
/// The mesh's MTU less the IPv4 and UDP headers.
const DATAGRAM_MAX: usize = 1420 - 28;
const PATIENCE: Duration = Duration::from_secs(20);

/// The second host changes its way with each start, on the device that the last one left.
#[tokio::test(flavor = "multi_thread")]
async fn streams_and_datagrams_arrive_whole_in_bulk_and_one_by_one() {
    let lan = Lan::new(2);
    let one = lan.join(1, BULK);
    let a = one.mesh_ip().await;
    let mut addresses = Vec::new();
    for flags in [SINGLE, BULK, SINGLE] {
        let two = lan.join(2, flags);
        let b = two.mesh_ip().await;
        eventually("a ping", || lan.pings(1, &b).then_some(()));
        assert_eq!((is_bulk(&lan, 1), is_bulk(&lan, 2)), (true, flags == BULK));
        stream(&lan, (1, &a), (2, &b));
        stream(&lan, (2, &b), (1, &a));
        let (a6, b6) = (ipv6(&lan, 1), ipv6(&lan, 2));
        eventually("an IPv6 ping", || lan.pings(1, &b6).then_some(()));
        stream(&lan, (1, &a6), (2, &b6));
        stream(&lan, (2, &b6), (1, &a6));
        datagrams(&lan, (1, &a), (2, &b));
        pings(&lan, &b);
        addresses.push(b);
        two.kill();
    }
    addresses.dedup();
    assert_eq!(addresses.len(), 1, "the device kept its address");
}

/// Datagrams in one piece are refused there, and must go as fragments.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_arrives_over_a_way_that_is_narrower_than_the_tunnel() {
    let lan = Lan::new(2);
    for host in [1, 2] {
        let mut ip = lan.command(host, "ip");
        assert!(ip.args(["link", "set", "eth0", "mtu", "1300"]).status().unwrap().success());
    }
    let (one, two) = (lan.join(1, BULK), lan.join(2, BULK));
    let (a, b) = (one.mesh_ip().await, two.mesh_ip().await);
    eventually("a ping", || lan.pings(1, &b).then_some(()));
    stream(&lan, (1, &a), (2, &b));
    pings(&lan, &b);
}

/// Whether packets of up to 64 KiB cross the device, as the kernel tells it.
fn is_bulk(lan: &Lan, host: u8) -> bool {
    let mut ip = lan.command(host, "ip");
    let output = ip.args(["-details", "link", "show", "dev", "wg0"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("persist on"), "{text}");
    text.contains("vnet_hdr on")
}

/// A host's mesh IPv6 address.
fn ipv6(lan: &Lan, host: u8) -> String {
    eventually("an IPv6 address", || {
        let mut ip = lan.command(host, "ip");
        let arguments = ["-brief", "-6", "address", "show", "dev", "wg0", "scope", "global"];
        let text = String::from_utf8(ip.args(arguments).output().unwrap().stdout).unwrap();
        Some(text.split_whitespace().nth(2)?.split_once('/')?.0.to_owned())
    })
}

/// Bytes that no two places share, and that no checksum confuses.
fn content() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..STREAM_BYTES / 8).flat_map(|_| next()).collect()
}

fn stream(lan: &Lan, (from, _): (u8, &str), (to, address): (u8, &str)) {
    let listener = lan.on_host(to, || TcpListener::bind((address, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    let sent = content();
    let received = std::thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut received = Vec::with_capacity(STREAM_BYTES);
            stream.read_to_end(&mut received).unwrap();
            received
        });
        let mut stream = lan.on_host(from, || TcpStream::connect((address, port)).unwrap());
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&sent).unwrap();
        drop(stream);
        receiving.join().unwrap()
    });
    assert_eq!(received.len(), sent.len());
    assert!(received == sent, "the stream from host {from} to host {to} was changed");
}

/// One of every length, and back again.
fn datagrams(lan: &Lan, (from, source): (u8, &str), (to, address): (u8, &str)) {
    let bind = |host: u8, ip: &str| {
        let socket = lan.on_host(host, || UdpSocket::bind((ip, 0)).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let (here, there) = (bind(from, source), bind(to, address));
    let target = there.local_addr().unwrap();
    let content = content();
    let mut buffer = vec![0; 2 * DATAGRAM_MAX];
    let lens: Vec<usize> = (1..=DATAGRAM_MAX).collect();
    // Some at a time: more than one, so that they are handled together, and no more than fit.
    for lens in lens.chunks(16) {
        for len in lens {
            here.send_to(&content[*len..2 * len], target).unwrap();
        }
        for len in lens {
            let (got, back) = there.recv_from(&mut buffer).unwrap();
            assert!(buffer[..got] == content[*len..2 * len], "{len} bytes came as {got}");
            there.send_to(&buffer[..got], back).unwrap();
        }
        for len in lens {
            let got = here.recv(&mut buffer).unwrap();
            assert!(buffer[..got] == content[*len..2 * len], "{len} bytes came back as {got}");
        }
    }
}

/// Whole packets, and those that the kernel splits before the tunnel.
fn pings(lan: &Lan, to: &str) {
    for size in ["0", "1", "1392", "1393", "9000", "60000"] {
        eventually("a ping of every size", || {
            let mut ping = lan.command(1, "ping");
            let output = ping.args(["-n", "-c", "1", "-W", "2", "-s", size, to]).output().unwrap();
            output.status.success().then_some(())
        });
    }
}
