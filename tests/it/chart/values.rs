//! `values.yaml`: each value is described, known to the schema and on the page, and each flag of the operator is one of them.

use std::{collections::BTreeMap, env, fmt::Write as _, fs};

use clap::{Arg, ValueEnum as _, error::ErrorKind};
use serde_json::{Value, json};
use taskwatch::{
    api::provider::MEMBERS,
    ops::args::{AuthName, Cli},
};
use taskwatch_harness::{Helm, workspace_root};

use super::{chart, container, environment, rendered_without_crds};

/// The flag that is `scopedNamespaces`, since roles are made of it.
const NAMESPACE: &str = "namespace";
/// What begins and ends the table of the page.
const MARKS: [&str; 2] = ["<!-- values: generated -->", "<!-- /values -->"];

/// A value and what is said of it.
struct Described {
    path: String,
    text: String,
    default: Value,
}

fn read(file: &str) -> String {
    fs::read_to_string(workspace_root().join("deploy/chart").join(file)).unwrap()
}

/// The values that have a comment right above them.
fn described(file: &str) -> Vec<Described> {
    let text = read(file);
    let defaults: Value = serde_saphyr::from_str(&text).unwrap();
    let (mut found, mut parents, mut comment) = (Vec::new(), Vec::<&str>::new(), Vec::<&str>::new());
    for line in text.lines() {
        let trimmed = line.trim_start();
        if let Some(said) = trimmed.strip_prefix('#') {
            comment.push(said.trim());
            continue;
        }
        let key = trimmed.split_once(':').map(|(key, _)| key).filter(|key| key.chars().all(char::is_alphanumeric));
        if let Some(key) = key.filter(|key| !key.is_empty()) {
            parents.truncate((line.len() - trimmed.len()) / 2);
            parents.push(key);
            if !comment.is_empty() {
                let pointer = format!("/{}", parents.join("/"));
                let default = defaults.pointer(&pointer).unwrap_or_else(|| panic!("no {pointer}")).clone();
                found.push(Described { path: parents.join("."), text: comment.join(" "), default });
            }
        }
        comment.clear();
    }
    found
}

/// The values of the schema: those that have no others in them.
fn known(schema: &Value, path: &str, found: &mut Vec<String>) {
    for (name, schema) in schema["properties"].as_object().unwrap() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match schema.get("properties") {
            Some(_) => known(schema, &path, found),
            None if name == "global" => {}
            None => found.push(path),
        }
    }
}

#[test]
fn each_value_is_described_and_known_to_the_schema() {
    for chart in ["taskwatch", "taskwatch-crds"] {
        let schema: Value = serde_json::from_str(&read(&format!("{chart}/values.schema.json"))).unwrap();
        let described = described(&format!("{chart}/values.yaml"));
        let mut names = Vec::new();
        known(&schema, "", &mut names);
        let missing: Vec<_> = names.iter().filter(|name| !described.iter().any(|value| value.path == **name)).collect();
        assert!(missing.is_empty(), "{chart}: known to the schema, and without a comment in values.yaml: {missing:?}");
        let defaults: Value = serde_saphyr::from_str(&read(&format!("{chart}/values.yaml"))).unwrap();
        unknown(&schema, &defaults, "");
        for value in &described {
            assert!(value.text.ends_with('.'), "{chart}: {}: {}", value.path, value.text);
        }
    }
}

/// What is in `values.yaml` is in the schema.
fn unknown(schema: &Value, values: &Value, path: &str) {
    let Some(properties) = schema.get("properties") else { return };
    for (name, value) in values.as_object().unwrap() {
        let schema = properties.get(name).unwrap_or_else(|| panic!("the schema does not know {path}.{name}"));
        unknown(schema, value, &format!("{path}.{name}"));
    }
}

fn cli() -> clap::Command {
    Cli::command_naming(&MEMBERS.iter().map(|member| (member.name, "")).collect::<Vec<_>>())
}

/// The name of the value that a flag is.
fn value_of(flag: &str) -> String {
    let mut words = flag.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}

/// Each flag can be set by the chart, as the variable that it is, too, and the schema allows what the operator takes and no more.
#[tokio::test]
async fn each_flag_of_the_operator_can_be_set() {
    let schema: Value = serde_json::from_str(&read("taskwatch/values.schema.json")).unwrap();
    let schema = &schema["properties"]["config"]["properties"];
    let command = cli();
    let run = command.find_subcommand("run").unwrap();
    let flags: Vec<_> = run.get_arguments().filter(|arg| arg.get_id() != "help").collect();
    let mut values =
        json!({"scopedNamespaces": ["team-a", "team-b"], "config": {}, "terminationGracePeriodSeconds": 301});
    let mut expected = BTreeMap::from([("TASKWATCH_NAMESPACE".to_owned(), "team-a,team-b".to_owned())]);
    for flag in flags.iter().filter(|flag| flag.get_long() != Some(NAMESPACE)) {
        let long = flag.get_long().unwrap();
        let (value, text) = sample(long, &schema[value_of(long)]);
        values["config"][value_of(long)] = value;
        expected.insert(flag.get_env().unwrap().to_str().unwrap().to_owned(), text);
    }
    assert!(expected.len() > 20, "{expected:?}");
    let objects = rendered_without_crds(values.clone()).await;
    assert_eq!(environment(container(&objects)), expected);
    let known = schema.as_object().unwrap().len();
    assert_eq!(known, expected.len() - 1, "what the schema knows beside the flags is none: {schema}");

    let kinds: Vec<_> = AuthName::value_variants().iter().map(|kind| kind.as_str()).collect();
    assert_eq!(schema["denyAuth"]["items"]["enum"], json!(kinds));
    let providers: Vec<_> = MEMBERS.iter().map(|member| member.name).collect();
    assert_eq!(schema["denyProvider"]["items"]["enum"], json!(providers));

    // What was rendered is what the operator takes.
    for flag in &flags {
        let text = &expected[flag.get_env().unwrap().to_str().unwrap()];
        takes(flag, text, true);
        let of = &schema[value_of(flag.get_long().unwrap())];
        for (bound, beyond) in [("minimum", -1), ("maximum", 1)] {
            if let Some(bound) = of[bound].as_i64() {
                takes(flag, &bound.to_string(), true);
                takes(flag, &(bound + beyond).to_string(), false);
            }
        }
    }
}

