//! An address that a server can be behind, and not be behind.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

/// Forwards connections to a server until it is dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Relay {
    /// A local address at which nobody listens yet.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn free_address() -> Result<SocketAddr> {
        Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
    }

    /// Listens at `address` for `server`.
    ///
    /// # Errors
    /// Somebody else has the address by now.
    pub(crate) fn open(address: SocketAddr, server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| address.to_string())?;
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let accepting = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if told.load(Ordering::Acquire) {
                    return;
                }
                // A server that is away is a connection that ends at once.
                if let Ok(server) = TcpStream::connect(server) {
                    let _refused = join(&client, &server);
                }
            }
        });
        Ok(Self { address, is_over, accepting: Some(accepting) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // Wakes the thread that waits for a client.
        if TcpStream::connect(self.address).is_ok()
            && let Some(accepting) = self.accepting.take()
        {
            let _panicked = accepting.join();
        }
    }
}

/// Copies in both directions until each has ended.
fn join(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    for (mut from, mut to) in
        [(client.try_clone()?, server.try_clone()?), (server.try_clone()?, client.try_clone()?)]
    {
        thread::spawn(move || {
            let _broken = io::copy(&mut from, &mut to);
            let _gone = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}
