//! New connections, again and again, while something happens to who answers them.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use knit_runtime::clock;

use super::Cluster;
use super::api::enter;

/// Clients at once.
const CLIENTS: u32 = 16;
/// A request that takes longer has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Failures that are kept to be shown.
const SHOWN_MAX: usize = 20;

/// A running load. It ends when it is dropped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    start: Instant,
    clients: Vec<JoinHandle<Tally>>,
}

/// What became of the requests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) slowest: Duration,
    pub(crate) took: Duration,
    /// The first failures, each with when and why.
    pub(crate) shown: Vec<String>,
}

impl Load {
    /// Starts to open `rate` connections a second from one host to a port of another's mesh
    /// address. Each asks for the page and must be answered with 200.
    pub(crate) fn start(cluster: &Cluster, from: u8, of: u8, port: u16, rate: u32) -> Self {
        let address: IpAddr = cluster.mesh_ip(of).parse().unwrap();
        Self::from(&cluster.netns(from), SocketAddr::new(address, port), rate)
    }

    /// As [`Load::start`], from a network namespace to an address.
    pub(crate) fn from(netns: &str, address: SocketAddr, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = Instant::now();
        let pause = Duration::from_secs(1) * CLIENTS / rate;
        let clients = (0..CLIENTS)
            .map(|client| {
                let (stop, netns) = (stop.clone(), netns.to_owned());
                let first = start + pause * client / CLIENTS;
                thread::spawn(enter(netns, move || run(address, start, first, pause, &stop)))
            })
            .collect();
        Self { stop, start, clients }
    }

    /// Ends it.
    pub(crate) fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Tally { took: self.start.elapsed(), ..Tally::default() };
        for client in std::mem::take(&mut self.clients) {
            let one = client.join().unwrap();
            sum.requests += one.requests;
            sum.failed += one.failed;
            sum.slowest = sum.slowest.max(one.slowest);
            sum.shown.extend(one.shown);
        }
        sum.shown.truncate(SHOWN_MAX);
        sum
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Tally {
    /// Requests a second.
    pub(crate) fn rate(&self) -> u64 {
        self.requests * 1000 / u64::try_from(self.took.as_millis()).unwrap().max(1)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests in {:.1} s, {} a second, {} failed, the slowest took {} ms",
            self.requests,
            self.took.as_secs_f64(),
            self.rate(),
            self.failed,
            self.slowest.as_millis()
        )?;
        self.shown.iter().try_for_each(|failure| write!(f, "\n  {failure}"))
    }
}

/// One client: a request every `pause`, and those that it is late with at once.
fn run(
    address: SocketAddr,
    start: Instant,
    first: Instant,
    pause: Duration,
    stop: &AtomicBool,
) -> Tally {
    let mut tally = Tally::default();
    let mut next = first;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        next += pause;
        let begin = Instant::now();
        tally.requests += 1;
        if let Err(problem) = request(address) {
            tally.failed += 1;
            if tally.shown.len() < SHOWN_MAX {
                let at = begin.duration_since(start).as_secs_f64();
                tally.shown.push(format!("at {at:.3} s, until {}: {problem}", time_of_day()));
            }
        }
        tally.slowest = tally.slowest.max(begin.elapsed());
    }
    tally
}

/// As the programs' logs tell it.
fn time_of_day() -> String {
    let millis = clock::now().as_millis() % 86_400_000;
    let (minutes, millis) = (millis / 60_000, millis % 60_000);
    format!("{:02}:{:02}:{:02}.{:03}", minutes / 60, minutes % 60, millis / 1000, millis % 1000)
}

fn request(address: SocketAddr) -> Result<(), String> {
    let step = |step: &'static str| move |error| format!("{step}: {error}");
    let mut stream =
        TcpStream::connect_timeout(&address, REQUEST_TIMEOUT).map_err(step("connect"))?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT)).map_err(step("set up"))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(step("write"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(step("read"))?;
    if answer.starts_with("HTTP/1.0 200 ") { Ok(()) } else { Err(format!("answer: {answer:?}")) }
}
