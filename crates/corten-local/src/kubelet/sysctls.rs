//! The kernel settings that a pod may have: Kubernetes' safe ones, as far as they are those of a network namespace.

use k8s_openapi::api::core::v1::PodSpec;

/// Those that kubelets allow without being told to.
const SAFE: [&str; 12] = [
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
    SHARED_MEMORY,
];
/// Safe as well, and of no network: pods here have it as the machine has it, and are told so.
pub(super) const SHARED_MEMORY: &str = "kernel.shm_rmid_forced";

/// The reason why a pod with another setting is not run.
pub(super) const FORBIDDEN: &str = "SysctlForbidden";

/// A setting, and its value.
pub(super) type Sysctl = (String, String);

/// What a pod asks for; an error says why it is not run, as a kubelet does.
pub(super) fn requested(spec: Option<&PodSpec>) -> Result<Vec<Sysctl>, String> {
    let context = spec.and_then(|spec| spec.security_context.as_ref());
    let asked = context
        .and_then(|context| context.sysctls.as_ref())
        .into_iter()
        .flatten();
    let on_host = spec.is_some_and(|spec| spec.host_network == Some(true));
    let mut sysctls = Vec::new();
    for sysctl in asked {
        // Names may be written as paths.
        let name = sysctl.name.replace('/', ".");
        if !SAFE.contains(&name.as_str()) {
            return Err(format!("forbidden sysctl: {name:?} not allowlisted"));
        }
        if name == SHARED_MEMORY {
            continue;
        }
        if on_host {
            return Err(format!("forbidden sysctl: {name:?} not allowed with host net enabled"));
        }
        sysctls.push((name, sysctl.value.clone()));
    }
    Ok(sysctls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodSecurityContext, Sysctl as Asked};

    #[track_caller]
    fn check(names: &[&str], on_host: bool, expect: Result<&[&str], &str>) {
        let sysctls = names.iter().map(|name| Asked {
            name: (*name).to_owned(),
            value: "0".to_owned(),
        });
        let spec = PodSpec {
            host_network: Some(on_host),
            security_context: Some(PodSecurityContext {
                sysctls: Some(sysctls.collect()),
                ..PodSecurityContext::default()
            }),
            ..PodSpec::default()
        };
        let found = requested(Some(&spec));
        let found = found.map(|all| all.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
        let expect = expect.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(found, expect.map_err(str::to_owned));
    }

    #[test]
    fn only_safe_settings_of_the_pods_own_network() {
        check(&[], false, Ok(&[]));
        check(&[], true, Ok(&[]));
        check(
            &[
                "net.ipv4.ip_unprivileged_port_start",
                "net/ipv4/tcp_rmem",
                "kernel.shm_rmid_forced",
            ],
            false,
            Ok(&["net.ipv4.ip_unprivileged_port_start", "net.ipv4.tcp_rmem"]),
        );
        check(
            &["net.ipv4.tcp_syncookies", "net.core.somaxconn"],
            false,
            Err("forbidden sysctl: \"net.core.somaxconn\" not allowlisted"),
        );
        check(
            &["kernel.msgmax"],
            false,
            Err("forbidden sysctl: \"kernel.msgmax\" not allowlisted"),
        );
        check(
            &["net.ipv4.tcp_syncookies"],
            true,
            Err("forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host net enabled"),
        );
    }
}
