//! The command line: what can be typed, and where a process ends with the exit code that was chosen.
//!
//! Help texts are the manual: a line each for `-h`, sentences for `--help`.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    self, completions, finalize, freeze, man, move_volume, plan, preflight, rollback, run, schema, status, swing,
};
use crate::failure::{Exit, Failure};
use crate::plan::{IdleClaims, Order};
use crate::spec::{ClusterReference, Phase, Span, Spec};

/// What `--help` ends with.
const EXIT_CODES: &str = "\
Exit codes:
    0  done, or stopped where --until or --pause-after said
    1  failed; paused at trouble or an `n`; `status` found no migration, or no answer
    2  usage: a wrong flag or document, or no terminal to ask on and no --yes
    3  preflight found something that blocks
    4  refused: locked by another run, an object of somebody else's, not the turn of this command
  130  interrupted by a signal; type the same command again to go on";

/// Name of the binary as a kubectl plugin.
const PLUGIN: &str = "kubectl-sts_migrate";

/// Name under which kubectl asks for the completions of the plugin.
const COMPLETER: &str = "kubectl_complete-sts_migrate";

/// How it is called by way of kubectl.
const BY_KUBECTL: &str = "kubectl sts-migrate";

/// Move a running StatefulSet and its EBS volumes to another cluster without copying data
///
/// The volumes are let go by the source cluster and picked up by the destination cluster, one
/// ordinal at a time, lowest first, or all together. Both clusters must be in one AWS region and account. All state
/// is kept in the two clusters: any command can be stopped at any time and typed again, on any
/// machine, and goes on where the clusters are.
///
/// Linked as `kubectl-sts_migrate` in the PATH, it can be called as `kubectl sts-migrate`.
#[derive(Debug, Parser)]
#[command(name = "sts-migrate", version, after_long_help = EXIT_CODES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Say more on stderr; `-vv` shows every request
    ///
    /// Shows log lines instead of bars. `RUST_LOG` chooses more finely.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Preflight(preflight::Args),
    Plan(plan::Args),
    Run(run::Args),
    Freeze(freeze::Args),
    Swing(swing::Args),
    Finalize(finalize::Args),
    MoveVolume(move_volume::Args),
    Rollback(rollback::Args),
    Status(status::Args),
    Schema(schema::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// What is moved, and between which clusters.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What and where")]
pub(crate) struct SubjectArgs {
    /// Name of the StatefulSet
    ///
    /// Without it, the one open migration is meant; on a terminal there is a list to choose from.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,

    #[command(flatten)]
    pub(crate) place: PlaceArgs,

    /// Read a StatefulSetMigration document; `-` is standard input
    ///
    /// Flags may add to it. A flag that contradicts it is refused.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Between which clusters, and where in them.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What and where")]
pub(crate) struct PlaceArgs {
    /// Kubeconfig context of the source cluster
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) src: Option<String>,

    /// Kubeconfig context of the destination cluster
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) dst: Option<String>,

    /// Namespace in the source cluster; by default that of the context
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,

    /// Namespace in the destination cluster; by default the same name
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) dst_namespace: Option<String>,

    /// AWS profile, as the AWS CLI knows it
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,

    /// AWS region; by default as the AWS CLI finds it, else the one of the volumes' zone
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
}

/// A single claim instead of a set.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What and where")]
pub(crate) struct ClaimArgs {
    /// Name of a single claim, moved by `move-volume`, instead of a StatefulSet
    #[arg(long, value_name = "CLAIM", conflicts_with_all = ["name", "file"])]
    pub(crate) claim: Option<String>,
}

/// What is chosen once, with the first run.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Choices of the first run")]
pub(crate) struct ChoiceArgs {
    /// Move the ordinals one by one, or stop all and start all together
    ///
    /// Sets whose members need each other (quorum, replication) usually need `together`: moved one
    /// by one, a replicated database can end up with a leader in each cluster. With more than one
    /// replica a person chooses: at the question on a terminal, or with this flag.
    #[arg(long, value_enum, value_name = "ORDER")]
    pub(crate) order: Option<OrderArg>,

    /// Move claims that no replica uses now too, without a pod
    #[arg(long, conflicts_with = "leave_idle_claims")]
    pub(crate) include_idle_claims: bool,

    /// Leave claims that no replica uses now in the source, untouched
    #[arg(long)]
    pub(crate) leave_idle_claims: bool,

    #[command(flatten)]
    pub(crate) volumes: VolumeChoiceArgs,
}

/// What is chosen once of volumes, of a set or of a single claim.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Choices of the first run")]
pub(crate) struct VolumeChoiceArgs {
    /// Map a StorageClass of the source to one of the destination; repeatable
    #[arg(long, value_name = "OLD=NEW", value_parser = pair)]
    pub(crate) storage_class_map: Vec<(String, String)>,

    /// Create the namespace in the destination if it is missing; it is never deleted
    #[arg(long)]
    pub(crate) create_namespace: bool,

