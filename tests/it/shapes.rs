//! Sets as the world's charts make them: moved one by one or together, and back.
//!
//! What makes a shape a shape is a rule of the node agent ([`ReadyWhen`]): a set that is moved in a
//! way that its members cannot bear does not become Ready, as it would not in the field.

use anyhow::{Context, Result, ensure};
use bed::judge::{Case, Expected, Order};
use bed::node::ReadyWhen;
use bed::workload::{Snapshot, USUAL_CLASS, Workload, exists, namespace, remove_namespace, snapshot, until};
use bed::{Bed, Cluster, Tool, users};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::migration::writes_of;
use crate::place::{SOON, is_ready};
use crate::screen::{GO_ON, Screen};
use crate::support::{Ended, Operator, on_bed};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_bed("shapes::a_writer_and_its_readers_move_one_after_the_other", writer_and_readers),
        on_bed("shapes::two_sets_with_equal_selectors_share_a_budget", equal_selectors),
        on_bed("shapes::of_two_open_migrations_one_must_be_named", nameless),
        on_bed("shapes::a_quorum_moves_together_and_pauses_one_by_one", quorum),
        on_bed("shapes::an_ordered_set_whose_first_must_stop_last_moves_together", stops_last),
        on_bed("shapes::a_pod_volume_named_like_a_claim_template_names_nothing", replaced_volume),
        on_bed("shapes::a_governing_service_that_is_not_there", |bed| no_service(bed, "gone", None)),
        on_bed("shapes::no_governing_service_at_all", |bed| no_service(bed, "empty", Some(""))),
        on_bed("shapes::a_role_label_and_a_service_per_pod", services),
    ]
}

/// A namespace with sets that run in A.
struct Scene {
    bed: &'static Bed,
    namespace: String,
    a: Client,
    b: Client,
}

impl Scene {
    async fn put_up(
        bed: &'static Bed,
        name: &str,
        dress: impl Fn(Workload) -> Workload,
        sets: &[&str],
    ) -> Result<(Scene, Vec<Workload>)> {
        let name = format!("shape-{name}");
        let scene = Scene {
            bed,
            a: bed.client(Cluster::A, users::ADMIN).await?,
            b: bed.client(Cluster::B, users::ADMIN).await?,
            namespace: name,
        };
        namespace(&scene.b, &scene.namespace).await?;
        let usual =
            |set: &&str| dress(Workload::new(&scene.namespace, set).claim("data", "1Gi", USUAL_CLASS).grace_seconds(3));
        let sets: Vec<Workload> = sets.iter().map(usual).collect();
        for set in &sets {
            set.apply(&scene.a).await?;
        }
        for set in &sets {
            set.wait_ready(&scene.a).await?;
        }
        Ok((scene, sets))
    }

    fn client(&self, cluster: Cluster) -> &Client {
        if cluster == Cluster::A { &self.a } else { &self.b }
    }

    async fn mover(&self, set: &Workload) -> Result<Mover> {
        let tool = self.bed.take_tool();
        let operator = Operator::new(self.bed, &tool)?;
        let case = Case::for_workload(self.bed, &tool, set, &self.namespace).await?;
        Ok(Mover { bed: self.bed, set: set.clone(), tool, operator, case })
    }

    async fn service(&self, cluster: Cluster, name: &str) -> Result<Option<Service>> {
        let services: Api<Service> = Api::namespaced(self.client(cluster).clone(), &self.namespace);
        Ok(services.get_opt(name).await?)
    }

    async fn end(self) -> Result<()> {
        remove_namespace(&self.a, &self.namespace).await?;
        remove_namespace(&self.b, &self.namespace).await
    }
}

/// Who moves one set.
struct Mover {
    bed: &'static Bed,
    set: Workload,
    tool: Tool,
    operator: Operator,
    case: Case,
}

