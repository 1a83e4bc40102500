//! The stand-in's objects and what happened to them: changes in, lists and what watches are to send
//! out. Pure state, no I/O and no clock; a watch is a cursor that its connection keeps.
use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::resource::{GATEWAY, RESOURCES, Resource, Selection};

/// Namespace and name.
type Key = (String, String);

/// Something that watches of a resource come across.
#[derive(Clone, Debug)]
enum Entry {
    /// An object came, changed or went, at this revision.
    Change {
        revision: u64,
        before: Option<Value>,
        after: Option<Value>,
    },
    /// To be sent as it is by the watches that are open.
    Raw(String),
    /// For the watches that are open and asked for bookmarks.
    Bookmark(u64),
    /// The watches that are open end: in order, or in the middle of an event.
    End { cut: bool },
}

/// A watch: what it asked for, and how far it has come.
#[derive(Debug)]
pub struct Cursor {
    resource: &'static Resource,
    selection: Selection,
    bookmarks: bool,
    from: u64,
    opened: usize,
    next: usize,
}

/// What a watch sends next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// One line.
    Line(String),
    /// The end of the stream, or of the connection.
    End {
        /// Without the stream's own end.
        cut: bool,
    },
    /// Nothing for now.
    Wait,
}

/// One page of a list, or why there is none.
pub enum Page {
    /// The list object.
    List(Value),
    /// The continue token is older than the last compaction.
    Expired,
}

/// In which order events are told that were held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they happened.
    Same,
    /// The newest first.
    Reversed,
}

/// The objects.
#[derive(Debug)]
pub struct Store {
    revision: u64,
    compacted: u64,
    objects: HashMap<&'static str, BTreeMap<Key, Value>>,
    log: HashMap<&'static str, Vec<Entry>>,
    held: HashMap<&'static str, usize>,
    /// Whether the Gateway API is installed.
    pub gateway: bool,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            revision: 1,
            compacted: 0,
            objects: HashMap::new(),
            log: HashMap::new(),
            held: HashMap::new(),
            gateway: false,
        }
    }
}

impl Store {
    /// Whether the resource is served.
    pub fn serves(&self, resource: &Resource) -> bool {
        resource.group != GATEWAY || self.gateway
    }

