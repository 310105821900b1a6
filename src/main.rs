//! The `sts-migrate` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    sts_migrate::cli::main()
}
