//! A proxy that is asked to CONNECT (RFC 9110, section 9.3.6). Whatever name it is asked for it leads to one address,
//! so that a test needs no names.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use crate::loopback::Loopback;

/// The proxy.
pub struct Proxy {
    /// `127.0.0.1:PORT`.
    pub host: String,
    asked: Arc<Mutex<Vec<String>>>,
    _server: Loopback,
}

impl Proxy {
    /// One that leads to `target`.
    pub fn to(target: &str) -> Self {
        let target = target.to_owned();
        Self::start(move |from| through(from, &target))
    }

    /// One that answers with a status and leads nowhere.
    pub fn refusing(status: u16) -> Self {
        Self::start(move |mut from| write!(from, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"))
    }

    fn start(answer: impl Fn(&TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let server = Loopback::serve(move |stream| {
            log.lock().expect("the log").push(head(stream));
            let _ = answer(stream);
        });
        Self { host: server.host.clone(), asked, _server: server }
    }

    /// The heads of the requests so far, a line of each after the other.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("the log").clone()
    }
}

/// The lines until the empty one. Who asks waits for the answer, so nothing of what follows is read with them.
fn head(stream: &TcpStream) -> String {
    let mut out = String::new();
    let mut input = BufReader::new(stream);
    while !out.ends_with("\r\n\r\n") && input.read_line(&mut out).is_ok_and(|n| n > 0) {}
    out
}

/// Bytes both ways, until both sides have ended.
fn through(mut from: &TcpStream, target: &str) -> std::io::Result<()> {
    let to = TcpStream::connect(target)?;
    from.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::copy(&mut &*from, &mut &to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let _ = std::io::copy(&mut &to, &mut from);
        let _ = from.shutdown(Shutdown::Write);
    });
    Ok(())
}
