//! The watch stream: history records turned into lines, per watcher only what differs between watchers.
//!
//! A watcher who sees whole objects gets lines that are made once for all. Tables, metadata, other versions and selector transitions are made
//! for the watcher alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use corten_rt::Drain;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Body;
use super::request::Form;
use super::table::Printer;
use crate::api::Api;
use crate::object::{self, Object};
use crate::registry::Resource;
use crate::selector::Selector;
use crate::status::Status;
use crate::store::{Cursor, Expired, Record, Type, frame};
use crate::verbs;

/// How often a watcher that asked for bookmarks gets one.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(30);
/// How many records go into one block.
const RECORDS_AT_ONCE: usize = 128;

/// What a watch request asks for.
#[derive(Clone, Debug)]
pub(crate) struct WatchRequest {
    pub(crate) namespace: Option<String>,
    pub(crate) selector: Selector,
    pub(crate) resource_version: String,
    pub(crate) bookmarks: bool,
    /// `sendInitialEvents`: the present objects first, then a bookmark that says so.
    pub(crate) initial_events: Option<bool>,
    pub(crate) timeout: Duration,
    pub(crate) form: Form,
}

/// Begins a watch.
pub(crate) fn start(
    api: &Arc<Api>,
    resource: &Arc<Resource>,
    request: WatchRequest,
    drain: Drain,
) -> Result<Body, Status> {
    let shard = api.store.shard(&resource.storage);
    let asked: u64 = match request.resource_version.as_str() {
        "" => 0,
        text => text.parse().map_err(|_| invalid_version(text))?,
    };
    let current = api.store.revision();
    if asked > current {
        return Err(too_large(asked, current));
    }
    let present = match (request.initial_events, asked) {
        (Some(true), _) | (None, 0) => true,
        (Some(false), 0) => false,
        _ => false,
    };
    let mut stream = Stream {
        printer: (request.form == Form::Table).then(|| Printer::new(resource)),
        ready: VecDeque::new(),
        ends: Instant::now() + request.timeout,
        bookmark: Instant::now() + BOOKMARK_INTERVAL,
        api: api.clone(),
        resource: resource.clone(),
        cursor: None,
        over: false,
        drain,
        request,
    };
    let from = if present {
        let snapshot = api.store.list(&resource.storage, stream.request.namespace.as_deref());
        stream.tell_present(&snapshot.objects);
        if stream.request.initial_events == Some(true) && stream.request.bookmarks {
            stream.tell_bookmark(snapshot.revision, true);
        }
        snapshot.revision
    } else if asked == 0 {
        current
    } else {
        asked
    };
    match shard.cursor(from) {
        Ok(cursor) => stream.cursor = Some(cursor),
        Err(expired) => stream.tell_expired(expired),
    }
    Ok(Body::from_infallible(futures_util::stream::unfold(
        Box::new(stream),
        |mut stream| async move { stream.next().await.map(|block| (block, stream)) },
    )))
}

/// The error of a revision that is not a number.
pub(crate) fn invalid_version(text: &str) -> Status {
    Status::invalid(
        "meta.k8s.io",
        "ListOptions",
        "",
        vec![crate::status::Cause {
            reason: "FieldValueInvalid".to_owned(),
            message: format!("Invalid value: {text:?}: must be a number that this API gave out"),
            field: "resourceVersion".to_owned(),
        }],
    )
}

/// The error of a revision from the future.
pub(crate) fn too_large(asked: u64, current: u64) -> Status {
    let mut status = Status::new(
        504,
        "Timeout",
        format!("Too large resource version: {asked}, current: {current}"),
    );
    status.details = Some(Box::new(crate::status::Details {
        causes: vec![crate::status::Cause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        }],
        retry_after_seconds: Some(1),
        ..Default::default()
    }));
    status
}

struct Stream {
    api: Arc<Api>,
    resource: Arc<Resource>,
    request: WatchRequest,
    cursor: Option<Cursor>,
    printer: Option<Printer>,
    ready: VecDeque<Bytes>,
    ends: Instant,
    bookmark: Instant,
    over: bool,
    drain: Drain,
}

