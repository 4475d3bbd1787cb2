//! Kernels as Debian packages them, by apt, into a folder of ours: nothing is installed, and this machine's lists of packages stay as they are.

use crate::shell::{first_line, run};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What Debian signs with.
pub(super) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where packages come from.
pub(super) struct Suite {
    /// Debian's release.
    pub(super) release: &'static str,
    /// Whether what is wanted stands among the security updates alone.
    pub(super) is_security: bool,
    /// Debian's word for the machine.
    pub(super) architecture: &'static str,
}

impl Suite {
    /// The line of a list of sources, from one of the archives that this machine has its own packages from.
    fn source(&self, archives: &str) -> Result<String> {
        let (archive, suite) = if self.is_security { ("/debian-security", "-security") } else { ("/debian", "") };
        let place = archives.lines().map(|place| place.trim_end_matches('/')).find(|place| place.ends_with(archive));
        let place = place.with_context(|| format!("none of this machine's sources of packages is Debian's ({archive})"))?;
        let Self { release, architecture, .. } = self;
        Ok(format!("deb [signed-by={KEYRING} arch={architecture}] {place} {release}{suite} main\n"))
    }

    /// The folder of what was downloaded.
    fn folder(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}-{}", self.release, self.architecture))
    }
}

/// The kernel of a release, downloaded once into a folder of the given one.
///
/// # Errors
/// It cannot be downloaded or unpacked.
pub(super) fn image(folder: &Path, suite: &Suite) -> Result<PathBuf> {
    let unpacked = |folder: &Path| entry(&folder.join("unpacked/boot"), "vmlinuz-");
    let folder = suite.folder(folder);
    if let Some(image) = unpacked(&folder) {
        return Ok(image);
    }
    update(&folder, suite)?;
    // The package that depends on the newest kernel of a release: the one for virtual machines, which is the smallest.
    let newest = format!("linux-image-cloud-{}", suite.architecture);
    let depends = apt("apt-cache", &folder, suite).args(["depends", &newest]).output().context("starting apt-cache")?;
    let depends = String::from_utf8_lossy(&depends.stdout).into_owned();
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let package = format!("linux-image-{}", package.with_context(|| format!("{newest} of {} names no kernel", suite.release))?);
    unpack(&folder, suite, &package)?;
    // Its modules, ten times as large, are not needed: what the guest uses is built in.
    for part in ["unpacked/lib", "unpacked/usr"] {
        if folder.join(part).exists() {
            fs::remove_dir_all(folder.join(part))?;
        }
    }
    unpacked(&folder).with_context(|| format!("{package} holds no kernel"))
}

/// A shell that needs no library, of another machine.
///
/// # Errors
/// It cannot be downloaded or unpacked.
pub(super) fn shell(folder: &Path, suite: &Suite) -> Result<PathBuf> {
    let folder = suite.folder(folder);
    let place = folder.join("unpacked/usr/bin/busybox");
    if !place.exists() {
        update(&folder, suite)?;
        unpack(&folder, suite, "busybox-static")?;
    }
    Ok(place)
}

/// The lists of packages.
fn update(folder: &Path, suite: &Suite) -> Result<()> {
    for part in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(folder.join(part))?;
    }
    let archives = Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]).output().context("starting apt-get")?;
    fs::write(folder.join("sources.list"), suite.source(&String::from_utf8_lossy(&archives.stdout))?)?;
    fs::write(folder.join("status"), "")?;
    run(apt("apt-get", folder, suite).args(["-q", "-q", "update"]))
}

fn unpack(folder: &Path, suite: &Suite, package: &str) -> Result<()> {
    run(apt("apt-get", folder, suite).current_dir(folder).args(["-q", "-q", "download", package]))?;
    let downloaded = entry(folder, &format!("{package}_")).with_context(|| format!("{package} was not downloaded"))?;
    run(Command::new("dpkg-deb").arg("-x").arg(&downloaded).arg(folder.join("unpacked")))?;
    fs::remove_file(downloaded)?;
    Ok(())
}

/// The entry of a folder whose name begins so.
fn entry(folder: &Path, start: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    entries.into_iter().find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start)))
}

/// One of apt's programs, whose world is the folder.
fn apt(program: &str, folder: &Path, suite: &Suite) -> Command {
    let mut command = Command::new(program);
    for (option, place) in [
        ("Dir::Etc::sourcelist", "sources.list"),
        ("Dir::Etc::sourceparts", "none"),
        ("Dir::State::lists", "lists"),
        ("Dir::State::status", "status"),
        ("Dir::Cache", "cache"),
    ] {
        command.arg("-o").arg(format!("{option}={}", folder.join(place).display()));
    }
    // As who we are: apt's own user cannot write into our folder. No translations: the list of packages is all that is asked for.
    let user = first_line(Command::new("id").arg("-un")).unwrap_or_else(|_| "root".to_owned());
    let architecture = format!("APT::Architecture={}", suite.architecture);
    command.arg("-o").arg(format!("APT::Sandbox::User={user}")).args(["-o", "Acquire::Languages=none", "-o", &architecture]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_line_for_apt() -> Result<()> {
        let archives = "http://mirror.example/debian/\nhttp://mirror.example/debian-security/\n";
        let source = |is_security| Suite { release: "trixie", is_security, architecture: "amd64" }.source(archives);
        assert!(source(false)?.ends_with("http://mirror.example/debian trixie main\n"));
        assert!(source(true)?.ends_with("http://mirror.example/debian-security trixie-security main\n"));
        assert!(Suite { release: "trixie", is_security: false, architecture: "amd64" }.source("").is_err());
        Ok(())
    }
}