impl Mover {
    fn arguments<'a>(&'a self, command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec![command, self.set.name(), "--src", "a", "--dst", "b", "-n", self.set.namespace()];
        arguments.extend(more);
        arguments
    }

    async fn run(&self, command: &str, more: &[&str]) -> Result<Ended> {
        self.operator.run(self.arguments(command, more)).await
    }

    /// Another set of the namespace is moved, too, and is not judged with this one.
    fn beside(mut self, set: &str) -> Mover {
        self.case = self.case.beside(set);
        self
    }

    async fn judge(&self, order: Order, expected: Expected) -> Result<()> {
        self.case.clone().ordered(order).expecting(expected).assert_clean(self.bed).await
    }

    /// Returns the requests of a kind and verb in this namespace since the beginning.
    fn requests(&self, cluster: Cluster, verb: &str, resource: &str) -> Result<Vec<Value>> {
        let mark = self.case.marks.iter().find(|(marked, _)| *marked == cluster).context("a mark of each cluster")?;
        let mut events = self.bed.audit_since(cluster, mark.1)?;
        events.retain(|event| {
            event["verb"] == verb
                && event["objectRef"]["resource"] == resource
                && event["objectRef"]["namespace"] == self.set.namespace()
                && event["responseStatus"]["code"].as_i64().is_some_and(|code| code < 300)
        });
        Ok(events)
    }

    /// Returns by whom which pods of a cluster were deleted, in that order.
    fn pod_deletes(&self, cluster: Cluster) -> Result<Vec<String>> {
        let deletes = self.requests(cluster, "delete", "pods")?;
        let line = |event: &Value| {
            let user = event["user"]["username"].as_str().unwrap_or_default();
            let who = if user == self.tool.user { "tool" } else { user };
            format!("{who} {}", event["objectRef"]["name"].as_str().unwrap_or_default())
        };
        Ok(deletes.iter().map(line).collect())
    }

    /// Returns the numbers of replicas that the tool gave to the set in B.
    fn grown_to(&self) -> Result<Vec<i64>> {
        let patches = self.requests(Cluster::B, "patch", "statefulsets")?;
        let own = patches.iter().filter(|event| event["user"]["username"] == self.tool.user.as_str());
        Ok(own.filter_map(|event| event["requestObject"]["spec"]["replicas"].as_i64()).collect())
    }
}

/// Stopped highest first, each gone before the next.
fn highest_first(set: &str, replicas: usize) -> Vec<String> {
    let pods = (0..replicas).rev().map(|ordinal| format!("{set}-{ordinal}"));
    pods.flat_map(|pod| [format!("tool {pod}"), format!("{} {pod}", users::NODE_AGENT)]).collect()
}

async fn writer_and_readers(bed: &'static Bed) -> Result<()> {
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "db"},
        "spec": {"clusterIP": "None", "selector": {"part": "db"}, "ports": [{"name": "db", "port": 5432}]},
    });
    let dress = |set: Workload| {
        let set = set.without_governing_service().pod_label("part", "db").object(service.clone());
        let set = set.edit(|set| set["spec"]["serviceName"] = json!("db"));
        if set.name() == "writer" {
            return set;
        }
        set.replicas(3).ready_when(ReadyWhen { answers: Some("writer-0.db".to_owned()), ..ReadyWhen::default() })
    };
    let (scene, sets) = Scene::put_up(bed, "readers", dress, &["writer", "reader"]).await?;
    let writer = scene.mover(&sets[0]).await?.beside("reader");
    let said = writer.run("preflight", &[]).await?.expect_code(0).stdout;
    ensure!(said.contains("reader (same governing Service"), "{said}");
    writer.run("run", &["--yes"]).await?.expect_code(0);
    sets[0].wait_ready(&scene.b).await?;
    writer.judge(Order::OneByOne, Expected::Moved).await?;

    // What the writer's departure does to the readers is said, and a person goes on all the same.
    let pods: Api<Pod> = Api::namespaced(scene.a.clone(), &scene.namespace);
    for pod in sets[1].pods() {
        until(pods.clone(), &pod, SOON, "unready", |pod| pod.is_some_and(|pod| !is_ready(pod))).await?;
    }
    let readers = scene.mover(&sets[1]).await?.beside("writer");
    let said = readers.run("run", &["--order", "together", "--yes"]).await?.expect_code(3).stderr;
    ensure!(said.contains("PF-12") && said.contains("reader-0 is not Ready"), "{said}");
    let shared = scene.service(Cluster::B, "db").await?.context("the writer's move made it")?;
    readers.run("run", &["--order", "together", "--yes", "--force"]).await?.expect_code(0);
    sets[1].wait_ready(&scene.b).await?;
    readers.judge(Order::Together, Expected::Moved).await?;

    // Back, the writer first: its Service stays for the readers, and is theirs then.
    writer.run("rollback", &["--yes"]).await?.expect_code(0);
    sets[0].wait_ready(&scene.a).await?;
    writer.judge(Order::OneByOne, Expected::RolledBack).await?;
    let still = scene.service(Cluster::B, "db").await?.context("the readers use it")?;
    ensure!(still.metadata.uid == shared.metadata.uid);
    readers.run("rollback", &["--yes"]).await?.expect_code(0);
    sets[1].wait_ready(&scene.a).await?;
    readers.judge(Order::Together, Expected::RolledBack).await?;
    let left = scene.service(Cluster::B, "db").await?.context("it was there before the readers came")?;
    ensure!(left.metadata.uid == shared.metadata.uid);
    let marks = left.metadata.annotations.unwrap_or_default();
    ensure!(!marks.keys().any(|key| key.contains("sts-migrate")), "it is nobody's: {marks:?}");
    scene.end().await
}

