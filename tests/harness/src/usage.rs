//! What a process costs, from `/proc`.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Memory and processor time of a process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// The most resident memory so far, in bytes.
    pub peak_rss_bytes: u64,
    /// Processor time so far, user and system, of all threads.
    pub cpu: Duration,
}

impl Usage {
    /// Reads the usage of process `pid` (Linux only).
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let status = read("status")?;
        let kilobytes = |key: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
            Ok(line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
        };
        let stat = read("stat")?;
        // The second field is the name in parentheses and may hold spaces; utime and stime are the 12th and 13th after it.
        let after_name = stat.rsplit_once(')').map_or(stat.as_str(), |(_, rest)| rest);
        let ticks = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<u64>)
            .sum::<Result<u64, _>>()
            .context("the times in /proc/<pid>/stat")?;
        Ok(Self {
            rss_bytes: kilobytes("VmRSS")?,
            peak_rss_bytes: kilobytes("VmHWM")?,
            cpu: Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second().max(1)),
        })
    }
}
