//! Who watches the same API server beside the operator, so that the operator answers for its own share of a delay and not for the
//! server's.
//!
//! Two plain watches in a process of their own, which neither decode nor keep anything: one of all `TaskWatch` objects, as the operator has one,
//! and one of the canary's namespace, as the canary's people would have one. What they see goes to the standard output, a line for each
//! object: which watch, the object's name, its state (`-` without one), and when, in milliseconds since 1970.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::io::AsyncBufReadExt as _;
use futures::pin_mut;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use tokio::io::AsyncBufReadExt as _;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::ground::CANARY;
use super::now_ms;

/// The argument with which this program is a witness, followed by the kubeconfig.
pub const ARGUMENT: &str = "--witness";
/// A watch ends by itself after so many seconds and begins anew.
const WATCH_SECONDS: u32 = 290;
const AGAIN: Duration = Duration::from_millis(200);
/// Longer lines are of others: the canary's objects are small.
const LINE: usize = 16 << 10;

/// When the witness first saw what.
#[derive(Default)]
struct Seen {
    /// Each object in the watch of all.
    objects: HashMap<String, i64>,
    /// The same in the watch of the canary's namespace, and each object in each state there.
    own: HashMap<String, i64>,
    states: HashMap<(String, String), i64>,
}

/// A witness that runs.
pub(super) struct Witness {
    seen: Arc<Mutex<Seen>>,
    reader: JoinHandle<()>,
    _process: Child,
}

impl Witness {
    /// Starts one.
    pub(super) fn start(kubeconfig: &Path) -> Result<Self> {
        let program = std::env::current_exe().context("where this program is")?;
        let mut process = Command::new(program)
            .arg(ARGUMENT)
            .arg(kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the witness does not start")?;
        let output = process.stdout.take().context("the witness has no output")?;
        let seen = Arc::<Mutex<Seen>>::default();
        let notes = Arc::clone(&seen);
        let reader = tokio::spawn(async move {
            let mut lines = tokio::io::BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                note(&mut lock(&notes), &line);
            }
        });
        Ok(Self { seen, reader, _process: process })
    }

    /// When the API server told a watch of all that an object is there.
    pub(super) fn told_of(&self, name: &str) -> Option<i64> {
        lock(&self.seen).objects.get(name).copied()
    }

    /// When it told a watch of the canary's namespace.
    pub(super) fn met(&self, name: &str) -> Option<i64> {
        lock(&self.seen).own.get(name).copied()
    }

    /// When an object of the canary was first seen in a state.
    pub(super) fn saw(&self, name: &str, state: &str) -> Option<i64> {
        lock(&self.seen).states.get(&(name.to_owned(), state.to_owned())).copied()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(seen: &mut Seen, line: &str) {
    let mut words = line.split(' ');
    let (Some(which), Some(name), Some(state)) = (words.next(), words.next(), words.next()) else { return };
    let Some(at) = words.next().and_then(|at| at.parse().ok()) else { return };
    if which == "all" {
        seen.objects.entry(name.to_owned()).or_insert(at);
    } else {
        seen.own.entry(name.to_owned()).or_insert(at);
        seen.states.entry((name.to_owned(), state.to_owned())).or_insert(at);
    }
}

/// Is a witness: writes what it sees until it is ended.
///
/// # Errors
/// When the kubeconfig is none.
pub async fn testify(kubeconfig: PathBuf) -> Result<()> {
    // A share of the processors of its own, as the operator has by its guard.
    rustix::process::setsid().context("cannot begin a session")?;
    let config = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let group = "/apis/taskwatch.dev/v1alpha1";
    tokio::join!(
        follow("all", Client::try_from(config.clone())?, format!("{group}/taskwatches")),
        follow("own", Client::try_from(config)?, format!("{group}/namespaces/{CANARY}/taskwatches")),
    );
    Ok(())
}

async fn follow(which: &str, client: Client, path: String) {
    let mut version = "0".to_owned();
    loop {
        if let Err(error) = watch(which, &client, &path, &mut version).await {
            eprintln!("the witness's watch begins anew: {error:#}");
            "0".clone_into(&mut version);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Watches until the server ends it; `version` is of the last object that was told of.
async fn watch(which: &str, client: &Client, path: &str, version: &mut String) -> Result<()> {
    let path = format!("{path}?watch=true&resourceVersion={version}&timeoutSeconds={WATCH_SECONDS}");
    let stream = client.request_stream(http::Request::get(path).body(Vec::new())?).await?;
    pin_mut!(stream);
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await? > 0 {
        if let Some(told) = canarys(&line)? {
            println!("{which} {} {} {}", told.name, told.state, now_ms());
            *version = told.version;
        }
        line.clear();
        line.shrink_to(LINE);
    }
    Ok(())
}

/// What a line of a watch tells of one of the canary's objects.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    name: String,
    state: String,
    version: String,
}

/// Nothing when the line is of another object, or tells that one is gone.
fn canarys(line: &[u8]) -> Result<Option<Told>> {
    let Some(event) = serde_json::from_slice::<Value>(&line[..line.len().min(LINE)]).ok() else { return Ok(None) };
    let (kind, object) = (&event["type"], &event["object"]);
    ensure!(kind != "ERROR", "{object}");
    let metadata = &object["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let is_told = (kind == "ADDED" || kind == "MODIFIED") && metadata["namespace"] == CANARY;
    Ok(is_told.then(|| Told {
        name: text(&metadata["name"]),
        state: text(&object["status"]["state"]),
        version: text(&metadata["resourceVersion"]),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_the_canarys_is_told() {
        let event = |namespace: &str, kind: &str| {
            let metadata = json!({"name": "a", "namespace": namespace, "resourceVersion": "7"});
            let event = json!({"type": kind, "object": {"metadata": metadata, "status": {"state": "Running"}}});
            canarys(event.to_string().as_bytes())
        };
        let told = Told { name: "a".to_owned(), state: "Running".to_owned(), version: "7".to_owned() };
        assert_eq!(event(CANARY, "ADDED").unwrap(), Some(told));
        assert_eq!(event(CANARY, "DELETED").unwrap(), None);
        assert_eq!(event("other", "ADDED").unwrap(), None);
        event("", "ERROR").unwrap_err();
    }

    #[test]
    fn what_was_seen_first_counts() {
        let mut seen = Seen::default();
        for line in ["all a - 5", "all a Running 7", "own a Running 9", "own a Running 11", "nonsense"] {
            note(&mut seen, line);
        }
        assert_eq!(seen.objects.get("a"), Some(&5));
        assert_eq!(seen.states.get(&("a".to_owned(), "Running".to_owned())), Some(&9));
        assert_eq!((seen.states.len(), seen.own.get("a")), (1, Some(&9)));
    }
}
