//! In: JSON of the Kubernetes API. Out: trimmed objects. Only the fields that are used are read; all
//! else, managed fields above all, is skipped unstored. No client, no clock, no I/O.
mod meta;
mod network;
mod node;
mod pod;
mod route;
#[cfg(test)]
mod tests;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use self::meta::Meta;
use super::object::{Kind, Object};

/// A kind of object as the API writes it.
trait Partial: DeserializeOwned {
    /// Its metadata.
    fn meta(&self) -> &Meta;
    /// What is kept of it.
    fn trim(self) -> Object;
}

/// An object and its place in the history of its resource.
#[derive(Debug)]
pub struct Versioned {
    /// The object.
    pub object: Object,
    /// `metadata.resourceVersion`, empty where there is none.
    pub version: String,
}

/// Reads one object.
pub fn object(kind: Kind, json: &[u8]) -> serde_json::Result<Versioned> {
    match kind {
        Kind::Pod => read::<pod::Pod>(json),
        Kind::Slice => read::<network::Slice>(json),
        Kind::Service => read::<network::Service>(json),
        Kind::Ingress => read::<route::ingress::Ingress>(json),
        Kind::Class => read::<route::class::IngressClass>(json),
        Kind::HttpRoute => read::<route::gateway::HttpRoute>(json),
        Kind::GrpcRoute => read::<route::gateway::GrpcRoute>(json),
        Kind::Node => read::<node::Node>(json),
    }
}

fn read<T: Partial>(json: &[u8]) -> serde_json::Result<Versioned> {
    let partial: T = serde_json::from_slice(json)?;
    let version = partial.meta().resource_version.clone();
    Ok(Versioned {
        object: partial.trim(),
        version,
    })
}

/// One page of a list.
#[derive(Debug, Default)]
pub struct Page {
    /// Its objects.
    pub objects: Vec<Object>,
    /// How many objects could not be read.
    pub unreadable: u64,
    /// `metadata.resourceVersion` of the list.
    pub version: String,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    r#continue: Option<String>,
}

/// Reads a page of a list; an object that is not as expected does not spoil the others.
pub fn page(kind: Kind, json: &[u8]) -> serde_json::Result<Page> {
    let list: List = serde_json::from_slice(json)?;
    let mut page = Page {
        version: list.metadata.resource_version,
        next: list.metadata.r#continue.filter(|next| !next.is_empty()),
        ..Page::default()
    };
    for item in list.items.into_iter().flatten() {
        match object(kind, item.get().as_bytes()) {
            Ok(read) => page.objects.push(read.object),
            Err(_) => page.unreadable += 1,
        }
    }
    Ok(page)
}

/// One line of a watch.
#[derive(Debug)]
pub enum Change {
    /// An object is there, or changed.
    Applied(Versioned),
    /// An object is gone; as it was last.
    Deleted(Versioned),
    /// Nothing happened up to this version.
    Bookmark(String),
    /// The watch failed.
    Error(Status),
    /// An object that is not as expected.
    Unreadable(serde_json::Error),
}

/// What the API says of a failure.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    /// HTTP's status code; 0 where there is none.
    pub code: u16,
    /// For people.
    pub message: String,
}

#[derive(Deserialize)]
struct Line<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: Meta,
}

/// Reads one line of a watch; an error is a line that is none.
pub fn change(kind: Kind, json: &[u8]) -> serde_json::Result<Change> {
    let line: Line = serde_json::from_slice(json)?;
    let text = line.object.get().as_bytes();
    let read = || object(kind, text);
    Ok(match line.r#type {
        "ADDED" | "MODIFIED" => read().map_or_else(Change::Unreadable, Change::Applied),
        "DELETED" => read().map_or_else(Change::Unreadable, Change::Deleted),
        "BOOKMARK" => {
            let bookmark: Bookmark = serde_json::from_slice(text)?;
            Change::Bookmark(bookmark.metadata.resource_version)
        }
        "ERROR" => Change::Error(serde_json::from_slice(text)?),
        other => return Err(serde::de::Error::custom(format!("unknown event {other:?}"))),
    })
}
