//! Proof of the judge, without the program under test: a careful scripted mover is not accused, and
//! each wrong one is, of the invariant that it breaks.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bed::judge::{Case, Evidence, Expected, Order, judge};
use bed::mover::{Job, Mistake, Reach};
use bed::workload::{USUAL_CLASS, Workload, remove_namespace};
use bed::{Bed, Cluster, ec2, mover, users};
use k8s_openapi::api::rbac::v1::PolicyRule;
use libtest_mimic::Trial;

use crate::support::on_bed;

/// How long a careful mover waits for anything: a loaded machine is slow.
const PATIENT: Duration = Duration::from_secs(90);

/// How long a mover with a mistake waits: some wait for what can never come.
const IMPATIENT: Duration = Duration::from_secs(20);

/// Name of the set that moves.
const SET: &str = "web";

pub(crate) fn trials() -> Vec<Trial> {
    let careful = [
        ("careful_mover_is_not_accused", Reach::Moved, false),
        ("careful_mover_of_all_at_once_is_not_accused", Reach::Moved, true),
        ("careful_mover_that_finishes_is_not_accused", Reach::Finalized, false),
        ("careful_mover_that_goes_back_is_not_accused", Reach::RolledBack { after: 1 }, false),
        ("careful_mover_that_goes_back_from_the_end_is_not_accused", Reach::RolledBack { after: 2 }, false),
    ];
    let careful = careful.into_iter().map(|(name, reach, together)| {
        on_bed(&format!("judge_proof::{name}"), move |bed| not_accused(bed, name, reach, together))
    });
    let wrong = Mistake::ALL.into_iter().map(|mistake| {
        let name = format!("judge_proof::{}_breaks_{}", words(mistake, '_'), mistake.breaks().replace('-', ""));
        on_bed(&name, move |bed| accused(bed, mistake))
    });
    let lost = on_bed("judge_proof::lost_content_breaks_I23", lost_content);
    careful.chain(wrong).chain([lost]).collect()
}

