//! Credentials as Envoy takes them: secrets over SDS, and files of AWS keys.

use super::{Credential, Item, Published, State, clusters, signing};
use crate::config::Secret as Plain;
use crate::credentials::Issued;

impl Published {
    /// Puts every credential where Envoy takes it from.
    pub(super) fn fill(&self, state: &mut State) {
        let State { clusters, held, credentials, secrets, secret_of, lacking, .. } = state;
        secret_of.clear();
        lacking.clear();
        for (cluster, credential) in credentials.iter() {
            let value = match self.value(cluster, credential) {
                Ok(value) => value,
                Err(why) => {
                    lacking.insert(cluster.clone(), why);
                    continue;
                }
            };
            let Some(value) = value else { continue };
            if self.options.fixed {
                if let Err(error) = signing::write_secret(cluster, value.expose(), &self.options) {
                    lacking.insert(cluster.clone(), format!("{error:#}"));
                }
                continue;
            }
            let (name, body) = clusters::secret(cluster, value.expose());
            let item = Item { version: self.version(&body, true), body, retire_at: None };
            secret_of.insert(cluster.clone(), name.clone());
            secrets.insert(name, item);
        }
        let is_ready = |name: &String| match credentials.get(name) {
            Some(Credential::Signed { source: Some(_), .. }) => signing::is_there(name, &self.options),
            _ => true,
        };
        clusters.extend(held.extract_if(.., |name, _| is_ready(name)));
    }

    /// The value of a header; `None` where none carries the credential.
    fn value(&self, cluster: &str, credential: &Credential) -> Result<Option<Plain>, String> {
        let source = match credential {
            Credential::Header(_, value) => return Ok(Some(value.clone())),
            Credential::Signed { source: None, .. } => return Ok(None),
            Credential::Token(source) | Credential::Signed { source: Some(source), .. } => source,
        };
        match self.keyring.current(source) {
            Some(Issued::Token(token)) => Ok(Some(Plain::new(format!("Bearer {}", token.expose())))),
            Some(Issued::Keys(keys)) => match signing::write(cluster, &keys, &self.options) {
                Ok(()) => Ok(None),
                Err(error) => Err(format!("{error:#}")),
            },
            None => Err(self.keyring.problem(source)),
        }
    }
}
