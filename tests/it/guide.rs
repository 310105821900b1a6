//! README is typed: every command in it is run as it stands there, on sets as it has them.

use std::env;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bed::judge::{Case, Expected};
use bed::workload::{USUAL_CLASS, Workload, absent, lone_claim, namespace, remove_namespace, volume_of};
use bed::{Bed, Cluster, ec2, users};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use libtest_mimic::Trial;
use portable_pty::CommandBuilder;

use crate::cli::subcommands;
use crate::screen::{CTRL_C, Screen, lines, question};
use crate::support::{Operator, alone, on_bed, turn};

const README: &str = include_str!("../../README.md");
const CI: &str = include_str!("../../.ci/run");

/// The shipped binary.
const PROGRAM: &str = env!("CARGO_BIN_EXE_sts-migrate");

/// Namespace of README's set, in both clusters.
const NAMESPACE: &str = "shop";

/// README's claim that no set owns.
const CLAIM: &str = "uploads";

/// README's set.
const SET: &str = "web";

/// How long a namespace may take to go.
const PATIENT: Duration = Duration::from_secs(90);

/// What starts a sandbox that asks, and one that is kept.
const SANDBOX: [&str; 2] = ["cargo run --example sandbox", "cargo run --example sandbox -- --keep"];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_bed("guide::what_readme_types_works_as_it_stands_there", typed),
        on_bed("guide::a_pause_says_what_readme_shows", paused),
        alone("guide::the_sandbox_asks_and_shows_what_readme_shows", sandbox),
        alone("guide::a_kept_sandbox_invites_to_what_works", kept),
        alone("guide::the_bench_measures_a_few_beside_a_runbook", bench),
        alone("guide::what_readme_builds_is_built_here_or_by_the_checks", || async { built() }),
    ]
}

/// The commands of one section of README, in their order.
fn sections() -> Vec<(&'static str, Vec<String>)> {
    let mut sections = Vec::new();
    for section in README.split("\n## ").skip(1) {
        let title = section.lines().next().unwrap_or_default();
        let mut commands: Vec<String> = Vec::new();
        let mut blocks = section.split("```console\n").skip(1);
        for block in blocks.by_ref().filter_map(|rest| rest.split("```").next()) {
            let mut is_continued = false;
            for line in block.lines() {
                match (line.strip_prefix("$ "), commands.last_mut()) {
                    (Some(command), _) => commands.push(command.to_owned()),
                    (None, Some(command)) if is_continued => *command = format!("{command}\n{line}"),
                    (None, _) => {}
                }
                is_continued = line.ends_with('\\');
            }
        }
        sections.push((title, commands));
    }
    sections
}

fn is_cargo(command: &str) -> bool {
    command.starts_with("cargo ")
}

/// Types each section's commands on a set of its own, agreeing to every question.
async fn typed(bed: &'static Bed) -> Result<()> {
    let mut typed = 0;
    for (title, commands) in sections() {
        let commands: Vec<String> = commands.into_iter().filter(|command| !is_cargo(command)).collect();
        if commands.is_empty() {
            continue;
        }
        typed += commands.len();
        type_section(bed, &commands).await.with_context(|| format!("README, section {title}"))?;
    }
    ensure!(typed > 10, "only {typed} commands were found in README");
    Ok(())
}

async fn type_section(bed: &'static Bed, commands: &[String]) -> Result<()> {
    let a = bed.client(Cluster::A, users::ADMIN).await?;
    let b = bed.client(Cluster::B, users::ADMIN).await?;
    let workload = Workload::new(NAMESPACE, SET).replicas(2).claim("data", "1Gi", USUAL_CLASS).grace_seconds(2);
    workload.apply(&a).await?;
    workload.wait_ready(&a).await?;
    namespace(&b, NAMESPACE).await?;
    let is_of_claim = commands.iter().any(|command| command.contains("move-volume"));
    let tool = bed.take_tool();
    let case = if is_of_claim {
        lone_claim(&a, NAMESPACE, CLAIM).await?;
        Case::for_claim(bed, &tool, NAMESPACE, CLAIM, NAMESPACE).await?
    } else {
        Case::for_workload(bed, &tool, &workload, NAMESPACE).await?
    };
    let operator = operator(bed, &tool.user, &tool.access_key)?;
    // The judge holds the tool's user to what the tool may do.
    let admin = self::operator(bed, users::ADMIN, &tool.access_key)?;
    for command in commands {
        let who = if command.starts_with("kubectl ") { &admin } else { &operator };
        Screen::shell(who, command)?.agree(0).await.with_context(|| format!("$ {command}"))?;
    }
    let ends = |word: &str| commands.iter().rposition(|command| command.contains(word));
    let expected = match (ends(" rollback "), ends(" run ").max(ends(" finalize "))) {
        (back, forward) if back > forward => Expected::RolledBack,
        (_, Some(_)) => Expected::Finalized,
        _ => Expected::Untouched,
    };
    case.expecting(expected).assert_clean(bed).await?;
    for client in [a, b] {
        remove_namespace(&client, NAMESPACE).await?;
        // The next section begins with an empty one.
        absent(Api::<Namespace>::all(client), NAMESPACE, PATIENT).await?;
    }
    Ok(())
}

