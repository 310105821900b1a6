//! Questions and answers, in a pseudo-terminal on the bed: what a person sees and can say.

use std::io::{Read as _, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bed::judge::{Case, Expected};
use bed::workload::{USUAL_CLASS, Workload, remove_namespace};
use bed::{Bed, Cluster, users};
use libtest_mimic::Trial;
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::support::{Operator, eventually, on_bed};

/// Name of the set that moves.
const SET: &str = "web";

/// How long a question may be in coming: a pod's move on a loaded machine lies before it.
const PATIENT: Duration = Duration::from_secs(120);

/// The question before a step.
const GO_ON: &str = "go on?";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_bed("prompts::no_at_the_freeze_pauses_with_nothing_down", no_at_the_freeze),
        on_bed("prompts::each_step_is_asked_and_deleting_wants_the_name", each_step),
        on_bed("prompts::no_order_chosen_changes_nothing", no_order),
        on_bed("prompts::ctrl_c_at_a_question_pauses", ctrl_c),
        on_bed("prompts::no_at_the_rollback_changes_nothing", no_at_the_rollback),
    ]
}

/// A set in A, and who moves it.
struct Scene {
    bed: &'static Bed,
    workload: Workload,

    operator: Operator,
    case: Case,
}

impl Scene {
    async fn put_up(bed: &'static Bed, namespace: &str) -> Result<Scene> {
        let admin = bed.client(Cluster::A, users::ADMIN).await?;
        let workload = Workload::new(namespace, SET).replicas(2).claim("data", "1Gi", USUAL_CLASS).grace_seconds(3);
        workload.apply(&admin).await?;
        workload.wait_ready(&admin).await?;
        let tool = bed.take_tool();
        let case = Case::for_workload(bed, &tool, &workload, namespace).await?;
        let operator = Operator::new(bed, &tool)?;
        Ok(Scene { bed, workload, operator, case })
    }

    fn arguments<'a>(&'a self, command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec![command, "--src", "a", "--dst", "b", "-n", self.workload.namespace()];
        arguments.extend(more);
        arguments.push(SET);
        arguments
    }

    fn screen(&self, command: &str, more: &[&str]) -> Result<Screen> {
        Screen::open(&self.operator, &self.arguments(command, more))
    }

    async fn phase(&self) -> Result<String> {
        let ended = self.operator.run(self.arguments("status", &["-o", "json"])).await?.expect_code(0);
        let status: serde_json::Value = serde_json::from_str(&ended.stdout)?;
        let status = &status["status"];
        Ok(format!("{} paused={}", status["phase"].as_str().unwrap_or_default(), status["paused"]))
    }

    /// Lets the judge look, and makes room on the nodes.
    async fn end(self, expected: Expected) -> Result<()> {
        self.case.expecting(expected).assert_clean(self.bed).await?;
        for cluster in Cluster::BOTH {
            let admin = self.bed.client(cluster, users::ADMIN).await?;
            remove_namespace(&admin, self.workload.namespace()).await?;
        }
        Ok(())
    }
}

/// A terminal in which the program runs.
struct Screen {
    child: Box<dyn Child + Send + Sync>,
    keyboard: Box<dyn Write + Send>,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Up to where the text was read by the person.
    read: usize,
    /// Dropping it would hang up.
    _terminal: Box<dyn MasterPty + Send>,
}

impl Screen {
    fn open(operator: &Operator, arguments: &[&str]) -> Result<Screen> {
        // Wide, so that no line that a test looks for is cut.
        let size = PtySize { rows: 50, cols: 400, pixel_width: 0, pixel_height: 0 };
        let terminal = native_pty_system().openpty(size)?;
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_sts-migrate"));
        command.args(arguments);
        command.env_clear();
        command.env("TERM", "xterm");
        for (name, value) in operator.environment() {
            command.env(name, value);
        }
        command.cwd(operator.home());
        let child = terminal.slave.spawn_command(command)?;
        drop(terminal.slave);
        let mut output = terminal.master.try_clone_reader()?;
        let keyboard = terminal.master.take_writer()?;
        let shown = Arc::new(Mutex::new(Vec::new()));
        let screen = Arc::clone(&shown);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading fails when the last process of the terminal has ended.
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                screen.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
            }
        });
        Ok(Screen { child, keyboard, shown, read: 0, _terminal: terminal.master })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until something is shown that was not there at the last answer, and returns all since.
    async fn wait_for(&mut self, wanted: &str) -> Result<String> {
        let read = self.read;
        let found = eventually(format!("`{wanted}`"), PATIENT, async || {
            let text = self.text();
            let fresh = text.get(read..).unwrap_or_default();
            Ok(fresh.find(wanted).map(|at| (read + at + wanted.len(), fresh[..at + wanted.len()].to_owned())))
        })
        .await
        .with_context(|| format!("the screen shows:\n{}", self.text()))?;
        self.read = found.0;
        Ok(found.1)
    }

    fn type_line(&mut self, line: &str) -> Result<()> {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).context("type")
    }

    /// Waits until the program has ended, and checks its exit code.
    async fn ends_with(mut self, code: u32) -> Result<String> {
        let status = eventually("the program to end", PATIENT, async || Ok(self.child.try_wait()?))
            .await
            .with_context(|| format!("the screen shows:\n{}", self.text()))?;
        ensure!(status.exit_code() == code, "{status}, not {code}; the screen shows:\n{}", self.text());
        Ok(self.text())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
    }
}