    /// The resources that are served.
    pub fn served(&self) -> impl Iterator<Item = &'static Resource> {
        RESOURCES.iter().filter(|resource| self.serves(resource))
    }

    /// Creates or replaces an object; the server's own fields are filled in.
    pub fn apply(&mut self, mut object: Value) -> Result<()> {
        let resource = Resource::of(&object)?;
        let key = key(&object, resource)?;
        let before = self.get(resource, &key.0, &key.1).cloned();
        self.revision += 1;
        let uid = format!("00000000-0000-4000-8000-{:012x}", self.revision);
        let old = |field: &str| {
            before
                .as_ref()
                .map(|object| object["metadata"][field].clone())
        };
        let (old_uid, old_time) = (old("uid"), old("creationTimestamp"));
        object["apiVersion"] = json!(resource.api_version());
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(self.revision.to_string());
        if metadata["uid"].is_null() {
            metadata["uid"] = old_uid.unwrap_or_else(|| json!(uid));
        }
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = old_time.unwrap_or_else(|| json!(now()));
        }
        let all = self.objects.entry(resource.plural).or_default();
        all.insert(key, object.clone());
        self.changed(resource, before, Some(object));
        Ok(())
    }

    /// Deletes an object.
    pub fn delete(
        &mut self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
    ) -> Result<()> {
        let key = (namespace.to_owned(), name.to_owned());
        let all = self.objects.entry(resource.plural).or_default();
        let mut object = all
            .remove(&key)
            .with_context(|| format!("no {} {namespace}/{name}", resource.plural))?;
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.changed(resource, Some(object), None);
        Ok(())
    }

    fn changed(&mut self, resource: &Resource, before: Option<Value>, after: Option<Value>) {
        let revision = self.revision;
        self.push(
            resource,
            Entry::Change {
                revision,
                before,
                after,
            },
        );
    }

    fn push(&mut self, resource: &Resource, entry: Entry) {
        self.log.entry(resource.plural).or_default().push(entry);
    }

    /// Has open watches of the resource send this line.
    pub fn send(&mut self, resource: &Resource, line: String) {
        self.push(resource, Entry::Raw(line));
    }

    /// Has open watches of the resource send a bookmark, those that asked for it.
    pub fn bookmark(&mut self, resource: &Resource) {
        self.push(resource, Entry::Bookmark(self.revision));
    }

    /// Ends open watches of the resource, in order or in the middle of an event.
    pub fn end(&mut self, resource: &Resource, cut: bool) {
        self.push(resource, Entry::End { cut });
    }

    /// From now on no watch of the resource sends anything.
    pub fn hold(&mut self, resource: &Resource) {
        let next = self.log.get(resource.plural).map_or(0, Vec::len);
        self.held.entry(resource.plural).or_insert(next);
    }

    /// Undoes [`Store::hold`].
    pub fn release(&mut self, resource: &Resource, order: Order) {
        let held = self.held.remove(resource.plural);
        let log = self.log.get_mut(resource.plural);
        if let (Some(first), Some(log), Order::Reversed) = (held, log, order) {
            log[first..].reverse();
        }
    }

    /// Forgets the past: older revisions and continue tokens are gone.
    pub fn compact(&mut self) {
        self.revision += 1;
        self.compacted = self.revision;
    }

    /// One object.
    pub fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<&Value> {
        let key = (namespace.to_owned(), name.to_owned());
        self.objects.get(resource.plural)?.get(&key)
    }

    /// A list, or the page of it that the query asks for.
    pub fn list(
        &self,
        resource: &'static Resource,
        selection: &Selection,
        query: &HashMap<String, String>,
    ) -> Result<Page> {
        let mut revision = self.revision;
        let mut after: Option<Key> = None;
        if let Some(token) = query.get("continue").filter(|token| !token.is_empty()) {
            let (of, key) = read_token(token).context("failed to read the continue token")?;
            if of < self.compacted {
                return Ok(Page::Expired);
            }
            (revision, after) = (of, Some(key));
        }
        let limit = query.get("limit").and_then(|limit| limit.parse().ok());
        let limit = limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let all = self.objects.get(resource.plural).into_iter().flatten();
        let mut found = all.filter(|(key, object)| {
            after.as_ref().is_none_or(|last| *key > last) && selection.has(object)
        });
        let page: Vec<_> = found.by_ref().take(limit).collect();
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        let left = found.count();
        if let (true, Some((last, _))) = (left > 0, page.last()) {
            metadata["continue"] = json!(format!("{revision}~{}~{}", last.0, last.1));
            metadata["remainingItemCount"] = json!(left);
        }
        let items: Vec<Value> = page
            .into_iter()
            .map(|(_, object)| listed(resource, object))
            .collect();
        Ok(Page::List(json!({
            "kind": format!("{}List", resource.kind), "apiVersion": resource.api_version(),
            "metadata": metadata, "items": items,
        })))
    }

    /// Opens a watch: what it begins with, and its cursor; no cursor where it ends with that.
    pub fn watch(
        &self,
        resource: &'static Resource,
        selection: Selection,
        query: &HashMap<String, String>,
    ) -> (Vec<String>, Option<Cursor>) {
        let asks = |key: &str| query.get(key).is_some_and(|value| value == "true");
        let from = query
            .get("resourceVersion")
            .and_then(|text| text.parse().ok());
        let from = from.unwrap_or(0);
        let stream = asks("sendInitialEvents");
        if from > 0 && from < self.compacted && !stream {
            return (vec![expired_line()], None);
        }
        let mut begin = Vec::new();
        if from == 0 || stream {
            let all = self.objects.get(resource.plural).into_iter().flatten();
            let chosen = all.filter(|(_, object)| selection.has(object));
            begin.extend(chosen.map(|(_, object)| line("ADDED", object)));
        }
        if stream {
            let note = json!({"k8s.io/initial-events-end": "true"});
            begin.push(bookmark(resource, self.revision, &note));
        }
        let fresh = from == 0 || stream;
        let opened = self.log.get(resource.plural).map_or(0, Vec::len);
        let cursor = Cursor {
            resource,
            selection,
            bookmarks: asks("allowWatchBookmarks"),
            from: if fresh { self.revision } else { from },
            opened,
            next: 0,
        };
        (begin, Some(cursor))
    }

    /// The next thing that a watch sends.
    pub fn next(&self, cursor: &mut Cursor) -> Step {
        let plural = cursor.resource.plural;
        let log = self.log.get(plural).map_or(&[][..], Vec::as_slice);
        let end = self.held.get(plural).copied().unwrap_or(log.len());
        while cursor.next < end {
            let index = cursor.next;
            cursor.next += 1;
            if let Some(step) = cursor.step(&log[index], index >= cursor.opened) {
                return step;
            }
        }
        Step::Wait
    }
}

