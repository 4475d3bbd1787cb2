//! A PostgreSQL server of a test's own: in a folder and at a socket that nobody else has, ended with the value.

use crate::run::Folder;
use crate::waiting;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A server.
#[derive(Debug)]
pub struct Postgres {
    folder: Folder,
    bin: PathBuf,
    port: u16,
}

/// Where its programs are: the newest version with pgbench.
pub fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|entry| entry.path().join("bin"));
    versions.filter(|bin| bin.join("pgbench").is_file()).max()
}

impl Postgres {
    /// Starts one, with the tables of pgbench at that scale.
    ///
    /// # Errors
    /// It does not start; with what it said.
    pub fn start(bin: PathBuf, scale: u32) -> Result<Self> {
        let folder = Folder::create()?;
        ensure!(Command::new("chown").arg("postgres").arg(folder.path()).status()?.success(), "chown");
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = Self { folder, bin, port };
        let (bin, at) = (server.bin.display(), server.folder.path().display());
        ensure!(server.shell(&format!("{bin}/initdb -D {at}/data -A trust")).status()?.success(), "initdb");
        let start = format!("{bin}/pg_ctl -w -D {at}/data -l {at}/log -o '-k {at} -p {port} -c listen_addresses= -c fsync=off' start");
        ensure!(server.shell(&start).status()?.success(), "pg_ctl start: {}", server.log());
        ensure!(server.shell(&format!("{} -i -s {scale} postgres", server.pgbench())).status()?.success(), "pgbench -i: {}", server.log());
        Ok(server)
    }

    /// A script of the shell, as the user that it runs as.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("runuser");
        command
            .current_dir(self.folder.path())
            .args(["-u", "postgres", "--", "sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// The call of pgbench, up to its own words.
    pub fn pgbench(&self) -> String {
        format!("{}/pgbench -h {} -p {}", self.bin.display(), self.folder.path().display(), self.port)
    }

    /// The process whose children serve.
    ///
    /// # Errors
    /// It has not said which it is.
    pub fn pid(&self) -> Result<u32> {
        let text = fs::read_to_string(self.folder.join("data/postmaster.pid"))?;
        Ok(text.lines().next().context("no pid")?.parse()?)
    }

    /// The child of the server whose command line holds a word.
    ///
    /// # Errors
    /// There is none, for long.
    pub fn back_end(&self, word: &str) -> Result<u32> {
        let postmaster = self.pid()?;
        waiting::until("a child of the server", || {
            let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"))?;
            let found = children.split_whitespace().find(|child| {
                let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(word)
            });
            Ok(found.and_then(|child| child.parse().ok()))
        })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let stop = format!("{}/pg_ctl -D {}/data -m immediate stop", self.bin.display(), self.folder.path().display());
        let _ = self.shell(&stop).status();
    }
}