fn takes(flag: &Arg, text: &str, should: bool) {
    let flag = format!("--{}={text}", flag.get_long().unwrap());
    let answer = cli().try_get_matches_from(["taskwatch", "run", &flag]);
    // A switch takes no value on the command line, only as a variable; and a flag may be of use only with another one.
    let beside_it = [ErrorKind::TooManyValues, ErrorKind::MissingRequiredArgument];
    let is_taken = answer.as_ref().is_err_and(|error| beside_it.contains(&error.kind()));
    assert!(is_taken || answer.is_ok() == should, "{flag}: {answer:?}");
}

/// A value that a flag can have, and the text of its variable.
fn sample(flag: &str, schema: &Value) -> (Value, String) {
    let text = match flag {
        "allow-egress" => {
            return (json!(["10.0.0.0/8:443@team-a", "fd00::/8"]), "10.0.0.0/8:443@team-a,fd00::/8".to_owned());
        }
        "deny-egress" => return (json!(["10.1.0.0/16", "10.2.0.0/16"]), "10.1.0.0/16,10.2.0.0/16".to_owned()),
        "upstream-no-proxy" => return (json!([".example.com", "10.0.0.0/8"]), ".example.com,10.0.0.0/8".to_owned()),
        "deny-auth" => return (json!(["token", "oauth2"]), "token,oauth2".to_owned()),
        "deny-provider" => return (json!(["cloudRu"]), "cloudRu".to_owned()),
        "otlp-endpoint" => "http://collector:4318",
        "upstream-proxy" => "http://proxy:3128",
        "http-address" => "[::]:9090",
        "probe-address" => "0.0.0.0:9091",
        "log-format" => "text",
        "log-level" => "info,taskwatch=debug",
        "http-tls-cert" | "http-tls-key" | "cluster-resource-namespace" | "kubeconfig" | "context" | "lease" => "other",
        _ if schema["$ref"] == "#/definitions/flag" => return (json!(true), "true".to_owned()),
        // The largest one: no figure is written as 1e+06.
        _ => {
            let number = schema["maximum"].as_i64().unwrap_or(1_000_000);
            return (json!(number), number.to_string());
        }
    };
    (json!(text), text.to_owned())
}

/// The defaults of the operator that the comments show are those that it has.
#[test]
fn the_defaults_of_flags_are_told() {
    let described = described("taskwatch/values.yaml");
    let command = cli();
    for flag in command.find_subcommand("run").unwrap().get_arguments() {
        let (Some(long), [default]) = (flag.get_long(), flag.get_default_values()) else { continue };
        let path = format!("config.{}", value_of(long));
        let value = described.iter().find(|value| value.path == path).unwrap_or_else(|| panic!("no {path}"));
        let wanted = format!("(default {})", default.to_str().unwrap());
        assert!(value.text.contains(&wanted), "{path}: {wanted} is not in {:?}", value.text);
    }
}

/// The table of the page is what `values.yaml` says. To make it anew: `UPDATE_DOCS=1 cargo test --test it chart::values`.
#[test]
fn the_page_shows_each_value() {
    let mut table = String::from("| value | default | |\n|---|---|---|\n");
    for Described { path, text, default } in described("taskwatch/values.yaml") {
        // The flags, which follow one by one, and what is left to others.
        let is_blank = default.is_null() || path == "config";
        let default = if is_blank { String::new() } else { format!("`{default}`") };
        let _ = writeln!(table, "| `{path}` | {default} | {} |", text.replace('|', "\\|"));
    }
    let page = workspace_root().join("docs/helm.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(MARKS[0]).unwrap();
    let (_, after) = rest.split_once(MARKS[1]).unwrap();
    let expected = format!("{before}{}\n{table}{}{after}", MARKS[0], MARKS[1]);
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&page, &expected).unwrap();
    }
    let now = fs::read_to_string(&page).unwrap();
    assert!(
        now == expected,
        "docs/helm.md differs from values.yaml: run `UPDATE_DOCS=1 cargo test --test it chart::values`"
    );
}

#[test]
fn the_charts_are_of_this_version() {
    for file in ["taskwatch/Chart.yaml", "taskwatch-crds/Chart.yaml"] {
        let chart: Value = serde_saphyr::from_str(&read(file)).unwrap();
        for field in ["version", "appVersion"] {
            assert_eq!(chart[field], env!("CARGO_PKG_VERSION"), "{file}: {field}");
        }
        for dependency in chart["dependencies"].as_array().into_iter().flatten() {
            assert_eq!(dependency["version"], env!("CARGO_PKG_VERSION"), "{dependency}");
        }
    }
}

#[tokio::test]
async fn helm_finds_no_fault() {
    let helm = Helm::offline().await.unwrap();
    for name in ["taskwatch", "taskwatch-crds"] {
        let output = helm.run(&["lint", "--strict", "--quiet", &chart(name)]).await.unwrap();
        assert!(output.code == 0, "{name}: {}{}", output.stdout, output.stderr);
    }
}
