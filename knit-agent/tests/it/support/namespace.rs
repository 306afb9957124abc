//! Network namespaces: one for the test, and neighbours on wires to it. They go with the
//! processes in them; nothing has a name that another run could meet.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};

/// Runs a test on a thread, and with it all processes it starts, in a namespace of its own.
pub(crate) fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("network namespaces need root");
        run("ip link set lo up");
        run("sysctl -qw net.ipv4.ip_forward=1");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command line in the test's namespace.
pub(crate) fn run(line: &str) -> String {
    output(line.split_whitespace())
}

fn output<'a>(mut words: impl Iterator<Item = &'a str>) -> String {
    let program = words.next().unwrap();
    let arguments: Vec<&str> = words.collect();
    let output = Command::new(program).args(&arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A host of its own on a wire to the test's.
pub(crate) struct Neighbour {
    process: Child,
}

impl Neighbour {
    /// `device` is the test's end of the wire; with a bridge it becomes a port of that bridge.
    pub(crate) fn new(device: &str, here: Option<&str>, there: &str, bridge: Option<&str>) -> Self {
        let process = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
        let neighbour = Self { process };
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let path = format!("/proc/{}/ns/net", neighbour.process.id());
        while std::fs::read_link(&path).map_or(true, |theirs| theirs == own) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let id = neighbour.process.id();
        run(&format!("ip link add {device} type veth peer name eth0 netns {id}"));
        if let Some(address) = here {
            run(&format!("ip addr add {address} dev {device}"));
        }
        if let Some(bridge) = bridge {
            run(&format!("ip link set {device} master {bridge}"));
        }
        run(&format!("ip link set {device} up"));
        neighbour.run("ip link set lo up");
        neighbour.run(&format!("ip addr add {there} dev eth0"));
        neighbour.run("ip link set eth0 up");
        neighbour
    }

    /// Runs a command line at the neighbour's.
    pub(crate) fn run(&self, line: &str) -> String {
        let id = self.process.id().to_string();
        output(["nsenter", "-t", &id, "-n"].into_iter().chain(line.split_whitespace()))
    }

    /// Runs `work` on a thread at the neighbour's.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let path = format!("/proc/{}/ns/net", self.process.id());
        std::thread::spawn(move || {
            let namespace = std::fs::File::open(path).unwrap();
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    /// Listens on port 80 and answers every connection with `name`.
    pub(crate) fn serve(&self, name: &'static str) {
        let (ready, listening) = std::sync::mpsc::channel();
        self.spawn(move || {
            let listener = TcpListener::bind("0.0.0.0:80").unwrap();
            ready.send(()).unwrap();
            while let Ok((stream, _)) = listener.accept() {
                let _ = answer(stream, name);
            }
        });
        listening.recv().unwrap();
    }

    /// What answers there, seen from here; none when nothing does.
    pub(crate) fn fetch(&self, to: (Ipv4Addr, u16)) -> Option<String> {
        self.spawn(move || fetch(to)).join().unwrap()
    }

    /// Connects as fast as it can until told to stop.
    pub(crate) fn load(&self, to: (Ipv4Addr, u16)) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..4).map(|_| {
            let stop = Arc::clone(&stop);
            self.spawn(move || {
                let mut answers = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    answers.push(fetch(to));
                }
                answers
            })
        });
        Load { threads: threads.collect(), stop }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) struct Load {
    threads: Vec<std::thread::JoinHandle<Vec<Option<String>>>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Every answer, in no order.
    pub(crate) fn stop(self) -> Vec<Option<String>> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

/// The body of what answers, from the namespace of the calling thread.
pub(crate) fn fetch((address, port): (Ipv4Addr, u16)) -> Option<String> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, port)), limit).ok()?;
    // What is connected is answered, however busy the machine is.
    stream.set_read_timeout(Some(5 * limit)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.contains("200 OK").then(|| body.trim().to_owned())
}

fn answer(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    let mut request = [0; 512];
    let _ = stream.read(&mut request)?;
    stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{name}").as_bytes())
}
