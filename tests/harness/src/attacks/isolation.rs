//! A network of our own: nothing that is tried here can leave the machine, and the addresses and the name server are ours.
//!
//! The suite runs itself again in a network and a mount namespace (`unshare`, `ip`; root). There, addresses that are public or private
//! elsewhere lead to listeners of ours, and `/etc/resolv.conf` names our own name server.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// Set for the second run.
const INSIDE: &str = "TASKWATCH_ATTACKS_INSIDE";
/// A public address (of nobody who is reached: there is no route out).
pub(super) const PUBLIC: &str = "93.184.216.34";
/// Private addresses: the first is allowed to one namespace only, the second to nobody, the third is denied.
pub(super) const PRIVATE: [&str; 3] = ["10.66.1.1", "10.66.2.1", "10.66.3.1"];
/// A private address that is allowed to all, but for some ports only.
pub(super) const PORTS: &str = "10.66.4.1";

/// Runs this program again in namespaces of its own; returns in the second run, with whether it is isolated.
///
/// # Errors
/// Why it cannot be isolated, as one sentence.
pub fn enter() -> Result<()> {
    if std::env::var_os(INSIDE).is_none() {
        ensure!(rustix::process::geteuid().is_root(), "only root can make a network of its own");
        let probe = ["--net", "--mount", "ip", "link", "set", "lo", "up"];
        let probe = Command::new("unshare").args(probe).stdin(Stdio::null()).stderr(Stdio::null()).status();
        ensure!(
            probe.is_ok_and(|status| status.success()),
            "`unshare --net --mount ip link set lo up` does not work here; on Debian, apt-get install iproute2 util-linux"
        );
        let program = std::env::current_exe().context("where this program is")?;
        let mut again = Command::new("unshare");
        again.args(["--net", "--mount", "--"]).arg(program).args(std::env::args_os().skip(1)).env(INSIDE, "1");
        bail!("cannot run unshare: {}", again.exec());
    }
    ip(&["link", "set", "lo", "up"])?;
    for address in [PUBLIC, PORTS].iter().chain(&PRIVATE) {
        ip(&["address", "add", &format!("{address}/32"), "dev", "lo"])?;
    }
    Ok(())
}

/// Whether this is the second run.
pub(super) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Lays a file over `/etc/resolv.conf`, for this process and those that it starts.
pub(super) fn use_resolver(contents: &std::path::Path) -> Result<()> {
    ensure!(is_inside(), "not in a mount namespace of its own");
    let status = Command::new("mount").arg("--bind").arg(contents).arg("/etc/resolv.conf").status();
    ensure!(status.context("cannot run mount")?.success(), "cannot lay a file over /etc/resolv.conf");
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let output = output.context("cannot run ip (on Debian: apt-get install iproute2)")?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() || words.contains("exists"), "ip {}: {words}", arguments.join(" "));
    Ok(())
}
