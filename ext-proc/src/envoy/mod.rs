//! Everything that tells Envoy what to do: the bootstrap text, and clusters and credentials over xDS.
//!
//! | module | what it does |
//! |---|---|
//! | [`bootstrap`] | renders `envoy/bootstrap.yaml` |
//! | `clusters` | one cluster and, with a credential, one secret per deployment |
//! | `signing` | the filter that signs Bedrock's requests, and the files with its keys |
//! | `published` | what is published, what each connected Envoy has acknowledged, and so which clusters are live |
//! | `session` | one Envoy's side of the delta protocol |
//! | `ads` | the delta ADS stream |

mod ads;
pub mod bootstrap;
mod clusters;
mod published;
mod session;
mod signing;

pub use ads::AdsService;
pub use bootstrap::{BootstrapOptions, Jwks, ListenerTls, SidecarAddress, Tokens, render};
pub use clusters::ClusterOptions;
pub use published::{EnvoyStatus, Published};