async fn equal_selectors(bed: &'static Bed) -> Result<()> {
    let budget = json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "quorum"},
        "spec": {"selector": {"matchLabels": {"app": "shop"}}, "maxUnavailable": 1},
    });
    let dress = |set: Workload| {
        set.replicas(2).object(budget.clone()).edit(|set| {
            let labels = json!({"app": "shop"});
            set["spec"]["selector"]["matchLabels"] = labels.clone();
            set["spec"]["template"]["metadata"]["labels"] = labels.clone();
            set["spec"]["volumeClaimTemplates"][0]["metadata"]["labels"] = labels;
        })
    };
    let (scene, sets) = Scene::put_up(bed, "equal", dress, &["blue", "green"]).await?;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(scene.a.clone(), &scene.namespace);
    let allows = |number: i32| {
        move |budget: Option<&PodDisruptionBudget>| {
            let status = budget.and_then(|budget| budget.status.as_ref());
            status.is_some_and(|status| status.disruptions_allowed == Some(number))
        }
    };
    until(budgets.clone(), "quorum", SOON, "allowing one", allows(1)).await?;
    let neighbour = async || -> Result<Snapshot> {
        let all = snapshot(&scene.a, &scene.namespace).await?;
        Ok(all.only(|name| name.contains("green")))
    };
    let before = neighbour().await?;

    let mover = scene.mover(&sets[0]).await?;
    let mut screen = Screen::open(&mover.operator, &mover.arguments("run", &["--order", "one-by-one"]))?;
    let question = screen.wait_for(GO_ON).await?;
    ensure!(question.contains("freeze: the object StatefulSet blue"), "{question}");
    ensure!(question.contains("it then allows 3 evictions at once"), "{question}");
    ensure!(question.contains("green (same PodDisruptionBudget"), "{question}");
    screen.type_line("y")?;
    screen.wait_for(GO_ON).await?;
    // What the question said is what happens.
    until(budgets, "quorum", SOON, "allowing three", allows(3)).await?;
    screen.type_line("a")?;
    screen.wait_for("type the set's name").await?;
    screen.type_line("n")?;
    screen.ends_with(1).await?;
    sets[0].wait_ready(&scene.b).await?;
    mover.judge(Order::OneByOne, Expected::Moved).await?;
    ensure!(before.differences(&neighbour().await?).is_empty(), "the other set was touched by the move");
    mover.run("rollback", &["--yes"]).await?.expect_code(0);
    sets[0].wait_ready(&scene.a).await?;
    mover.judge(Order::OneByOne, Expected::RolledBack).await?;
    let differences = before.differences(&neighbour().await?);
    ensure!(differences.is_empty(), "the other set was touched: {differences:?}");
    scene.end().await
}

