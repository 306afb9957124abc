//! A web server that answers a thousand new connections a second without a process for each: what
//! containers of the load tests run. It shows `/www/index.html`, whatever it is asked for.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const PORT: u16 = 80;
const THREADS: usize = 4;

fn main() {
    let page = std::fs::read("/www/index.html").unwrap_or_default();
    let listener = TcpListener::bind(("0.0.0.0", PORT)).expect("port 80 is free");
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for stream in listener.incoming().flatten() {
                    // A client that went away is no reason to end.
                    let _ = answer(stream, &page);
                }
            });
        }
    });
}

fn answer(mut stream: TcpStream, page: &[u8]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut part)? {
            0 => return Ok(()),
            read => request.extend_from_slice(&part[..read]),
        }
    }
    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", page.len());
    stream.write_all(&[head.as_bytes(), page].concat())
}
