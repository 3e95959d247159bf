//! What surrounds a pod's containers: host name, `/etc/hosts`, `/etc/resolv.conf`, users.
//!
//! Pure, from the pod's spec and the cluster's constants.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::sysctls::SHARED_MEMORY;
use crate::sandbox::{HostsEntry, ResolvConf, Security};

/// The cluster's own part of name resolution.
#[derive(Clone, Debug)]
pub(crate) struct ClusterDns {
    pub(crate) servers: Vec<IpAddr>,
    pub(crate) domain: String,
    /// The machine's own, for pods with `dnsPolicy: Default`.
    pub(crate) host: ResolvConf,
}

/// The most name servers and search domains that resolvers read.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const HOSTNAME_MAX: usize = 63;

/// The pod's host name.
pub(crate) fn hostname(pod: &Pod, domain: &str) -> String {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let Some(spec) = &pod.spec else { return name };
    if let Some(fqdn) = fqdn(pod, domain).filter(|_| spec.set_hostname_as_fqdn == Some(true)) {
        return fqdn;
    }
    let mut short = spec.hostname.clone().filter(|name| !name.is_empty()).unwrap_or(name);
    short.truncate(HOSTNAME_MAX);
    short.trim_end_matches(['-', '.']).to_owned()
}

/// The pod's full name in the DNS, when it has a subdomain.
fn fqdn(pod: &Pod, domain: &str) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let subdomain = spec.subdomain.as_ref().filter(|name| !name.is_empty())?;
    let namespace = pod.metadata.namespace.as_ref()?;
    let host = spec
        .hostname
        .as_ref()
        .filter(|name| !name.is_empty())
        .or(pod.metadata.name.as_ref())?;
    Some(format!("{host}.{subdomain}.{namespace}.svc.{domain}"))
}

/// The pod's own lines of `/etc/hosts`.
pub(crate) fn hosts(pod: &Pod, ips: &[IpAddr], domain: &str) -> Vec<HostsEntry> {
    let mut entries = Vec::new();
    let Some(spec) = &pod.spec else { return entries };
    if spec.host_network != Some(true) {
        for ip in ips {
            let mut names = Vec::from_iter(fqdn(pod, domain));
            let short = hostname(pod, domain);
            if !names.contains(&short) {
                names.push(short);
            }
            entries.push(HostsEntry { address: *ip, names });
        }
    }
    for alias in spec.host_aliases.iter().flatten() {
        // The API has checked it; what is no address would only be a line that no resolver reads.
        if let Ok(address) = alias.ip.parse() {
            let names = alias.hostnames.clone().unwrap_or_default();
            entries.push(HostsEntry { address, names });
        }
    }
    entries
}

/// The pod's `/etc/resolv.conf`.
pub(crate) fn dns(pod: &Pod, cluster: &ClusterDns) -> ResolvConf {
    let Some(spec) = &pod.spec else {
        return ResolvConf::default();
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = &cluster.domain;
    let of_cluster = || ResolvConf {
        nameservers: cluster.servers.clone(),
        searches: vec![
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.clone(),
        ],
        options: vec!["ndots:5".to_owned()],
    };
    let mut conf = match spec.dns_policy.as_deref() {
        Some("None") => ResolvConf::default(),
        Some("Default") => cluster.host.clone(),
        Some("ClusterFirstWithHostNet") => of_cluster(),
        _ if spec.host_network == Some(true) => cluster.host.clone(),
        _ => of_cluster(),
    };
    if let Some(own) = &spec.dns_config {
        add_new(
            &mut conf.nameservers,
            own.nameservers.iter().flatten().filter_map(|ip| ip.parse().ok()),
        );
        add_new(&mut conf.searches, own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            conf.options.retain(|of| of.split(':').next() != Some(&name));
            conf.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name,
            });
        }
    }
    conf.nameservers.truncate(NAMESERVERS_MAX);
    conf.searches.truncate(SEARCHES_MAX);
    conf
}

fn add_new<T: PartialEq>(list: &mut Vec<T>, more: impl Iterator<Item = T>) {
    for one in more {
        if !list.contains(&one) {
            list.push(one);
        }
    }
}

/// Reads a `resolv.conf`.
pub(crate) fn parse_resolv_conf(text: &str) -> ResolvConf {
    let mut conf = ResolvConf::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => conf
                .nameservers
                .extend(words.next().and_then(|ip| ip.parse::<IpAddr>().ok())),
            Some("search") => conf.searches = words.map(str::to_owned).collect(),
            Some("options") => conf.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    conf
}

