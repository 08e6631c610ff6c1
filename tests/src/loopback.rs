//! A server on this machine, for the time of a test: each connection has a thread of its own.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// It ends with this.
pub(crate) struct Loopback {
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
    ended: Arc<AtomicBool>,
}

impl Loopback {
    /// Serve with what speaks to one connection.
    pub(crate) fn serve(speak: impl Fn(&TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a port");
        let host = listener.local_addr().expect("ask for the port").to_string();
        let ended = Arc::new(AtomicBool::new(false));
        let (end, speak) = (Arc::clone(&ended), Arc::new(speak));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let speak = Arc::clone(&speak);
                std::thread::spawn(move || {
                    speak(&stream);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { host, ended }
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.host);
    }
}
