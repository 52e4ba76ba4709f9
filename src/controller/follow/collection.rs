//! One collection of the API server, asked by plain requests. Every wait has a limit, every body a cap.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use super::wire::Refusal;

/// How long one page, or one look, may take from request to last byte.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How long a watch may take to begin.
const BEGIN_LIMIT: Duration = Duration::from_secs(30);
/// Load balancers drop idle connections silently after 240 s; a watch ends by itself before that.
const WATCH_SECONDS: u64 = 200;
/// How much later than agreed a watch may end.
const LATE: Duration = Duration::from_secs(15);
/// Bytes of a refusal that are read.
const REFUSAL_CAP: usize = 64 << 10;
/// An event beyond so many bytes counts as large.
const LARGE: usize = 256 << 10;
/// Only the metadata of the objects of a list.
const METADATA_OF_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
/// Only the metadata of the object of each event: asked for a list there, the API server ends the watch at its first event.
const METADATA_OF_OBJECT: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const WHOLE: &str = "application/json";

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The API server says why not.
    #[error("the API server answers {0}")]
    Refused(Refusal),
    /// It could not be reached, or broke off.
    #[error("{0}")]
    Broken(#[from] kube::Error),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// There is more of it than is read.
    #[error("larger than {0} bytes")]
    TooLarge(usize),
    /// It is not what was asked for.
    #[error("an answer that cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// It cannot be asked for; a defect.
    #[error("no request: {0}")]
    Request(#[from] http::Error),
}

/// A collection: all objects of a kind, or those of one namespace.
#[derive(Clone)]
pub(super) struct Collection {
    pub(super) client: Client,
    /// One permit for all that is large, of all collections: a page of a list, an event beyond [`LARGE`] bytes.
    pub(super) one_large: Arc<Semaphore>,
    pub(super) path: String,
    /// Only metadata is ever wanted of its objects.
    pub(super) is_metadata_only: bool,
}

impl Collection {
    /// Waits until nothing else that is large is held: as long as those before take, of whom each has a limit.
    pub(super) async fn one_large(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.one_large).acquire_owned().await.ok()
    }

    /// One page of a list, up to `cap` bytes.
    ///
    /// # Errors
    /// [`Fault::TooLarge`] beyond them.
    pub(super) async fn page(
        &self,
        limit: u32,
        token: Option<&str>,
        cap: usize,
        metadata_only: bool,
    ) -> Result<Vec<u8>, Fault> {
        let limit = limit.to_string();
        let mut query = vec![("limit", limit.as_str())];
        query.extend(token.map(|token| ("continue", token)));
        self.read(&self.path, &query, cap, metadata_only).await
    }

    /// The metadata of one object as a list of at most one, since a list tells the version of the collection as well.
    pub(super) async fn single(&self, path: &str, name: Option<&str>, cap: usize) -> Result<Vec<u8>, Fault> {
        let selector = name.map(|name| format!("metadata.name={name}"));
        let mut query = vec![("limit", "1")];
        query.extend(selector.as_deref().map(|selector| ("fieldSelector", selector)));
        self.read(path, &query, cap, true).await
    }

    /// A watch from this version on, or none where that is to be chosen by the API server.
    pub(super) async fn watch(&self, version: u64) -> Result<Lines, Fault> {
        let (version, seconds) = (version.to_string(), WATCH_SECONDS.to_string());
        let query = [
            ("watch", "true"),
            ("resourceVersion", version.as_str()),
            ("timeoutSeconds", seconds.as_str()),
            ("allowWatchBookmarks", "true"),
        ];
        let end = Instant::now() + Duration::from_secs(WATCH_SECONDS) + LATE;
        let accept = if self.is_metadata_only { METADATA_OF_OBJECT } else { WHOLE };
        let response = timeout(BEGIN_LIMIT, self.send(&self.path, &query, accept));
        let response = response.await.map_err(|_| Fault::TimedOut(BEGIN_LIMIT))??;
        let (body, one_large) = (response.into_body(), Arc::clone(&self.one_large));
        Ok(Lines { body, one_large, buffer: Vec::new(), start: 0, scanned: 0, end, large: None })
    }

    async fn read(
        &self,
        path: &str,
        query: &[(&str, &str)],
        cap: usize,
        metadata_only: bool,
    ) -> Result<Vec<u8>, Fault> {
        let accept = if metadata_only { METADATA_OF_LIST } else { WHOLE };
        let answer = async {
            let response = self.send(path, query, accept).await?;
            collect(response.into_body(), cap).await
        };
        timeout(ANSWER_LIMIT, answer).await.map_err(|_| Fault::TimedOut(ANSWER_LIMIT))?
    }

    async fn send(&self, path: &str, query: &[(&str, &str)], accept: &str) -> Result<Response<Body>, Fault> {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let request = Request::get(format!("{path}?{query}")).header(header::ACCEPT, accept);
        // Versions from 1.37 on compress each event of a watch by itself, which costs more than it spares here.
        let request = request.header(header::ACCEPT_ENCODING, "identity").body(Body::empty())?;
        let response = self.client.send(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = collect(response.into_body(), REFUSAL_CAP).await.unwrap_or_default();
        Err(Fault::Refused(Refusal::read(status.as_u16(), &body)))
    }
}

async fn frame(body: &mut Body) -> Option<Result<Bytes, Fault>> {
    loop {
        match body.frame().await? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(error.into())),
        }
    }
}

