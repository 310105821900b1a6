//! Questions and answers, in a pseudo-terminal on the bed: what a person sees and can say.

use anyhow::{Result, ensure};
use bed::judge::{Case, Expected};
use bed::workload::{USUAL_CLASS, Workload, remove_namespace};
use bed::{Bed, Cluster, users};
use libtest_mimic::Trial;
use serde_json::json;

use crate::events;
use crate::screen::{CTRL_C, GO_ON, Screen};
use crate::support::{Operator, on_bed};

/// Name of the set that moves.
const SET: &str = "web";

/// Name of the file to which events go.
const LOG: &str = "events.jsonl";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_bed("prompts::no_at_the_freeze_pauses_with_nothing_down", no_at_the_freeze),
        on_bed("prompts::each_step_is_asked_and_deleting_wants_the_name", each_step),
        on_bed("prompts::no_order_chosen_changes_nothing", no_order),
        on_bed("prompts::two_that_begin_at_once_go_on_with_one_plan", other_plan),
        on_bed("prompts::ctrl_c_at_a_question_pauses_and_no_before_all_pods", ctrl_c),
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
        [("freeze: ", "y"), ("swing: pod web-0 in a/prompts-steps", "y"), ("swing: pod web-1 in ", "n")]
    {
        let question = screen.wait_for(GO_ON).await?;
        ensure!(question.contains(asked), "not asked for {asked}: {question}");
        screen.type_line(answer)?;
    }
    let said = screen.ends_with(1).await?;
    ensure!(said.contains("error: paused before pod web-1: the answer was no"), "{said}");
    ensure!(said.contains("left behind: pod web-1 in the source cluster"), "{said}");
    ensure!(said.contains("left behind: pod web-0 in the destination cluster"), "{said}");
    let unhealed = said.lines().find(|line| line.starts_with("left behind: since 20")).unwrap_or_default();
    let words = "the pod in the source cluster has no controller that would heal it";
    ensure!(unhealed.trim_end().ends_with(words), "{said}");
    ensure!(scene.phase().await? == "MigratingPods paused=true");

    let with_command = ["--cutover-command", "true"];
    let mut screen = scene.screen("run", &with_command)?;
    for (asked, answer) in [("swing: pod web-1 in ", "a"), ("cutover: ", "n")] {
        let question = screen.wait_for(GO_ON).await?;
        ensure!(question.contains(asked), "not asked for {asked}: {question}");
        screen.type_line(answer)?;
    }
    let said = screen.ends_with(1).await?;
    ensure!(said.contains("error: paused before the cutover: the answer was no"), "{said}");
    ensure!(said.contains("left behind: pods web-0, web-1 in the destination cluster"), "{said}");
    ensure!(scene.phase().await? == "Finalizing paused=true");

    let mut screen = scene.screen("run", &with_command)?;
    let question = screen.wait_for(GO_ON).await?;
    ensure!(question.contains("cutover: "), "{question}");
    screen.type_line("y")?;
    let question = screen.wait_for("type the set's name, web, to delete").await?;
    ensure!(question.contains("THERE IS NO WAY BACK"), "{question}");
    screen.type_line("y")?;
    let said = screen.ends_with(1).await?;
    ensure!(said.contains("paused before deleting in the source cluster"), "{said}");
    ensure!(scene.phase().await? == "Finalizing paused=true");

    let mut screen = scene.screen("finalize", &with_command)?;
    screen.wait_for("type the set's name, web, to delete").await?;
    screen.type_line("web")?;
    let said = screen.ends_with(0).await?;
    ensure!(said.contains("completed: web lives in b/prompts-steps"), "{said}");
    ensure!(said.contains("left in the source cluster, yours to remove:\r\n  Service web"), "{said}");
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

