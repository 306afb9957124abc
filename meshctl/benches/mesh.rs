//! What a mesh costs and how soon it stands: `packaging/bench-mesh`, or
//! `cargo bench -p meshctl --bench mesh` as root.
//!
//! Real daemons on network namespaces; the crowd of the last part is simulated, see [`crowd`].

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

#[path = "mesh/crowd.rs"]
mod crowd;
#[path = "../tests/it/support.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod support;

use std::process::Stdio;
use std::time::{Duration, Instant};

use support::{Daemon, Lan, eventually};

const STARTS: usize = 8;
const CROWD: u8 = 200;
const SETTLE: Duration = Duration::from_secs(20);
const WATCH: Duration = Duration::from_mins(1);

fn main() {
    assert!(nix::unistd::geteuid().is_root(), "this makes network namespaces: run it as root");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Cargo adds a flag of its own.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let runs = |part: &str| wanted.is_empty() || wanted.iter().any(|name| name == part);
    runtime.block_on(async {
        if runs("starts") {
            joins().await;
            restarts().await;
            deaths().await;
        }
        if runs("crowd") {
            crowd().await;
        }
    });
}

/// Two hosts that know nothing of each other, until one reaches the other.
async fn joins() {
    let mut took = Vec::new();
    for _ in 0..STARTS {
        let lan = Lan::new(2);
        let one = lan.join(1, &[]);
        let to = one.mesh_ip().await;
        let start = Instant::now();
        let _two = lan.join(2, &[]);
        took.push(until_ping(&lan, 2, &to, start));
    }
    report("join to first ping on a LAN", &mut took, Duration::from_millis(500));
}

async fn restarts() {
    let lan = Lan::new(2);
    let (mut one, two) = (lan.join(1, &[]), lan.join(2, &[]));
    let (ip, other) = (one.mesh_ip().await, two.mesh_ip().await);
    eventually("the mesh stands", || lan.pings(1, &other).then_some(()));
    let mut took = Vec::new();
    for _ in 0..STARTS {
        one.kill();
        let start = Instant::now();
        one = lan.join(1, &[]);
        took.push(until_ping(&lan, 2, &ip, start));
    }
    report("kill -9 and start to first ping", &mut took, Duration::from_millis(500));
}

async fn deaths() {
    let mut took = Vec::new();
    let lan = Lan::new(2);
    let one = lan.join(1, &[]);
    for _ in 0..STARTS / 2 {
        let two = lan.join(2, &[]);
        let other = two.mesh_ip().await;
        eventually("the mesh stands", || lan.pings(1, &other).then_some(()));
        let mut watch = one.client.watch().await.unwrap();
        while watch.next().await.unwrap().unheard != Some(Vec::new()) {}
        two.kill();
        let died = Instant::now();
        while watch.next().await.unwrap().unheard == Some(Vec::new()) {}
        took.push(died.elapsed());
    }
    report("a killed peer is seen to be gone", &mut took, Duration::from_secs(5));
}

/// One real daemon among many peers that have nothing to say.
async fn crowd() {
    let lan = Lan::new(2);
    let one = lan.join(1, &["--engine", "userspace"]);
    let mesh_ip = one.mesh_ip().await;
    let key = one.client.status().await.unwrap().pubkey;
    let idle = Usage::of(&one);
    let _crowd = crowd::Crowd::start(&lan, 2, CROWD, &key, &mesh_ip);
    let all = usize::from(CROWD);
    let start = Instant::now();
    while one.client.peers().await.unwrap().iter().filter(|peer| peer.latency_ms.is_some()).count()
        < all
    {
        assert!(start.elapsed() < Duration::from_mins(1), "not all peers answer: {}", one.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{CROWD} peers stand after {:.1} s", start.elapsed().as_secs_f64());
    tokio::time::sleep(SETTLE).await;
    let before = Usage::of(&one);
    tokio::time::sleep(WATCH).await;
    let after = Usage::of(&one);
    let percent = after.cpu.saturating_sub(before.cpu).as_secs_f64() / WATCH.as_secs_f64() * 100.0;
    println!(
        "{CROWD} idle peers: {percent:.2} % of a core (goal 2), {:.1} MB resident (goal 40; {:.1} MB alone)",
        after.resident_mb(),
        idle.resident_mb(),
    );
    let unheard = one.client.status().await.unwrap().unheard;
    assert_eq!(unheard, Some(Vec::new()), "all of them answer");
}

struct Usage {
    cpu: Duration,
    resident_kib: u32,
}

impl Usage {
    fn of(daemon: &Daemon) -> Self {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{}/{file}", daemon.child.id())).unwrap()
        };
        let stat = read("stat");
        // utime and stime, the 14th and 15th field, in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        let status = read("status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident = resident.trim().trim_end_matches(" kB").trim();
        Self { cpu: Duration::from_millis(ticks * 10), resident_kib: resident.parse().unwrap() }
    }

    fn resident_mb(&self) -> f64 {
        f64::from(self.resident_kib) / 1024.0
    }
}

fn until_ping(lan: &Lan, host: u8, to: &str, start: Instant) -> Duration {
    let ping = || {
        let mut ping = lan.command(host, "ping");
        let ping = ping.args(["-n", "-c", "1", "-W", "0.02", to]).stdout(Stdio::null());
        ping.stderr(Stdio::null()).status().unwrap().success()
    };
    while !ping() {
        assert!(start.elapsed() < Duration::from_secs(20), "no ping from host {host} to {to}");
    }
    start.elapsed()
}

fn report(what: &str, took: &mut [Duration], goal: Duration) {
    took.sort_unstable();
    let ms = |took: &Duration| took.as_millis();
    println!(
        "{what}: median {} ms of {} (goal {}), from {} to {}",
        ms(&took[took.len() / 2]),
        took.len(),
        ms(&goal),
        ms(&took[0]),
        ms(&took[took.len() - 1]),
    );
}