async fn no_at_the_freeze(bed: &'static Bed) -> Result<()> {
    let scene = Scene::put_up(bed, "prompts-freeze").await?;
    let mut screen = scene.screen("run", &["--create-namespace"])?;
    screen.wait_for("order [1/2/q]:").await?;
    screen.type_line("1")?;
    let question = screen.wait_for(GO_ON).await?;
    ensure!(question.contains("freeze: the object StatefulSet web in a/prompts-freeze is deleted"), "{question}");
    ensure!(question.contains("no controller heals these pods"), "{question}");
    screen.type_line("n")?;
    let said = screen.ends_with(1).await?;
    ensure!(said.contains("error: paused before the freeze: the answer was no"), "{said}");
    ensure!(said.contains("left behind: pods web-0, web-1 in the source cluster"), "{said}");
    ensure!(said.contains("hint: to go on: `sts-migrate run --src a --dst b -n prompts-freeze web`"), "{said}");
    ensure!(scene.phase().await? == "FreezingSource paused=true");
    scene.end(Expected::Midway).await
}

async fn each_step(bed: &'static Bed) -> Result<()> {
    let scene = Scene::put_up(bed, "prompts-steps").await?;
    let mut screen = scene.screen("run", &["--create-namespace"])?;
    screen.wait_for("order [1/2/q]:").await?;
    // What is no answer is asked again.
    screen.type_line("perhaps")?;
    screen.wait_for("order [1/2/q]:").await?;
    screen.type_line("1")?;
    for (asked, answer) in
        [("freeze: ", "y"), ("swing: pod web-0 in a/prompts-steps", "y"), ("swing: pod web-1 in ", "a")]
    {
        let question = screen.wait_for(GO_ON).await?;
        ensure!(question.contains(asked), "not asked for {asked}: {question}");
        screen.type_line(answer)?;
    }
    let question = screen.wait_for("type the set's name, web, to delete").await?;
    ensure!(question.contains("THERE IS NO WAY BACK"), "{question}");
    screen.type_line("y")?;
    let said = screen.ends_with(1).await?;
    ensure!(said.contains("paused before deleting in the source cluster"), "{said}");
    ensure!(scene.phase().await? == "Finalizing paused=true");

    let mut screen = scene.screen("finalize", &[])?;
    screen.wait_for("type the set's name, web, to delete").await?;
    screen.type_line("web")?;
    let said = screen.ends_with(0).await?;
    ensure!(said.contains("completed: web lives in b/prompts-steps"), "{said}");
    ensure!(said.contains("left in the source cluster, yours to remove: Service web"), "{said}");
    scene.end(Expected::Finalized).await
}

async fn no_order(bed: &'static Bed) -> Result<()> {
    let scene = Scene::put_up(bed, "prompts-order").await?;
    let mut screen = scene.screen("run", &["--create-namespace"])?;
    screen.wait_for("order [1/2/q]:").await?;
    screen.type_line("q")?;
    let said = screen.ends_with(2).await?;
    ensure!(said.contains("nobody chose the order in which they move"), "{said}");
    let hint = "`sts-migrate run --src a --dst b -n prompts-order --create-namespace web --order one-by-one`";
    ensure!(said.contains(hint), "{said}");
    let status = scene.operator.run(scene.arguments("status", &[])).await?.expect_code(1);
    ensure!(status.stderr.contains("there is no migration of web"), "{status:?}");
    scene.end(Expected::Untouched).await
}

async fn ctrl_c(bed: &'static Bed) -> Result<()> {
    let scene = Scene::put_up(bed, "prompts-interrupt").await?;
    let mut screen = scene.screen("run", &["--create-namespace", "--order", "together"])?;
    let question = screen.wait_for(GO_ON).await?;
    ensure!(question.contains("freeze: "), "{question}");
    // The terminal turns this into SIGINT.
    screen.keyboard.write_all(b"\x03")?;
    let said = screen.ends_with(130).await?;
    ensure!(said.contains("interrupted: paused by SIGINT"), "{said}");
    ensure!(scene.phase().await? == "FreezingSource paused=true");
    scene.end(Expected::Midway).await
}

async fn no_at_the_rollback(bed: &'static Bed) -> Result<()> {
    let scene = Scene::put_up(bed, "prompts-rollback").await?;
    let begin = ["--create-namespace", "--order", "one-by-one", "--yes", "--pause-after", "0"];
    scene.operator.run(scene.arguments("run", &begin)).await?.expect_code(0);
    let mut screen = scene.screen("rollback", &[])?;
    let question = screen.wait_for(GO_ON).await?;
    ensure!(question.contains("what the pods wrote in the destination stays on the volumes"), "{question}");
    ensure!(question.contains("pod web-0 in b/prompts-rollback stops"), "{question}");
    screen.type_line("n")?;
    let said = screen.ends_with(1).await?;
    ensure!(said.contains("paused before the rollback"), "{said}");
    ensure!(said.contains("left behind: pod web-0 in the destination cluster"), "{said}");

    let mut screen = scene.screen("rollback", &[])?;
    screen.wait_for(GO_ON).await?;
    screen.type_line("y")?;
    let said = screen.ends_with(0).await?;
    ensure!(said.contains("rolled back: web lives in a/prompts-rollback again"), "{said}");
    scene.end(Expected::RolledBack).await
}