/// Returns an operator whose contexts are called as in README, with the program on the path and the
/// examples at hand.
fn operator(bed: &Bed, user: &str, access_key: &str) -> Result<Operator> {
    let mut operator = Operator::with(bed, user, access_key)?;
    std::os::unix::fs::symlink(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"),
        operator.home().join("examples"),
    )?;
    let mut kubeconfig: serde_yaml::Value = serde_yaml::from_str(&std::fs::read_to_string(bed.kubeconfig(user)?)?)?;
    let contexts = kubeconfig["contexts"].as_sequence_mut().context("a kubeconfig has contexts")?;
    for (name, cluster) in [("old", Cluster::A), ("new", Cluster::B)] {
        let known = contexts.iter().find(|context| context["name"] == cluster.name());
        let mut renamed = known.context("the bed's own context")?.clone();
        renamed["name"] = name.into();
        contexts.push(renamed);
    }
    // The document of the examples names a file of its own for the destination.
    let mut new = kubeconfig.clone();
    new["current-context"] = "new".into();
    std::fs::write(operator.home().join("new.kubeconfig"), serde_yaml::to_string(&new)?)?;
    let file = operator.home().join("kubeconfig");
    std::fs::write(&file, serde_yaml::to_string(&kubeconfig)?)?;
    operator.set("KUBECONFIG", file);
    let program = Path::new(PROGRAM).parent().context("a program is somewhere")?;
    let path = operator
        .environment()
        .iter()
        .find(|(name, _)| name == "PATH")
        .map(|(_, path)| path.clone())
        .unwrap_or_default();
    let directories = [program.to_owned()].into_iter().chain(env::split_paths(&path));
    operator.set("PATH", env::join_paths(directories)?);
    Ok(operator)
}

/// Runs cargo on this repository, with the environment of whoever runs the tests.
fn cargo(line: &str) -> Result<Screen> {
    let mut command = CommandBuilder::new(env::var_os("CARGO").context("cargo runs the tests")?);
    command.args(line.split_whitespace().skip(1));
    command.cwd(env!("CARGO_MANIFEST_DIR"));
    Screen::start(command)
}

/// Runs what README shows as recorded, with the answers that were given there: it must show the same again.
async fn sandbox() -> Result<()> {
    let _turn = turn().await;
    let command = "$ sts-migrate run --src a --dst b -n shop --create-namespace web";
    let mut blocks = README.split("```console\n").filter_map(|rest| rest.split("\n```").next());
    let recorded = blocks.find(|block| block.starts_with(command)).context("README shows no run")?;
    let mut sandbox = cargo(SANDBOX[0])?;
    for line in recorded.lines() {
        if let Some((end, _)) = question(line) {
            let (question, answer) = line.split_at(end);
            sandbox.wait_for(question).await?;
            sandbox.type_line(answer.trim())?;
        }
    }
    let shown = lines(&sandbox.ends_with(0).await?);
    let run = shown.iter().skip_while(|line| *line != command).take_while(|line| !line.is_empty());
    let recorded: Vec<String> = recorded.lines().map(masked).collect();
    let mut left = recorded.as_slice();
    for line in run.map(|line| masked(line)) {
        match left {
            [next, rest @ ..] if *next == line => left = rest,
            // A call that met somebody else's write is made, and said, once more, perhaps for fewer objects.
            _ => {
                let is_said_again = recorded.iter().any(|known| has_same_ends(known, &line));
                ensure!(is_said_again, "README does not show `{line}`; shown is\n{}", shown.join("\n"));
            }
        }
    }
    ensure!(left.is_empty(), "README shows `{}`; shown is\n{}", left[0], shown.join("\n"));
    let found = |line: &String| line.contains("web-0 in cluster b starts to write; it found the volume with ");
    ensure!(shown.iter().any(found), "{shown:#?}");
    Ok(())
}

