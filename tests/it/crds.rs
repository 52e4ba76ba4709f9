//! The generated custom resource definitions: that `crds/` is up to date, and that they keep to the rules for Kubernetes APIs.

use std::{env, fs, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;
use taskwatch::api::{crd_yaml, crds};

/// `crds/` is what the code says. To regenerate: `UPDATE_CRDS=1 cargo test --test it crds`.
#[test]
fn the_files_are_up_to_date() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let files = crd_yaml().unwrap();
    if env::var_os("UPDATE_CRDS").is_some() {
        for (name, text) in &files {
            fs::write(dir.join(name), text).unwrap();
        }
    }
    for (name, text) in &files {
        let stored = fs::read_to_string(dir.join(name)).unwrap_or_default();
        assert!(stored == *text, "crds/{name} differs from the code: run `UPDATE_CRDS=1 cargo test --test it crds`");
        let parsed: CustomResourceDefinition = serde_saphyr::from_str(text).unwrap();
        assert!(crds().contains(&parsed), "crds/{name} does not read back as what was written");
    }
    let mut stored: Vec<_> = fs::read_dir(&dir).unwrap().map(|file| file.unwrap().file_name()).collect();
    stored.sort();
    let mut names: Vec<_> = files.iter().map(|(name, _)| std::ffi::OsString::from(name)).collect();
    names.sort();
    assert_eq!(stored, names, "crds/ holds the generated files and nothing else");
}

/// The rules of Kube API Linter that a schema shows: bounds on everything, descriptions, no floats, list types.
#[test]
fn the_schemas_keep_to_the_rules_of_the_api() {
    let mut faults = Vec::new();
    for crd in crds() {
        for version in &crd.spec.versions {
            let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            let schema = serde_json::to_value(schema).unwrap();
            assert!(described(&schema), "{} has no description", crd.spec.names.kind);
            lint(&schema, &crd.spec.names.kind, &mut faults);
            let status = &schema["properties"]["status"];
            assert_eq!(status["default"], serde_json::json!({"observedGeneration": -1}), "{}", crd.spec.names.kind);
            assert_eq!(status["required"], Value::Null, "every field of a status is optional");
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// `kubectl get taskwatch x` must mean the kind, not a category of that name: kubectl looks for categories first.
#[test]
fn no_category_hides_a_kind() {
    let names: Vec<_> = crds().into_iter().map(|crd| crd.spec.names).collect();
    for category in names.iter().flat_map(|names| names.categories.iter().flatten()) {
        for names in &names {
            assert_ne!(Some(category), names.singular.as_ref());
            assert_ne!(category, &names.plural);
            assert!(names.short_names.iter().flatten().all(|short| short != category));
        }
    }
}

fn described(schema: &Value) -> bool {
    schema["description"].as_str().is_some_and(|text| text.len() > 10 && text.ends_with('.'))
}

fn lint(schema: &Value, path: &str, faults: &mut Vec<String>) {
    let mut demand = |good: bool, what: &str| {
        if !good {
            faults.push(format!("{path}: {what}"));
        }
    };
    demand(schema["nullable"].is_null(), "nullable");
    demand(schema.get("default").is_none_or(|default| !default.is_null()), "defaults to null");
    match schema["type"].as_str() {
        Some("string") => demand(
            schema["maxLength"].is_u64() || schema["enum"].is_array() || schema["format"] == "date-time",
            "string without maxLength, enum or format date-time",
        ),
        Some("integer") => {
            demand(schema["format"] == "int32" || schema["format"] == "int64", "integer that is not int32 or int64");
            demand(schema["minimum"].is_number() && schema["maximum"].is_number(), "integer without bounds");
        }
        Some("array") => {
            demand(schema["maxItems"].is_u64(), "array without maxItems");
            demand(schema["x-kubernetes-list-type"].is_string(), "array without list type");
            demand(!(path.contains(".status.") && schema.get("default").is_some()), "array of a status with a default");
        }
        Some("object") if schema["properties"].is_null() => {
            demand(schema["maxProperties"].is_u64(), "map without maxProperties");
            demand(schema["additionalProperties"].is_object(), "object without properties");
        }
        Some("object" | "boolean") => {}
        other => demand(false, &format!("type {other:?}")),
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if !described(property) && !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            faults.push(format!("{path}: no description that is a sentence"));
        }
        lint(property, &path, faults);
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            lint(&schema[key], &format!("{path}{suffix}"), faults);
        }
    }
}
