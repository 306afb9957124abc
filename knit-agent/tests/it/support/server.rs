//! A server that registers nodes and answers reports, scripted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use knit_link::bus::{Bus, MemoryBus};
use knit_rpc::api::{
    Ping, PullCredentials, PullRequest, PullResponse, RegisterRequest, RegisterResponse,
};
use knit_rpc::id::{ClusterId, InstanceId, NodeId};
use knit_rpc::message::{
    AssignedInstance, Generation, Heartbeat, InstanceReport, InstanceStatus, NodeAssignment,
    ReportStored,
};
use knit_rpc::signed::{self, Context};
use knit_rpc::spec::InstanceSpec;
use knit_rpc::subject;
use nkeys::KeyPair;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Shared by its clones.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) bus: MemoryBus,
    pub(crate) cluster: ClusterId,
    key: Arc<KeyPair>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) registrations: Vec<RegisterRequest>,
    pub(crate) beats: Vec<(usize, Heartbeat)>,
    pub(crate) reports: Vec<InstanceReport>,
    /// What the server would believe of the node now.
    pub(crate) instances: BTreeMap<InstanceId, InstanceStatus>,
    /// How often it was asked who it is.
    pub(crate) pings: usize,
    pub(crate) deaf: bool,
    /// It stores reports, and its answers are lost.
    pub(crate) mute: bool,
    /// What it was asked for before pulls.
    pub(crate) pulls: Vec<PullRequest>,
    /// What it has for every pull.
    pub(crate) credentials: Option<Result<PullCredentials, String>>,
    /// The node was removed: it is not let in, and gets this as its last assignment.
    pub(crate) farewell: Option<Vec<u8>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            bus: MemoryBus::new(),
            cluster: ClusterId::from_bytes([0xc1; 16]),
            key: Arc::new(KeyPair::new_server()),
            seen: Arc::default(),
        };
        tokio::spawn(server.clone().serve(listener));
        let reports = server.bus.subscribe(subject::ALL_STATUS).await.unwrap();
        let beats = server.bus.subscribe(subject::ALL_HEARTBEATS).await.unwrap();
        tokio::spawn(server.clone().take_reports(reports));
        tokio::spawn(server.clone().take_beats(beats));
        server
    }

    pub(crate) fn key(&self) -> String {
        self.key.public_key()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap())
    }

    /// Signs and sends what `node` should run.
    pub(crate) async fn assign(
        &self,
        node: &NodeId,
        counter: u64,
        instances: &[(AssignedInstance, InstanceSpec)],
    ) {
        let message = self.assignment(node, counter, instances);
        self.bus.put(&subject::tasks(node), message).await.unwrap();
    }

    /// The same, with whatever else an assignment says.
    pub(crate) async fn assign_with(
        &self,
        node: &NodeId,
        counter: u64,
        instances: &[(AssignedInstance, InstanceSpec)],
        change: impl FnOnce(&mut NodeAssignment),
    ) {
        let mut assignment = self.unsigned(node, counter, instances);
        change(&mut assignment);
        let message = signed::sign(&self.key, Context::Assignment, &assignment).unwrap();
        self.bus.put(&subject::tasks(node), message).await.unwrap();
    }

    pub(crate) fn assignment(
        &self,
        node: &NodeId,
        counter: u64,
        instances: &[(AssignedInstance, InstanceSpec)],
    ) -> Vec<u8> {
        let assignment = self.unsigned(node, counter, instances);
        signed::sign(&self.key, Context::Assignment, &assignment).unwrap()
    }

    fn unsigned(
        &self,
        node: &NodeId,
        counter: u64,
        instances: &[(AssignedInstance, InstanceSpec)],
    ) -> NodeAssignment {
        NodeAssignment {
            cluster: self.cluster.clone(),
            node: node.clone(),
            generation: Generation { epoch: 1, counter },
            specs: instances.iter().map(|(_, spec)| (spec.hash(), spec.clone())).collect(),
            instances: instances.iter().map(|(assigned, _)| assigned.clone()).collect(),
            policies: std::collections::BTreeMap::new(),
            networks: Vec::new(),
            remove_volumes: std::collections::BTreeSet::new(),
            keep_images: std::collections::BTreeSet::new(),
            secrets: Vec::new(),
        }
    }

    async fn take_reports(
        self,
        mut messages: tokio::sync::mpsc::Receiver<knit_link::bus::Message>,
    ) {
        while let Some(message) = messages.recv().await {
            let report: InstanceReport = serde_json::from_slice(&message.payload).unwrap();
            let answer = serde_json::to_vec(&ReportStored { sequence: report.sequence }).unwrap();
            let answers = self.seen(|seen| {
                if !seen.deaf {
                    seen.take(report);
                }
                !seen.deaf && !seen.mute
            });
            if answers {
                self.bus.publish(&message.reply.unwrap(), answer).await.unwrap();
            }
        }
    }

    async fn take_beats(self, mut messages: tokio::sync::mpsc::Receiver<knit_link::bus::Message>) {
        while let Some(message) = messages.recv().await {
            let beat = serde_json::from_slice(&message.payload).unwrap();
            self.seen(|seen| seen.beats.push((message.payload.len(), beat)));
        }
    }

    async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(self.clone().answer(stream));
        }
    }

    async fn answer(self, mut stream: TcpStream) -> Option<()> {
        let (path, body) = read_request(&mut stream).await?;
        if path == "/v1/ping" {
            self.seen(|seen| seen.pings += 1);
        }
        let farewell = self.seen(|seen| seen.farewell.clone());
        let mut status = "200 OK";
        let answer = match path.as_str() {
            "/v1/nodes/register" if farewell.is_some() => {
                status = "403 Forbidden";
                br#"{"code":"refused","message":"it was removed","request_id":"1"}"#.to_vec()
            }
            "/v1/nodes/farewell" => farewell?,
            "/v1/nodes/pull" => {
                let pulled = self.pulled(&body);
                if pulled.is_none() {
                    status = "404 Not Found";
                }
                pulled.unwrap_or_else(|| {
                    br#"{"code":"not-found","message":"no such path","request_id":"1"}"#.to_vec()
                })
            }
            "/v1/ping" => serde_json::to_vec(&Ping {
                service: "knit-server".to_owned(),
                version: "test".to_owned(),
                cluster: self.cluster.clone(),
                server_key: self.key.public_key(),
            })
            .ok()?,
            "/v1/nodes/register" => self.register(&body),
            other => panic!("asked for {other}"),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            answer.len()
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(&answer).await.ok()
    }

    /// What it has for a pull; a server without any is one that knows nothing of registries.
    fn pulled(&self, body: &[u8]) -> Option<Vec<u8>> {
        let request: PullRequest = signed::peek(body).unwrap();
        let (credentials, refusal) = self.seen(|seen| {
            let key = seen.registrations.last()?.sealing_key.clone()?;
            seen.pulls.push(request.clone());
            match seen.credentials.clone()? {
                Ok(credentials) => {
                    let plain = serde_json::to_vec(&credentials).unwrap();
                    Some((Some(key.seal(&request.purpose(), &plain).unwrap()), None))
                }
                Err(refusal) => Some((None, Some(refusal))),
            }
        })?;
        let response = PullResponse { nonce: request.nonce, credentials, refusal };
        Some(signed::sign(&self.key, Context::Pulled, &response).unwrap())
    }

    fn register(&self, body: &[u8]) -> Vec<u8> {
        let unproven: RegisterRequest = signed::peek(body).unwrap();
        let request: RegisterRequest =
            signed::verify(&unproven.nkey, Context::Register, body).unwrap();
        let response = RegisterResponse {
            cluster: self.cluster.clone(),
            node: request.node.clone(),
            nonce: request.nonce.clone(),
            server_key: self.key.public_key(),
            nats_url: "nats://unused".to_owned(),
            nats_ca: None,
            user_jwt: "unused".to_owned(),
            expires: request.at.plus(Duration::from_hours(1)),
            subnet: "10.208.7.0/24".parse().unwrap(),
            adopt: false,
        };
        self.seen(|seen| seen.registrations.push(request));
        signed::sign(&self.key, Context::Registered, &response).unwrap()
    }
}

impl Seen {
    fn take(&mut self, report: InstanceReport) {
        if report.full {
            self.instances.clear();
        }
        for id in &report.removed {
            self.instances.remove(id);
        }
        for instance in &report.instances {
            self.instances.insert(instance.id.clone(), instance.clone());
        }
        self.reports.push(report);
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).ok()?.to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.unwrap_or("0").parse().ok()?;
            while bytes.len() < end + 4 + length {
                stream.read_buf(&mut bytes).await.ok().filter(|read| *read > 0)?;
            }
            let path = head.split(' ').nth(1)?.to_owned();
            return Some((path, bytes[end + 4..].to_vec()));
        }
        stream.read_buf(&mut bytes).await.ok().filter(|read| *read > 0)?;
    }
}
