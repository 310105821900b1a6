//! The command line without any cluster: help, mistakes, and refusals that come before everything.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use bed::toolchain::Binaries;
use clap::ValueEnum as _;
use clap_complete::Shell;
use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::support::alone;

/// Contexts that lead nowhere: port 1 of the loopback address refuses.
const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
clusters: [{name: nowhere, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: nobody, user: {token: none}}]
contexts:
  - {name: shop-a, context: {cluster: nowhere, user: nobody}}
  - {name: shop-b, context: {cluster: nowhere, user: nobody}}
current-context: shop-a
"#;

/// A right document, to be spoiled by tests.
const DOCUMENT: &str = "\
apiVersion: sts-migrate.io/v1alpha1
kind: StatefulSetMigration
spec:
  sourceCluster: {context: shop-a}
  destCluster: {context: shop-b}
  statefulSetName: web
  order: together
";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        alone("cli::short_help_is_one_line_for_each_command", || async { short_help() }),
        alone("cli::help_documents_the_exit_codes", || async { exit_codes() }),
        alone("cli::the_help_of_run_is_its_manual", || async { help_of_run() }),
        alone("cli::every_command_has_help_and_a_manual_page", || async { manual() }),
        alone("cli::linked_as_a_plugin_it_calls_itself_one", || async { plugin() }),
        alone("cli::completions_are_printed_for_every_shell", || async { completions() }),
        alone("cli::kubectl_completes_the_plugin", || async { kubectl_completes() }),
        alone("cli::without_a_terminal_and_yes_nothing_begins", || async { no_terminal() }),
        alone("cli::an_unknown_context_is_refused_with_the_nearest_names", || async { unknown_context() }),
        alone("cli::a_missing_cluster_is_refused", || async { missing_cluster() }),
        alone("cli::a_wrong_kubeconfig_is_refused", || async { wrong_kubeconfig() }),
        alone("cli::a_flag_that_contradicts_the_document_is_refused", || async { contradiction() }),
        alone("cli::an_unknown_field_is_refused_with_the_nearest_name", || async { unknown_field() }),
        alone("cli::two_documents_in_one_file_are_refused", || async { two_documents() }),
        alone("cli::finalize_contradicts_until", || async { finalize_and_until() }),
        alone("cli::both_answers_for_idle_claims_are_refused", || async { both_idle() }),
        alone("cli::clusters_that_do_not_answer_block_preflight", || async { no_answer() }),
        alone("cli::clusters_that_do_not_answer_block_run", || async { no_answer_for_run() }),
        alone("cli::no_answer_is_no_sign_that_nothing_is_open", || async { no_answer_is_not_absence() }),
    ]
}

/// A machine without terminal, home and environment, but with a kubeconfig.
struct Machine {
    home: TempDir,
}

