//! The stock `process_*` figures, read from `/proc/self` at each scrape; left out where there is no such thing.

use std::{
    fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Clock ticks a second in `/proc/self/stat`: `USER_HZ`, which Linux fixes at 100 for programs whatever the kernel's own rate.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads the process' own figures.
#[derive(Debug)]
pub(super) struct Process {
    start_seconds: f64,
}

impl Process {
    /// To be made when the process starts.
    pub(super) fn new() -> Self {
        Self { start_seconds: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut show = |name, help, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident_bytes) {
            show("process_resident_memory_bytes", "Resident memory in bytes", &ConstGauge::new(bytes))?;
        }
        if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_seconds) {
            show("process_cpu_seconds", "User and system CPU time in seconds", &ConstCounter::new(seconds))?;
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            show("process_open_fds", "Open file descriptors", &ConstGauge::new(files.count()))?;
        }
        let start = ConstGauge::new(self.start_seconds);
        show("process_start_time_seconds", "Start of the process in seconds since 1970", &start)
    }
}

/// `VmRSS` of `/proc/self/status`; unlike the page counts of `statm`, it does not depend on the size of a page.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

/// `utime` and `stime` of `/proc/self/stat`: the 14th and 15th field, counted after the command, which may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u32>().ok()?);
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_writes() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t   10240 kB\nThreads:\t3\n"), Some(10_485_760));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
        let stat = "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 3 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("42 (short) S 1"), None);
    }
}