    /// Go on in spite of findings that say that they can be forced
    #[arg(long)]
    pub(crate) force: bool,

    /// Name the migration; by default a hash of set or claim, and clusters
    #[arg(long, value_name = "ID")]
    pub(crate) migration_id: Option<String>,
}

/// How a run behaves; may differ from run to run.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "This run")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) volumes: VolumeRunArgs,

    /// Limit for pods to be available [default: 10m]
    #[arg(long, value_name = "DURATION")]
    pub(crate) ready_timeout: Option<Span>,

    /// Limit for each of the commands below [default: 5m]
    #[arg(long, value_name = "DURATION")]
    pub(crate) command_timeout: Option<Span>,

    /// Run this before each pod goes down
    ///
    /// In `sh`, with the facts in its environment (`STS_MIGRATE_POD`, …) and, as JSON, on its
    /// standard input. What it says is shown. It is run at least once, and again after a crash; if it
    /// fails or takes longer than --command-timeout, the migration pauses. Going back it is not run.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) before_pod_command: Option<String>,

    /// Run this after each pod is proven to run in the destination
    ///
    /// As --before-pod-command; once begun, it must pass for every pod.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) verify_command: Option<String>,

    /// Run this at the cutover, and again with `back` behind it on rollback
    ///
    /// As --before-pod-command, when all that publishes the set stands in the destination and has
    /// addresses. Once it was given, `finalize` before its end and `rollback` want it too.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) cutover_command: Option<String>,
}

/// How a run behaves, of a set or of a single claim.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "This run")]
pub(crate) struct VolumeRunArgs {
    /// Answer every question with yes; the one before deleting only with `finalize` or --finalize
    #[arg(short = 'y', long)]
    pub(crate) yes: bool,

    /// Limit for the volumes of a step to be free after their pods ended [default: 5m]
    #[arg(long, value_name = "DURATION")]
    pub(crate) detach_timeout: Option<Span>,

    /// Take a node for truly off: what it last reported in use no longer is
    ///
    /// Only for a node that fell silent, after its machine was seen to be off and tainted with
    /// `node.kubernetes.io/out-of-service`. Repeatable.
    #[arg(long, value_name = "NODE")]
    pub(crate) accept_unclean_detach: Vec<String>,

    /// Append every fact and act to this file, one JSON object per line
    #[arg(long, value_name = "FILE")]
    pub(crate) events: Option<PathBuf>,
}

/// Form of the data on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
}

/// `-o`.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct OutputArgs {
    /// Form of the data on stdout
    #[arg(short, long, value_enum, value_name = "FORM", default_value = "text")]
    pub(crate) output: Output,
}

/// `--order` as clap reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OrderArg {
    /// Lowest ordinal first, each available before the next goes down
    OneByOne,
    /// All down, then all up
    Together,
}

impl From<OrderArg> for Order {
    fn from(order: OrderArg) -> Order {
        match order {
            OrderArg::OneByOne => Order::OneByOne,
            OrderArg::Together => Order::Together,
        }
    }
}

impl SubjectArgs {
    /// Writes what was given into a spec.
    pub(crate) fn fill(&self, spec: &mut Spec) {
        spec.stateful_set_name.clone_from(&self.name);
        self.place.fill(spec);
    }
}

impl PlaceArgs {
    /// Writes what was given into a spec.
    pub(crate) fn fill(&self, spec: &mut Spec) {
        spec.source_cluster = self.src.clone().map(ClusterReference::Context);
        spec.dest_cluster = self.dst.clone().map(ClusterReference::Context);
        spec.source_namespace.clone_from(&self.namespace);
        spec.dest_namespace.clone_from(&self.dst_namespace);
        spec.profile.clone_from(&self.profile);
        spec.region.clone_from(&self.region);
    }
}

impl ChoiceArgs {
    /// Writes what was given into a spec.
    pub(crate) fn fill(&self, spec: &mut Spec) {
        spec.order = self.order.map(Order::from);
        spec.idle_claims = match (self.include_idle_claims, self.leave_idle_claims) {
            (true, _) => Some(IdleClaims::Include),
            (false, true) => Some(IdleClaims::Leave),
            (false, false) => None,
        };
        self.volumes.fill(spec);
    }
}

impl VolumeChoiceArgs {
    /// Writes what was given into a spec.
    pub(crate) fn fill(&self, spec: &mut Spec) {
        spec.storage_class_map =
            (!self.storage_class_map.is_empty()).then(|| self.storage_class_map.iter().cloned().collect());
        spec.create_namespace = self.create_namespace.then_some(true);
        spec.force = self.force.then_some(true);
        spec.migration_id.clone_from(&self.migration_id);
    }
}

