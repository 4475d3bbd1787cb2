//! A web server of a test's own, under load: nginx with one worker and clients that ask for a page again and again; all of it ended with the value.

use crate::run::Folder;
use crate::waiting;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Where Debian installs it.
pub const PROGRAM: &str = "/usr/sbin/nginx";

/// A server and its clients.
#[derive(Debug)]
pub struct Nginx {
    server: Child,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<()>>>,
    _folder: Folder,
}

impl Nginx {
    /// Starts one and so many clients. The page is packed for each of them, so the worker hardly ever waits.
    ///
    /// # Errors
    /// It does not start.
    pub fn under_load(clients: usize) -> Result<Self> {
        let folder = Folder::create()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        fs::write(folder.join("page"), "x".repeat(1000))?;
        let at = folder.path().display();
        let config = format!(
            "daemon off; user root; worker_processes 1; pid {at}/pid; error_log {at}/error;
            events {{ worker_connections 256; }}
            http {{ access_log off; keepalive_requests 100000; server {{ listen 127.0.0.1:{port}; root {at}; gzip on; gzip_min_length 1; gzip_types *; }} }}"
        );
        fs::write(folder.join("config"), config)?;
        let server = Command::new(PROGRAM).arg("-p").arg(folder.path()).arg("-c").arg(folder.join("config")).spawn()?;
        let mut nginx = Self { server, stop: Arc::default(), clients: Vec::new(), _folder: folder };
        waiting::until("nginx to listen", || Ok(TcpStream::connect(("127.0.0.1", port)).ok()))?;
        for _ in 0..clients {
            let stop = Arc::clone(&nginx.stop);
            nginx.clients.push(std::thread::spawn(move || ask(port, &stop)));
        }
        Ok(nginx)
    }

    /// The process that answers.
    ///
    /// # Errors
    /// There is none, for long.
    pub fn worker(&self) -> Result<u32> {
        let pid = self.server.id();
        waiting::until("a child of the server", || {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
            let found = children.split_whitespace().find(|child| {
                let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains("worker")
            });
            Ok(found.and_then(|child| child.parse().ok()))
        })
    }

    /// Ends the load.
    ///
    /// # Errors
    /// A client could not ask.
    pub fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().ok().context("a client panicked")??;
        }
        ensure!(self.server.try_wait()?.is_none(), "the server has ended by itself");
        Ok(())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = Command::new("kill").arg(self.server.id().to_string()).status();
        let _ = waiting::for_end("a server", &mut self.server);
    }
}

/// Asks for a page, again and again.
fn ask(port: u16, stop: &AtomicBool) -> Result<()> {
    let mut answer = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        for _ in 0..1000 {
            stream.write_all(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
            if stop.load(Ordering::Relaxed) || stream.read(&mut answer)? == 0 {
                break;
            }
        }
    }
    Ok(())
}
