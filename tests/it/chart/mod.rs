//! The Helm charts of `deploy/chart/`: what they render to is what `deploy/` installs by Kustomize, what the API server takes, and what
//! the usual lists of security conditions ask for.

mod conditions;
mod kustomize;
mod lifecycle;
mod renders;
mod values;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use taskwatch_harness::{Helm, Output, workspace_root};

/// The release and the namespace of which `deploy/` has the names.
pub const RELEASE: &str = "taskwatch";
pub const NAMESPACE: &str = "taskwatch-system";

/// The path of a chart of `deploy/chart/`.
pub fn chart(name: &str) -> String {
    workspace_root().join("deploy/chart").join(name).display().to_string()
}

/// Kind, namespace and name.
type Key = (String, String, String);

/// Objects by what they are.
type Objects = BTreeMap<Key, Value>;

/// `helm template` of a chart with these values.
async fn template(name: &str, values: &Value) -> Output {
    let helm = Helm::offline().await.unwrap();
    let file = values_file(&helm, values);
    helm.run(&["template", RELEASE, &chart(name), "--namespace", NAMESPACE, "--values", &file]).await.unwrap()
}

/// What the chart of the operator renders to.
async fn rendered(values: &Value) -> Objects {
    objects(&template("taskwatch", values).await.success().unwrap())
}

/// The same without the definitions, which are large and the same each time.
async fn rendered_without_crds(values: Value) -> Objects {
    let mut with = json!({"crds": {"enabled": false}});
    crate::stage::lay_over(&mut with, values);
    rendered(&with).await
}

/// Writes values for Helm to read.
pub fn values_file(helm: &Helm, values: &Value) -> String {
    let file = helm.workdir().join("values.json");
    std::fs::write(&file, values.to_string()).unwrap();
    file.display().to_string()
}

/// The documents of a stream of YAML.
fn objects(yaml: &str) -> Objects {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    keyed(documents.into_iter().filter(|document| !document.is_null()))
}

fn keyed(objects: impl IntoIterator<Item = Value>) -> Objects {
    let mut found = Objects::new();
    for object in objects {
        let of = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let kind = object["kind"].as_str().unwrap_or_else(|| panic!("no kind: {object}")).to_owned();
        let key = (kind, of("namespace"), of("name"));
        assert!(found.insert(key.clone(), object).is_none(), "{key:?} is there twice");
    }
    found
}

/// The one object of a kind and name, in whichever namespace.
fn find<'a>(objects: &'a Objects, kind: &str, name: &str) -> &'a Value {
    let mut all = objects.iter().filter(|((a, _, b), _)| a == kind && b == name);
    let found = all.next().unwrap_or_else(|| panic!("there is no {kind} {name}: {:?}", objects.keys()));
    assert!(all.next().is_none(), "there are several");
    found.1
}

/// The container of the operator.
fn container(objects: &Objects) -> &Value {
    &find(objects, "Deployment", RELEASE)["spec"]["template"]["spec"]["containers"][0]
}

/// The variables of the container that have a value of their own.
fn environment(container: &Value) -> BTreeMap<String, String> {
    let all = container["env"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    all.filter_map(|variable| Some((text(&variable["name"])?, text(&variable["value"])?))).collect()
}