/// Whom a container runs as and what it may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Powers {
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) groups: Vec<u32>,
    pub(crate) security: Security,
}

/// The powers of a container, from its own security context and the pod's; an error is worded as the real kubelet's.
pub(crate) fn powers(spec: &PodSpec, container: &Container) -> Result<Powers, String> {
    let pod = spec.security_context.as_ref();
    let own = container.security_context.as_ref();
    let id = |value: Option<i64>| value.and_then(|id| u32::try_from(id).ok());
    let user = id(own
        .and_then(|of| of.run_as_user)
        .or_else(|| pod.and_then(|of| of.run_as_user)));
    let non_root = own
        .and_then(|of| of.run_as_non_root)
        .or_else(|| pod.and_then(|of| of.run_as_non_root));
    // Without a user the image would decide; there is none, and built-in programs are content with any.
    if non_root == Some(true) && user == Some(0) {
        return Err("container's runAsUser breaks non-root policy".to_owned());
    }
    let mut groups: Vec<u32> = Vec::from_iter(id(pod.and_then(|of| of.fs_group)));
    add_new(
        &mut groups,
        pod.iter()
            .flat_map(|of| of.supplemental_groups.iter().flatten())
            .filter_map(|group| u32::try_from(*group).ok()),
    );
    let capabilities = own.and_then(|of| of.capabilities.as_ref());
    Ok(Powers {
        user,
        group: id(own
            .and_then(|of| of.run_as_group)
            .or_else(|| pod.and_then(|of| of.run_as_group))),
        groups,
        security: Security {
            privileged: own.and_then(|of| of.privileged) == Some(true),
            capabilities_add: capabilities.and_then(|of| of.add.clone()).unwrap_or_default(),
            capabilities_drop: capabilities.and_then(|of| of.drop.clone()).unwrap_or_default(),
            read_only_root: own.and_then(|of| of.read_only_root_filesystem) == Some(true),
        },
    })
}