impl RunArgs {
    /// Writes what was given into a spec.
    pub(crate) fn fill(&self, spec: &mut Spec) {
        spec.detach_timeout = self.volumes.detach_timeout;
        spec.ready_timeout = self.ready_timeout;
        spec.command_timeout = self.command_timeout;
        spec.before_pod_command.clone_from(&self.before_pod_command);
        spec.verify_command.clone_from(&self.verify_command);
        spec.cutover_command.clone_from(&self.cutover_command);
        spec.accept_unclean_detach =
            (!self.volumes.accept_unclean_detach.is_empty()).then(|| self.volumes.accept_unclean_detach.clone());
    }
}

/// Runs the program and returns its exit code.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let name = file_name(arguments.first().map(Path::new));
    let program = program(name);
    if name == COMPLETER {
        return end(completions::answer(command(program), arguments.iter().skip(1)));
    }
    let cli = match command(program).try_get_matches_from(&arguments).and_then(|found| Cli::from_arg_matches(&found)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are data on stdout and done; the rest is usage.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            // Nobody is left to tell when the terminal is gone.
            let _gone = error.print();
            return ExitCode::from(exit.code());
        }
    };
    log(cli.verbose);
    end(dispatch(cli, program))
}

fn end(result: Result<Exit, Failure>) -> ExitCode {
    match result {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => {
            let _gone = writeln!(std::io::stderr(), "{failure}");
            ExitCode::from(failure.exit.code())
        }
    }
}

fn dispatch(cli: Cli, program: &str) -> Result<Exit, Failure> {
    let context = commands::Context { program: program.to_owned(), is_verbose: cli.verbose > 0 };
    let work = match cli.command {
        Command::Completions(args) => return completions::run(&args, command(program), program == BY_KUBECTL),
        Command::Man(args) => return man::run(&args, command(program)),
        Command::Schema(args) => return schema::run(&args),
        other => other,
    };
    commands::block_on(async move {
        match work {
            Command::Preflight(args) => preflight::run(context, args).await,
            Command::Plan(args) => plan::run(context, args).await,
            Command::Run(args) => run::run(context, args).await,
            Command::Freeze(args) => freeze::run(context, args).await,
            Command::Swing(args) => swing::run(context, args).await,
            Command::Finalize(args) => finalize::run(context, args).await,
            Command::MoveVolume(args) => move_volume::run(context, args).await,
            Command::Rollback(args) => rollback::run(context, args).await,
            Command::Status(args) => status::run(context, args).await,
            Command::Schema(_) | Command::Completions(_) | Command::Man(_) => unreachable!("they were answered above"),
        }
    })
}

/// Returns the command line as it is typed under this name.
pub(crate) fn command(program: &str) -> clap::Command {
    Cli::command().bin_name(program)
}

/// Returns the name of the file that was called.
fn file_name(zeroth: Option<&Path>) -> &str {
    zeroth.and_then(Path::file_stem).and_then(|name| name.to_str()).unwrap_or_default()
}

/// Returns how a person calls the file of that name: `kubectl sts-migrate` when kubectl finds it as a plugin.
fn program(name: &str) -> &'static str {
    match name {
        PLUGIN | COMPLETER => BY_KUBECTL,
        _ => "sts-migrate",
    }
}

fn log(verbose: u8) {
    let default = match verbose {
        0 => "off",
        1 => "sts_migrate=debug",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Where would it say that stderr is gone? It would panic instead.
        .log_internal_errors(false)
        .init();
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.to_owned(), new.to_owned())),
        _ => Err("a StorageClass is mapped like gp2=gp3".to_owned()),
    }
}

/// `--until`.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "How far")]
pub(crate) struct UntilArgs {
    /// Stop when this phase is complete
    #[arg(long, value_enum, value_name = "PHASE")]
    pub(crate) until: Option<Phase>,
}

/// `--pause-after`.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "How far")]
pub(crate) struct PauseArgs {
    /// Pause when this ordinal runs in the destination: the canary
    ///
    /// After the last one it pauses before the cutover. With `--order together` only the
    /// last is accepted.
    #[arg(long, value_name = "ORDINAL")]
    pub(crate) pause_after: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command("sts-migrate").debug_assert();
    }

    #[test]
    fn a_plugin_is_called_as_kubectl_calls_it() {
        let called = |path| program(file_name(Some(Path::new(path))));
        assert_eq!(called("/usr/local/bin/kubectl-sts_migrate"), "kubectl sts-migrate");
        assert_eq!(called("./sts-migrate"), "sts-migrate");
    }

    #[test]
    fn a_class_map_needs_both_names() {
        assert_eq!(pair("gp2=gp3"), Ok(("gp2".into(), "gp3".into())));
        assert!(pair("gp2").is_err());
        assert!(pair("=gp3").is_err());
    }

    #[test]
    fn the_exit_codes_are_those_of_the_readme() {
        let codes = EXIT_CODES.lines().skip(1).filter_map(|line| line.trim().split_once("  "));
        let rows: Vec<String> = codes.map(|(code, meaning)| format!("| {code} | {meaning} |")).collect();
        let readme = include_str!("../README.md").lines().filter(|line| rows.iter().any(|row| row == line));
        assert_eq!(readme.collect::<Vec<_>>(), rows);
    }
}
