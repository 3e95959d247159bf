//! Which waypoint serves an object: by its own label, or by its namespace's.

use std::sync::Arc;

use crate::{
    input::{Meta, Namespace},
    map::Map,
    status::reason,
    text::{Labels, Name},
    waypoint::{Waypoint, WeightedWaypoint},
};

const USE: &str = "istio.io/use-waypoint";
const USE_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
const CANARY: &str = "istio.io/use-waypoint-canary";
const CANARY_NAMESPACE: &str = "istio.io/use-waypoint-canary-namespace";
const INGRESS: &str = "istio.io/ingress-use-waypoint";
const MANAGED: &str = "gateway.istio.io/managed";
/// Gateways that this controller runs: nothing of theirs has a waypoint.
const MANAGED_BY: [&str; 2] = ["istio.io-mesh-controller", "istio.io-eastwest-controller"];

/// What waypoints there are, as far as one object can see, with a note of every one it looked for.
#[derive(Debug)]
pub(crate) struct Lookup<'a> {
    pub(crate) waypoints: &'a Map<Name, Arc<Waypoint>>,
    pub(crate) namespace: Option<&'a Namespace>,
    /// Keys of the waypoints whose change can change the answer.
    pub(crate) consulted: Vec<Name>,
}

/// Why an object has no waypoint though it asks for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// In one word.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) message: String,
}

impl Refusal {
    fn not_ready(waypoint: &str) -> Refusal {
        Refusal {
            reason: reason::WAYPOINT_NOT_READY,
            message: format!("waypoint {waypoint:?} is not there, or has no address yet"),
        }
    }

    fn denied(waypoint: &str) -> Refusal {
        Refusal {
            reason: reason::ATTACHMENT_DENIED,
            message: format!(
                "waypoint {waypoint:?} does not take objects of this namespace; see its listener's allowedRoutes"
            ),
        }
    }

    fn traffic(waypoint: &Waypoint, wanted: &str) -> Refusal {
        Refusal {
            reason: reason::UNSUPPORTED_TRAFFIC_TYPE,
            message: format!(
                "waypoint {:?} is not for traffic addressed to a {wanted}; see its label istio.io/waypoint-for",
                waypoint.key
            ),
        }
    }

    fn cross_namespace(waypoint: &Waypoint) -> Refusal {
        Refusal {
            reason: reason::CROSS_NAMESPACE_FORBIDDEN,
            message: format!(
                "waypoint {:?} is of another namespace, to which a ServiceEntry of NAMESPACE visibility must not be shown",
                waypoint.key
            ),
        }
    }

    fn canary_weight(waypoint: &str) -> Refusal {
        Refusal {
            reason: reason::CANARY_INVALID_WEIGHT,
            message: format!("the weight of the canary waypoint {waypoint:?} must be a whole number from 0 to 100"),
        }
    }

    fn canary_is_primary(waypoint: &str) -> Refusal {
        Refusal {
            reason: reason::CANARY_SAME_AS_PRIMARY,
            message: format!("the canary waypoint {waypoint:?} must be another than the waypoint itself"),
        }
    }
}

/// A waypoint that labels name.
enum Named {
    /// They name none.
    Unsaid,
    /// They say that there is none.
    None,
    /// This one.
    Waypoint(Name),
}

fn named(labels: &Labels, namespace: &Name) -> Named {
    match labels.get(USE) {
        None => Named::Unsaid,
        Some(name) if name.as_ref() == "none" => Named::None,
        Some(name) => {
            let namespace = labels.get(USE_NAMESPACE).unwrap_or(namespace);
            Named::Waypoint(Arc::from(format!("{namespace}/{name}")))
        }
    }
}

