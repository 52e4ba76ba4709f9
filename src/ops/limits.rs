//! What the kernel allows the process, set once at its start.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Keeps what is in memory, tokens among it, from being read by others: no core dump is written, and no process of the same user may
/// attach or read the memory.
pub fn keep_memory_private() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps cannot be switched off: they would hold credentials");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "other processes of this user can read the memory, which holds credentials");
    }
}

/// More open files are not asked for: connections have bounds of their own.
const MAX_OPEN_FILES: u64 = 65_536;

/// How many files and sockets the process may have open.
#[must_use]
pub fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(MAX_OPEN_FILES)
}

/// Raises the number of files and sockets that may be open as far as the administrator of the machine allows, at most to 65,536: many
/// systems begin with 1,024, which a thousand connections use up.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(MAX_OPEN_FILES).min(MAX_OPEN_FILES);
    if limit.current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
    {
        tracing::warn!(%error, "the limit of open files stays at {}", open_files());
    }
}