/// Lets a detach stick: what the program says then is what README shows, and what it says to type goes on.
async fn paused(bed: &'static Bed) -> Result<()> {
    const NAMESPACE: &str = "guide-pause";
    // Time to unmount on a loaded machine, but not for the attacher to give up for the first time.
    const LIMIT: &str = "8s";
    let a = bed.client(Cluster::A, users::ADMIN).await?;
    let b = bed.client(Cluster::B, users::ADMIN).await?;
    let workload = Workload::new(NAMESPACE, SET).replicas(3).claim("data", "1Gi", USUAL_CLASS).grace_seconds(2);
    workload.apply(&a).await?;
    workload.wait_ready(&a).await?;
    namespace(&b, NAMESPACE).await?;
    let tool = bed.take_tool();
    let case = Case::for_workload(bed, &tool, &workload, NAMESPACE).await?;
    let operator = operator(bed, &tool.user, &tool.access_key)?;
    let run = format!("sts-migrate run --src old --dst new -n {NAMESPACE}");
    Screen::shell(&operator, &format!("{run} --order one-by-one --pause-after 0 {SET}"))?.agree(0).await?;

    let volume = volume_of(&a, NAMESPACE, "data-web-1").await?;
    let stick =
        |sticks| ec2::Knobs { volume: Some(volume.clone()), detach_sticks: Some(sticks), ..ec2::Knobs::default() };
    bed.ec2().knobs(&stick(true)).await?;
    let shown = Screen::shell(&operator, &format!("{run} --detach-timeout {LIMIT} {SET}"))?.agree(1).await?;
    let said: Vec<String> = lines(&shown).into_iter().skip_while(|line| !line.starts_with("error: ")).collect();
    let said = said.join("\n");
    let as_in_readme = said
        .replace(NAMESPACE, "shop")
        .replace(&format!(" --detach-timeout {LIMIT}"), "")
        .replace("waited 8 s", "waited 300 s");
    let recorded = README.split("```text\n").nth(1).and_then(|rest| rest.split("\n```").next());
    let recorded = recorded.context("README shows no pause")?;
    let masked = |text: &str| text.trim_end().lines().map(masked).collect::<Vec<_>>();
    assert_eq!(masked(&as_in_readme), masked(recorded), "README does not show what is said:\n{said}");

    bed.ec2().knobs(&stick(false)).await?;
    bed.ec2().release(&volume).await?;
    let go_on = said.split_once("hint: to go on: `").and_then(|(_, rest)| rest.split('`').next());
    Screen::shell(&operator, go_on.context("no command to type")?)?.agree(0).await?;
    case.expecting(Expected::Finalized).assert_clean(bed).await?;
    for client in [a, b] {
        remove_namespace(&client, NAMESPACE).await?;
    }
    Ok(())
}

