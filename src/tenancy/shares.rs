//! All that tenants share of one process, in one place, so that everybody spends from the same account.

use tokio::time::Instant;

use super::{ceiling::Ceiling, cpu::Cpu, memory::Parts, pool::Pool, usage::Usage};

/// What tenants share. Clones share the same.
#[derive(Clone, Debug)]
pub struct Shares {
    /// Bytes of answers that are not decoded yet.
    pub bodies: Pool,
    /// Bytes that connections are set up with and keep: credentials, and what is made of certificates.
    pub settings: Pool,
    /// Bytes that are kept of the tasks that lists have shown, for those who discover tasks.
    pub catalogues: Pool,
    /// Turns to decode a large answer: one at a time, so that a second processor is never needed for it.
    pub decoding: Pool,
    /// Requests to upstreams.
    pub requests: Ceiling,
    /// The processing time of the runtime.
    pub cpu: Cpu,
    /// What each tenant has used of late.
    pub usage: Usage,
}

/// Each tenant may hold so many bytes of answers, of settings, and of catalogues, whatever the others do.
const FLOOR: usize = 512 << 10;

impl Shares {
    /// Divides what a process with these [`Parts`] of memory has. `requests`: the most requests per second over all tenants, and for each
    /// of them; infinite for no limit. What each uses is counted in `usage`.
    #[must_use]
    pub fn new(parts: Parts, requests: (f64, f64), usage: Usage, now: Instant) -> Self {
        Self {
            bodies: Pool::new(parts.bodies, FLOOR),
            settings: Pool::new(parts.settings, FLOOR),
            catalogues: Pool::new(parts.catalogues, FLOOR),
            decoding: Pool::new(1, 0),
            requests: Ceiling::new(requests.0, requests.1, now),
            cpu: Cpu::new(now),
            usage,
        }
    }
}
