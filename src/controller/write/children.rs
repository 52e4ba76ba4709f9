//! Creating and changing the watches that belong to a set.

use http::{HeaderValue, header::ACCEPT};
use kube::{
    Api, Client, Resource,
    api::{PartialObjectMeta, PostParams},
    core::{Request, Status},
};

use super::{
    super::{
        Error, call,
        objects::{Identity, WatchObject},
    },
    FIELD_MANAGER, METADATA_ONLY, send,
};
use crate::{
    api::{TaskWatch, TaskWatchSetSpec},
    domain::discovery::{child, status::Why},
    ownership::Bucket,
};

/// So often a child is read and changed at once; after that, its set is tried again later.
const TRIES: u32 = 3;

/// What became of a creation, or of a change.
pub(in super::super) enum Created {
    /// It is there, now or already; or it is as it should be.
    Done,
    /// Another object of its name is there, which does not belong to the set.
    Foreign,
    /// The API server does not want it.
    Refused(Why),
}

/// Creates a child of the set of this identity.
pub(super) async fn create(
    client: &Client,
    bucket: &Bucket,
    child: &TaskWatch,
    set: &Identity,
) -> Result<Created, Error> {
    let request = collection(set).create(&params(), serde_json::to_vec(child)?)?;
    match send::<PartialObjectMeta<TaskWatch>>(client, bucket, metadata_only(request)).await {
        Ok(_) => Ok(Created::Done),
        Err(Error::Api(kube::Error::Api(status))) if status.is_already_exists() => {
            let name = child.metadata.name.as_deref().unwrap_or_default();
            let found = call(api(client, set).get_opt(name)).await?;
            // Where it has gone meanwhile, it is created at the next look.
            let is_ours = found.is_none_or(|found| belongs(&found, set));
            Ok(if is_ours { Created::Done } else { Created::Foreign })
        }
        Err(error) => refused(error),
    }
}

/// Brings a child of the set of this identity up to date with the set's template, unless it is gone or is another one: then the next look
/// tells. One that is changed meanwhile, as by a status of its own, is read and changed anew.
pub(super) async fn update(
    client: &Client,
    bucket: &Bucket,
    child: &Identity,
    set: &Identity,
    spec: &TaskWatchSetSpec,
) -> Result<Created, Error> {
    let mut left = TRIES;
    loop {
        left -= 1;
        match replace(client, bucket, child, set, spec).await {
            Err(Error::Api(kube::Error::Api(status))) if status.is_conflict() && left > 0 => {}
            Err(error) => return refused(error),
            done => return done,
        }
    }
}

async fn replace(
    client: &Client,
    bucket: &Bucket,
    child: &Identity,
    set: &Identity,
    spec: &TaskWatchSetSpec,
) -> Result<Created, Error> {
    let Some(mut found) = call(api(client, set).get_opt(&child.name)).await? else { return Ok(Created::Done) };
    if found.metadata.uid.as_deref() != Some(&*child.uid.0) || !belongs(&found, set) {
        return Ok(Created::Done);
    }
    child::update(&mut found, spec);
    found.status = None;
    let request = collection(set).replace(&child.name, &params(), serde_json::to_vec(&found)?)?;
    match send::<PartialObjectMeta<TaskWatch>>(client, bucket, metadata_only(request)).await {
        Ok(_) => Ok(Created::Done),
        Err(Error::Api(kube::Error::Api(status))) if status.is_not_found() => Ok(Created::Done),
        Err(error) => Err(error),
    }
}

/// Why the API server does not want an object, where asking again soon does not help.
fn refused(error: Error) -> Result<Created, Error> {
    match error {
        Error::Api(kube::Error::Api(status)) => match refusal(&status) {
            Some(why) => Ok(Created::Refused(why)),
            None => Err(Error::Api(kube::Error::Api(status))),
        },
        error => Err(error),
    }
}

fn api(client: &Client, set: &Identity) -> Api<TaskWatch> {
    Api::namespaced(client.clone(), set.namespace.as_deref().unwrap_or_default())
}

/// Requests for the watches of the namespace of a set.
fn collection(set: &Identity) -> Request {
    Request::new(TaskWatch::url_path(&(), set.namespace.as_deref()))
}

fn metadata_only(mut request: http::Request<Vec<u8>>) -> http::Request<Vec<u8>> {
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static(METADATA_ONLY));
    request
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn belongs(watch: &TaskWatch, set: &Identity) -> bool {
    let object = WatchObject::of(&watch.metadata, watch.spec.clone());
    object.and_then(|object| object.parent).is_some_and(|parent| parent.set == set.uid)
}

fn refusal(status: &Status) -> Option<Why> {
    match status.code {
        403 if status.message.contains("exceeded quota") => Some(Why::Quota(status.message.clone())),
        400 | 403 | 404 | 422 => Some(Why::Refused(status.message.clone())),
        _ => None,
    }
}