/// The field paths of what a pod asks for and does not get here.
pub(crate) fn ignored(spec: &PodSpec) -> Vec<String> {
    let mut paths = Vec::new();
    let mut note = |said: bool, path: String| {
        if said {
            paths.push(path);
        }
    };
    let pod = spec.security_context.as_ref();
    note(
        pod.is_some_and(|of| of.seccomp_profile.is_some()),
        "spec.securityContext.seccompProfile".into(),
    );
    note(
        pod.is_some_and(|of| of.app_armor_profile.is_some()),
        "spec.securityContext.appArmorProfile".into(),
    );
    note(
        pod.is_some_and(|of| of.se_linux_options.is_some()),
        "spec.securityContext.seLinuxOptions".into(),
    );
    note(
        pod.is_some_and(|of| {
            of.sysctls
                .iter()
                .flatten()
                .any(|of| of.name.replace('/', ".") == SHARED_MEMORY)
        }),
        format!("spec.securityContext.sysctls[{SHARED_MEMORY}]"),
    );
    note(spec.host_pid == Some(true), "spec.hostPID".into());
    note(spec.host_ipc == Some(true), "spec.hostIPC".into());
    note(spec.host_users == Some(false), "spec.hostUsers".into());
    note(spec.runtime_class_name.is_some(), "spec.runtimeClassName".into());
    note(spec.resources.is_some(), "spec.resources".into());
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        let limited = volume.empty_dir.as_ref().is_some_and(|of| of.size_limit.is_some());
        note(limited, format!("spec.volumes[{i}].emptyDir.sizeLimit"));
    }
    let inits = spec
        .init_containers
        .iter()
        .flatten()
        .enumerate()
        .map(|(i, of)| (format!("spec.initContainers[{i}]"), of));
    let mains = spec
        .containers
        .iter()
        .enumerate()
        .map(|(i, of)| (format!("spec.containers[{i}]"), of));
    for (path, of) in inits.chain(mains) {
        let resources = of.resources.as_ref();
        let some = |amounts: Option<&std::collections::BTreeMap<_, _>>| amounts.is_some_and(|of| !of.is_empty());
        let asked =
            some(resources.and_then(|of| of.requests.as_ref())) || some(resources.and_then(|of| of.limits.as_ref()));
        note(asked, format!("{path}.resources"));
        let host_ports = spec.host_network != Some(true)
            && of
                .ports
                .iter()
                .flatten()
                .any(|port| port.host_port.is_some_and(|of| of > 0));
        note(host_ports, format!("{path}.ports.hostPort"));
        note(
            of.volume_devices.as_ref().is_some_and(|of| !of.is_empty()),
            format!("{path}.volumeDevices"),
        );
        let Some(own) = &of.security_context else { continue };
        note(
            own.seccomp_profile.is_some(),
            format!("{path}.securityContext.seccompProfile"),
        );
        note(
            own.app_armor_profile.is_some(),
            format!("{path}.securityContext.appArmorProfile"),
        );
        note(
            own.se_linux_options.is_some(),
            format!("{path}.securityContext.seLinuxOptions"),
        );
        note(own.proc_mount.is_some(), format!("{path}.securityContext.procMount"));
        note(
            own.allow_privilege_escalation == Some(false),
            format!("{path}.securityContext.allowPrivilegeEscalation"),
        );
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        let pod = serde_json::json!({ "metadata": { "name": "web-0", "namespace": "shop" }, "spec": spec });
        serde_json::from_value(pod).expect("a pod")
    }

    fn cluster() -> ClusterDns {
        ClusterDns {
            servers: vec!["10.96.0.10".parse().expect("an address")],
            domain: "cluster.local".into(),
            host: parse_resolv_conf("# theirs\nsearch lan\nnameserver 9.9.9.9\noptions edns0\n"),
        }
    }

    #[track_caller]
    fn check_dns(spec: serde_json::Value, expect: &str) {
        let conf = dns(&pod(spec), &cluster());
        let servers: Vec<String> = conf.nameservers.iter().map(ToString::to_string).collect();
        assert_eq!(
            format!(
                "{} | {} | {}",
                servers.join(" "),
                conf.searches.join(" "),
                conf.options.join(" ")
            ),
            expect
        );
    }

    #[test]
    fn names_are_resolved_as_the_policy_says() {
        let containers = serde_json::json!([]);
        check_dns(
            serde_json::json!({ "containers": containers }),
            "10.96.0.10 | shop.svc.cluster.local svc.cluster.local cluster.local | ndots:5",
        );
        check_dns(
            serde_json::json!({ "containers": containers, "dnsPolicy": "Default" }),
            "9.9.9.9 | lan | edns0",
        );
        check_dns(
            serde_json::json!({ "containers": containers, "hostNetwork": true }),
            "9.9.9.9 | lan | edns0",
        );
        check_dns(
            serde_json::json!({ "containers": containers, "dnsPolicy": "None", "dnsConfig": { "nameservers": ["1.1.1.1"], "searches": ["a"] } }),
            "1.1.1.1 | a | ",
        );
        check_dns(
            serde_json::json!({ "containers": containers, "dnsConfig": { "options": [{ "name": "ndots", "value": "2" }, { "name": "use-vc" }] } }),
            "10.96.0.10 | shop.svc.cluster.local svc.cluster.local cluster.local | ndots:2 use-vc",
        );
    }

    #[test]
    fn a_subdomain_gives_a_full_name() {
        let pod = pod(serde_json::json!({
            "containers": [], "hostname": "web", "subdomain": "nodes",
            "hostAliases": [{ "ip": "1.2.3.4", "hostnames": ["a", "b"] }],
        }));
        let entries = hosts(&pod, &["10.244.1.2".parse().expect("an address")], "cluster.local");
        assert_eq!(entries[0].names, ["web.nodes.shop.svc.cluster.local", "web"]);
        assert_eq!(entries[1].names, ["a", "b"]);
        assert_eq!(hostname(&pod, "cluster.local"), "web");
    }

    #[test]
    fn what_is_ignored_is_named_by_its_path() {
        let pod = pod(serde_json::json!({
            "securityContext": { "seccompProfile": { "type": "RuntimeDefault" }, "runAsUser": 5 },
            "initContainers": [{ "name": "i", "securityContext": { "runAsUser": 0, "runAsNonRoot": true } }],
            "containers": [{ "name": "c", "resources": { "limits": { "cpu": "1" } }, "securityContext": { "allowPrivilegeEscalation": false } }],
        }));
        let spec = pod.spec.expect("a spec");
        assert_eq!(
            ignored(&spec),
            [
                "spec.securityContext.seccompProfile",
                "spec.containers[0].resources",
                "spec.containers[0].securityContext.allowPrivilegeEscalation"
            ]
        );
        assert_eq!(powers(&spec, &spec.containers[0]).map(|of| of.user), Ok(Some(5)));
        let init = &spec.init_containers.as_ref().expect("there")[0];
        assert_eq!(
            powers(&spec, init),
            Err("container's runAsUser breaks non-root policy".into())
        );
    }
}
