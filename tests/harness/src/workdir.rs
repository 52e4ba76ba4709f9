//! A working directory that goes away with the last process that uses it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};

const LOCK: &str = ".in-use";

/// Set to anything, it keeps the working directories, with the logs of everything in them.
pub(crate) const KEEP: &str = "TASKWATCH_KEEP";

/// A fresh temporary directory.
///
/// Everyone who uses it holds a shared lock on a file in it; whoever lets go of it last removes it. The kernel lets go for a
/// process that is killed, so no ending of the tests leaves it behind while a guard lives.
#[derive(Debug)]
pub struct Workdir {
    path: PathBuf,
    lock: Option<File>,
    keep: bool,
}

impl Workdir {
    /// Makes a new directory under the system's temporary directory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(label: &str) -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let base = std::env::temp_dir();
        for _ in 0..1000 {
            let name = format!("taskwatch-{label}-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
            let path = base.join(name);
            match fs::create_dir(&path) {
                Ok(()) => {
                    private(&path)?;
                    File::create(path.join(LOCK)).context("the lock of the working directory")?;
                    return Self::join(&path);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).context(format!("cannot make {}", path.display())),
            }
        }
        bail!("no free name for a working directory in {}", base.display())
    }

    /// Takes part in a directory that another process made.
    ///
    /// # Errors
    /// When it is no working directory or is being removed.
    pub fn join(path: &Path) -> Result<Self> {
        let lock =
            File::open(path.join(LOCK)).with_context(|| format!("{} is no working directory", path.display()))?;
        lock.try_lock_shared().with_context(|| format!("{} is being removed", path.display()))?;
        Ok(Self { path: path.to_owned(), lock: Some(lock), keep: std::env::var_os(KEEP).is_some() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that only its owner can read, and returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, contents: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, contents).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        // Its own shared lock would stand in the way of the exclusive one.
        drop(self.lock.take());
        if self.keep {
            return;
        }
        let Ok(lock) = File::open(self.path.join(LOCK)) else { return };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// It will hold tokens: nobody else may look in.
fn private(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).context("the permissions of the working directory")
}
