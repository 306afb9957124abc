//! The bus on a real nats-server, the HTTP client on a real socket.

mod bus;
mod nats_server;
