//! The cluster: a control plane, and the one node.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::Inside;
use super::containers::Containers;
use super::machine::NODE;
use crate::{ControlPlane, ControlPlaneOptions, Identity, Process, Workdir, eventually};

/// The node's name.
pub(super) const NAME: &str = "taskwatch-node";
const READY_LIMIT: Duration = Duration::from_mins(2);
const SCHEDULER: &str = "system:kube-scheduler";
const PROXY: &str = "system:kube-proxy";

/// All of it; it ends with the namespaces that it is in.
pub(super) struct Cluster {
    pub(super) plane: ControlPlane,
    pub(super) containers: Containers,
    programs: Vec<Process>,
}

impl Cluster {
    /// Starts everything, and waits until the node is ready.
    pub(super) async fn start(workdir: &Arc<Workdir>, inside: &Inside) -> Result<Self> {
        let kubelet = format!("system:node:{NAME}");
        let identities =
            vec![Identity::new(&kubelet, &["system:nodes"]), Identity::new(SCHEDULER, &[]), Identity::new(PROXY, &[])];
        let options = ControlPlaneOptions { identities, nodes_reach: Some(NODE), ..Default::default() };
        let (plane, containers) = tokio::try_join!(ControlPlane::start_with(options), Containers::start(workdir))?;
        let mut cluster = Self { plane, containers, programs: Vec::new() };
        let config = workdir.write("kubelet.json", &kubelet_config(&cluster, inside).to_string())?;
        workdir.write("resolv.conf", &format!("nameserver {NODE}\n"))?;
        let config = config.display();
        cluster.run(
            workdir,
            "kubelet",
            &kubelet,
            &[&format!("--config={config}"), &format!("--hostname-override={NAME}"), &format!("--node-ip={NODE}")],
        )?;
        cluster.run(workdir, "kube-scheduler", SCHEDULER, &["--leader-elect=false", "--secure-port=0"])?;
        // The sizes of tables of connections are the machine's.
        let sizes = ["max-per-core", "tcp-timeout-established", "tcp-timeout-close-wait"];
        let sizes = sizes.map(|name| format!("--conntrack-{name}=0"));
        let name = format!("--hostname-override={NAME}");
        let proxy = [&["--proxy-mode=iptables", &name], &sizes.each_ref().map(String::as_str)[..]].concat();
        cluster.run(workdir, "kube-proxy", PROXY, &proxy)?;
        cluster.wait_ready().await.with_context(|| cluster.logs(15))?;
        Ok(cluster)
    }

    fn run(&mut self, workdir: &Arc<Workdir>, name: &str, user: &str, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(self.plane.program(name));
        command.arg(format!("--kubeconfig={}", self.plane.kubeconfig(user)?.display())).args(arguments);
        self.programs.push(Process::start(workdir, name, &command)?);
        Ok(())
    }

    async fn wait_ready(&self) -> Result<()> {
        let path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        eventually(READY_LIMIT, "the node is ready", || async {
            let ready = self.plane.kubectl(&["get", "node", NAME, "--output", path]).await?.success()?;
            ensure!(ready == "True", "its condition Ready is {ready:?}");
            // Nothing can run before its namespace has an account, which a controller makes.
            self.plane.kubectl(&["get", "serviceaccount", "default"]).await?.success().map(drop)
        })
        .await
    }

    /// The ends of the logs of what runs pods.
    pub(super) fn logs(&self, lines: usize) -> String {
        let containerd = format!("containerd:\n{}", self.containers.log_tail(lines));
        let others = self.programs.iter().map(|program| format!("{}:\n{}", program.name(), program.log_tail(lines)));
        others.fold(containerd, |all, log| all + "\n" + &log)
    }
}

fn kubelet_config(cluster: &Cluster, inside: &Inside) -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        // It listens in a network in which nobody else is.
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": format!("unix://{}", cluster.containers.socket().display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", inside.cgroup),
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        // The disk and the memory are the machine's, however full.
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "resolvConf": inside.workdir.join("resolv.conf"),
    })
}