/// What the program said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Machine {
    fn new() -> Result<Machine> {
        let home = tempfile::Builder::new().prefix("sts-migrate-home-").tempdir()?;
        fs::write(home.path().join("kubeconfig"), KUBECONFIG)?;
        Ok(Machine { home })
    }

    fn file(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.home.path().join(name), text).context("write a file")
    }

    fn run(&self, arguments: &[&str]) -> Result<Said> {
        self.run_as(Path::new(env!("CARGO_BIN_EXE_sts-migrate")), arguments)
    }

    fn run_as(&self, program: &Path, arguments: &[&str]) -> Result<Said> {
        let output = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("kubeconfig"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_REGION", "eu-west-1")
            .env("COLUMNS", "100")
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .output()
            .context("run sts-migrate")?;
        Ok(Said {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }
}

impl Said {
    /// Fails unless this is all that was said.
    #[track_caller]
    fn expect(&self, code: i32, stdout: &str, stderr: &str) {
        assert_eq!(self.stderr, stderr, "stderr");
        assert_eq!(self.stdout, stdout, "stdout");
        assert_eq!(self.code, Some(code), "exit code");
    }
}

fn short_help() -> Result<()> {
    let said = Machine::new()?.run(&["-h"])?;
    said.expect(
        0,
        "\
Move a running StatefulSet and its EBS volumes to another cluster without copying data

Usage: sts-migrate [OPTIONS] <COMMAND>

Commands:
  preflight    Look for every reason why the move could stop half-way or do harm; write nothing
  plan         Show what would be done, object by object; write nothing
  run          Move a StatefulSet, or go on where the last run stopped
  freeze       Prepare the destination, delete the StatefulSet object in the source; its pods run on
  swing        Move the pods to the destination, in the order that was chosen
  finalize     Delete the set's claims and PersistentVolumes in the source; the volumes stay
  move-volume  Move one claim that no StatefulSet owns, with its EBS volume
  rollback     Undo a migration: empty the destination, give the source back what it had, as it was
  status       Show where each pod and volume is, who is at work, what failed last, and what to type
  schema       Print the JSON schema of the StatefulSetMigration document
  completions  Print a completion script for a shell
  man          Print the manual page, of a subcommand if one is named
  help         Print this message or the help of the given subcommand(s)

Options:
  -v, --verbose...  Say more on stderr; `-vv` shows every request
  -h, --help        Print help (see more with '--help')
  -V, --version     Print version
",
        "",
    );
    Ok(())
}

fn exit_codes() -> Result<()> {
    let said = Machine::new()?.run(&["--help"])?;
    ensure!(said.code == Some(0), "{said:?}");
    let codes = said.stdout.split_once("Exit codes:").context("no exit codes in --help")?.1;
    assert_eq!(
        codes,
        "
    0  done, or stopped where --until or --pause-after said
    1  failed; paused at trouble or an `n`; `status` found no migration, or no answer
    2  usage: a wrong flag or document, or no terminal to ask on and no --yes
    3  preflight found something that blocks
    4  refused: locked by another run, an object of somebody else's, not the turn of this command
  130  interrupted by a signal; type the same command again to go on
"
    );
    Ok(())
}

fn help_of_run() -> Result<()> {
    let said = Machine::new()?.run(&["run", "--help"])?;
    said.expect(0, include_str!("cli/run-help.txt"), "");
    Ok(())
}

/// Returns the subcommands that the program lists, but for `help`.
pub(crate) fn subcommands() -> Result<Vec<String>> {
    let help = Machine::new()?.run(&["-h"])?.stdout;
    let listed = help.split_once("Commands:\n").and_then(|(_, rest)| rest.split_once("\n\n")).context("no commands")?;
    let names = listed.0.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.filter(|name| *name != "help").map(str::to_owned).collect())
}

fn manual() -> Result<()> {
    let machine = Machine::new()?;
    let whole = machine.run(&["man"])?;
    ensure!(whole.code == Some(0) && whole.stdout.contains(".TH sts-migrate 1 "), "{whole:?}");
    for command in &subcommands()? {
        ensure!(whole.stdout.contains(&format!("sts\\-migrate\\-{}(1)", command.replace('-', "\\-"))), "{whole:?}");
        let help = machine.run(&[command, "--help"])?;
        ensure!(help.code == Some(0) && help.stdout.contains(&format!("Usage: sts-migrate {command}")), "{help:?}");
        let page = machine.run(&["man", command])?;
        ensure!(page.code == Some(0) && page.stdout.contains(&format!(".TH sts-migrate-{command} 1 ")), "{page:?}");
    }
    machine.run(&["man", "rnu"])?.expect(
        2,
        "",
        "error: there is no command `rnu`\nleft behind: nothing: neither cluster was changed\nhint: did you mean `run`?\n",
    );
    Ok(())
}

impl Machine {
    /// Links the program under another name.
    fn link(&self, name: &str) -> Result<PathBuf> {
        let link = self.home.path().join(name);
        symlink(env!("CARGO_BIN_EXE_sts-migrate"), &link)?;
        Ok(link)
    }
}

fn plugin() -> Result<()> {
    let machine = Machine::new()?;
    let alone = machine.run(&["--help"])?;
    ensure!(alone.stdout.contains("called as `kubectl sts-migrate`"), "{alone:?}");
    let link = machine.link("kubectl-sts_migrate")?;
    let help = machine.run_as(&link, &["status", "-h"])?;
    ensure!(help.stdout.contains("Usage: kubectl sts-migrate status [OPTIONS] [NAME]"), "{help:?}");
    let path = env::join_paths([machine.home.path(), Path::new("/usr/bin"), Path::new("/bin")])?;
    let output = Command::new(Binaries::find_or_build()?.directory().join("kubectl"))
        .args(["sts-migrate", "run", "--src", "shop-a", "--dst", "shop-b", "web"])
        .env_clear()
        .env("HOME", machine.home.path())
        .env("PATH", path)
        .env("KUBECONFIG", machine.home.path().join("kubeconfig"))
        .stdin(Stdio::null())
        .output()?;
    let hint = "hint: say yes beforehand: `kubectl sts-migrate run --src shop-a --dst shop-b web --yes`\n";
    let refused = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2) && refused.contains(hint), "{}: {refused}", output.status);
    Ok(())
}

