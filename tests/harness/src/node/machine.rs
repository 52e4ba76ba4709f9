//! The ground of the node, inside: places in which everything keeps its state, and a network.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::tool;

/// The address of the node, which the API server is reached by.
pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 2);
/// Where programs of containers keep their state and logs, whatever they are told.
const PLACES: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// Lays it.
pub(super) async fn prepare(workdir: &Path) -> Result<()> {
    for place in PLACES {
        let own = workdir.join(place.trim_start_matches('/').replace('/', "-"));
        fs::create_dir(&own).with_context(|| format!("cannot make {}", own.display()))?;
        tool("mount", &["--bind", &own.display().to_string(), place]).await?;
    }
    for command in [
        "link set lo up",
        "link add node0 type bridge",
        &format!("address add {NODE}/24 dev node0"),
        "link set node0 up",
        // It leads nowhere; programs look for one to learn the machine's address.
        "route add default dev node0",
    ] {
        tool("ip", &command.split(' ').collect::<Vec<_>>()).await?;
    }
    Ok(())
}
