//! The mesh as a compiler's middle: resources to an immutable, incrementally computed snapshot, with diagnostics.
//!
//! Objects come in as JSON values and are read into light [`input`] views that keep only what the mesh looks at. A
//! [`Mesh`] holds them, and on each batch of changes recomputes what they affect, key by key; what comes out equal is
//! not a change. The result is a [`Snapshot`]: cheap to clone, never changing, sharing everything with its successor
//! that did not change. No clock, no I/O: the same objects give the same snapshot, in whatever order they came.

pub mod allocate;
mod derive;
pub mod input;
mod map;
mod mesh;
pub mod policy;
mod service;
mod settings;
mod snapshot;
pub mod status;
mod text;
pub mod trust_domain;
mod waypoint;
mod workload;

/// Single decisions of the derivation, for whoever explains or checks them.
pub mod rules {
    pub use crate::derive::{
        binding::{canary, canary_weight, ingress_use_waypoint},
        peer::{AppliedPeerAuthentication, PeerModes, applied as applied_peer_authentication, peer_modes},
        services::{effective_distribution, parse_range},
        unhonoured::{KIND_UNUSED, unhonoured},
    };
}

pub use self::{
    input::{Change, Object, ObjectKey, ObjectKind, Read, Reader},
    map::Map,
    mesh::{Delta, Mesh},
    policy::Policy,
    service::{
        AddressRange, AppProtocol, HealthPolicy, IpFamilies, LoadBalancing, LoadMode, Port, Scope, Service,
        ServiceScope, Visibility,
    },
    settings::Settings,
    snapshot::{AddressKey, Snapshot},
    status::{Condition, Status},
    text::{Labels, Name, Names},
    waypoint::{
        AllowedNamespaces, ApplicationTunnel, GatewayAddress, Operator, Requirement, Selector, TrafficType,
        TunnelHeader, Waypoint, WaypointAddress, WeightedWaypoint,
    },
    workload::{Locality, Tunnel, Workload},
};
