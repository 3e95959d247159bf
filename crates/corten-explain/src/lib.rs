//! Follows one call through the configuration of a proxy, without sockets.
//!
//! A [`Config`] is what a proxy was sent, a [`Call`] is what arrives at it, and the [`Trace`] says what Envoy would do and why: the
//! listener, the filter chain, each filter's verdict, the route and what the others lacked, the cluster and its endpoints with their
//! shares. Where Envoy would draw lots, all lots are there. Nothing here knows where a configuration comes from.

#![expect(
    deprecated,
    reason = "what Envoy still reads is followed, also where there is a newer way to say it"
)]

mod action;
mod call;
mod chain;
mod cluster;
mod config;
mod endpoints;
mod facts;
mod filters;
mod follow;
mod format;
mod headers;
mod host;
mod http;
mod jwt;
mod listener;
mod network;
mod onward;
mod path;
mod rbac;
mod regexes;
mod route;
mod strings;
mod text;
mod tls;
mod trace;
mod tree;
mod values;

pub use self::{
    call::{Call, Certificate, Entry, Note, Protocol, Request, Tls},
    config::Config,
    follow::follow,
    onward::onward,
    trace::{
        Answer, ChainMatched, Choice, Destination, EndpointShare, FilterVerdict, HeaderChange, Hop, HttpTrace,
        ListenerMatched, Outcome, PassedOver, PolicyVerdict, Refusal, Retries, RouteTaken, Setting, TlsTerminated,
        Trace, Upstream, Verdict, Via,
    },
};
