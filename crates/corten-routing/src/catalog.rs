//! All that proxies are configured from, at one moment.

use std::sync::Arc;

use corten_api::istio::mesh_config::MeshConfig;
use corten_model::Settings;

use crate::{
    config::Configs, destination_rule::DestinationRules, local_hosts::LocalHosts, service::Services,
    virtual_service::VirtualServices,
};

/// All that proxies are configured from besides workloads: as it is written, and as it takes effect.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    /// The model's settings.
    pub settings: Arc<Settings>,
    /// The mesh's configuration.
    pub mesh: Arc<MeshConfig>,
    /// Configuration as it is written.
    pub configs: Arc<Configs>,
    /// The services.
    pub services: Arc<Services>,
    /// The VirtualServices.
    pub virtual_services: Arc<VirtualServices>,
    /// The DestinationRules.
    pub destination_rules: Arc<DestinationRules>,
    /// Hosts whose clients stay in their own cluster.
    pub local_hosts: Arc<LocalHosts>,
}

impl Catalog {
    /// Derives everything from what is written.
    pub fn new(settings: Arc<Settings>, mesh: Arc<MeshConfig>, configs: Arc<Configs>) -> Catalog {
        Catalog {
            services: Arc::new(Services::new(&configs, &settings, &mesh, &Services::default())),
            virtual_services: Arc::new(VirtualServices::new(&configs, &settings, &mesh)),
            destination_rules: Arc::new(DestinationRules::new(&configs, &settings, &mesh)),
            local_hosts: Arc::new(LocalHosts::new(&mesh, &settings)),
            settings,
            mesh,
            configs,
        }
    }

    /// What becomes of it: only what depends on what changed is derived again, and what comes out equal stays the same value, a
    /// table as a whole as well as each of its members.
    #[must_use]
    pub fn follow(&self, settings: &Arc<Settings>, mesh: &Arc<MeshConfig>, configs: &Arc<Configs>) -> Catalog {
        let same = |settings: &Arc<Settings>, mesh: &Arc<MeshConfig>| {
            (Arc::ptr_eq(&self.settings, settings) || self.settings == *settings)
                && (Arc::ptr_eq(&self.mesh, mesh) || self.mesh == *mesh)
        };
        if !same(settings, mesh) {
            return Catalog::new(Arc::clone(settings), Arc::clone(mesh), Arc::clone(configs));
        }
        if Arc::ptr_eq(&self.configs, configs) {
            return self.clone();
        }
        let mut next = self.clone();
        let held = &self.configs;
        let services = Arc::ptr_eq(&held.services, &configs.services);
        if !services || !Arc::ptr_eq(&held.service_entries, &configs.service_entries) {
            keep_equal(
                &mut next.services,
                Services::new(configs, settings, mesh, &self.services),
            );
        }
        if !Arc::ptr_eq(&held.virtual_services, &configs.virtual_services) {
            keep_equal(
                &mut next.virtual_services,
                VirtualServices::new(configs, settings, mesh).sharing(&self.virtual_services),
            );
        }
        if !Arc::ptr_eq(&held.destination_rules, &configs.destination_rules) {
            keep_equal(
                &mut next.destination_rules,
                DestinationRules::new(configs, settings, mesh).sharing(&self.destination_rules),
            );
        }
        next.configs = Arc::clone(configs);
        next
    }
}

fn keep_equal<T: PartialEq>(held: &mut Arc<T>, new: T) {
    if **held != new {
        *held = Arc::new(new);
    }
}
