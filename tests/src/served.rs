//! A server that nobody here wrote, with a leak that nobody here put in: `serve` 14.2.7 (npm) opens the file before it looks whether the client has it
//! already, and forgets it when it answers 304 (vercel/serve-handler, issue 235).

use crate::manifest::root;
use crate::run::Folder;
use crate::waiting;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// What it serves.
const PAGE: &str = "page.txt";

/// The program, which `npm ci` in its folder installs.
pub fn program() -> PathBuf {
    root().join("tests/served/node_modules/serve/build/main.js")
}

/// A server; ended with the value.
#[derive(Debug)]
pub struct Served {
    server: Child,
    port: u16,
    folder: Folder,
}

impl Served {
    /// Starts one on a port of its own.
    ///
    /// # Errors
    /// It does not start.
    pub fn start() -> Result<Self> {
        let folder = Folder::create()?;
        fs::write(folder.join(PAGE), "x".repeat(1000))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("node");
        command.arg(program()).args(["--no-clipboard", "--no-request-logging", "--listen", &format!("tcp://127.0.0.1:{port}")]);
        // It would ask the network whether there is a newer one.
        command.arg(folder.path()).env("NO_UPDATE_CHECK", "1").stdin(Stdio::null()).stdout(Stdio::null());
        let served = Self { server: command.spawn().context("starting node")?, port, folder };
        waiting::until("serve to listen", || Ok(TcpStream::connect(("127.0.0.1", port)).ok()))?;
        Ok(served)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Asks for the page, as one who may have it already; gives the mark that it has, and whether it came.
    ///
    /// # Errors
    /// The server answers something else.
    pub fn ask(&self, mark: Option<&str>) -> Result<(String, bool)> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
        let condition = mark.map(|mark| format!("If-None-Match: {mark}\r\n")).unwrap_or_default();
        write!(connection, "GET /{PAGE} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{condition}\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let has_come = answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('x');
        ensure!(has_come || (mark.is_some() && answer.starts_with("HTTP/1.1 304 ")), "{answer}");
        let mark = answer.lines().find_map(|line| line.strip_prefix("ETag: ")).or(mark).context("no ETag")?;
        Ok((mark.to_owned(), has_come))
    }

    /// How many descriptors it has of the page.
    ///
    /// # Errors
    /// It is gone.
    pub fn open(&self) -> Result<usize> {
        let page = self.folder.join(PAGE);
        let links = fs::read_dir(format!("/proc/{}/fd", self.pid()))?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        Ok(links.filter(|link| *link == page).count())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
