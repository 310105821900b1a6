//! Commands of the operator's: run with the facts in the environment and as JSON on stdin.
//!
//! In a process group of their own, so that what they start ends with them. The environment is the
//! operator's own, so that `kubectl` and `aws` work in them; nothing of the plan's before-images, which
//! may hold secrets, is given to them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command as Process};
use tokio::sync::watch;

use super::{CommandLines, Ended, Progress, Run};
use crate::decide::{Action, Command, Stop, Verb};
use crate::events::Event;
use crate::plan::{SetPlan, VolumePlan};
use crate::report::addresses;
use crate::world::Side;

/// Prefix of the environment variables that hold the facts.
const PREFIX: &str = "STS_MIGRATE_";

/// Argument of the cutover command on the way back.
const BACK: &str = "back";

/// Longest value that is put into the environment, in bytes: Linux starts no program with a longer one
/// than 128 KiB. Longer facts are on standard input only.
const VALUE_LIMIT: usize = 64 * 1024;

/// How long output is read after a command and its process group have ended: only what left the group
/// can still hold the pipe, and has nothing more to say to us.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Run<'_> {
    /// Runs a command to its end.
    pub(super) async fn run_command(&mut self, action: &Action) -> Result<(), Ended> {
        let Verb::Run(command) = &action.verb else { return Ok(()) };
        let Some(line) = line(&self.options.commands, command) else {
            // The goal says which commands there are, so that this one was asked for without its text.
            let reason = "no such command was given".to_owned();
            return Err(Ended::Stopped(Stop::CommandFailed { command: command.to_string(), reason }));
        };
        if matches!(command, Command::Cutover | Command::CutoverBack) {
            for address in addresses(&self.plan.sets[0], &self.session.world) {
                self.ui.say(&format!("  {address}"));
            }
        }
        let facts = self.facts(command);
        let about = |change: &str, reason: Option<&String>| {
            let (step, direction, ordinal) = (&facts["step"], &facts["direction"], &facts["ordinal"]);
            let fields =
                json!({ "step": step, "direction": direction, "ordinal": ordinal, "change": change, "reason": reason });
            Event::of("command", fields)
        };
        self.session.events.write(about("begins", None));
        let result = self.spawn_and_wait(command, line, &facts).await?;
        let change = if result.is_ok() { "done" } else { "failed" };
        self.session.events.write(about(change, result.as_ref().err()));
        match result {
            Ok(()) => {
                self.session.world.commands_done.insert(command.clone());
                Ok(())
            }
            Err(reason) => Err(Ended::Stopped(Stop::CommandFailed { command: command.to_string(), reason })),
        }
    }

    async fn spawn_and_wait(
        &mut self,
        command: &Command,
        line: &str,
        facts: &Value,
    ) -> Result<Result<(), String>, Ended> {
        let argument = (*command == Command::CutoverBack).then_some(BACK);
        let mut child = match start(line, argument, facts) {
            Ok(child) => child,
            Err(error) => return Ok(Err(format!("it cannot be started: {error}"))),
        };
        let group = Group::of(&child);
        let limit = tokio::time::sleep(self.options.timeouts.command);
        let ui = RefCell::new(&mut *self.ui);
        let show = |line: &str| ui.borrow_mut().progress(Progress::Output(line));
        let signals = &mut *self.signals;
        tokio::select! {
            status = attend(&mut child, &group, facts, show) => {
                Ok(status.map_err(|error| error.to_string()).and_then(judge))
            }
            () = limit => Ok(Err(format!("it did not end within {} s", self.options.timeouts.command.as_secs()))),
            signal = signals.caught() => Err(Ended::Interrupted(signal)),
        }
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
            "direction": if *command == Command::CutoverBack { BACK } else { "forward" },
            "migration": self.plan.mark(),
            "set": set.name,
            "ordinal": ordinal,
            "pod": ordinal.map(|ordinal| set.pod_name(ordinal)),
            "source": place(Side::Source),
            "destination": place(Side::Destination),
            "volumes": volumes(set, ordinal),
            "services": addresses(set, &self.session.world),
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

fn volumes(set: &SetPlan, ordinal: Option<i64>) -> Value {
    let shown = |volume: &VolumePlan| json!({ "claim": volume.claim, "volume": volume.volume, "zone": volume.zone, "sizeGib": volume.size_gib });
    let of = set.ordinals.iter().filter(|plan| ordinal.is_none_or(|ordinal| plan.ordinal == ordinal));
    of.flat_map(|plan| &plan.volumes).map(shown).collect()
}

/// Returns the facts as environment variables: nested names are joined, lists stay JSON. Addresses are
/// there once more in a form that shells can read.
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
    variables.insert(format!("{PREFIX}ADDRESSES"), address_lines(&facts["services"]));
    variables.retain(|_, value| value.len() <= VALUE_LIMIT);
    variables
}