impl<'a> Lookup<'a> {
    /// For objects of a namespace.
    pub(crate) fn new(waypoints: &'a Map<Name, Arc<Waypoint>>, namespace: Option<&'a Namespace>) -> Lookup<'a> {
        Lookup {
            waypoints,
            namespace,
            consulted: Vec::new(),
        }
    }

    fn get(&mut self, key: &Name) -> Option<&'a Arc<Waypoint>> {
        if !self.consulted.contains(key) {
            self.consulted.push(Arc::clone(key));
        }
        self.waypoints.get(key)
    }

    fn namespace_labels(&self) -> Labels {
        self.namespace
            .map(|namespace| namespace.meta.labels.clone())
            .unwrap_or_default()
    }

    /// The waypoint that an object is an instance of.
    pub(crate) fn instance(&mut self, meta: &Meta) -> Option<&'a Arc<Waypoint>> {
        let name = meta
            .labels
            .get("gateway.networking.k8s.io/gateway-name")
            .filter(|name| !name.is_empty())?;
        self.get(&Arc::from(format!("{}/{name}", meta.namespace)))
    }

    /// The waypoint of an object, whatever it is for.
    fn target(&mut self, meta: &Meta) -> Result<Option<&'a Arc<Waypoint>>, Refusal> {
        let wanted = match named(&meta.labels, &meta.namespace) {
            Named::Waypoint(key) => Some(key),
            Named::None => None,
            Named::Unsaid => match self.namespace.map(|own| named(&own.meta.labels, &meta.namespace)) {
                Some(Named::Waypoint(key)) => Some(key),
                _ => None,
            },
        };
        let Some(key) = wanted else {
            return Ok(None);
        };
        let waypoint = self.get(&key).ok_or_else(|| Refusal::not_ready(&key))?;
        self.admit(waypoint, &meta.namespace).map(Some)
    }

    fn admit(&self, waypoint: &'a Arc<Waypoint>, namespace: &Name) -> Result<&'a Arc<Waypoint>, Refusal> {
        if waypoint
            .allowed
            .allow(&waypoint.source.namespace, namespace, &self.namespace_labels())
        {
            Ok(waypoint)
        } else {
            Err(Refusal::denied(&waypoint.key))
        }
    }

    /// The waypoint of a service. `hidden`: the service is shown to its own namespace only.
    pub(crate) fn of_service(&mut self, meta: &Meta, hidden: bool) -> Result<Option<&'a Arc<Waypoint>>, Refusal> {
        if meta
            .labels
            .get(MANAGED)
            .is_some_and(|by| MANAGED_BY.contains(&by.as_ref()))
        {
            return Ok(None);
        }
        let Some(waypoint) = self.target(meta)? else {
            return Ok(None);
        };
        if !waypoint.traffic_type.takes_services() {
            return Err(Refusal::traffic(waypoint, "service"));
        }
        if hidden && waypoint.source.namespace != meta.namespace {
            return Err(Refusal::cross_namespace(waypoint));
        }
        Ok(Some(waypoint))
    }

    /// The waypoint of a workload. A namespace's waypoint that is for services only is not one, and that is no fault.
    pub(crate) fn of_workload(&mut self, meta: &Meta) -> Result<Option<&'a Arc<Waypoint>>, Refusal> {
        let Some(waypoint) = self.target(meta)? else {
            return Ok(None);
        };
        if waypoint.traffic_type.takes_workloads() {
            Ok(Some(waypoint))
        } else if meta.labels.get(USE).is_some() {
            Err(Refusal::traffic(waypoint, "workload"))
        } else {
            Ok(None)
        }
    }

    /// How a service's traffic is divided between its waypoint and a canary; empty without one.
    pub(crate) fn weighted(
        &mut self,
        meta: &Meta,
        weight: Option<&Name>,
        primary: &Waypoint,
    ) -> Result<Vec<WeightedWaypoint>, Refusal> {
        // A namespace's canary goes with the namespace's waypoint, not with one that the object chose.
        let own = matches!(named(&meta.labels, &meta.namespace), Named::Waypoint(_));
        let namespace = self.namespace.filter(|_| !own);
        let Some(key) = canary(
            &meta.labels,
            namespace.map(|namespace| &namespace.meta.labels),
            &meta.namespace,
        ) else {
            return Ok(Vec::new());
        };
        if key == primary.key {
            return Err(Refusal::canary_is_primary(&key));
        }
        let written = weight.or_else(|| namespace.and_then(|namespace| namespace.canary_weight.as_ref()));
        let Some(share) = canary_weight(written.map(AsRef::as_ref)) else {
            return Err(Refusal::canary_weight(&key));
        };
        let canary = self.get(&key).ok_or_else(|| Refusal::not_ready(&key))?;
        self.admit(canary, &meta.namespace)?;
        if !canary.traffic_type.takes_services() {
            return Err(Refusal::traffic(canary, "service"));
        }
        let weighted = |waypoint: &Waypoint, weight: u8| WeightedWaypoint {
            address: waypoint.address.clone(),
            weight,
        };
        Ok(vec![weighted(primary, 100 - share), weighted(canary, share)])
    }
}

/// The canary that labels name, the object's before its namespace's.
pub fn canary(labels: &Labels, namespace_labels: Option<&Labels>, namespace: &Name) -> Option<Name> {
    let at = if labels.get(CANARY).is_some() {
        labels
    } else {
        namespace_labels.filter(|labels| labels.get(CANARY).is_some())?
    };
    let name = at
        .get(CANARY)
        .filter(|name| !name.is_empty() && name.as_ref() != "none")?;
    let namespace = at.get(CANARY_NAMESPACE).unwrap_or(namespace);
    Some(Arc::from(format!("{namespace}/{name}")))
}

/// The share of a canary in percent: none when nothing is written; `None`: what is written is no percentage.
pub fn canary_weight(written: Option<&str>) -> Option<u8> {
    let Some(written) = written else {
        return Some(0);
    };
    let digits = written.strip_prefix('+').unwrap_or(written);
    digits.parse().ok().filter(|share| *share <= 100)
}

/// Whether gateways are to send through a service's waypoint; `None`: neither it nor its namespace says.
pub fn ingress_use_waypoint(labels: &Labels, namespace_labels: Option<&Labels>) -> Option<bool> {
    let written = labels
        .get(INGRESS)
        .or_else(|| namespace_labels.and_then(|labels| labels.get(INGRESS)))?;
    Some(crate::input::is_true(Some(written)))
}
