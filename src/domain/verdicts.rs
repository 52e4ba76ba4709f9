//! What other tools make of the statuses that the tests of this room build: by those tools' own libraries, see `tests/oracles`.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use taskwatch_harness::Oracles;

/// What is said of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdicts {
    /// Helm 4 and Flux wait by it: `Current`, `InProgress` or `Failed`.
    pub kstatus: String,
    /// The health that Argo CD shows.
    pub argocd: String,
}

/// What is said of an object of this kind and generation at `now`, which the operator wrote `status` to, or nothing yet. Its conditions
/// keep the rules that Flux has for its own.
pub fn verdicts(kind: &str, generation: i64, status: Option<&impl Serialize>, now: Timestamp) -> Verdicts {
    let oracles = Oracles::shared().unwrap();
    // An object that nobody has written to has the schema's default.
    let mut shown =
        status.map_or_else(|| json!({"observedGeneration": -1}), |status| serde_json::to_value(status).unwrap());
    // The oracles go by the clock.
    let late = Timestamp::now().duration_since(now);
    for condition in shown["conditions"].as_array_mut().into_iter().flatten() {
        put_off(&mut condition["lastTransitionTime"], late);
    }
    let object = json!({
        "apiVersion": "taskwatch.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "x", "namespace": "x", "generation": generation},
        "status": shown,
    });
    if status.is_some() {
        oracles.flux(&object).unwrap_or_else(|fault| panic!("{fault}: {object:#}"));
    }
    Verdicts { kstatus: oracles.kstatus(&object).unwrap(), argocd: oracles.argocd(&object).unwrap() }
}

fn put_off(time: &mut Value, by: SignedDuration) {
    let at: Timestamp = time.as_str().unwrap().parse().unwrap();
    *time = (at + by).strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
}