/// Returns the mistake's name in small letters.
fn words(mistake: Mistake, separator: char) -> String {
    let mut words = String::new();
    for letter in format!("{mistake:?}").chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(separator);
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// A set that runs in A, with a neighbour that nobody may touch.
struct Fixture {
    source: String,
    destination: String,
    workload: Workload,
}

impl Fixture {
    async fn put_up(bed: &Bed, name: &str, templates: &[&str]) -> Result<Fixture> {
        let source = format!("judge-{}", name.replace('_', "-"));
        let source = source.get(..50).unwrap_or(&source).trim_end_matches('-').to_owned();
        let client = bed.client(Cluster::A, users::ADMIN).await?;
        let workload = Workload::new(&source, SET).replicas(2).retention("Delete", "Retain").grace_seconds(3);
        let workload =
            templates.iter().fold(workload, |workload, template| workload.claim(template, "1Gi", USUAL_CLASS));
        let neighbour = Workload::new(&source, "neighbour").claim("data", "1Gi", USUAL_CLASS);
        workload.apply(&client).await.context("put up the set")?;
        neighbour.apply(&client).await.context("put up its neighbour")?;
        workload.wait_ready(&client).await?;
        neighbour.wait_ready(&client).await?;
        Ok(Fixture { destination: format!("{source}-new"), source, workload })
    }

    /// Makes room for other tests: nodes have few slots for volumes.
    async fn take_down(&self, bed: &Bed) -> Result<()> {
        for (cluster, namespace) in [(Cluster::A, &self.source), (Cluster::B, &self.destination)] {
            remove_namespace(&bed.client(cluster, users::ADMIN).await?, namespace).await?;
        }
        Ok(())
    }

    fn job(&self, user: &str, access_key: &str, reach: Reach) -> Job {
        Job {
            user: user.to_owned(),
            access_key: access_key.to_owned(),
            source: self.source.clone(),
            set: SET.to_owned(),
            destination: self.destination.clone(),
            together: false,
            reach,
            mistake: None,
            patience: PATIENT,
        }
    }
}

/// Returns where a mover that goes so far leaves the set.
fn end_of(reach: Reach) -> Expected {
    match reach {
        Reach::Prepared | Reach::Frozen | Reach::FirstPod => Expected::Midway,
        Reach::Moved => Expected::Moved,
        Reach::Finalized => Expected::Finalized,
        Reach::RolledBack { .. } => Expected::RolledBack,
    }
}

async fn not_accused(bed: &'static Bed, name: &str, reach: Reach, together: bool) -> Result<()> {
    let fixture = Fixture::put_up(bed, name, &["data", "log"]).await?;
    let tool = bed.take_tool();
    let order = if together { Order::Together } else { Order::OneByOne };
    let case = Case::for_workload(bed, &tool, &fixture.workload, &fixture.destination).await?;
    let case = case.ordered(order).expecting(end_of(reach));
    mover::run(bed, Job { together, ..fixture.job(&tool.user, &tool.access_key, reach) }).await?;
    case.assert_clean(bed).await?;
    fixture.take_down(bed).await
}

async fn accused(bed: &'static Bed, mistake: Mistake) -> Result<()> {
    let fixture = Fixture::put_up(bed, &words(mistake, '-'), &["data"]).await?;
    let tool = bed.take_tool();
    let order = if mistake.together() { Order::Together } else { Order::OneByOne };
    let case = Case::for_workload(bed, &tool, &fixture.workload, &fixture.destination).await?;
    let mut case = case.ordered(order).expecting(end_of(mistake.reach()));
    let mut user = tool.user.clone();
    if mistake == Mistake::ErrorTakenForAbsence {
        user = bed.take_restricted();
        for cluster in Cluster::BOTH {
            bed.grant(cluster, &user, all_but_attachments()).await?;
        }
        case = case.for_tool(&user, &tool.access_key);
    }
    if mistake == Mistake::PodLeftRunning {
        share_volumes(bed, &fixture).await?;
    }
    let job = Job {
        together: mistake.together(),
        mistake: Some(mistake),
        patience: IMPATIENT,
        ..fixture.job(&user, &tool.access_key, mistake.reach())
    };
    // It may well get stuck: the judge judges what was done.
    let ended = mover::run(bed, job).await;
    expect_violation(bed, &case, mistake.breaks(), mistake.entails())
        .await
        .with_context(|| format!("the mover ended with {ended:?}"))?;
    fixture.take_down(bed).await
}

/// A volume that lost its content is no mistake of the mover, who is careful here.
async fn lost_content(bed: &'static Bed) -> Result<()> {
    let fixture = Fixture::put_up(bed, "lost-content", &["data"]).await?;
    let tool = bed.take_tool();
    let case = Case::for_workload(bed, &tool, &fixture.workload, &fixture.destination).await?;
    let client = bed.client(Cluster::A, users::ADMIN).await?;
    let control = ec2::Control::new(bed.ec2_url());
    for (_, volume) in fixture.workload.volumes(&client).await? {
        control.wipe(&volume).await?;
    }
    mover::run(bed, fixture.job(&tool.user, &tool.access_key, Reach::FirstPod)).await?;
    expect_violation(bed, &case, "I-23", &[]).await?;
    fixture.take_down(bed).await
}

/// Checks that the judge sees this, and nothing that does not follow from it.
async fn expect_violation(bed: &Bed, case: &Case, invariant: &str, entailed: &[&str]) -> Result<()> {
    let violations = judge(&Evidence::collect(bed, case).await?, case);
    let mut list = String::new();
    for violation in &violations {
        let _ = write!(list, "\n  {violation}");
    }
    ensure!(
        violations.iter().any(|violation| violation.invariant == invariant),
        "the judge did not see that {invariant} was broken; it found:{list}"
    );
    ensure!(
        violations.iter().all(|violation| violation.invariant == invariant || entailed.contains(&violation.invariant)),
        "the judge saw more than {invariant} and what follows from it ({entailed:?}):{list}"
    );
    Ok(())
}

/// Everything that a mover needs, but for the right to see VolumeAttachments.
fn all_but_attachments() -> Vec<PolicyRule> {
    let rule = |group: &str, resources: &[&str]| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources.iter().map(|resource| (*resource).to_owned()).collect()),
        verbs: vec!["*".to_owned()],
        ..PolicyRule::default()
    };
    vec![
        rule("", &["namespaces", "nodes", "pods", "services", "persistentvolumes", "persistentvolumeclaims"]),
        rule("", &["configmaps", "secrets"]),
        rule("coordination.k8s.io", &["leases"]),
        rule("apps", &["statefulsets", "controllerrevisions"]),
    ]
}

/// Lets EC2 attach the volumes of a set twice, so that nothing but the mover protects them.
async fn share_volumes(bed: &Bed, fixture: &Fixture) -> Result<()> {
    let client = bed.client(Cluster::A, users::ADMIN).await?;
    let control = ec2::Control::new(bed.ec2_url());
    for (_, volume) in fixture.workload.volumes(&client).await? {
        let patch = ec2::VolumePatch { multi_attach: Some(true), ..ec2::VolumePatch::default() };
        control.patch_volume(&volume, &patch).await?;
    }
    Ok(())
}