/// While one is asked for the order, another begins with an order of its own.
async fn other_plan(bed: &'static Bed) -> Result<()> {
    let scene = Scene::put_up(bed, "prompts-two").await?;
    let mut screen = scene.screen("run", &["--create-namespace"])?;
    screen.wait_for("order [1/2/q]:").await?;
    let elsewhere = ["--create-namespace", "--order", "together", "--yes", "--until", "prepare"];
    scene.operator.run(scene.arguments("run", &elsewhere)).await?.expect_code(0);
    screen.type_line("1")?;
    let said = screen.ends_with(4).await?;
    ensure!(
        said.contains("refused: another run stored its plan in the source cluster since this one looked"),
        "{said}"
    );
    ensure!(said.contains("hint: typed again, the command goes on with that plan"), "{said}");
    ensure!(scene.phase().await? == "FreezingSource paused=false");
    let mut screen = scene.screen("run", &["--create-namespace"])?;
    let question = screen.wait_for(GO_ON).await?;
    ensure!(question.contains("freeze: ") && question.contains("together"), "{question}");
    screen.type_line("n")?;
    screen.ends_with(1).await?;
    scene.end(Expected::Midway).await
}

async fn ctrl_c(bed: &'static Bed) -> Result<()> {
    let scene = Scene::put_up(bed, "prompts-interrupt").await?;
    let mut screen = scene.screen("run", &["--create-namespace", "--order", "together", "--events", LOG])?;
    let question = screen.wait_for(GO_ON).await?;
    ensure!(question.contains("freeze: "), "{question}");
    // The terminal turns this into SIGINT.
    screen.press(CTRL_C)?;
    let said = screen.ends_with(130).await?;
    ensure!(said.contains("interrupted: paused by SIGINT"), "{said}");
    ensure!(scene.phase().await? == "FreezingSource paused=true");

    let mut screen = scene.screen("run", &["--events", LOG])?;
    screen.wait_for(GO_ON).await?;
    screen.type_line("y")?;
    let question = screen.wait_for(GO_ON).await?;
    ensure!(question.contains("web-0") && question.contains("web-1"), "all pods at once: {question}");
    screen.type_line("n")?;
    let said = screen.ends_with(1).await?;
    ensure!(said.contains("error: paused before stopping all pods: the answer was no"), "{said}");
    ensure!(said.contains("left behind: pods web-0, web-1 in the source cluster"), "{said}");
    ensure!(said.contains("the pods in the source cluster have no controller that would heal them"), "{said}");
    ensure!(scene.phase().await? == "MigratingPods paused=true");
    let log = events::documented(&scene.operator.home().join(LOG))?;
    let ends = events::of(&log, "end").into_iter().map(|it| (&it["how"], &it["reason"]));
    ensure!(ends.eq([(&json!("interrupted"), &json!("SIGINT")), (&json!("declined"), &json!("allPods"))]), "{log:?}");
    scene.end(Expected::Midway).await
}

async fn no_at_the_rollback(bed: &'static Bed) -> Result<()> {
    let scene = Scene::put_up(bed, "prompts-rollback").await?;
    let begin = ["--create-namespace", "--order", "one-by-one", "--yes", "--pause-after", "0"];
    scene.operator.run(scene.arguments("run", &begin)).await?.expect_code(0);
    let events = ["--events", LOG];
    let mut screen = scene.screen("rollback", &events)?;
    let question = screen.wait_for(GO_ON).await?;
    ensure!(question.contains("what the pods wrote in the destination stays on the volumes"), "{question}");
    ensure!(question.contains("pod web-0 in b/prompts-rollback stops"), "{question}");
    screen.type_line("n")?;
    let said = screen.ends_with(1).await?;
    ensure!(said.contains("paused before the rollback"), "{said}");
    ensure!(said.contains("left behind: pod web-0 in the destination cluster"), "{said}");

    let mut screen = scene.screen("rollback", &events)?;
    screen.wait_for(GO_ON).await?;
    screen.type_line("y")?;
    let said = screen.ends_with(0).await?;
    ensure!(said.contains("rolled back: web lives in a/prompts-rollback again"), "{said}");
    let log = events::documented(&scene.operator.home().join(LOG))?;
    ensure!(events::ends(&log) == ["declined", "rolledBack"], "{log:?}");
    let answers = events::of(&log, "answer");
    ensure!(answers.iter().all(|it| it["question"] == "rollback"), "{answers:?}");
    ensure!(answers.iter().map(|it| &it["answer"]).eq(["no", "yes"]), "{answers:?}");
    scene.end(Expected::RolledBack).await
}
