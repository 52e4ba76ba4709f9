//! What an API server keeps: objects by their names, one history over all of them, and who watches what.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// The name of an object: the plural of its kind, its namespace (empty where it has none), and its own.
pub(super) type Key = (String, String, String);

/// The kinds that there are.
const KINDS: &[(&str, &str, &str)] = &[
    ("taskwatches", "taskwatch.dev/v1alpha1", "TaskWatch"),
    ("taskwatchsets", "taskwatch.dev/v1alpha1", "TaskWatchSet"),
    ("taskconnections", "taskwatch.dev/v1alpha1", "TaskConnection"),
    ("clustertaskconnections", "taskwatch.dev/v1alpha1", "ClusterTaskConnection"),
    ("namespaces", "v1", "Namespace"),
    ("secrets", "v1", "Secret"),
    ("configmaps", "v1", "ConfigMap"),
    ("services", "v1", "Service"),
    ("endpointslices", "discovery.k8s.io/v1", "EndpointSlice"),
    ("events", "events.k8s.io/v1", "Event"),
    ("leases", "coordination.k8s.io/v1", "Lease"),
];

/// Why something is not done.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Refused {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into() }
    }

    fn not_found(key: &Key) -> Self {
        Self::new(404, "NotFound", format!("{} \"{}\" not found", key.0, key.2))
    }
}

/// The objects.
pub(super) struct Store {
    pub(super) version: u64,
    objects: BTreeMap<Key, Value>,
    history: Vec<(u64, &'static str, Key, Value)>,
    watchers: Vec<Watcher>,
    uids: u64,
}

/// Of whom an object has to be, to be in a collection.
#[derive(Clone, Debug)]
pub(super) struct Collection {
    pub(super) plural: String,
    pub(super) namespace: Option<String>,
    /// What of the labels is asked for.
    pub(super) label: Option<(String, String)>,
    pub(super) name: Option<String>,
    pub(super) is_metadata_only: bool,
}

struct Watcher {
    of: Collection,
    lines: UnboundedSender<Bytes>,
}

impl Collection {
    fn has(&self, key: &Key, object: &Value) -> bool {
        let is_labelled = |(name, value): &(String, String)| object["metadata"]["labels"][name] == **value;
        key.0 == self.plural
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == key.1)
            && self.name.as_ref().is_none_or(|name| *name == key.2)
            && self.label.as_ref().is_none_or(is_labelled)
    }

    /// The object as it is asked for.
    pub(super) fn show(&self, object: &Value) -> Value {
        if self.is_metadata_only { json!({"metadata": object["metadata"]}) } else { object.clone() }
    }
}

impl Store {
    pub(super) fn new() -> Self {
        Self { version: 100, objects: BTreeMap::new(), history: Vec::new(), watchers: Vec::new(), uids: 0 }
    }

    pub(super) fn get(&self, key: &Key) -> Result<&Value, Refused> {
        self.objects.get(key).ok_or_else(|| Refused::not_found(key))
    }

    pub(super) fn all(&self, plural: &str) -> Vec<Value> {
        self.objects.iter().filter(|(key, _)| key.0 == plural).map(|(_, object)| object.clone()).collect()
    }

    /// A page of a collection, from the key after `after` on, and after what the next one begins.
    pub(super) fn list(&self, of: &Collection, limit: usize, after: Option<&str>) -> (Vec<Value>, Option<String>) {
        let place = |key: &Key| format!("{}/{}", key.1, key.2);
        let all = self.objects.iter().filter(|(key, object)| of.has(key, object));
        let mut left = all.filter(|(key, _)| after.is_none_or(|after| place(key).as_str() > after)).peekable();
        let (mut items, mut last) = (Vec::new(), None);
        while items.len() < limit
            && let Some((key, object)) = left.next()
        {
            items.push(of.show(object));
            last = Some(place(key));
        }
        (items, last.filter(|_| left.peek().is_some()))
    }

    pub(super) fn create(&mut self, key: Key, mut object: Value, now: Timestamp) -> Result<Value, Refused> {
        if self.objects.contains_key(&key) {
            return Err(Refused::new(409, "AlreadyExists", format!("{} \"{}\" already exists", key.0, key.2)));
        }
        self.uids += 1;
        let (version, kind) =
            KINDS.iter().find(|(plural, ..)| *plural == key.0).map(|(_, version, kind)| (version, kind)).unwrap();
        (object["apiVersion"], object["kind"]) = (json!(version), json!(kind));
        let meta = &mut object["metadata"];
        meta["name"] = json!(key.2);
        if !key.1.is_empty() {
            meta["namespace"] = json!(key.1);
        }
        if meta["uid"].is_null() {
            meta["uid"] = json!(format!("uid-{}-{}", key.2, self.uids));
        }
        if meta["creationTimestamp"].is_null() {
            meta["creationTimestamp"] = json!(Timestamp::from_second(now.as_second()).unwrap().to_string());
        }
        meta["generation"] = json!(1);
        Ok(self.put("ADDED", key, object))
    }

