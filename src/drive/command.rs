//! Commands of the operator's: run with the facts in the environment and as JSON on stdin.
//!
//! In a process group of their own, so that what they start ends with them. The environment is the
//! operator's own; nothing of the plan's before-images, which may hold secrets, is given to them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command as Process};

use super::{CommandLines, Ended, Progress, Run};
use crate::decide::{Action, Command, Stop, Verb};
use crate::events::Event;
use crate::plan::{SetPlan, VolumePlan};
use crate::world::{Kind, Side, World};

/// Prefix of the environment variables that hold the facts.
const PREFIX: &str = "STS_MIGRATE_";

impl Run<'_> {
    /// Runs a command to its end.
    pub(super) async fn run_command(&mut self, action: &Action) -> Result<(), Ended> {
        let Verb::Run(command) = &action.verb else { return Ok(()) };
        let Some(line) = line(&self.options.commands, command) else {
            // The goal says which commands there are, so that this one was asked for without its text.
            let reason = "no such command was given".to_owned();
            return Err(Ended::Stopped(Stop::CommandFailed { command: describe(command), reason }));
        };
        let facts = self.facts(command);
        let result = self.spawn_and_wait(line, &facts).await?;
        self.session
            .events
            .write(Event::of("command", json!({ "command": describe(command), "failed": result.as_ref().err() })));
        match result {
            Ok(()) => {
                self.session.world.commands_done.insert(command.clone());
                Ok(())
            }
            Err(reason) => Err(Ended::Stopped(Stop::CommandFailed { command: describe(command), reason })),
        }
    }

    async fn spawn_and_wait(&mut self, line: &str, facts: &Value) -> Result<Result<(), String>, Ended> {
        let mut child = match start(line, facts) {
            Ok(child) => child,
            Err(error) => return Ok(Err(format!("it cannot be started: {error}"))),
        };
        let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let limit = tokio::time::sleep(self.options.timeouts.command);
        let ui = RefCell::new(&mut *self.ui);
        let show = |line: &str| ui.borrow_mut().progress(Progress::Output(line));
        let signals = &mut *self.signals;
        let ended = tokio::select! {
            status = attend(&mut child, facts, show) => {
                Ok(status.map_err(|error| error.to_string()).and_then(judge))
            }
            () = limit => Ok(Err(format!("it did not end within {} s", self.options.timeouts.command.as_secs()))),
            signal = signals.caught() => Err(Ended::Interrupted(signal)),
        };
        if let Some(group) = group {
            // Also after its end: what it left running in the background goes with it.
            let _gone = kill_process_group(group, Signal::KILL);
        }
        ended
    }

    fn facts(&self, command: &Command) -> Value {
        let set = &self.plan.sets[0];
        let ordinal = match command {
            Command::BeforePod(ordinal) | Command::Verify(ordinal) => Some(*ordinal),
            Command::Cutover | Command::CutoverBack => None,
        };
        let place = |side: Side| {
            let cluster = self.session.endpoints.cluster(side);
            json!({ "context": cluster.context, "namespace": cluster.namespace })
        };
        json!({
            "step": step(command),
            "direction": if *command == Command::CutoverBack { "back" } else { "forward" },
            "migration": self.plan.mark(),
            "set": set.name,
            "ordinal": ordinal,
            "pod": ordinal.map(|ordinal| set.pod_name(ordinal)),
            "source": place(Side::Source),
            "destination": place(Side::Destination),
            "volumes": volumes(set, ordinal),
            "services": services(set, &self.session.world),
        })
    }
}

/// Returns the text of a command, if it was given.
fn line<'a>(lines: &'a CommandLines, command: &Command) -> Option<&'a str> {
    match command {
        Command::BeforePod(_) => lines.before_pod.as_deref(),
        Command::Verify(_) => lines.verify.as_deref(),
        Command::Cutover | Command::CutoverBack => lines.cutover.as_deref(),
    }
}

fn step(command: &Command) -> &'static str {
    match command {
        Command::BeforePod(_) => "before-pod",
        Command::Verify(_) => "verify",
        Command::Cutover | Command::CutoverBack => "cutover",
    }
}

fn describe(command: &Command) -> String {
    match command {
        Command::BeforePod(ordinal) => format!("--before-pod-command for ordinal {ordinal}"),
        Command::Verify(ordinal) => format!("--verify-command for ordinal {ordinal}"),
        Command::Cutover => "--cutover-command".to_owned(),
        Command::CutoverBack => "--cutover-command with `back`".to_owned(),
    }
}

fn volumes(set: &SetPlan, ordinal: Option<i64>) -> Value {
    let shown = |volume: &VolumePlan| json!({ "claim": volume.claim, "volume": volume.volume, "zone": volume.zone, "sizeGib": volume.size_gib });
    let of = set.ordinals.iter().filter(|plan| ordinal.is_none_or(|ordinal| plan.ordinal == ordinal));
    of.flat_map(|plan| &plan.volumes).map(shown).collect()
}