async fn collect(mut body: Body, cap: usize) -> Result<Vec<u8>, Fault> {
    let mut whole = Vec::new();
    while let Some(data) = frame(&mut body).await {
        let data = data?;
        if whole.len() + data.len() > cap {
            return Err(Fault::TooLarge(cap));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

/// The lines of a watch, one at a time in memory.
pub(super) struct Lines {
    body: Body,
    one_large: Arc<Semaphore>,
    buffer: Vec<u8>,
    /// Where the line that is not read yet begins.
    start: usize,
    /// Up to where there is no line break.
    scanned: usize,
    end: Instant,
    /// Held while the line is a large one.
    large: Option<(OwnedSemaphorePermit, Instant)>,
}

impl Lines {
    /// The next line; none at the end of the watch.
    ///
    /// # Errors
    /// The watch broke off, went on for longer than agreed, or the line is longer than `cap` bytes.
    pub(super) async fn next(&mut self, cap: usize) -> Result<Option<&[u8]>, Fault> {
        self.let_go();
        loop {
            if let Some(length) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
                let line = self.start..self.scanned + length;
                self.start = line.end + 1;
                self.scanned = self.start;
                return Ok(Some(&self.buffer[line]));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            self.scanned = self.buffer.len();
            if self.scanned > cap {
                return Err(Fault::TooLarge(cap));
            }
            if self.scanned > LARGE && self.large.is_none() {
                let permit = timeout_at(self.end, Arc::clone(&self.one_large).acquire_owned()).await;
                let permit = permit.map_err(|_| Fault::TimedOut(LATE))?;
                // The semaphore is never closed.
                self.large = permit.ok().map(|permit| (permit, Instant::now() + ANSWER_LIMIT));
            }
            let end = self.large.as_ref().map_or(self.end, |(_, end)| *end);
            match timeout_at(end, frame(&mut self.body)).await {
                Ok(Some(data)) => self.buffer.extend_from_slice(&data?),
                Ok(None) => return Ok(None),
                Err(_) => return Err(Fault::TimedOut(LATE)),
            }
        }
    }

    /// Gives the room of a large line back once it is done with.
    fn let_go(&mut self) {
        if self.large.take().is_some() {
            self.buffer.drain(..self.start);
            (self.start, self.scanned) = (0, 0);
            self.buffer.shrink_to(LARGE);
        }
    }
}
