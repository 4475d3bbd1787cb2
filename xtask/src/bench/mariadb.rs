//! A MariaDB server of a benchmark's own: in a folder and at a socket that nobody else has, ended with the value.

use anyhow::{Context as _, Result, anyhow, ensure};
use profiler_tests::run::Folder;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Rows that are asked for by their key.
const ROWS: u32 = 10_000;
/// Queries that are sent at a time.
const BATCH: u32 = 2000;

/// Clients that ask side by side: the server always has something to do, so what is asked and answered tells how much it can do.
const CLIENTS: usize = 2;
/// The server's CPU. Where it and its clients may run anywhere on two CPUs, who runs beside whom decides by a sixth how much is answered, for a minute on end, and
/// any process that wakes up can turn that over.
const SERVER_CPU: &str = "0";
const CLIENTS_CPU: &str = "1";

/// A server.
pub(super) struct MariaDb {
    folder: Folder,
    child: Child,
}

impl MariaDb {
    /// Starts one, with a table of its own.
    ///
    /// # Errors
    /// It is not here, or does not start.
    pub(super) fn start() -> Result<Self> {
        let folder = Folder::create()?;
        let data = folder.join("data");
        let output = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--user=root"])
            .arg(format!("--datadir={}", data.display()))
            .output()
            .context("mariadb-install-db, of Debian's package mariadb-server")?;
        ensure!(output.status.success(), "mariadb-install-db: {}", String::from_utf8_lossy(&output.stderr));
        let child = Command::new("taskset")
            .args(["-c", SERVER_CPU, "mariadbd"])
            .args(["--no-defaults", "--skip-networking", "--user=root"])
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", socket(folder.path()).display()))
            .arg(format!("--pid-file={}", folder.join("pid").display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("mariadbd, of Debian's package mariadb-server")?;
        let server = Self { folder, child };
        let until = Instant::now() + Duration::from_secs(30);
        while server.told("SELECT 1;").is_err() {
            ensure!(Instant::now() < until, "mariadbd does not answer");
            sleep(Duration::from_millis(100));
        }
        server.told(&format!(
            "CREATE DATABASE keyed; USE keyed; CREATE TABLE keyed.rows (id INT PRIMARY KEY, word VARCHAR(200)); \
             INSERT INTO keyed.rows SELECT seq, REPEAT('w', 100) FROM seq_1_to_{ROWS};"
        ))?;
        Ok(server)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Queries a second, of clients that ask for so many seconds.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) fn queries(&self, seconds: u32) -> Result<f64> {
        let batch: String = (0..BATCH).map(|at| format!("SELECT word FROM keyed.rows WHERE id = {};\n", 1 + at * 7919 % ROWS)).collect();
        let begun = Instant::now();
        let asks = || {
            let mut asked = 0;
            while begun.elapsed() < Duration::from_secs(seconds.into()) {
                self.told(&batch)?;
                asked += BATCH;
            }
            anyhow::Ok(f64::from(asked) / begun.elapsed().as_secs_f64())
        };
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(asks)).collect();
            clients.into_iter().map(|client| client.join().map_err(|_| anyhow!("a client panicked"))?).sum()
        })
    }

    /// Sends it statements.
    fn told(&self, statements: &str) -> Result<()> {
        let output = Command::new("taskset")
            .args(["-c", CLIENTS_CPU, "mariadb"])
            .args(["--no-defaults", "--user=root", "--skip-column-names", "--batch"])
            .arg(format!("--socket={}", socket(self.folder.path()).display()))
            .args(["--execute", statements])
            .stdin(Stdio::null())
            .output()
            .context("mariadb, of Debian's package mariadb-client")?;
        ensure!(output.status.success(), "mariadb: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
