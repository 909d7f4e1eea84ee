use std::io::{self, Write as _};

use attache_llm::dialect::MATRIX;
use attache_llm::provider::PROVIDERS;
use clap::Args;

/// `attache providers`: what is shown to work, and how each provider is reached.
#[derive(Debug, Args)]
pub(super) struct Providers;

impl Providers {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        match io::stdout().lock().write_all(text().as_bytes()) {
            // Whoever reads only the beginning (`| head`) has what it wanted.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The matrix of the golden tests and the table of providers, as Markdown.
fn text() -> String {
    format!(
        "## What is shown to work\n\n{}\n## Prefixes\n\n{}",
        MATRIX.trim_end().to_owned() + "\n",
        prefixes()
    )
}

fn prefixes() -> String {
    let mut out = String::from("| prefix | base URL | key from | header |\n|---|---|---|---|\n");
    for row in PROVIDERS {
        let names = |names: &[&str]| match names {
            [] => "–".to_owned(),
            names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        };
        let base = row.base_url.map_or_else(|| "`api_base`".to_owned(), str::to_owned);
        let base = match row.name {
            "bedrock" => "the region's".to_owned(),
            "vertex_ai" => "the location's".to_owned(),
            _ => base,
        };
        out.push_str(&format!(
            "| `{}/` | {base} | {} | `{}` |\n",
            row.name,
            names(row.key_env),
            row.credential_header
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    const BEGIN: &str =
        "<!-- providers: begin (made by `UPDATE_DOCS=1 cargo test -p attache cli::providers`) -->\n";
    const END: &str = "<!-- providers: end -->";

    #[test]
    fn the_page_is_what_the_command_prints() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/providers.md");
        let page = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = page.split_once(BEGIN).expect("the begin mark");
        let (shown, after) = rest.split_once(END).expect("the end mark");
        let wanted = super::text();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
            return;
        }
        assert!(
            shown == wanted,
            "docs/providers.md is out of date: UPDATE_DOCS=1 cargo test -p attache cli::providers"
        );
    }
}
