//! `completions`: generated from the command line itself.
//!
//! kubectl completes its plugins in one way for all shells: it runs the executable `kubectl_complete-NAME`
//! of the PATH with the words typed so far, the last one unfinished, and reads candidates, one a line
//! (`plugin_completion.go` of kubectl, since 1.26).

use std::ffi::OsString;

use clap::Command;
use clap_complete::Shell;

use crate::failure::{Exit, Failure};
use crate::report::put;

/// Print a completion script for a shell
///
/// For `sts-migrate`. Of `kubectl sts-migrate` kubectl asks an executable of the PATH that is called
/// `kubectl_complete-sts_migrate`, in any shell: link the program under that name too.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the command.
///
/// # Errors
/// kubectl called it: no script is for it.
pub(crate) fn run(args: &Args, mut command: Command, is_plugin: bool) -> Result<Exit, Failure> {
    if is_plugin {
        return Err(Failure::usage(
            "kubectl completes its plugins without a script",
            "link the program once more, beside this one: `cd \"$(dirname \"$(command -v kubectl-sts_migrate)\")\" && \
             ln -s kubectl-sts_migrate kubectl_complete-sts_migrate`",
        ));
    }
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "sts-migrate", &mut script);
    put(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// Answers kubectl; of what has no candidates, the shell completes file names.
pub(crate) fn answer<'a>(mut command: Command, words: impl Iterator<Item = &'a OsString>) -> Result<Exit, Failure> {
    command.build();
    let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let lines: Vec<String> = candidates(&command, &words).into_iter().map(|candidate| candidate + "\n").collect();
    put(&lines.concat())?;
    Ok(Exit::Done)
}

/// Returns what the last of the words may become.
fn candidates(command: &Command, words: &[String]) -> Vec<String> {
    let Some((unfinished, before)) = words.split_last() else { return Vec::new() };
    let here = before.iter().fold(command, |here, word| here.find_subcommand(word).unwrap_or(here));
    let flag = before.last().and_then(|word| {
        let mut flags = here.get_opts();
        flags.find(|flag| {
            let long = flag.get_long().map(|name| format!("--{name}"));
            let short = flag.get_short().map(|letter| format!("-{letter}"));
            [long, short].contains(&Some(word.clone()))
        })
    });
    let mut candidates: Vec<String> = match flag {
        Some(flag) => flag.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect(),
        None if unfinished.starts_with('-') => {
            here.get_arguments().filter_map(|flag| Some(format!("--{}", flag.get_long()?))).collect()
        }
        None => {
            let subcommands = here.get_subcommands().map(|subcommand| subcommand.get_name().to_owned());
            let values = here.get_positionals().flat_map(clap::Arg::get_possible_values);
            subcommands.chain(values.map(|value| value.get_name().to_owned())).collect()
        }
    };
    candidates.retain(|candidate| candidate.starts_with(unfinished));
    candidates
}

#[cfg(test)]
mod tests {
    use crate::cli;

    fn candidates(line: &str) -> Vec<String> {
        let mut command = cli::command("kubectl sts-migrate");
        command.build();
        super::candidates(&command, &line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_word_becomes_a_subcommand_a_flag_or_the_value_of_one() {
        assert_eq!(candidates("ro"), ["rollback"]);
        assert_eq!(candidates("run --src a --or"), ["--order"]);
        assert_eq!(candidates("run --order "), ["one-by-one", "together"]);
        assert_eq!(candidates("run --order t"), ["together"]);
        assert_eq!(candidates("status -o y"), ["yaml"]);
        assert_eq!(candidates("completions z"), ["zsh"]);
        assert_eq!(candidates("run --verb"), ["--verbose"]);
    }

    #[test]
    fn a_name_and_a_file_have_no_candidates() {
        for line in ["run ", "run -f ", "run --src ", "run --order one-by-one "] {
            assert_eq!(candidates(line), [] as [&str; 0], "{line}");
        }
    }
}