/// Returns the addresses of the set's Services and Ingresses, old and new.
fn services(set: &SetPlan, world: &World) -> Value {
    let shown = set.services.iter().map(|service| {
        let kind = if service.before.text("/kind") == Some("Ingress") { Kind::Ingress } else { Kind::Service };
        let name = service.before.name();
        let new = world.object(Side::Destination, kind, name).map(addresses).unwrap_or_default();
        json!({ "kind": kind.name(), "name": name, "source": addresses(&service.before), "destination": new })
    });
    shown.collect()
}

fn addresses(object: &crate::world::Object) -> Vec<&str> {
    let points = object.array("/status/loadBalancer/ingress").iter();
    points.filter_map(|point| point["hostname"].as_str().or_else(|| point["ip"].as_str())).collect()
}

/// Returns the facts as environment variables: nested names are joined, lists stay JSON.
fn environment(facts: &Value) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for (name, value) in facts.as_object().into_iter().flatten() {
        let name = format!("{PREFIX}{}", name.to_uppercase());
        match value {
            Value::Null => {}
            Value::String(text) => {
                variables.insert(name, text.clone());
            }
            Value::Object(fields) => {
                for (field, value) in fields {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    variables.insert(format!("{name}_{}", field.to_uppercase()), text);
                }
            }
            other => {
                variables.insert(name, other.to_string());
            }
        }
    }
    variables
}

fn start(line: &str, facts: &Value) -> std::io::Result<Child> {
    Process::new("sh")
        .arg("-c")
        .arg(line)
        .envs(environment(facts))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Feeds a command, passes its output on and waits for its end.
async fn attend(child: &mut Child, facts: &Value, output: impl Fn(&str)) -> std::io::Result<ExitStatus> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A command that does not read its input is none the worse for it.
            let _closed = stdin.write_all(facts.to_string().as_bytes()).await;
        }
    };
    let (ended_sender, ended) = tokio::sync::watch::channel(false);
    let wait = async {
        let status = child.wait().await;
        ended_sender.send_replace(true);
        status
    };
    let ((), (), (), status) =
        tokio::join!(feed, pass(stdout, &output, ended.clone()), pass(stderr, &output, ended.clone()), wait);
    status
}

/// Passes lines on until the pipe closes, or the command ended and left the pipe to a child.
async fn pass(
    pipe: Option<impl AsyncRead + Unpin>,
    output: &impl Fn(&str),
    mut ended: tokio::sync::watch::Receiver<bool>,
) {
    let Some(pipe) = pipe else { return };
    let mut lines = BufReader::new(pipe).lines();
    loop {
        tokio::select! {
            biased;
            line = lines.next_line() => match line {
                Ok(Some(line)) => output(&line),
                Ok(None) | Err(_) => return,
            },
            _ = ended.wait_for(|ended| *ended) => return,
        }
    }
}

fn judge(status: ExitStatus) -> Result<(), String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(format!("it ended with exit code {code}")),
        (None, Some(signal)) => Err(format!("it was ended by signal {signal}")),
        (None, None) => Err("it ended strangely".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(line: &str, facts: &Value) -> (Result<(), String>, Vec<String>) {
        let lines = RefCell::new(Vec::new());
        let mut child = start(line, facts).expect("sh is there");
        let status = attend(&mut child, facts, |line| lines.borrow_mut().push(line.to_owned())).await;
        (judge(status.expect("it can be waited for")), lines.into_inner())
    }

    #[tokio::test]
    async fn facts_are_in_the_environment_and_on_stdin() {
        let facts = json!({ "ordinal": 2, "pod": "web-2", "source": { "namespace": "shop" }, "none": null });
        let (result, lines) =
            run("echo $STS_MIGRATE_ORDINAL $STS_MIGRATE_POD $STS_MIGRATE_SOURCE_NAMESPACE; cat; echo", &facts).await;
        assert_eq!(result, Ok(()));
        assert_eq!(lines, ["2 web-2 shop".to_owned(), facts.to_string()]);
    }

    #[tokio::test]
    async fn an_exit_code_is_a_failure_and_its_words_are_passed_on() {
        let (result, lines) = run("echo not yet >&2; exit 3", &json!({})).await;
        assert_eq!(result, Err("it ended with exit code 3".to_owned()));
        assert_eq!(lines, ["not yet"]);
    }

    #[tokio::test]
    async fn a_command_that_leaves_a_child_behind_ends_all_the_same() {
        let (result, _) = run("sleep 600 & exit 0", &json!({})).await;
        assert_eq!(result, Ok(()));
    }
}
