//! What is applied, what is expected of it, and whether that has come.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{NAMESPACE, SYSTEM_NAMESPACE};
use crate::{Kubectl, SimulatorClient, workspace_root};

/// How the scene of an object ends: the state of a `TaskWatch`, or what a `TaskWatchSet` counts.
const EXPECT: &str = "taskwatch.dev/demo-expects";
/// A reason of its condition `Synced` or `Ready` that must have been seen on the way.
const VIA: &str = "taskwatch.dev/demo-via";
/// What the manifests have in the place of the simulator's address.
const PLACEHOLDER: &str = "${SIMULATOR}";

/// The manifests of the demo.
pub(crate) struct Scenes {
    directory: PathBuf,
    manifests: Vec<String>,
    /// Those that are applied some time after the others.
    later: Vec<String>,
}

/// What has been seen so far.
#[derive(Default)]
pub(crate) struct Progress {
    events: BTreeSet<String>,
    /// Object and reason.
    passed: BTreeSet<(String, String)>,
}

/// Whether all scenes have come to their end.
pub(crate) enum Verdict {
    Reached,
    /// What is missing, a line for each object.
    Missing(Vec<String>),
}

impl Scenes {
    /// Reads `tests/harness/demo/*.yaml`, in the order of their names.
    pub(crate) fn read() -> Result<Self> {
        let directory = workspace_root().join("tests/harness/demo");
        Ok(Self { manifests: manifests(&directory)?, later: manifests(&directory.join("later"))?, directory })
    }

    /// Those whose tasks are named, and only their ends: all else depends on when the simulator began.
    pub(crate) fn of_named_tasks() -> Result<Self> {
        let mut scenes = Self::read()?;
        scenes.manifests.retain(|manifest| !manifest.contains("idFrom:"));
        for manifest in &mut scenes.manifests {
            let lines = manifest.lines().filter(|line| !line.trim_start().starts_with(VIA));
            *manifest = lines.collect::<Vec<_>>().join("\n");
        }
        scenes.later.clear();
        Ok(scenes)
    }

    /// The file that tells the simulator how its tasks move.
    pub(crate) fn scenario(&self) -> PathBuf {
        Path::new(&self.directory).join("scenario.json")
    }

    /// Applies the first of the manifests: the namespaces.
    pub(crate) async fn apply_first(&self, kubectl: &Kubectl) -> Result<()> {
        let first = self.manifests.first().context("there are no manifests")?;
        kubectl.apply(first).await?.success().map(drop)
    }

    /// Applies the manifests, and returns what kubectl says of each. The operator is in `system_namespace`.
    pub(crate) async fn apply(
        &self,
        kubectl: &Kubectl,
        simulator: &SimulatorClient,
        system_namespace: &str,
    ) -> Result<String> {
        let mut answers = String::new();
        for manifest in &self.manifests {
            let manifest = manifest.replace(PLACEHOLDER, simulator.url()).replace(SYSTEM_NAMESPACE, system_namespace);
            answers += &kubectl.apply(&manifest).await?.success()?;
        }
        Ok(answers)
    }

    /// Applies what comes later, and returns what kubectl says of each.
    pub(crate) async fn apply_later(&self, kubectl: &Kubectl) -> Result<String> {
        let mut answers = String::new();
        for manifest in &self.later {
            answers += &kubectl.apply(manifest).await?.success()?;
        }
        Ok(answers)
    }

    /// Compares watches and sets with what their annotations expect; the watches of sets have none.
    pub(crate) async fn judge(&self, kubectl: &Kubectl, progress: &mut Progress) -> Result<Verdict> {
        let list = list(kubectl, "taskwatches,taskwatchsets").await?;
        let items = list["items"].as_array().context("kubectl gave no list")?;
        ensure!(!items.is_empty(), "the manifests have no TaskWatch");
        let missing = items.iter().filter_map(|item| lacks(item, progress)).collect::<Vec<_>>();
        Ok(if missing.is_empty() { Verdict::Reached } else { Verdict::Missing(missing) })
    }
}