impl Stream {
    /// The next block of the response; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(block) = self.block() {
                return Some(block);
            }
            if self.over {
                return None;
            }
            let cursor = self.cursor.as_mut()?;
            tokio::select! {
                records = cursor.next() => match records {
                    Ok(records) => records.iter().take(RECORDS_AT_ONCE * 2).for_each(|record| self.tell(record)),
                    Err(expired) => self.tell_expired(expired),
                },
                () = tokio::time::sleep_until(self.bookmark), if self.request.bookmarks => {
                    self.bookmark = Instant::now() + BOOKMARK_INTERVAL;
                    self.tell_progress();
                }
                () = tokio::time::sleep_until(self.ends) => self.over = true,
                () = self.drain.wait() => self.over = true,
            }
        }
    }

    /// Everything that is ready as one block; a single line without copying it.
    fn block(&mut self) -> Option<Bytes> {
        let first = self.ready.pop_front()?;
        if self.ready.is_empty() {
            return Some(first);
        }
        let mut block = BytesMut::from(&first[..]);
        while let Some(line) = self.ready.front() {
            // Blocks stay small enough that a slow client is not sent everything at once.
            if block.len() + line.len() > 256 << 10 {
                break;
            }
            block.extend_from_slice(line);
            self.ready.pop_front();
        }
        Some(block.freeze())
    }

    fn tell_present(&mut self, objects: &[Object]) {
        for object in objects {
            if self.request.selector.matches(object) {
                let object = verbs::in_version(&self.resource, object.clone());
                self.tell_object(Type::Added, &object);
            }
        }
    }

    fn tell(&mut self, record: &Record) {
        let in_scope = |object: &Value| {
            self.request
                .namespace
                .as_deref()
                .is_none_or(|namespace| object::namespace(object) == namespace)
        };
        if !in_scope(&record.object) {
            return;
        }
        let selector = &self.request.selector;
        let kind = if selector.is_everything() {
            record.kind()
        } else {
            let before = record.old.as_ref().is_some_and(|old| selector.matches(old));
            let after = !record.deleted && selector.matches(&record.object);
            match (before, after) {
                (false, false) => return,
                (false, true) => Type::Added,
                (true, true) => Type::Modified,
                (true, false) => Type::Deleted,
            }
        };
        // A change from an old watcher's view cannot be told by a line that others share only when the form differs.
        let shared = self.request.form == Form::Object
            && (self.resource.custom.is_none() || record.object["apiVersion"] == self.resource.api_version());
        if shared {
            self.ready.push_back(record.frame(kind));
        } else {
            let object = verbs::in_version(&self.resource, record.object.clone());
            self.tell_object(kind, &object);
        }
    }

    fn tell_object(&mut self, kind: Type, object: &Value) {
        let line = match (self.request.form, &mut self.printer) {
            (Form::Table, Some(printer)) => line(kind.word(), &printer.event(object)),
            (Form::Metadata, _) => line(kind.word(), &super::table::partial(object)),
            _ => line(kind.word(), object),
        };
        self.ready.push_back(line);
    }

    fn tell_progress(&mut self) {
        // Nothing is pending for this watcher, so it has seen everything up to the present revision of the store.
        let revision = self.api.store.revision();
        if let Some(cursor) = &mut self.cursor {
            match cursor.take(RECORDS_AT_ONCE) {
                Ok(records) if records.is_empty() => {
                    self.tell_bookmark(revision.max(cursor_after(&self.cursor)), false)
                }
                Ok(records) => records.iter().for_each(|record| self.tell(record)),
                Err(expired) => self.tell_expired(expired),
            }
        }
    }

    fn tell_bookmark(&mut self, revision: u64, initial: bool) {
        let mut metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        if initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = match self.request.form {
            Form::Table => json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1",
                "metadata": { "resourceVersion": revision.to_string() },
                "columnDefinitions": null,
                "rows": [{ "cells": [], "object": {
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                }}],
            }),
            Form::Metadata => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            }),
            _ => json!({
                "kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata,
            }),
        };
        self.ready.push_back(line("BOOKMARK", &object));
    }

    fn tell_expired(&mut self, expired: Expired) {
        self.ready
            .push_back(line("ERROR", &Status::expired(expired.to_string()).to_value()));
        self.over = true;
    }
}

fn cursor_after(cursor: &Option<Cursor>) -> u64 {
    cursor.as_ref().map_or(0, Cursor::after)
}

fn line(kind: &str, object: &Value) -> Bytes {
    frame(kind, &serde_json::to_vec(object).unwrap_or_default())
}
