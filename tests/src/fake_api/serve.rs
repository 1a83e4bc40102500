//! The stand-in's connections: HTTP/1.1 requests in, answers, streams and faults out. Reads and
//! writes sockets only here; what is told comes from the store.
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::resource::{Resource, Route, Selection, query, route};
use super::store::{Page, Step, Store, expired_line};
use super::{Asked, Fault, Shared, State, Verb};

/// A request's head; the body is read and dropped.
struct Request {
    method: String,
    path: String,
    query: String,
    token: String,
    agent: String,
}

/// What a request is, as far as faults and counts go.
struct Subject {
    resource: &'static str,
    verb: Verb,
}

/// Answers the requests of a connection until it ends.
pub fn connection(shared: &Shared, stream: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut out = Counted {
        stream,
        shared,
        index: 0,
    };
    while let Some(request) = read(&mut reader)? {
        if !answer(shared, &request, &mut out)? {
            break;
        }
    }
    Ok(())
}

fn read(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next(), words.next());
    let (Some(method), Some(target)) = (method, target) else {
        return Ok(None);
    };
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|text| text.parse().ok());
    io::copy(&mut reader.take(length.unwrap_or(0)), &mut io::sink())?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let token = headers.remove("authorization").unwrap_or_default();
    Ok(Some(Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        token: token.trim_start_matches("Bearer ").to_owned(),
        agent: headers.remove("user-agent").unwrap_or_default(),
    }))
}

/// Answers one request; whether the connection goes on.
fn answer(shared: &Shared, request: &Request, out: &mut Counted<'_>) -> io::Result<bool> {
    let query = query(&request.query);
    let route = route(&request.path);
    let subject = subject(&route, &query);
    let mut state = shared.lock();
    out.index = state.asked.len();
    state.asked.push(Asked {
        verb: subject.verb,
        resource: subject.resource,
        path: request.path.clone(),
        query: query.clone(),
        token: request.token.clone(),
        agent: request.agent.clone(),
        status: 0,
        bytes: 0,
    });
    let fault = state.fault(subject.resource, subject.verb);
    if let Some(Fault::Slow(time)) = fault {
        drop(state);
        shared.pause(time);
        state = shared.lock();
    }
    let known = state.tokens.as_ref();
    if known.is_some_and(|known| !known.contains(&request.token)) {
        drop(state);
        return out.refuse(401, "Unauthorized", "Unauthorized", None);
    }
    match fault {
        None | Some(Fault::Slow(_)) => serve(shared, state, &route, request, &query, out),
        Some(fault) => {
            drop(state);
            break_it(shared, &fault, &subject, out)
        }
    }
}

fn subject(route: &Route, query: &HashMap<String, String>) -> Subject {
    let (resource, verb) = match route {
        Route::Objects {
            resource,
            name: Some(_),
            ..
        } => (resource.plural, Verb::Get),
        Route::Objects { resource, .. } if watches(query) => (resource.plural, Verb::Watch),
        Route::Objects { resource, .. } => (resource.plural, Verb::List),
        Route::Discovery => ("discovery", Verb::Get),
        Route::Unknown => ("unknown", Verb::Get),
    };
    Subject { resource, verb }
}

fn watches(query: &HashMap<String, String>) -> bool {
    let watch = query.get("watch").map(String::as_str);
    matches!(watch, Some("true" | "1"))
}

fn serve(
    shared: &Shared,
    state: MutexGuard<'_, State>,
    route: &Route,
    request: &Request,
    query: &HashMap<String, String>,
    out: &mut Counted<'_>,
) -> io::Result<bool> {
    let Route::Objects {
        resource,
        namespace,
        name,
    } = route
    else {
        let known = discovery(&state.store, &request.path);
        drop(state);
        return out.found(known.as_ref(), &request.path);
    };
    if request.method != "GET" {
        drop(state);
        return out.refuse(405, "MethodNotAllowed", "the stand-in only reads", None);
    }
    if !state.store.serves(resource) {
        drop(state);
        return out.found(None, &request.path);
    }
    if let Some(name) = name {
        let namespace = namespace.as_deref().unwrap_or_default();
        let found = state.store.get(resource, namespace, name).cloned();
        drop(state);
        return out.found(found.as_ref(), name);
    }
    let selection = match Selection::new(namespace.clone(), query) {
        Ok(selection) => selection,
        Err(error) => return out.refuse(400, "BadRequest", &error.to_string(), None),
    };
    if watches(query) {
        return watch(shared, state, resource, selection, query, out);
    }
    let page = state.store.list(resource, &selection, query);
    drop(state);
    match page {
        Ok(Page::List(list)) => out.found(Some(&list), resource.plural),
        Ok(Page::Expired) => out.refuse(410, "Expired", "the continue token is too old", None),
        Err(error) => out.refuse(400, "BadRequest", &format!("{error:#}"), None),
    }
}

