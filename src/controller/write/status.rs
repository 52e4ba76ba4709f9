//! Writing the status of an object, fenced by its UID.
//!
//! A JSON Patch that tests `metadata.uid` first: it cannot reach an object of the same name that was made later, and needs no fresh
//! resource version, so that it meets no conflicts. (Server-side apply and merge patches are not refused for a wrong UID.)

use kube::{Client, Resource, api::PartialObjectMeta};
use serde::Serialize;
use serde_json::json;

use super::{
    super::{
        Error,
        objects::{Identity, version},
    },
    FIELD_MANAGER, METADATA_ONLY, send,
};
use crate::{api::TaskWatch, ownership::Bucket};

/// What became of a write.
pub(in super::super) enum Written {
    /// Acknowledged with this resource version.
    At(u64),
    /// There is no such object any more.
    Gone,
}

/// Replaces the status of the object of this identity in the collection at `path`.
pub(super) async fn write(
    client: &Client,
    bucket: &Bucket,
    path: &str,
    identity: &Identity,
    status: &impl Serialize,
) -> Result<Written, Error> {
    let operations = json!([
        {"op": "test", "path": "/metadata/uid", "value": &*identity.uid.0},
        {"op": "add", "path": "/status", "value": status},
    ]);
    let request = http::Request::patch(format!("{path}/{}/status?fieldManager={FIELD_MANAGER}", identity.name))
        .header(http::header::CONTENT_TYPE, "application/json-patch+json")
        .header(http::header::ACCEPT, METADATA_ONLY)
        .body(serde_json::to_vec(&operations)?)?;
    match send::<PartialObjectMeta<TaskWatch>>(client, bucket, request).await {
        Ok(object) => Ok(Written::At(version(object.meta()))),
        Err(Error::Api(kube::Error::Api(status))) if status.is_not_found() || is_other_uid(&status) => {
            Ok(Written::Gone)
        }
        Err(error) => Err(error),
    }
}

/// Whether the patch's test failed. Of that the API server says nothing but that it cannot be processed; a status that the schema
/// refuses is 422, too, but names the object and its fields.
fn is_other_uid(status: &kube::core::Status) -> bool {
    status.code == 422
        && status.details.as_ref().is_none_or(|details| details.kind.is_empty() && details.causes.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failed_test_of_the_uid_is_told_from_a_status_that_is_refused() {
        // As kube-apiserver 1.34 answers.
        let other = json!({"status": "Failure", "reason": "Invalid", "code": 422, "metadata": {}, "details": {},
            "message": "the server rejected our request due to an error in our request"});
        let refused = json!({"status": "Failure", "reason": "Invalid", "code": 422, "metadata": {},
            "message": "TaskWatch.taskwatch.dev \"a\" is invalid: status.state: Too long: may not be more than 64 bytes",
            "details": {"name": "a", "group": "taskwatch.dev", "kind": "TaskWatch",
                "causes": [{"reason": "FieldValueTooLong", "message": "Too long", "field": "status.state"}]}});
        let status = |json| serde_json::from_value::<kube::core::Status>(json).unwrap();
        assert!(is_other_uid(&status(other)));
        assert!(!is_other_uid(&status(refused)));
    }
}
