//! All that proxies are configured from, at one moment.

use std::sync::Arc;

use corten_api::istio::mesh_config::MeshConfig;
use corten_model::Settings;

use crate::{config::Configs, destination_rule::DestinationRules, service::Services, virtual_service::VirtualServices};

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
}

impl Catalog {
    /// Derives everything from what is written.
    pub fn new(settings: Arc<Settings>, mesh: Arc<MeshConfig>, configs: Arc<Configs>) -> Catalog {
        Catalog {
            services: Arc::new(Services::new(&configs, &settings, &mesh)),
            virtual_services: Arc::new(VirtualServices::new(&configs, &settings, &mesh)),
            destination_rules: Arc::new(DestinationRules::new(&configs, &settings, &mesh)),
            settings,
            mesh,
            configs,
        }
    }
}