/// Two migrations are open in one namespace: without a name nothing is done, and who only looks is asked.
async fn nameless(bed: &'static Bed) -> Result<()> {
    let (scene, sets) = Scene::put_up(bed, "nameless", |set| set, &["blue", "green"]).await?;
    let movers = [scene.mover(&sets[0]).await?.beside("green"), scene.mover(&sets[1]).await?.beside("blue")];
    for mover in &movers {
        mover.run("run", &["--yes", "--create-namespace", "--until", "prepare"]).await?.expect_code(0);
    }
    let [blue, green] = &movers;
    let before = writes_of(bed, &blue.tool.user)?;
    let nameless = |command: &'static str, more: &[&'static str]| {
        [&[command, "--src", "a", "--dst", "b", "-n", scene.namespace.as_str()], more].concat()
    };
    for command in ["preflight", "plan", "status", "run", "swing", "rollback"] {
        let yes: &[&str] = if ["run", "swing", "rollback"].contains(&command) { &["--yes"] } else { &[] };
        let said = blue.operator.run(nameless(command, yes)).await?.expect_code(2).stderr;
        ensure!(said.contains("error: NAME is missing, and several migrations are there: blue, green"), "{said}");
        ensure!(said.contains("hint: name one of them: `sts-migrate status ") && said.contains(" blue`"), "{said}");
    }
    let mut screen = Screen::open(&blue.operator, &nameless("rollback", &[]))?;
    let asked = screen.wait_for("which one [1-2/q]:").await?;
    ensure!(asked.contains("which migration is meant?"), "{asked}");
    ensure!(asked.contains("  1) blue\r\n") && asked.contains("  2) green\r\n"), "{asked}");
    screen.type_line("q")?;
    screen.ends_with(2).await?;
    ensure!(writes_of(bed, &blue.tool.user)? == before, "it changed something");
    let mut screen = Screen::open(&green.operator, &nameless("rollback", &[]))?;
    screen.wait_for("which one [1-2/q]:").await?;
    screen.type_line("2")?;
    let question = screen.wait_for(GO_ON).await?;
    ensure!(question.contains("gets StatefulSet green back"), "{question}");
    screen.type_line("y")?;
    screen.ends_with(0).await?;
    // Only one is left.
    let said = blue.operator.run(nameless("rollback", &["--yes"])).await?.expect_code(0).stderr;
    ensure!(said.contains("rolled back: blue lives in "), "{said}");
    for mover in &movers {
        mover.judge(Order::OneByOne, Expected::RolledBack).await?;
    }
    scene.end().await
}

async fn quorum(bed: &'static Bed) -> Result<()> {
    let rules = ReadyWhen { majority_of: Some(3), ..ReadyWhen::default() };
    let dress = |set: Workload| set.replicas(3).parallel().ready_when(rules.clone());
    let (scene, sets) = Scene::put_up(bed, "quorum", dress, &["web"]).await?;
    let mover = scene.mover(&sets[0]).await?;
    let arguments = ["--order", "one-by-one", "--yes", "--ready-timeout", "2s"];
    let said = mover.run("run", &arguments).await?.expect_code(1).stderr;
    ensure!(said.contains("pod web-0: not Ready") && said.contains("rollback"), "{said}");
    ensure!(mover.grown_to()? == [1], "it goes no further than the first");
    mover.run("rollback", &["--yes"]).await?.expect_code(0);
    sets[0].wait_ready(&scene.a).await?;
    mover.judge(Order::OneByOne, Expected::RolledBack).await?;

    let mover = scene.mover(&sets[0]).await?;
    mover.run("run", &["--order", "together", "--yes"]).await?.expect_code(0);
    ensure!(mover.grown_to()? == [3], "one patch starts them all: {:?}", mover.grown_to()?);
    sets[0].wait_ready(&scene.b).await?;
    mover.judge(Order::Together, Expected::Moved).await?;
    mover.run("rollback", &["--yes"]).await?.expect_code(0);
    sets[0].wait_ready(&scene.a).await?;
    mover.judge(Order::Together, Expected::RolledBack).await?;
    scene.end().await
}

async fn stops_last(bed: &'static Bed) -> Result<()> {
    let rules = ReadyWhen { stopped_last: true, ..ReadyWhen::default() };
    let dress = |set: Workload| set.replicas(3).ready_when(rules.clone());
    let (scene, sets) = Scene::put_up(bed, "last", dress, &["web"]).await?;
    let mover = scene.mover(&sets[0]).await?;
    mover.run("run", &["--order", "together", "--yes"]).await?.expect_code(0);
    sets[0].wait_ready(&scene.b).await?;
    ensure!(mover.pod_deletes(Cluster::A)? == highest_first("web", 3), "{:?}", mover.pod_deletes(Cluster::A)?);
    ensure!(mover.grown_to()? == [3], "{:?}", mover.grown_to()?);
    mover.judge(Order::Together, Expected::Moved).await?;
    mover.run("rollback", &["--yes"]).await?.expect_code(0);
    sets[0].wait_ready(&scene.a).await?;
    mover.judge(Order::Together, Expected::RolledBack).await?;
    scene.end().await
}

