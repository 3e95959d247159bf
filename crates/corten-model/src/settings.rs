//! Settings of the whole mesh that the model depends on.

use std::sync::Arc;

use corten_api::istio::mesh_config::{
    LabelSelector, MatchRuleMatcher, MeshConfig, ServiceScopeConfigsScope, Visibility as ConfiguredVisibility,
};

use crate::{
    service::{ServiceScope, Visibility},
    text::{Labels, Name},
    waypoint::{Operator, Requirement, Selector},
};

/// Settings of the whole mesh.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The name of this cluster.
    pub cluster: Name,
    /// The end of the names of Kubernetes' services.
    pub domain: Name,
    /// The namespace of the control plane; its network label is the network of this cluster.
    pub system_namespace: Name,
    /// The namespace whose policies are for the whole mesh.
    pub root_namespace: Name,
    /// The trust domain of this mesh's identities.
    pub trust_domain: Name,
    /// Trust domains that count as the same.
    pub trust_domain_aliases: Vec<Name>,
    /// The network of this cluster where the system namespace has no label; empty is the default one.
    pub network: Name,
    /// Which ServiceEntries are seen by whom; `None`: all by everybody.
    pub visibility: Option<VisibilityRules>,
    /// Which services are for all clusters.
    pub scopes: Vec<ScopeRule>,
    /// Policies marked as dry runs are sent to be logged, instead of being left out.
    pub dry_run_policies: bool,
    /// Workloads behind a waypoint take connections from it, whatever other policies say.
    pub allow_waypoints: bool,
}

/// Which ServiceEntries are seen by whom: the first rule that selects the namespace counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VisibilityRules {
    /// Where no rule selects.
    pub default: Visibility,
    /// The rules: all selectors must select the namespace.
    pub rules: Vec<(Vec<Option<Selector>>, Visibility)>,
}

/// Which services are for all clusters.
#[derive(Debug, Clone, PartialEq)]
pub struct ScopeRule {
    /// The namespaces; `None`: the rule is not usable.
    pub namespaces: Option<Selector>,
    /// The services; `None`: the rule is not usable.
    pub services: Option<Selector>,
    /// The scope.
    pub scope: ServiceScope,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            cluster: Arc::from("Kubernetes"),
            domain: Arc::from("cluster.local"),
            system_namespace: Arc::from("istio-system"),
            root_namespace: Arc::from("istio-system"),
            trust_domain: Arc::from("cluster.local"),
            trust_domain_aliases: Vec::new(),
            network: Arc::from(""),
            visibility: None,
            scopes: Vec::new(),
            dry_run_policies: false,
            allow_waypoints: false,
        }
    }
}

impl Settings {
    /// These settings, with what a `MeshConfig` says; what it leaves out stays.
    #[must_use]
    pub fn with_mesh_config(mut self, config: &MeshConfig) -> Settings {
        let set = |field: &mut Name, value: &str| {
            if !value.is_empty() {
                *field = Arc::from(value);
            }
        };
        set(&mut self.root_namespace, &config.root_namespace);
        set(&mut self.trust_domain, &config.trust_domain);
        self.trust_domain_aliases = config
            .trust_domain_aliases
            .iter()
            .map(|alias| Arc::from(alias.as_str()))
            .collect();
        self.visibility = config.service_entry_visibility.as_ref().map(|rules| VisibilityRules {
            default: visibility(rules.default_visibility),
            rules: rules
                .policies
                .iter()
                .map(|policy| {
                    let selectors = policy.matching_rules.iter().map(|rule| match &rule.matcher {
                        Some(MatchRuleMatcher::NamespaceSelector(selector)) => compile(selector),
                        None => None,
                    });
                    (selectors.collect(), visibility(policy.visibility))
                })
                .collect(),
        });
        self.scopes = config
            .service_scope_configs
            .iter()
            .map(|rule| {
                // A selector that is left out selects everything here.
                let compiled = |selector: &Option<LabelSelector>| {
                    selector.as_ref().map_or_else(|| Some(Selector::default()), compile)
                };
                ScopeRule {
                    namespaces: compiled(&rule.namespace_selector),
                    services: compiled(&rule.services_selector),
                    scope: match rule.scope {
                        ServiceScopeConfigsScope::Local => ServiceScope::Local,
                        ServiceScopeConfigsScope::Global => ServiceScope::Global,
                    },
                }
            })
            .collect();
        self
    }

    /// The trust domain as workloads carry it: empty for the usual one.
    pub(crate) fn carried_trust_domain(&self) -> Name {
        if self.trust_domain.as_ref() == "cluster.local" {
            return Arc::from("");
        }
        Arc::clone(&self.trust_domain)
    }

    /// Who sees the ServiceEntries of a namespace with these labels.
    pub(crate) fn visibility(&self, namespace: &Labels) -> Visibility {
        let Some(rules) = &self.visibility else {
            return Visibility::Public;
        };
        let selects = |selectors: &[Option<Selector>]| {
            selectors
                .iter()
                .all(|selector| selector.as_ref().is_some_and(|selector| selector.selects(namespace)))
        };
        rules
            .rules
            .iter()
            .find(|(selectors, _)| selects(selectors))
            .map_or(rules.default, |(_, visibility)| *visibility)
    }

    /// The clusters that a service is for.
    pub(crate) fn scope(&self, service: &Labels, namespace: Option<&Labels>) -> ServiceScope {
        let Some(namespace) = namespace else {
            return ServiceScope::Local;
        };
        let global = self.scopes.iter().any(|rule| {
            rule.scope == ServiceScope::Global
                && rule
                    .namespaces
                    .as_ref()
                    .is_some_and(|selector| selector.selects(namespace))
                && rule.services.as_ref().is_some_and(|selector| selector.selects(service))
        });
        if global {
            ServiceScope::Global
        } else {
            ServiceScope::Local
        }
    }
}

fn visibility(configured: ConfiguredVisibility) -> Visibility {
    match configured {
        ConfiguredVisibility::VisibilityUnspecified | ConfiguredVisibility::Public => Visibility::Public,
        ConfiguredVisibility::Namespace => Visibility::Namespace,
        ConfiguredVisibility::None => Visibility::None,
    }
}

/// A selector in the form that is evaluated; `None`: one of its operators is not known.
fn compile(selector: &LabelSelector) -> Option<Selector> {
    let pairs = selector
        .match_labels
        .iter()
        .map(|(key, value)| (Arc::from(key.as_str()), Arc::from(value.as_str())));
    let requirements = selector.match_expressions.iter().map(|requirement| {
        Some(Requirement {
            key: Arc::from(requirement.key.as_str()),
            operator: Operator::parse(&requirement.operator)?,
            values: requirement
                .values
                .iter()
                .map(|value| Arc::from(value.as_str()))
                .collect(),
        })
    });
    Some(Selector {
        labels: Labels::new(pairs),
        requirements: requirements.collect::<Option<_>>()?,
    })
}
