//! `man`: the manual page, generated from the command line itself.

use crate::failure::{Exit, Failure};
use crate::report::put;

/// Print the manual page, of a subcommand if one is named
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A subcommand, such as `run`
    #[arg(value_name = "COMMAND")]
    subcommand: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, mut command: clap::Command) -> Result<Exit, Failure> {
    command.build();
    let page = match &args.subcommand {
        None => command,
        Some(name) => match command.find_subcommand(name) {
            Some(found) => found.clone(),
            None => {
                let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
                let hint = crate::names::did_you_mean(name, names.iter().copied());
                return Err(Failure::usage(format!("there is no command `{name}`"), hint));
            }
        },
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text).map_err(|error| {
        Failure::harmless(Exit::Failed, format!("the page cannot be made: {error}"), "use `--help`")
    })?;
    put(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Done)
}
