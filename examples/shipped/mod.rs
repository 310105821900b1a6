//! The shipped binary, for examples: builds it, and calls it as an operator of a bed would.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use bed::{Bed, Tool};

/// Variables of a developer's own clusters and network that must not reach the program.
const NOT_HERE: [&str; 9] = [
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
];

/// Builds the program as this example was built, and returns where it is.
pub(crate) fn build() -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let example = env::current_exe().context("find this executable")?;
    let name = example.file_name().context("this executable has no name")?;
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--bin", "sts-migrate"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    // Together with the example, which is built already: alone it has other features, and the AWS SDK
    // would be compiled once more.
    command.arg("--example").arg(name);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    ensure!(command.status().context("run cargo")?.success(), "cargo could not build sts-migrate");
    let program = example.ancestors().nth(2).map(|target| target.join("sts-migrate"));
    match program {
        Some(program) if program.exists() => Ok(program),
        _ => bail!("there is no sts-migrate beside {}", example.display()),
    }
}

/// Returns a call of the program with an environment that leads to the bed and nowhere else.
pub(crate) fn command(program: &Path, bed: &Bed, tool: &Tool, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(program);
    command.args(arguments).envs(environment(bed, tool)?);
    for variable in NOT_HERE {
        command.env_remove(variable);
    }
    Ok(command)
}

/// Returns the variables that lead the program to the bed.
pub(crate) fn environment(bed: &Bed, tool: &Tool) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![
        ("KUBECONFIG", bed.kubeconfig(&tool.user)?.display().to_string()),
        ("AWS_ENDPOINT_URL", bed.ec2_url().to_owned()),
        ("AWS_ACCESS_KEY_ID", tool.access_key.clone()),
        ("AWS_SECRET_ACCESS_KEY", "bed".to_owned()),
        ("AWS_REGION", bed::ec2::REGION.to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ])
}
