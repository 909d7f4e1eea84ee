//! Everything that tells Envoy what to do: the bootstrap text, and clusters and credentials over xDS.
//!
//! | module | what it does |
//! |---|---|
//! | [`bootstrap`] | renders `envoy/bootstrap.yaml` |
//! | `clusters` | one cluster and, with a credential, one secret per deployment |
//! | `published` | what is published, what each connected Envoy has acknowledged, and so which clusters are live |
//! | `session` | one Envoy's side of the delta protocol |
//! | `ads` | the delta ADS stream |

mod ads;
pub mod bootstrap;
mod clusters;
mod published;
mod session;

pub use ads::AdsService;
pub use bootstrap::{BootstrapOptions, ListenerTls, SidecarAddress, render};
pub use clusters::ClusterOptions;
pub use published::{EnvoyStatus, Published};