fn completions() -> Result<()> {
    let machine = Machine::new()?;
    for shell in Shell::value_variants() {
        let said = machine.run(&["completions", &shell.to_string()])?;
        ensure!(said.code == Some(0), "{shell}: {said:?}");
        let is_word = |letter: char| letter.is_alphanumeric() || letter == '-';
        let words: BTreeSet<&str> = said.stdout.split(|letter| !is_word(letter)).collect();
        for command in subcommands()? {
            ensure!(words.contains(command.as_str()), "{shell} does not know {command}: {}", said.stdout);
        }
    }
    Ok(())
}

/// Asks the real kubectl, as its script for a shell does; the link for it is made by what the program says.
fn kubectl_completes() -> Result<()> {
    let machine = Machine::new()?;
    let plugin = machine.link("kubectl-sts_migrate")?;
    let refused = machine.run_as(&plugin, &["completions", "bash"])?;
    ensure!(refused.code == Some(2), "{refused:?}");
    let hint = refused.stderr.split('`').nth(1).context("no command to type")?;
    let kubectl = Binaries::find_or_build()?.directory().join("kubectl");
    let path = env::join_paths([machine.home.path(), Path::new("/usr/bin"), Path::new("/bin")])?;
    let output = Command::new("/bin/sh")
        .args([
            "-ec",
            &format!("({hint}); \"$0\" __complete sts-migrate ''; \"$0\" __complete sts-migrate run --order ''"),
        ])
        .arg(kubectl)
        .env_clear()
        .env("HOME", machine.home.path())
        .env("PATH", path)
        .output()?;
    let shown = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    let mut wanted = subcommands()?;
    wanted.extend(["help", ":0", "one-by-one", "together", ":0"].map(str::to_owned));
    assert_eq!(shown.lines().collect::<Vec<_>>(), wanted);
    Ok(())
}

fn no_terminal() -> Result<()> {
    let machine = Machine::new()?;
    for command in ["run", "freeze", "swing", "finalize", "move-volume", "rollback"] {
        machine.run(&[command, "--src", "shop-a", "--dst", "shop-b", "-n", "shop", "web"])?.expect(
            2,
            "",
            &format!(
                "error: there is no terminal to ask on, and --yes was not given\n\
                 left behind: nothing: neither cluster was changed\n\
                 hint: say yes beforehand: `sts-migrate {command} --src shop-a --dst shop-b -n shop web --yes`\n"
            ),
        );
    }
    Ok(())
}

fn unknown_context() -> Result<()> {
    let machine = Machine::new()?;
    machine.run(&["status", "--src", "shop-aa", "--dst", "shop-b", "web"])?.expect(
        2,
        "",
        "error: the kubeconfig has no context `shop-aa`\nleft behind: nothing: neither cluster was changed\n\
         hint: did you mean `shop-a`, `shop-b`?\n",
    );
    machine.run(&["status", "--src", "shop-a", "--dst", "production", "web"])?.expect(
        2,
        "",
        "error: the kubeconfig has no context `production`\nleft behind: nothing: neither cluster was changed\n\
         hint: there are `shop-a`, `shop-b`\n",
    );
    Ok(())
}

fn missing_cluster() -> Result<()> {
    Machine::new()?.run(&["preflight", "--src", "shop-a", "web"])?.expect(
        2,
        "",
        "error: --dst is missing: which cluster is meant?\nleft behind: nothing: neither cluster was changed\n\
         hint: name it with `--dst CONTEXT`; `kubectl config get-contexts` lists them\n",
    );
    Ok(())
}

fn wrong_kubeconfig() -> Result<()> {
    let machine = Machine::new()?;
    machine.file("kubeconfig", "contexts: 7")?;
    let said = machine.run(&["status", "--src", "shop-a", "--dst", "shop-b", "web"])?;
    ensure!(said.code == Some(2), "{said:?}");
    ensure!(said.stderr.starts_with("error: ") && said.stderr.contains("kubeconfig"), "{said:?}");
    ensure!(said.stderr.ends_with("hint: `kubectl config view` shows what kubectl would use\n"), "{said:?}");
    Ok(())
}