/// Streams a watch until its time is over, a script or the test ends it, or the client has gone.
fn watch(
    shared: &Shared,
    state: MutexGuard<'_, State>,
    resource: &'static Resource,
    selection: Selection,
    query: &HashMap<String, String>,
    out: &mut Counted<'_>,
) -> io::Result<bool> {
    let seconds = query
        .get("timeoutSeconds")
        .and_then(|text| text.parse().ok());
    let deadline = Instant::now() + Duration::from_secs(seconds.unwrap_or(1800));
    let (begin, cursor) = state.store.watch(resource, selection, query);
    drop(state);
    out.stream_head()?;
    for line in begin {
        out.chunk(&line)?;
    }
    let Some(mut cursor) = cursor else {
        return out.last_chunk();
    };
    loop {
        let state = shared.lock();
        if state.down {
            return Ok(false);
        }
        let step = state.store.next(&mut cursor);
        match step {
            Step::Line(line) => {
                drop(state);
                out.chunk(&line)?;
            }
            Step::End { cut: false } => {
                drop(state);
                return out.last_chunk();
            }
            Step::End { cut: true } => {
                drop(state);
                out.chunk(r#"{"type":"MODIFIED","object":{"kind":"#)?;
                return Ok(false);
            }
            Step::Wait => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    drop(state);
                    return out.last_chunk();
                }
                shared.wait(state, left);
            }
        }
    }
}

/// Does what was scripted instead of an answer.
fn break_it(
    shared: &Shared,
    fault: &Fault,
    subject: &Subject,
    out: &mut Counted<'_>,
) -> io::Result<bool> {
    match fault {
        Fault::Status(code, after) => {
            let message = format!("scripted {code} for {}", subject.resource);
            out.refuse(*code, reason(*code), &message, *after)
        }
        Fault::ExpiredInStream => {
            out.stream_head()?;
            out.chunk(&expired_line())?;
            out.last_chunk()
        }
        Fault::EndAtOnce => {
            out.stream_head()?;
            out.last_chunk()
        }
        Fault::Stall => {
            shared.stall();
            Ok(false)
        }
        Fault::Silent => {
            out.stream_head()?;
            shared.stall();
            Ok(false)
        }
        Fault::Garbage(bytes) => {
            out.head(200, bytes.len(), "")?;
            out.write_all(bytes)?;
            Ok(true)
        }
        Fault::Cut => {
            out.head(200, 1000, "")?;
            out.write_all(br#"{"kind":"#)?;
            Ok(false)
        }
        Fault::Close => Ok(false),
        Fault::Slow(_) => unreachable!("it is served, only late"),
    }
}

fn reason(code: u16) -> &'static str {
    match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        410 => "Expired",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    }
}

/// What the discovery paths answer.
fn discovery(store: &Store, path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let version = |group: &str| json!({"groupVersion": format!("{group}/v1"), "version": "v1"});
    let group = |name: &str| json!({"name": name, "versions": [version(name)], "preferredVersion": version(name)});
    let mut groups: Vec<_> = store.served().map(|resource| resource.group).collect();
    groups.retain(|group| !group.is_empty());
    groups.dedup();
    match parts.as_slice() {
        ["version"] => Some(json!({"major": "1", "minor": "35", "gitVersion": "v1.35.0-stand-in"})),
        ["readyz" | "livez" | "healthz"] => Some(json!("ok")),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
        ["api", "v1"] => resources(store, ""),
        ["apis"] => {
            let groups: Vec<Value> = groups.into_iter().map(group).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] if groups.contains(name) => Some(group(name)),
        ["apis", name, "v1"] => resources(store, name),
        _ => None,
    }
}

fn resources(store: &Store, group: &str) -> Option<Value> {
    let of_group = store.served().filter(|resource| resource.group == group);
    let all: Vec<Value> = of_group
        .map(|resource| {
            json!({"name": resource.plural, "singularName": "", "kind": resource.kind,
                "namespaced": resource.namespaced, "verbs": ["get", "list", "watch"]})
        })
        .collect();
    let version = if group.is_empty() {
        "v1".to_owned()
    } else {
        format!("{group}/v1")
    };
    (!all.is_empty()).then(|| {
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
            "resources": all})
    })
}

/// The connection's way out; what is written is noted at the request's record.
struct Counted<'a> {
    stream: &'a TcpStream,
    shared: &'a Shared,
    index: usize,
}

impl Counted<'_> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.shared.lock().asked[self.index].bytes += bytes.len() as u64;
        Ok(())
    }

    fn head(&mut self, status: u16, length: usize, more: &str) -> io::Result<()> {
        self.shared.lock().asked[self.index].status = status;
        let head = format!(
            "HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n{more}\r\n"
        );
        self.write_all(head.as_bytes())
    }

    fn json(&mut self, status: u16, more: &str, value: &Value) -> io::Result<bool> {
        let body = value.to_string();
        self.head(status, body.len(), more)?;
        self.write_all(body.as_bytes())?;
        Ok(true)
    }

    fn found(&mut self, value: Option<&Value>, what: &str) -> io::Result<bool> {
        match value {
            Some(value) => self.json(200, "", value),
            None => self.refuse(404, "NotFound", &format!("{what} not found"), None),
        }
    }

    fn refuse(
        &mut self,
        code: u16,
        reason: &str,
        message: &str,
        after: Option<u32>,
    ) -> io::Result<bool> {
        let more = after.map_or_else(String::new, |time| format!("Retry-After: {time}\r\n"));
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "message": message, "reason": reason, "code": code});
        self.json(code, &more, &status)
    }

    fn stream_head(&mut self) -> io::Result<()> {
        self.shared.lock().asked[self.index].status = 200;
        self.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
    }

    fn chunk(&mut self, text: &str) -> io::Result<()> {
        self.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
    }

    fn last_chunk(&mut self) -> io::Result<bool> {
        self.write_all(b"0\r\n\r\n").map(|()| true)
    }
}
