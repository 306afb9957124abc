//! How fast a host runs what it is told to, beside its Docker driven directly:
//! `packaging/bench`, or `cargo bench -p knit-cli --bench host` as root.
//!
//! ```text
//! this program ──> knit dev --nodes 1 ──exec──> this program again, inside the node
//!                                                 ├─> Docker's API   (the measure)
//!                                                 └─> Knit's API     (what is measured)
//! ```
//!
//! Both make containers of one image on one network of one Docker, in turns. What is removed in
//! between is not counted.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

#[path = "host/docker.rs"]
mod docker;
#[path = "host/figures.rs"]
mod figures;
#[path = "host/knit.rs"]
mod knit;

use std::process::Command;
use std::time::{Duration, Instant};

use docker::Docker;
use figures::{Figures, median, percentile};
use knit::Knit;
use knit_runtime::child::{Child, ChildSpec};
use nix::sys::signal::Signal;

const KNIT: &str = env!("CARGO_BIN_EXE_knit");
/// Set for the run inside the node.
const INSIDE: &str = "KNIT_BENCH_INSIDE";
const START_MAX: Duration = Duration::from_mins(2);
const SINGLE_RUNS: usize = 20;
const MANY_RUNS: usize = 3;
const MANY: [u32; 2] = [50, 100];
/// What Docker is driven with, where it is driven at its best.
const WORKERS: usize = 8;
const ROLLOUT_REPLICAS: u32 = 10;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if std::env::var_os(INSIDE).is_some() {
        runtime.block_on(inside());
    } else {
        assert!(nix::unistd::geteuid().is_root(), "this makes a host: run it as root");
        runtime.block_on(outside());
    }
}

/// Starts a cluster of one node and runs this program in it.
async fn outside() {
    let instance = format!("bench{}", std::process::id());
    let spec = ChildSpec::new("knit dev", KNIT)
        .args(["dev", "--instance", &instance, "--nodes", "1"])
        .own_group()
        .death_signal(Signal::SIGTERM);
    let dev = Child::spawn(spec).await.unwrap();
    let state = format!("/run/knit-dev-{instance}/state.json");
    let started = Instant::now();
    loop {
        assert!(dev.exit().is_none(), "knit dev died:\n{}", dev.last_lines().join("\n"));
        assert!(started.elapsed() < START_MAX, "knit dev does not get ready");
        let text = std::fs::read(&state).unwrap_or_default();
        let state: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        if state["stage"] == "ready" && state["dev"]["pid"] == dev.pid() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let program = std::env::current_exe().unwrap();
    let status = Command::new(KNIT)
        .args(["dev", "--instance", &instance, "exec", "1", "--"])
        .arg(program)
        .args(std::env::args().skip(1))
        .env(INSIDE, "1")
        .status()
        .unwrap();
    dev.signal(Signal::SIGTERM).await;
    dev.wait().await;
    assert!(status.success(), "{status}");
}

async fn inside() {
    let docker = Docker::of_this_node();
    Docker::import_image();
    let knit = Knit::of_this_node();
    let mut figures = Figures::default();
    // The first of each makes what the others find.
    docker.run_and_remove("warm").await;
    knit.run_and_remove("warm", 1, &docker).await;
    if is_chosen("single") {
        single(&docker, &knit, &mut figures).await;
    }
    if is_chosen("many") {
        for replicas in MANY {
            many(&docker, &knit, replicas, &mut figures).await;
        }
    }
    if is_chosen("rollout") {
        rollout(&docker, &knit, &mut figures).await;
    }
    figures.print();
}

/// All parts are, when none is named.
fn is_chosen(part: &str) -> bool {
    // cargo adds a flag of its own.
    let mut named =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    named.peek().is_none() || named.any(|name| name == part)
}

/// Each run, for those who want to know how far they lie apart.
fn say(part: &str, engine: &[Duration], ours: &[Duration]) {
    let list = |times: &[Duration]| {
        let millis = times.iter().map(|time| time.as_millis().to_string());
        millis.collect::<Vec<_>>().join(" ")
    };
    println!("{part}: Docker {} ms; Knit {} ms", list(engine), list(ours));
}

/// One container, by turns.
async fn single(docker: &Docker, knit: &Knit, figures: &mut Figures) {
    let (mut engine, mut ours, mut creates) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..SINGLE_RUNS {
        engine.push(docker.run_and_remove(&format!("one-{run}")).await);
        let (took, to_create) = knit.run_and_remove(&format!("one-{run}"), 1, docker).await;
        ours.push(took);
        creates.extend(to_create);
    }
    say("single", &engine, &ours);
    let measure = figures.measure("create + start", median(&engine));
    figures.compare("accept -> running, 1 replica", median(&ours), measure, Some(1.25));
    figures.tell("  slowest of 20", percentile(&ours, 100));
    figures.tell("accept -> Docker's create call, median", median(&creates));
    figures.limit("  slowest of 20", percentile(&creates, 100), Duration::from_millis(50));
}

/// Many containers, by turns.
async fn many(docker: &Docker, knit: &Knit, replicas: u32, figures: &mut Figures) {
    let (mut engine, mut ours) = (Vec::new(), Vec::new());
    for run in 0..MANY_RUNS {
        engine.push(docker.run_many(&format!("many-{run}"), replicas, WORKERS).await);
        ours.push(knit.run_and_remove(&format!("many-{run}"), replicas, docker).await.0);
    }
    say(&format!("many {replicas}"), &engine, &ours);
    let what = format!("{replicas} x create + start, {WORKERS} at a time");
    let measure = figures.measure(&what, median(&engine));
    let what = format!("accept -> running, {replicas} replicas");
    figures.compare(&what, median(&ours), measure, Some(1.05));
}

/// One instance after the other.
async fn rollout(docker: &Docker, knit: &Knit, figures: &mut Figures) {
    let (mut engine, mut ours) = (Vec::new(), Vec::new());
    for run in 0..MANY_RUNS {
        engine.push(docker.run_many(&format!("row-{run}"), ROLLOUT_REPLICAS, 1).await);
        ours.push(knit.roll(&format!("roll-{run}"), ROLLOUT_REPLICAS, docker).await);
    }
    say("rollout", &engine, &ours);
    let measure = figures.measure("10 x create + start, one by one", median(&engine));
    figures.compare("rollout of 10, one by one", median(&ours), measure, Some(1.5));
}