/// Returns addresses for shells: lines of `KIND/NAME OLD NEW`, with `-` for none.
fn address_lines(services: &Value) -> String {
    let joined = |addresses: &Value| {
        let all: Vec<&str> = addresses.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if all.is_empty() { "-".to_owned() } else { all.join(",") }
    };
    let line = |service: &Value| {
        let (old, new) = (joined(&service["source"]), joined(&service["destination"]));
        let name = |field: &str| service[field].as_str().unwrap_or_default().to_owned();
        format!("{}/{} {old} {new}", name("kind"), name("name"))
    };
    services.as_array().into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
}

/// The process group of a command: it ends when this is dropped, whatever the command left running in
/// the background included.
struct Group(Cell<Option<Pid>>);

impl Group {
    /// Returns the group of a child that leads one.
    fn of(child: &Child) -> Group {
        Group(Cell::new(child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()))))
    }

    fn kill(&self) {
        // Once only: afterwards the number may be another group's.
        if let Some(group) = self.0.take() {
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a command line in a shell. An argument is appended to the line, as if it had been typed there.
fn start(line: &str, argument: Option<&str>, facts: &Value) -> std::io::Result<Child> {
    let line = argument.map_or_else(|| line.to_owned(), |argument| format!("{line} {argument}"));
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
async fn attend(child: &mut Child, group: &Group, facts: &Value, output: impl Fn(&str)) -> std::io::Result<ExitStatus> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (ended_sender, ended) = watch::channel(false);
    let feed = async {
        let Some(mut stdin) = stdin else { return };
        let input = format!("{facts}\n");
        tokio::select! {
            // A command that does not read its input is none the worse for it.
            _closed = stdin.write_all(input.as_bytes()) => {}
            () = over(ended.clone()) => {}
        }
    };
    let wait = async {
        let status = child.wait().await;
        group.kill();
        ended_sender.send_replace(true);
        status
    };
    let ((), (), (), status) =
        tokio::join!(feed, pass(stdout, &output, ended.clone()), pass(stderr, &output, ended.clone()), wait);
    status
}

/// Passes lines on until the pipe closes, or somebody holds it for long after the command's end.
async fn pass(pipe: Option<impl AsyncRead + Unpin>, output: &impl Fn(&str), ended: watch::Receiver<bool>) {
    let Some(pipe) = pipe else { return };
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    let lines = async {
        // Bytes, since a line that is no UTF-8 must not end the reading: the command would wait for ever.
        while let Ok(1..) = pipe.read_until(b'\n', &mut line).await {
            output(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
            line.clear();
        }
    };
    tokio::select! {
        () = lines => {}
        () = over(ended) => {}
    }
}

/// Waits until a command has ended, and for its last words.
async fn over(mut ended: watch::Receiver<bool>) {
    let _gone = ended.wait_for(|ended| *ended).await;
    tokio::time::sleep(LAST_WORDS).await;
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
        run_with(line, None, facts).await
    }

    async fn run_with(line: &str, argument: Option<&str>, facts: &Value) -> (Result<(), String>, Vec<String>) {
        let lines = RefCell::new(Vec::new());
        let mut child = start(line, argument, facts).expect("sh is there");
        let group = Group::of(&child);
        let status = attend(&mut child, &group, facts, |line| lines.borrow_mut().push(line.to_owned())).await;
        (judge(status.expect("it can be waited for")), lines.into_inner())
    }

    #[tokio::test]
    async fn facts_are_in_the_environment_and_on_stdin() {
        let facts = json!({ "ordinal": 2, "pod": "web-2", "source": { "namespace": "shop" }, "none": null });
        let (result, lines) =
            run("echo $STS_MIGRATE_ORDINAL $STS_MIGRATE_POD $STS_MIGRATE_SOURCE_NAMESPACE; cat", &facts).await;
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

    #[tokio::test]
    async fn the_argument_is_typed_behind_the_line() {
        let (result, lines) = run_with("echo dns", Some(BACK), &json!({})).await;
        assert_eq!((result, lines), (Ok(()), vec!["dns back".to_owned()]));
    }

    #[tokio::test]
    async fn output_that_is_no_text_and_the_last_words_are_passed_on() {
        let (result, lines) = run(r"printf 'caf\351\nlast'; exit 0", &json!({})).await;
        assert_eq!((result, lines), (Ok(()), vec!["caf\u{fffd}".to_owned(), "last".to_owned()]));
    }

    #[tokio::test]
    async fn more_than_pipe_and_environment_hold_is_no_obstacle() {
        let facts = json!({ "volumes": "v".repeat(1 << 20), "set": "web" });
        let (result, lines) = run("echo $STS_MIGRATE_SET", &facts).await;
        assert_eq!((result, lines), (Ok(()), vec!["web".to_owned()]));
        let (_, lines) = run("wc -c", &facts).await;
        assert_eq!(lines, [(facts.to_string().len() + 1).to_string()]);
    }

    #[test]
    fn addresses_are_lines_for_shells() {
        let services = json!([
            { "kind": "Service", "name": "web", "source": ["a.example", "b.example"], "destination": ["c.example"] },
            { "kind": "Ingress", "name": "front", "source": ["192.0.2.1"], "destination": [] },
        ]);
        assert_eq!(
            environment(&json!({ "services": services }))["STS_MIGRATE_ADDRESSES"],
            "Service/web a.example,b.example c.example\nIngress/front 192.0.2.1 -"
        );
    }
}
