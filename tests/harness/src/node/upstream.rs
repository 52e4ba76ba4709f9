//! The upstream of the checks: the simulator in a pod, behind a service.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::containers::PAUSE;
use super::operator::Operator;
use crate::{SimulatorClient, binary, eventually};

/// The address of its service, of those that the API server gives to services.
pub(super) const UPSTREAM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 80);
const NAME: &str = "simulator";
const PORT: u16 = 80;
/// Where it listens in its pod.
const LISTENS: u16 = 8080;
/// What a program that is linked dynamically needs of the machine.
const LIBRARIES: [&str; 3] = ["/lib", "/lib64", "/usr/lib"];
const START_LIMIT: Duration = Duration::from_mins(1);

/// Starts it, and waits until it answers by the service.
pub(super) async fn start(operator: &Operator<'_>, scenario: &Path) -> Result<SimulatorClient> {
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [service(), pod(scenario)?]});
    operator.kubectl.apply(&objects.to_string()).await?.success()?;
    let client = SimulatorClient::at(&format!("http://{UPSTREAM}:{PORT}"));
    eventually(START_LIMIT, "the simulator answers by its service", || async {
        let answer = client.admin("GET", "/log?since=0&limit=1", None).await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) => Err(error.context(operator.kubectl(&["get", "pod", NAME, "--output", "wide"]).await?)),
        }
    })
    .await?;
    Ok(client)
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
        "spec": {
            "clusterIP": UPSTREAM.to_string(), "selector": {"app": NAME},
            "ports": [{"port": PORT, "targetPort": LISTENS}],
        },
    })
}

/// The program of this workspace, in a pod of its own: what it needs of the machine is mounted, so that no image of it has to be made.
fn pod(scenario: &Path) -> Result<Value> {
    let program = binary("taskwatch-simulator")?;
    let scenario = &scenario.canonicalize().with_context(|| format!("cannot find {}", scenario.display()))?;
    let parent = |path: &Path| path.parent().map(|parent| parent.display().to_string());
    let own = [program.as_path(), scenario].map(parent);
    let [Some(programs), Some(scenarios)] = own else { anyhow::bail!("the simulator and its scenario are files") };
    let libraries = LIBRARIES.into_iter().filter(|path| Path::new(path).is_dir()).map(str::to_owned);
    let places = libraries.chain([programs, scenarios]).collect::<Vec<_>>();
    let named = || places.iter().enumerate().map(|(number, path)| (format!("place-{number}"), path));
    let volumes = named().map(|(name, path)| json!({"name": name, "hostPath": {"path": path, "type": "Directory"}}));
    let mounts = named().map(|(name, path)| json!({"name": name, "mountPath": path, "readOnly": true}));
    let listen = format!("0.0.0.0:{LISTENS}");
    let scenario = scenario.to_str().context("the path of the scenario is no text")?;
    Ok(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME, "labels": {"app": NAME}},
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": NAME, "image": PAUSE.0, "imagePullPolicy": "Never",
                "command": [program, "--listen", listen, "--allow-non-loopback", "--scenario", scenario],
                // The machine's files are its own.
                "securityContext": {"runAsUser": 0},
                "volumeMounts": mounts.collect::<Vec<_>>(),
            }],
            "volumes": volumes.collect::<Vec<_>>(),
        },
    }))
}
