//! Extensions that are sent by themselves (ECDS), because the filters that they configure only name them.

use std::collections::BTreeSet;

use corten_envoy::{
    decode,
    envoy::{
        config::listener::v3::{Listener, filter, listener_filter},
        extensions::filters::network::http_connection_manager::v3::{HttpConnectionManager, http_filter},
    },
};

/// The names of the extensions that listeners ask for.
pub fn names(listeners: &[Listener]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for listener in listeners {
        for filter in &listener.listener_filters {
            if let Some(listener_filter::ConfigType::ConfigDiscovery(_)) = &filter.config_type {
                names.insert(filter.name.clone());
            }
        }
        let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
        for filter in chains.flat_map(|chain| &chain.filters) {
            match &filter.config_type {
                Some(filter::ConfigType::ConfigDiscovery(_)) => {
                    names.insert(filter.name.clone());
                }
                Some(filter::ConfigType::TypedConfig(config)) => {
                    let manager = decode::<HttpConnectionManager>(config).ok().flatten();
                    let filters = manager.into_iter().flat_map(|manager| manager.http_filters);
                    let asking = filters.filter(|filter| {
                        matches!(filter.config_type, Some(http_filter::ConfigType::ConfigDiscovery(_)))
                    });
                    names.extend(asking.map(|filter| filter.name));
                }
                None => {}
            }
        }
    }
    names
}