impl Cursor {
    /// What this watch makes of an entry; `open` says that it was open when the entry came.
    fn step(&self, entry: &Entry, open: bool) -> Option<Step> {
        match entry {
            Entry::Change {
                revision,
                before,
                after,
            } if *revision > self.from => {
                let chosen = |object: &Option<Value>| {
                    let object = object.as_ref();
                    object.is_some_and(|object| self.selection.has(object))
                };
                let line = match (chosen(before), chosen(after), before, after) {
                    (true, true, _, Some(after)) => line("MODIFIED", after),
                    (false, true, _, Some(after)) => line("ADDED", after),
                    (true, false, _, Some(after)) => line("DELETED", after),
                    (true, false, Some(before), None) => line("DELETED", before),
                    _ => return None,
                };
                Some(Step::Line(line))
            }
            Entry::Raw(text) if open => Some(Step::Line(text.clone())),
            Entry::Bookmark(revision) if open && self.bookmarks => {
                Some(Step::Line(bookmark(self.resource, *revision, &Value::Null)))
            }
            Entry::End { cut } if open => Some(Step::End { cut: *cut }),
            _ => None,
        }
    }
}

/// The real server leaves kind and version out of the items of its own lists.
fn listed(resource: &Resource, object: &Value) -> Value {
    let mut object = object.clone();
    if let (true, Some(fields)) = (resource.group != GATEWAY, object.as_object_mut()) {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}

fn key(object: &Value, resource: &Resource) -> Result<Key> {
    let metadata = &object["metadata"];
    let name = metadata["name"]
        .as_str()
        .context("the object has no name")?;
    let namespace = if resource.namespaced {
        metadata["namespace"].as_str()
    } else {
        Some("")
    };
    let namespace = namespace.with_context(|| format!("{name} has no namespace"))?;
    Ok((namespace.to_owned(), name.to_owned()))
}

fn read_token(token: &str) -> Option<(u64, Key)> {
    let mut parts = token.splitn(3, '~');
    let revision = parts.next()?.parse().ok()?;
    Some((
        revision,
        (parts.next()?.to_owned(), parts.next()?.to_owned()),
    ))
}

fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn bookmark(resource: &Resource, revision: u64, annotations: &Value) -> String {
    let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
    if !annotations.is_null() {
        metadata["annotations"] = annotations.clone();
    }
    let object = json!({"kind": resource.kind, "apiVersion": resource.api_version(),
        "metadata": metadata});
    line("BOOKMARK", &object)
}

/// The event that ends a watch whose revision is too old.
pub fn expired_line() -> String {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version: 1 (2)", "reason": "Expired", "code": 410});
    line("ERROR", &status)
}

fn now() -> String {
    jiff::Timestamp::now()
        .round(jiff::Unit::Second)
        .map_or_else(|_| String::new(), |now| now.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, node: &str) -> Value {
        json!({"kind": "Pod", "metadata": {"namespace": "shop", "name": name},
            "spec": {"nodeName": node}})
    }

    fn query(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn names(page: Result<Page>) -> (Vec<String>, Value) {
        let Ok(Page::List(list)) = page else {
            panic!("no list")
        };
        let items = list["items"].as_array().unwrap().iter();
        let names = items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned());
        (names.collect(), list["metadata"]["continue"].clone())
    }

    fn told(store: &Store, cursor: &mut Cursor) -> Vec<String> {
        let steps = std::iter::from_fn(|| match store.next(cursor) {
            Step::Line(line) => Some(line),
            _ => None,
        });
        let events = steps.map(|line| serde_json::from_str::<Value>(&line).unwrap());
        let words = events.map(|event| {
            let name = event["object"]["metadata"]["name"].as_str().unwrap_or("-");
            format!("{} {name}", event["type"].as_str().unwrap())
        });
        words.collect()
    }

    #[test]
    fn pages_cover_a_list_until_the_past_is_forgotten() {
        let pods = Resource::named("pods");
        let mut store = Store::default();
        for name in ["a", "b", "c"] {
            store.apply(pod(name, "n1")).unwrap();
        }
        let all = Selection::default();
        let (first, token) = names(store.list(pods, &all, &query(&[("limit", "2")])));
        assert_eq!(first, ["a", "b"]);
        let next = query(&[("limit", "2"), ("continue", token.as_str().unwrap())]);
        let (second, end) = names(store.list(pods, &all, &next));
        assert_eq!((second, end), (vec!["c".to_owned()], Value::Null));
        store.compact();
        assert!(matches!(store.list(pods, &all, &next), Ok(Page::Expired)));
    }

    #[test]
    fn a_watch_tells_what_happened_since_its_revision_and_of_what_it_selects() {
        let pods = Resource::named("pods");
        let mut store = Store::default();
        store.apply(pod("a", "n1")).unwrap();
        let since = store.revision.to_string();
        store.apply(pod("b", "n1")).unwrap();
        store.apply(pod("c", "n2")).unwrap();
        let asked = query(&[
            ("resourceVersion", &since),
            ("fieldSelector", "spec.nodeName=n1"),
        ]);
        let here = Selection::new(None, &asked).unwrap();
        let (begin, cursor) = store.watch(pods, here, &asked);
        assert!(begin.is_empty());
        let mut cursor = cursor.unwrap();
        assert_eq!(told(&store, &mut cursor), ["ADDED b"]);
        store.apply(pod("b", "n1")).unwrap();
        store.delete(pods, "shop", "a").unwrap();
        store.apply(pod("b", "n2")).unwrap();
        store.bookmark(pods);
        let expected = ["MODIFIED b", "DELETED a", "DELETED b"];
        assert_eq!(told(&store, &mut cursor), expected);
    }

    #[test]
    fn what_is_held_back_can_come_reversed_and_what_is_scripted_reaches_open_watches_only() {
        let pods = Resource::named("pods");
        let mut store = Store::default();
        let asked = query(&[("resourceVersion", "1"), ("allowWatchBookmarks", "true")]);
        let open = |store: &Store| store.watch(pods, Selection::default(), &asked).1.unwrap();
        let mut cursor = open(&store);
        store.hold(pods);
        store.apply(pod("a", "n1")).unwrap();
        store.apply(pod("b", "n1")).unwrap();
        assert_eq!(store.next(&mut cursor), Step::Wait);
        store.release(pods, Order::Reversed);
        assert_eq!(told(&store, &mut cursor), ["ADDED b", "ADDED a"]);
        store.bookmark(pods);
        store.end(pods, false);
        assert_eq!(told(&store, &mut cursor), ["BOOKMARK -"]);
        assert_eq!(told(&store, &mut open(&store)), ["ADDED b", "ADDED a"]);
    }
}