/// Returns a line without what is new in each run: names of volumes and their like, ids, times and addresses.
fn masked(line: &str) -> String {
    const OF_ONE_RUN: [&str; 4] = ["pvc-", "vol-", "csi-", "node-"];
    let words = line.split(' ').map(|word| {
        let name = word.trim_matches([',', ':', ';', '(', ')', '`']);
        let is_id = name.len() == 10 && name.chars().all(|letter| letter.is_ascii_hexdigit());
        let is_time = name.len() == 20 && name.ends_with('Z');
        let is_address = name.ends_with(".amazonaws.com");
        let is_masked =
            is_id || is_time || is_address || OF_ONE_RUN.iter().any(|beginning| name.starts_with(beginning));
        if is_masked { word.replace(name, "*") } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Returns whether two lines begin with the same word and end with the same two: one act on other objects.
fn has_same_ends(left: &str, right: &str) -> bool {
    let ends = |line: &str| {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let last = words.len().saturating_sub(2);
        (words.first().cloned(), words[last..].to_vec())
    };
    ends(left) == ends(right)
}

async fn kept() -> Result<()> {
    let _turn = turn().await;
    let mut sandbox = cargo(SANDBOX[1])?;
    let invitation = sandbox.wait_for("# what runs there").await?;
    let lines = || invitation.lines().map(str::trim_end);
    let exports: Vec<&str> = lines().filter(|line| line.starts_with("export ")).collect();
    let commands: Vec<&str> =
        lines().filter(|line| line.starts_with("sts-migrate ") || line.starts_with("kubectl ")).collect();
    ensure!(exports.len() > 3, "{invitation}");
    for subcommand in subcommands()? {
        let called = format!("sts-migrate {subcommand} ");
        let mut invited = commands.iter().filter(|command| command.starts_with(&called)).peekable();
        ensure!(invited.peek().is_some(), "nobody is invited to {subcommand}: {invitation}");
        let help = std::process::Command::new(PROGRAM).args([&subcommand, "--help"]).output()?;
        let takes_claims = String::from_utf8(help.stdout)?.contains("--claim <CLAIM>");
        let is_invited = !takes_claims || invited.any(|command| command.contains(" --claim "));
        ensure!(is_invited, "nobody is invited to {subcommand} --claim: {invitation}");
    }
    for command in commands {
        let mut shell = CommandBuilder::new("/bin/sh");
        shell.args(["-c", &format!("{}\n{command}", exports.join("\n"))]);
        Screen::start(shell)?.agree(0).await.with_context(|| format!("$ {command}"))?;
    }
    sandbox.press(CTRL_C)?;
    sandbox.ends_with(0).await?;
    Ok(())
}

/// What README says for numbers to be believed. Tests are built in one profile only, and judge no numbers.
const MEASURE: &str = "cargo run --release --example bench";

/// Measures in small, as the tests are built.
async fn bench() -> Result<()> {
    let _turn = turn().await;
    let command = MEASURE.replace(" --release", "");
    let shown = cargo(&format!("{command} -- --few"))?.agree(0).await?;
    let downtime = ["grace", "unmount", "detach", "added", "(EC2)", "attach", "start", "all"];
    for mover in ["sts-migrate (3)", "runbook (1)"] {
        for what in ["median", "worst"] {
            let cells = row(&shown, &format!("{mover}, {what}"), &downtime)?;
            // A runbook asks by `aws`, so that nothing of it is seen in the log.
            let is_measured = |(column, value): (&&str, &f64)| *value > 0.0 || *column == "(EC2)";
            ensure!(downtime.iter().zip(&cells).all(is_measured), "{cells:?} in {shown}");
            let [grace, unmount, detach, added, _, attach, start, all] = cells[..] else {
                unreachable!("eight columns")
            };
            let parts = grace + unmount + detach + added + attach + start;
            ensure!(what == "worst" || (parts - all).abs() < all / 2.0, "{parts} ms are not {all} ms: {shown}");
        }
    }
    let numbers = last_line(&shown)?;
    let number =
        |name: &str| numbers[name].as_f64().filter(|it| *it > 0.0).with_context(|| format!("{name}: {numbers}"));
    for name in ["addedMaxMs", "mutatingPerOrdinal", "mutatingPerVolume", "residentMb", "startMs"] {
        number(name)?;
    }
    let ratio = number("addedMedianMs")? / number("runbookAddedMedianMs")?;
    ensure!((number("ratio")? - ratio).abs() < 0.001, "{numbers}");

    let shown = cargo(&format!("{command} -- --ordinals 4"))?.agree(0).await?;
    row(&shown, "sts-migrate (4), median", &downtime)?;
    let growth = ["ms per ordinal", "added, median", "mutating", "reads", "EC2 calls", "MiB resident"];
    let cells = row(&shown, "0-3", &growth)?;
    ensure!(cells.iter().all(|value| *value > 0.0), "{shown}");
    let numbers = last_line(&shown)?;
    ensure!(numbers["runbookAddedMedianMs"].is_null() && numbers["addedMedianMs"].as_f64() > Some(0.0), "{numbers}");
    Ok(())
}

/// Returns the numbers of a row, whose table has these columns.
fn row(shown: &str, title: &str, columns: &[&str]) -> Result<Vec<f64>> {
    let cells = |line: &str| -> Vec<String> {
        line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = shown.lines().map(cells);
    let is_head = |cells: &Vec<String>| cells.len() == columns.len() + 1 && cells[1..] == *columns;
    ensure!(lines.any(|cells| is_head(&cells)), "no table of {columns:?} in {shown}");
    let found = lines.find(|cells| cells[0] == title).with_context(|| format!("no row {title} in {shown}"))?;
    found[1..].iter().map(|cell| cell.parse().with_context(|| format!("`{cell}` in {shown}"))).collect()
}

fn last_line(shown: &str) -> Result<serde_json::Value> {
    let last = shown.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str(last).with_context(|| shown.to_owned())
}

fn built() -> Result<()> {
    let checks: Vec<&str> = CI.lines().filter_map(|line| line.strip_prefix("step ")).collect();
    for command in sections().iter().flat_map(|(_, commands)| commands).filter(|command| is_cargo(command)) {
        let is_known = command == MEASURE || checks.contains(&command.as_str()) || SANDBOX.contains(&command.as_str());
        ensure!(is_known, "`{command}` is in README and nothing runs it");
    }
    Ok(())
}
