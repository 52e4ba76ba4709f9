use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[allow(clippy::needless_pass_by_value, reason = "it is made where it is given")]
fn spec(value: serde_json::Value) -> TaskWatchSetSpec {
    let mut whole = json!({"connectionRef": {"name": "astra-prod"}});
    whole.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

#[allow(clippy::needless_pass_by_value, reason = "it is made where it is given")]
fn template(labels: serde_json::Value, annotations: serde_json::Value, spec: serde_json::Value) -> TaskWatchSetSpec {
    self::spec(json!({"template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}}))
}

/// What the API server takes for the name of an object (RFC 1123 subdomain).
fn is_object_name(name: &str) -> bool {
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_part =
        |part: &str| part.starts_with(is_end) && part.ends_with(is_end) && part.chars().all(|c| is_end(c) || c == '-');
    name.len() <= 253 && name.split('.').all(is_part)
}

/// What it takes for the value of a label.
fn is_label_value(value: &str) -> bool {
    let is_end = |c: char| c.is_ascii_alphanumeric();
    let is_inner = |c: char| is_end(c) || "-_.".contains(c);
    value.is_empty()
        || value.len() <= 63 && value.starts_with(is_end) && value.ends_with(is_end) && value.chars().all(is_inner)
}

#[test]
fn a_name_shows_set_and_task() {
    // Written down: in another version, the same task must have the same name.
    assert_eq!(name("nightly", None, "0cb3d2b1-2f5e-4a43"), "nightly-0cb3d2b1-2f5e-4a43-hrta5ybf2y");
    assert_eq!(name("nightly", None, "Ünïcode/«X»"), "nightly-n-code-x-249f4fdad0");
    assert_eq!(name("nightly", None, "///"), "nightly-p402bzze23");
    let long = name(&"s".repeat(253), Some("scope"), &"T".repeat(1024));
    assert_eq!(long.len(), 253);
    assert!(is_object_name(&long) && long.contains(&format!("s-{}-", "t".repeat(40))), "{long}");
    let dotted = name(&format!("{}.b", "a".repeat(200)), None, "t");
    assert!(is_object_name(&dotted) && dotted.starts_with(&format!("{}-t-", "a".repeat(200))), "{dotted}");
}

#[test]
fn names_that_look_alike_are_apart() {
    let ids = ["abc", "ABC", "aBc", "a.bc", "a-bc", "a_bc", "a/bc", "-abc", "abc-", "a--bc", "ab-c", "а bc"];
    let sets = ["s", "s-a", "s-abc"];
    let scopes = [None, Some("x"), Some("X"), Some("y")];
    let mut names = HashSet::new();
    for set in sets {
        for scope in scopes {
            names.extend(ids.map(|id| name(set, scope, id)));
        }
    }
    assert_eq!(names.len(), sets.len() * scopes.len() * ids.len());
}

#[test]
fn a_label_is_the_text_itself_where_it_can_be() {
    for text in ["a", "0cb3d2b1-2f5e-4a43", "A_b.C", &"x".repeat(63)] {
        assert_eq!(label(text), text);
    }
    // As `printf %s TEXT | sha256sum` has it.
    assert_eq!(label("a b"), "sha256-c8687a08aa5d6ed2044328fa6a697ab8e96dc342");
    let odd = [
        "",
        "-a",
        "a-",
        "a/b",
        "ж",
        "sha256-c8687a08aa5d6ed2044328fa6a697ab8e96dc342",
        &"x".repeat(64),
        &"x".repeat(65),
    ];
    let values: HashSet<_> = odd.iter().map(|text| label(text)).collect();
    assert_eq!(values.len(), odd.len(), "a text that looks like a hash is not taken for one");
    assert!(values.iter().all(|value| value.starts_with(HASHED) && is_label_value(value)), "{values:?}");
}

proptest! {
    #[test]
    fn the_api_server_takes_names_and_labels(set in "[a-z0-9]([a-z0-9.]{0,250}[a-z0-9])?", id in "\\PC{1,200}", scope: Option<String>) {
        prop_assume!(is_object_name(&set));
        let name = name(&set, scope.as_deref(), &id);
        prop_assert!(is_object_name(&name), "{}", name);
        prop_assert!(is_label_value(&label(&id)) && is_label_value(&label(&set)));
    }
}

#[test]
fn a_child_has_its_owner_its_task_and_what_the_template_gives() {
    let mut spec = template(
        json!({"team": "a", "taskwatch.dev/set": "other"}),
        json!({"note": "n", "taskwatch.dev/allow-ttl": "true", IGNORE_UPDATES: "false"}),
        json!({"readyWhen": "Observed", "activeDeadlineSeconds": 5, "onNotFound": "Succeed", "notFoundGraceSeconds": 7, "poll": {"periodSeconds": 9}}),
    );
    spec.scope = Some("acc".into());
    let made = serde_json::to_value(make("nightly", "u-1", "team-a", &spec, "T 1")).unwrap();
    let expected = json!({
        "apiVersion": "taskwatch.dev/v1alpha1",
        "kind": "TaskWatch",
        "metadata": {
            "name": name("nightly", Some("acc"), "T 1"),
            "namespace": "team-a",
            "labels": {"team": "a", "taskwatch.dev/set": "nightly", "taskwatch.dev/task": label("T 1")},
            "annotations": {
                "note": "n",
                "argocd.argoproj.io/ignore-resource-updates": "true",
                "taskwatch.dev/template": format!(r#"{{"hash":"{}","labels":["team"],"annotations":["note"]}}"#, template_hash(&spec)),
            },
            "ownerReferences": [{
                "apiVersion": "taskwatch.dev/v1alpha1", "kind": "TaskWatchSet", "name": "nightly", "uid": "u-1",
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "connectionRef": {"kind": "TaskConnection", "name": "astra-prod"},
            "task": {"id": "T 1", "scope": "acc"},
            "readyWhen": "Observed",
            "poll": {"periodSeconds": 9},
            "activeDeadlineSeconds": 5,
            "onNotFound": "Succeed",
            "notFoundGraceSeconds": 7,
            "suspend": false,
        },
    });
    assert_eq!(made, expected);
}

#[test]
fn without_a_template_a_child_is_as_a_task_watch_that_gives_no_more_than_its_task() {
    let made = make("s", "u", "n", &spec(json!({})), "t");
    let plain = json!({"connectionRef": {"name": "astra-prod"}, "task": {"id": "t"}});
    assert_eq!(made.spec, serde_json::from_value(plain).unwrap());
    let empty = template(json!({}), json!({}), json!({}));
    assert_eq!(template_hash(&spec(json!({}))), template_hash(&empty), "what makes the same is the same");
    assert_eq!(hash_of(made.metadata.annotations.as_ref().unwrap()), Some(template_hash(&empty)));
}

#[test]
fn what_a_child_is_brought_up_to_date_with_is_what_it_would_be_made_of() {
    let specs = [
        spec(json!({"limit": 7})),
        template(
            json!({"a": "1", "b": "2"}),
            json!({"x": "1"}),
            json!({"readyWhen": "Observed", "poll": {"periodSeconds": 9}}),
        ),
        template(json!({"b": "3", "c": "4"}), json!({"x": "2", "y": "1"}), json!({"notFoundGraceSeconds": 5})),
        template(json!({}), json!({"z": "1"}), json!({"onNotFound": "Retry", "activeDeadlineSeconds": 60})),
    ];
    for old in &specs {
        for new in &specs {
            let mut child = make("s", "u", "n", old, "t");
            update(&mut child, new);
            assert_eq!(child, make("s", "u", "n", new, "t"), "{old:?} {new:?}");
            assert_eq!(old == new, template_hash(old) == template_hash(new));
        }
    }
}

#[test]
fn what_others_have_put_on_a_child_stays() {
    let (old, new) =
        (template(json!({"a": "1"}), json!({}), json!({})), template(json!({"b": "1"}), json!({}), json!({})));
    let mut child = make("s", "u", "n", &old, "t");
    child.metadata.labels.as_mut().unwrap().insert("mine".into(), "1".into());
    child.metadata.annotations.as_mut().unwrap().insert("taskwatch.dev/requestedAt".into(), "now".into());
    child.spec.suspend = true;
    child.spec.ttl_seconds_after_finished = Some(5);
    update(&mut child, &new);
    let labels = child.metadata.labels.as_ref().unwrap();
    assert_eq!(labels.keys().map(String::as_str).collect::<Vec<_>>(), ["b", "mine", SET_LABEL, TASK_LABEL]);
    assert!(child.metadata.annotations.as_ref().unwrap().contains_key("taskwatch.dev/requestedAt"));
    assert!(child.spec.suspend && child.spec.ttl_seconds_after_finished == Some(5));
}

#[test]
fn an_annotation_that_somebody_has_spoilt_does_no_harm() {
    for spoilt in [
        "",
        "[]",
        "{\"labels\": 1}",
        r#"{"hash":"x","labels":["taskwatch.dev/set","none"],"annotations":["taskwatch.dev/template"]}"#,
    ] {
        let spec = template(json!({"a": "1"}), json!({}), json!({}));
        let whole = make("s", "u", "n", &spec, "t");
        let mut child = whole.clone();
        child.metadata.annotations.as_mut().unwrap().insert(TEMPLATE.into(), spoilt.into());
        assert_ne!(hash_of(child.metadata.annotations.as_ref().unwrap()), Some(template_hash(&spec)));
        update(&mut child, &spec);
        assert_eq!(child, whole, "{spoilt}");
    }
    let mut bare = make("s", "u", "n", &spec(json!({})), "t");
    (bare.metadata.annotations, bare.metadata.labels) = (None, None);
    update(&mut bare, &spec(json!({})));
    assert!(bare.metadata.annotations.unwrap().contains_key(TEMPLATE));
}
