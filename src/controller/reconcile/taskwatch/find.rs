//! Looks for the task of a watch that does not name it: reads the object that is to have its identifier, or looks through the tasks that
//! were listed.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Resource, api::GetParams, core::Request};
use serde::Deserialize;
use tokio::time::Instant;

use super::super::super::{Controller, Error, call, index::Index, objects::WatchObject, search::Lookup};
use crate::{
    api::{ID_FROM, KeySource, TaskIdSource, bounds::IDENTIFIER},
    domain::{
        discovery::latest,
        target::{Absent, Sought},
    },
    ops::guard::{Stage, Subject},
    providers::registry::Chosen,
};

/// Looks once, and notes what came of it. A read is on the account of the watch's namespace, as a write is.
///
/// # Errors
/// The API server cannot be asked; or when to come again, where the namespace has had its share.
pub(super) async fn look(
    controller: &Controller,
    object: &Arc<WatchObject>,
    look: Lookup,
) -> Result<Result<(), Instant>, Error> {
    let key = &object.identity.uid;
    match look {
        Lookup::Read => {
            let Some(source) = object.spec.task.id_from.as_deref().and_then(TaskIdSource::member) else {
                return Ok(Ok(()));
            };
            if let Err(again) = controller.writer.take(&object.tenant()) {
                return Ok(Err(again));
            }
            let namespace = object.identity.namespace.as_deref().unwrap_or_default();
            let read =
                read(controller, namespace, source).await?.map_err(|why| Sought::absent(&why, source, namespace));
            let mut index = controller.shared.index();
            let Index { watches, connections, .. } = &mut *index;
            let connection = connections.get(&object.connection());
            let provider = connection.and_then(|connection| Chosen::of(&connection.object.spec.provider));
            // Whose identifiers those would be is not known any more: it is looked at again when it is.
            let (Some(entry), Some(provider)) = (watches.get_mut(key), provider) else { return Ok(Ok(())) };
            let read = read.and_then(|text| identifier(text, source, provider));
            entry.search(|search, _| search.has_read(read, Instant::now()));
        }
        Lookup::Choose(catalogue) => {
            let Some(latest) = &object.spec.task.latest else { return Ok(Ok(())) };
            // Without the index's lock: there may be very many tasks.
            let subject = || Subject::new(&object.tenant(), key);
            let newest = || latest::newest(latest, object.created, &catalogue);
            let chosen = controller.guard.run(Stage::Decide, subject, newest);
            let chosen = chosen.ok().flatten().map(|task| Arc::clone(&task.id));
            if let Some(entry) = controller.shared.index().watches.get_mut(key) {
                entry.search(|search, _| search.has_chosen(&catalogue, chosen));
            }
        }
    }
    Ok(Ok(()))
}

/// The identifier that a text is, if it is one that the provider can have.
fn identifier(text: String, source: KeySource<'_>, provider: Chosen<'_>) -> Result<String, Sought> {
    let (rule, name) = (provider.identifiers().task, provider.member().name());
    let (kind, reference) = (source.kind(), source.reference());
    let field = format!("The key {} of {kind} {}", reference.key, reference.name);
    let Some(refusal) = rule.refusal(&text, &field, name) else { return Ok(text) };
    Err(Sought::refused(
        source,
        &match source {
            KeySource::ConfigMap(_) => refusal,
            // Nothing of what may have got there by mistake.
            KeySource::Secret(_) => {
                format!("{field} has no identifier of {name} in it, which would look as {}", rule.example)
            }
        },
    ))
}

/// Reads the text that is to be the identifier, without the blanks around it.
async fn read(
    controller: &Controller,
    namespace: &str,
    source: KeySource<'_>,
) -> Result<Result<String, Absent>, Error> {
    let path = match source {
        KeySource::ConfigMap(_) => ConfigMap::url_path(&(), Some(namespace)),
        KeySource::Secret(_) => Secret::url_path(&(), Some(namespace)),
    };
    let Ok(request) = Request::new(path).get(&source.reference().name, &GetParams::default()) else {
        // No object has such a name.
        return Ok(Err(Absent::Object));
    };
    match call(controller.client.request_text(request)).await {
        Ok(text) => Ok(value(&text, source)?),
        Err(Error::Api(kube::Error::Api(status))) if status.is_not_found() => Ok(Err(Absent::Object)),
        Err(Error::Api(kube::Error::Api(status))) if status.is_forbidden() => Ok(Err(Absent::Forbidden)),
        Err(error) => Err(error),
    }
}

/// What a `ConfigMap` or a Secret is read for.
#[derive(Deserialize)]
struct Holder<'a> {
    #[serde(borrow)]
    metadata: Labelled<'a>,
    #[serde(borrow, default)]
    data: Option<HashMap<Text<'a>, Text<'a>>>,
}

#[derive(Deserialize)]
struct Labelled<'a> {
    #[serde(borrow, default)]
    labels: Option<HashMap<Text<'a>, Text<'a>>>,
}