    /// Replaces all of an object but its status, which is kept.
    pub(super) fn replace(&mut self, key: Key, mut object: Value) -> Result<Value, Refused> {
        let old = self.get(&key)?;
        let given = &object["metadata"]["resourceVersion"];
        if !given.is_null() && *given != old["metadata"]["resourceVersion"] {
            return Err(Refused::new(409, "Conflict", "the object has been modified"));
        }
        for field in ["uid", "creationTimestamp", "namespace", "generation"] {
            object["metadata"][field] = old["metadata"][field].clone();
        }
        if key.0.starts_with("task") {
            object["status"] = old["status"].clone();
        }
        Ok(self.change(key, object))
    }

    /// Replaces an object by what is made of it.
    pub(super) fn edit(&mut self, key: Key, edit: impl FnOnce(&mut Value)) -> Result<Value, Refused> {
        let mut object = self.get(&key)?.clone();
        edit(&mut object);
        Ok(self.change(key, object))
    }

    /// Applies a JSON Patch of `test` and of `add` of a whole status.
    pub(super) fn patch(&mut self, key: Key, operations: &Value) -> Result<Value, Refused> {
        let mut object = self.get(&key)?.clone();
        for operation in operations.as_array().unwrap() {
            let (path, value) = (operation["path"].as_str().unwrap(), &operation["value"]);
            match operation["op"].as_str().unwrap() {
                "test" if object.pointer(path) != Some(value) => {
                    return Err(Refused::new(
                        422,
                        "Invalid",
                        "the server rejected our request due to an error in our request",
                    ));
                }
                "test" => {}
                "add" => object[path.trim_start_matches('/')] = value.clone(),
                other => panic!("{other}"),
            }
        }
        Ok(self.change(key, object))
    }

    /// Deletes an object, if it has this UID.
    pub(super) fn delete(&mut self, key: &Key, uid: Option<&str>) -> Result<Value, Refused> {
        let object = self.get(key)?;
        if uid.is_none_or(|uid| object["metadata"]["uid"] == *uid) {
            let object = self.objects.remove(key).unwrap();
            self.tell("DELETED", key.clone(), object.clone());
            return Ok(object);
        }
        Err(Refused::new(409, "Conflict", "the UID in the precondition does not match"))
    }

    fn change(&mut self, key: Key, mut object: Value) -> Value {
        let old = &self.objects[&key];
        if *old == object {
            return object;
        }
        if old["spec"] != object["spec"] {
            let generation = old["metadata"]["generation"].as_u64().unwrap_or(1);
            object["metadata"]["generation"] = json!(generation + 1);
        }
        self.put("MODIFIED", key, object)
    }

    fn put(&mut self, kind: &'static str, key: Key, object: Value) -> Value {
        let object = self.tell(kind, key.clone(), object);
        self.objects.insert(key, object.clone());
        object
    }

    /// Gives an object the next version, and tells of it.
    fn tell(&mut self, kind: &'static str, key: Key, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.watchers.retain(|watcher| {
            !watcher.of.has(&key, &object) || watcher.lines.send(event(kind, &watcher.of.show(&object))).is_ok()
        });
        self.history.push((self.version, kind, key, object.clone()));
        object
    }

    /// What happens in a collection from `version` on, line by line.
    pub(super) fn watch(&mut self, of: Collection, version: u64) -> tokio::sync::mpsc::UnboundedReceiver<Bytes> {
        let (lines, receiver) = unbounded_channel();
        for (_, kind, key, object) in self.history.iter().filter(|(at, ..)| *at > version) {
            if of.has(key, object) {
                let _ = lines.send(event(kind, &of.show(object)));
            }
        }
        self.watchers.push(Watcher { of, lines });
        receiver
    }

    /// Ends all watches of a kind, after this line if any.
    pub(super) fn end_watches(&mut self, plural: &str, line: Option<(&str, &Value)>) {
        let (ended, kept) =
            std::mem::take(&mut self.watchers).into_iter().partition(|watcher| watcher.of.plural == plural);
        self.watchers = kept;
        for watcher in ended {
            let _ = line.map(|(kind, object)| watcher.lines.send(event(kind, object)));
        }
    }

    /// Goes back to what was at `version`, as after a backup was restored.
    pub(super) fn restore(&mut self, version: u64) {
        let (kept, _): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.history).into_iter().partition(|(at, ..)| *at <= version);
        self.objects.clear();
        for (_, kind, key, object) in &kept {
            match *kind {
                "DELETED" => drop(self.objects.remove(key)),
                _ => drop(self.objects.insert(key.clone(), object.clone())),
            }
        }
        self.history = kept;
        self.version = version;
        self.watchers.clear();
    }
}

fn event(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": kind, "object": object})))
}
