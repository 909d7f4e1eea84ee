//! Everything that tells Envoy what to do: the bootstrap text, and clusters and credentials over xDS.
//!
//! | module | what it does |
//! |---|---|
//! | [`bootstrap`] | renders `envoy/bootstrap.yaml` |
//! | `clusters` | one cluster and, with a credential, one secret per deployment |
//! | [`inline`] | the same clusters as text, for an Envoy without xDS |
//! | [`mesh`] | objects for Istio and Envoy Gateway |
//! | `steps` | the plan's clusters by a matcher, for an Envoy before 1.40 |
//! | `yaml` | text of what is rendered |
//! | `signing` | the filter that signs Bedrock's requests, and the files with its keys |
//! | `published` | what is published, what each connected Envoy has acknowledged, and so which clusters are live |
//! | `session` | one Envoy's side of the delta protocol |
//! | `ads` | the delta ADS stream |

mod ads;
pub mod bootstrap;
mod certificates;
mod clusters;
pub mod inline;
pub mod mesh;
mod published;
mod session;
mod signing;
mod steps;
mod yaml;

pub use ads::AdsService;
pub use bootstrap::{BootstrapOptions, Jwks, ListenerTls, PlanBy, SidecarAddress, Tokens, render};
pub use certificates::secret_files;
pub use clusters::ClusterOptions;
pub use published::{EnvoyStatus, Published};
pub use steps::Named;
pub use yaml::emit;