/// A text that stays in the buffer where it can.
#[derive(Deserialize, PartialEq, Eq, Hash)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The text of the key in the object, as the API server shows it.
fn value(object: &str, source: KeySource<'_>) -> Result<Result<String, Absent>, Error> {
    let Holder { metadata, data } = serde_json::from_str(object)?;
    let find = |map: &Option<HashMap<Text<'_>, Text<'_>>>, key: &str| {
        map.as_ref().and_then(|map| map.get(&Text(Cow::Borrowed(key)))).map(|text| text.0.to_string())
    };
    let key = &source.reference().key;
    let text = match source {
        KeySource::ConfigMap(_) => find(&data, key),
        // Its value will be shown to all who may read TaskWatches: whoever keeps the Secret has to allow that.
        KeySource::Secret(_) if find(&metadata.labels, ID_FROM).as_deref() != Some("true") => {
            return Ok(Err(Absent::Object));
        }
        KeySource::Secret(_) => find(&data, key).map(|text| decoded(&text)),
    };
    // What is longer than any identifier need not be kept to be refused.
    Ok(text.map(|text| text.trim().chars().take(IDENTIFIER + 1).collect()).ok_or(Absent::Key))
}

fn decoded(text: &str) -> String {
    let bytes = BASE64_STANDARD.decode(text).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{ConnectionProvider, KeyReference};

    fn reference() -> KeyReference {
        KeyReference { name: "o".into(), key: "id".into() }
    }

    fn read(object: &serde_json::Value, source: KeySource<'_>) -> Result<String, Absent> {
        value(&object.to_string(), source).unwrap()
    }

    #[test]
    fn of_a_config_map_the_key_is_read_without_the_blanks_around_it() {
        let (reference, source) = (&reference(), KeySource::ConfigMap);
        let map = |data| json!({"metadata": {"name": "o"}, "data": data});
        assert_eq!(read(&map(json!({"id": "t-1\n", "other": "\u{1}"})), source(reference)), Ok("t-1".into()));
        assert_eq!(read(&map(json!({"id": " \n"})), source(reference)), Ok(String::new()));
        assert_eq!(read(&map(json!({"ID": "t-1"})), source(reference)), Err(Absent::Key));
        assert_eq!(read(&json!({"metadata": {"name": "o"}}), source(reference)), Err(Absent::Key));
        let long = read(&map(json!({"id": "ж".repeat(9_000)})), source(reference)).unwrap();
        assert_eq!(long.chars().count(), IDENTIFIER + 1, "no more than shows that it is too long");
    }

    /// Whoever may write a `TaskWatch`, but not read Secrets, must not read one through the status; nor learn whether it is there.
    #[test]
    fn a_secret_that_is_not_labelled_reads_as_one_that_is_not_there() {
        let (reference, source) = (&reference(), KeySource::Secret);
        let secret = |labels| json!({"metadata": {"labels": labels}, "data": {"id": BASE64_STANDARD.encode("t-1")}});
        for labels in [json!(null), json!({}), json!({"a": "true"}), json!({ID_FROM: "false"}), json!({ID_FROM: ""})] {
            assert_eq!(read(&secret(labels), source(reference)), Err(Absent::Object));
        }
        assert_eq!(read(&secret(json!({ID_FROM: "true"})), source(reference)), Ok("t-1".into()));
        let said = [Absent::Object, Absent::Key].map(|why| Sought::absent(&why, source(reference), "n"));
        let Sought::Identifier(message) = &said[0] else { panic!("{said:?}") };
        assert!(
            message.contains("no Secret o with the key id and the label taskwatch.dev/id-from: \"true\""),
            "{message}"
        );
    }

    #[test]
    fn what_the_provider_cannot_have_is_refused_and_of_a_secret_nothing_is_told() {
        let provider: ConnectionProvider =
            serde_json::from_value(json!({"huaweiCloud": {"endpoint": "https://a", "projectID": "p"}})).unwrap();
        let (provider, reference) = (Chosen::of(&provider).unwrap(), &reference());
        let said = |text: &str, source| match identifier(text.into(), source, provider) {
            Ok(id) => id,
            Err(Sought::Unusable(why)) => format!("{}: {}", why.reason.as_str(), why.message),
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(said("4010a32d", KeySource::ConfigMap(reference)), "4010a32d");
        let told = said("", KeySource::ConfigMap(reference));
        assert!(
            told.starts_with("InvalidSpec: The key id of ConfigMap o is empty. An identifier of huaweiCloud"),
            "{told}"
        );
        assert!(told.ends_with("correct ConfigMap o, which is read again"), "{told}");
        let told = said("pass%word", KeySource::ConfigMap(reference));
        assert!(told.contains("has \"%\" in it"), "{told}");
        let told = said("pass%word", KeySource::Secret(reference));
        assert!(
            told.contains("key id of Secret o has no identifier of huaweiCloud in it") && !told.contains('%'),
            "{told}"
        );
    }
}