impl Progress {
    /// The events that were not there before, one line each.
    pub(crate) async fn new_events(&mut self, kubectl: &Kubectl) -> Result<Vec<String>> {
        let list = list(kubectl, "events.events.k8s.io").await?;
        let mut fresh = Vec::new();
        for event in list["items"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            if self.events.insert(text(&event["metadata"]["uid"])) {
                let (object, note) = (text(&event["regarding"]["name"]), text(&event["note"]));
                fresh.push((
                    text(&event["eventTime"]),
                    format!("{object}: {} {}: {note}", text(&event["type"]), text(&event["reason"])),
                ));
            }
        }
        fresh.sort();
        Ok(fresh.into_iter().map(|(_, line)| line).collect())
    }
}

/// The objects of these kinds in the demo's namespace.
async fn list(kubectl: &Kubectl, kinds: &str) -> Result<Value> {
    let text = kubectl.run(&["get", "--namespace", NAMESPACE, kinds, "--output", "json"]).await?.success()?;
    serde_json::from_str(&text).context("kubectl gave no JSON")
}

/// The manifests of a directory, in the order of their names.
fn manifests(directory: &Path) -> Result<Vec<String>> {
    let listed = std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files = listed.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    ensure!(!files.is_empty(), "there are no manifests in {}", directory.display());
    Ok(files.iter().map(std::fs::read_to_string).collect::<Result<_, _>>()?)
}

/// What a watch or a set still lacks, if anything.
fn lacks(item: &Value, progress: &mut Progress) -> Option<String> {
    let name = item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let annotation = |key: &str| item["metadata"]["annotations"][key].as_str();
    let condition = |kind: &str| item["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind);
    let synced = condition("Synced").unwrap_or(&Value::Null);
    for reason in ["Synced", "Ready"].into_iter().filter_map(|kind| condition(kind)?["reason"].as_str()) {
        progress.passed.insert((name.clone(), reason.to_owned()));
    }
    let state = state(item);
    let expected = annotation(EXPECT)?;
    if state != expected {
        let said = synced["message"].as_str().unwrap_or_default();
        return Some(format!("{name}: expected {expected}, it is {state} (Synced {}: {said})", synced["status"]));
    }
    let via = annotation(VIA)?;
    if progress.passed.contains(&(name.clone(), via.to_owned())) {
        return None;
    }
    Some(format!("{name}: neither its condition Synced nor Ready ever had the reason {via}"))
}

/// The state of a watch, or what a set counts.
fn state(item: &Value) -> String {
    let status = &item["status"];
    if item["kind"] == "TaskWatchSet" {
        return format!("{} matched, {} watched", status["matched"], status["watched"]);
    }
    status["state"].as_str().unwrap_or("none").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn watch(state: &str, reason: &str) -> Value {
        json!({
            "metadata": {"name": "a", "annotations": {EXPECT: "Succeeded", VIA: "UpstreamUnavailable"}},
            "status": {"state": state, "conditions": [{"type": "Synced", "status": "True", "reason": reason}]},
        })
    }

    #[test]
    fn a_scene_ends_in_its_state_and_by_its_way() {
        let mut progress = Progress::default();
        assert!(lacks(&watch("Succeeded", "Synced"), &mut progress).is_some_and(|what| what.contains("ever had")));
        assert!(
            lacks(&watch("Running", "UpstreamUnavailable"), &mut progress)
                .is_some_and(|what| what.contains("it is Running"))
        );
        assert_eq!(lacks(&watch("Succeeded", "Synced"), &mut progress), None);
    }
    #[test]
    fn a_set_is_judged_by_what_it_counts() {
        let mut set = json!({"kind": "TaskWatchSet", "metadata": {"name": "s", "annotations": {EXPECT: "2 matched, 1 watched", VIA: "X"}},
            "status": {"matched": 2, "watched": 2, "conditions": [{"type": "Ready", "status": "False", "reason": "X"}]}});
        let mut progress = Progress::default();
        assert!(lacks(&set, &mut progress).is_some_and(|what| what.contains("it is 2 matched, 2 watched")));
        set["status"]["watched"] = json!(1);
        assert_eq!(lacks(&set, &mut progress), None);
        // One without a word of what is expected is whatever it is.
        assert_eq!(lacks(&json!({"kind": "TaskWatch", "metadata": {"name": "child"}}), &mut progress), None);
    }
}
