//! The fake provider's command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use attache_bench::served::Log;
use attache_bench::server::{self, Provider};
use clap::Parser;
use tokio::net::TcpListener;

/// Upstreams that speak OpenAI's, Azure's, Anthropic's, Bedrock's, Gemini's and Vertex's protocols strictly, and misbehave
/// as their caller asks.
///
/// The first path segment names the upstream (`http://HOST/NAME/v1/...`), so one process plays many. Directives come in
/// the header `x-fake-script: NAME=directive,directive;*=...` or in the model name (`gpt-4o@status:500`):
/// status:N delay:MS chunk-delay:MS chunks:N split:BYTES error-at:N cut-at:N cut stall-at:N empty no-usage
/// retry-after:S usage:PROMPT/COMPLETION cached:N written:N reasoning:N tier:NAME expires:SECONDS
/// error:context|content|badrequest|quota tools[:N] parallel thinking refuse stop:length json text:...
/// Standing scripts, for requests whose header is silent: POST /_fake/script {"name", "script", "times"}.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address to listen on; port 0 takes a free one. The address is printed when it listens.
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// File for a line of JSON per attempt that was served: what it costs, and whether that was told.
    #[arg(long)]
    log: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let log = args.log.as_deref().map(Log::create).transpose()?;
    let listener = TcpListener::bind(args.listen).await?;
    println!("fake-provider listens on http://{}", listener.local_addr()?);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = server::serve(listener, Provider { log, ..Provider::default() }) => result,
        _ = terminate.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}