fn contradiction() -> Result<()> {
    let machine = Machine::new()?;
    machine.file("m.yaml", DOCUMENT)?;
    machine.run(&["run", "--yes", "-f", "m.yaml", "--order", "one-by-one"])?.expect(
        2,
        "",
        "error: --order says \"one-by-one\", but `spec.order` of the document says \"together\"\n\
         left behind: nothing: neither cluster was changed\n\
         hint: leave --order out, or change the document\n",
    );
    machine.run(&["status", "-f", "m.yaml", "--dst", "shop-a"])?.expect(
        2,
        "",
        "error: --dst says {\"context\":\"shop-a\"}, but `spec.destCluster` of the document says {\"context\":\"shop-b\"}\n\
         left behind: nothing: neither cluster was changed\n\
         hint: leave --dst out, or change the document\n",
    );
    Ok(())
}

fn unknown_field() -> Result<()> {
    let machine = Machine::new()?;
    machine.file("m.yaml", &DOCUMENT.replace("destCluster", "dstCluster"))?;
    machine.run(&["plan", "-f", "m.yaml"])?.expect(
        2,
        "",
        "error: m.yaml: there is no field `spec.dstCluster`\nleft behind: nothing: neither cluster was changed\n\
         hint: did you mean `destCluster`, `sourceCluster`?\n",
    );
    Ok(())
}

fn two_documents() -> Result<()> {
    let machine = Machine::new()?;
    machine.file("m.yaml", &format!("{DOCUMENT}---\n{DOCUMENT}"))?;
    machine.run(&["plan", "-f", "m.yaml"])?.expect(
        2,
        "",
        "error: m.yaml: there must be one document, but there are 2\nleft behind: nothing: neither cluster was changed\n\
         hint: write one migration into one file\n",
    );
    Ok(())
}

fn finalize_and_until() -> Result<()> {
    let machine = Machine::new()?;
    let said = machine.run(&["run", "--finalize", "--until", "swing", "web"])?;
    ensure!(said.code == Some(2), "{said:?}");
    ensure!(said.stderr.contains("'--finalize' cannot be used with '--until <PHASE>'"), "{said:?}");
    Ok(())
}

fn both_idle() -> Result<()> {
    let said = Machine::new()?.run(&["preflight", "--include-idle-claims", "--leave-idle-claims", "web"])?;
    ensure!(said.code == Some(2) && said.stderr.contains("cannot be used with"), "{said:?}");
    Ok(())
}

fn no_answer() -> Result<()> {
    let said = Machine::new()?.run(&["preflight", "--src", "shop-a", "--dst", "shop-b", "web"])?;
    ensure!(said.code == Some(3), "{said:?}");
    let blocks = said.stdout.lines().filter(|line| line.starts_with("PF-1 blocks: ")).count();
    ensure!(blocks == 2, "both clusters are named: {said:?}");
    Ok(())
}

fn no_answer_for_run() -> Result<()> {
    let said = Machine::new()?.run(&["run", "--yes", "--src", "shop-a", "--dst", "shop-b", "web"])?;
    ensure!(said.code == Some(3), "{said:?}");
    let end =
        "hint: do what the findings say, then look again: `sts-migrate preflight --src shop-a --dst shop-b web`\n";
    ensure!(said.stderr.ends_with(end), "{said:?}");
    Ok(())
}

fn no_answer_is_not_absence() -> Result<()> {
    let machine = Machine::new()?;
    for command in ["status", "swing", "finalize", "rollback"] {
        for (named, what) in [(&["web"][..], "a migration of web is open"), (&[], "a migration is open")] {
            let yes: &[&str] = if command == "status" { &[] } else { &["--yes"] };
            let said = machine.run(&[&[command, "--src", "shop-a", "--dst", "shop-b"], yes, named].concat())?;
            let reason = format!("error: it is not known whether {what}: a cluster had no answer\n  source cluster: ");
            ensure!(said.code == Some(1) && said.stderr.contains(&reason), "{command}: {said:?}");
            ensure!(said.stderr.contains("\n  destination cluster: "), "{command}: {said:?}");
            ensure!(said.stderr.contains("\nhint: see that both clusters can be read"), "{command}: {said:?}");
        }
    }
    // With a name these two say what blocks; without, there is nothing to look at.
    for command in ["preflight", "plan"] {
        let said = machine.run(&[command, "--src", "shop-a", "--dst", "shop-b"])?;
        ensure!(said.code == Some(1) && said.stderr.contains("error: it is not known whether"), "{command}: {said:?}");
    }
    Ok(())
}
