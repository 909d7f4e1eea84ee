//! The load generator's command line.

use std::process::ExitCode;

use attache_bench::load::{Args, run};
use clap::Parser;

fn main() -> ExitCode {
    let report = match Args::parse().plan() {
        Ok(plan) => run(plan).map_err(|error| (error, ExitCode::FAILURE)),
        Err(error) => Err((error, ExitCode::from(2))),
    };
    match report {
        Ok(report) => println!("{report}"),
        Err((error, code)) => {
            eprintln!("load: {error}");
            return code;
        }
    }
    ExitCode::SUCCESS
}
