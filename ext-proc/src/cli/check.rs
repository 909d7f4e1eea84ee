use std::process::ExitCode;

use clap::Args;

use super::{ConfigFlag, DataDir};
use crate::config::{self, Env};
use crate::prices::PriceTable;

/// `attache check`: everything that can be known without a network (beside that of the bucket, if it is in one).
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    data: DataDir,
}

impl Check {
    pub(super) fn run(self) -> ExitCode {
        let prices = match PriceTable::for_data_dir(&self.data.data_dir) {
            Ok(prices) => prices,
            Err(error) => {
                eprintln!("attache: {error:#}");
                return ExitCode::FAILURE;
            }
        };
        let origin = match self.config.origin() {
            Ok(origin) => origin,
            Err(error) => {
                eprintln!("attache: {error:#}");
                return ExitCode::FAILURE;
            }
        };
        let report = config::check(&origin, &Env::process(), &prices);
        println!("{report}");
        if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