async fn replaced_volume(bed: &'static Bed) -> Result<()> {
    let dress = |set: Workload| {
        set.edit(|set| {
            set["spec"]["template"]["spec"]["volumes"] =
                json!([{"name": "data", "persistentVolumeClaim": {"claimName": "nobody-has-this"}}]);
        })
    };
    let (scene, sets) = Scene::put_up(bed, "replaced", dress, &["web"]).await?;
    there_and_back(&scene, &sets[0], Order::OneByOne, &[]).await?;
    scene.end().await
}

async fn no_service(bed: &'static Bed, name: &str, service_name: Option<&'static str>) -> Result<()> {
    let dress = |set: Workload| {
        let set = set.without_governing_service();
        match service_name {
            Some(service) => set.edit(move |set| set["spec"]["serviceName"] = json!(service)),
            None => set,
        }
    };
    let (scene, sets) = Scene::put_up(bed, name, dress, &["web"]).await?;
    there_and_back(&scene, &sets[0], Order::OneByOne, &["PF-33", "no names of their own in DNS"]).await?;
    ensure!(scene.service(Cluster::B, "web").await?.is_none());
    scene.end().await
}

async fn services(bed: &'static Bed) -> Result<()> {
    let dress = |set: Workload| {
        let of_pod = |pod: &str| json!({"selector": {"statefulset.kubernetes.io/pod-name": pod}});
        let governing = json!({"selector": {"app": "web", "role": "leader"}, "publishNotReadyAddresses": true});
        set.replicas(2)
            .without_governing_service()
            .service("web", governing)
            .service("web-0", of_pod("web-0"))
            .service("web-1", of_pod("web-1"))
    };
    let (scene, sets) = Scene::put_up(bed, "services", dress, &["web"]).await?;
    let pods: Api<Pod> = Api::namespaced(scene.a.clone(), &scene.namespace);
    let role = Patch::Merge(json!({"metadata": {"labels": {"role": "leader"}}}));
    pods.patch("web-0", &PatchParams::default(), &role).await?;
    let warned = ["PF-33", "it selects by role=leader"];
    there_and_back(&scene, &sets[0], Order::OneByOne, &warned).await?;
    for service in ["web", "web-0", "web-1"] {
        ensure!(scene.service(Cluster::B, service).await?.is_none(), "{service} is left in B");
    }
    scene.end().await
}

/// Moves a set, looks at its Services in B, and takes it back; `warned` is what preflight must say.
async fn there_and_back(scene: &Scene, set: &Workload, order: Order, warned: &[&str]) -> Result<()> {
    let mover = scene.mover(set).await?;
    let order_name = if order == Order::Together { "together" } else { "one-by-one" };
    let said = mover.run("run", &["--order", order_name, "--yes"]).await?.expect_code(0).stderr;
    for warning in warned {
        ensure!(said.contains(warning), "no {warning} in {said}");
    }
    set.wait_ready(&scene.b).await?;
    let services: Api<Service> = Api::namespaced(scene.b.clone(), &scene.namespace);
    for object in set.manifest().iter().filter(|object| object["kind"] == "Service") {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let found = exists(services.clone(), name, SOON).await?;
        let spec = found.spec.context("a Service has a spec")?;
        let is_headless = object["spec"]["clusterIP"] == "None";
        ensure!((spec.cluster_ip.as_deref() == Some("None")) == is_headless, "{name}: {:?}", spec.cluster_ip);
        ensure!(json!(spec.selector) == object["spec"]["selector"], "{name}: {:?}", spec.selector);
    }
    mover.judge(order, Expected::Moved).await?;
    mover.run("rollback", &["--yes"]).await?.expect_code(0);
    set.wait_ready(&scene.a).await?;
    mover.judge(order, Expected::RolledBack).await
}
