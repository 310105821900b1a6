//! Rights on the bed: none, one less than listed, and just those that are listed.

use anyhow::{Context, Result, ensure};
use bed::workload::{Class, apply, exists, until};
use bed::{Bed, Cluster};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::Api;
use libtest_mimic::Trial;
use serde_json::json;
use sts_migrate::checks::rights::rules;
use sts_migrate::world::Side;

use super::{FINDINGS, PATIENT, Stage};
use crate::support::{Operator, on_bed};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        on_bed("preflight::a_user_without_rights_is_refused_in_one_line_for_each_context", no_rights),
        on_bed("preflight::one_right_less_is_refused", one_less),
        on_bed("preflight::the_listed_rights_are_enough_for_a_whole_migration", enough),
    ]
}

async fn no_rights(bed: &'static Bed) -> Result<()> {
    let mut stage = Stage::new(bed, "no-rights", |workload| workload).await?;
    stage.tool.user = bed.take_restricted();
    stage.refuses("PF-1").await?;
    let operator = Operator::with(bed, &stage.tool.user, &stage.tool.access_key)?;
    let (a, b) = ("PF-1 blocks: source cluster (context a): ", "PF-1 blocks: destination cluster (context b): ");
    let refused = async |wanted: &[&str]| -> Result<()> {
        let ended = stage.changes_nothing(&operator, "preflight").await?.expect_code(FINDINGS);
        let findings: Vec<&str> = ended.stdout.lines().filter(|line| line.starts_with("PF-")).collect();
        let are_those = findings.len() == wanted.len()
            && findings.iter().zip(wanted).all(|(finding, beginning)| finding.starts_with(beginning));
        ensure!(are_those, "not {wanted:?}:\n{}", ended.stdout);
        Ok(())
    };
    refused(&[a, b]).await?;
    bed.grant(Cluster::A, &stage.tool.user, granted(Side::Source, |_, _| true)).await?;
    refused(&[b]).await
}

/// Returns what preflight asks for on a side, as far as `is_granted` says of a resource and a verb.
fn granted(side: Side, is_granted: impl Fn(&str, &str) -> bool) -> Vec<PolicyRule> {
    let mut granted: Vec<PolicyRule> = Vec::new();
    for rule in rules(side, false) {
        for resource in rule.resources {
            let verbs = rule.verbs.iter().filter(|verb| is_granted(resource, verb)).map(|verb| (*verb).to_owned());
            granted.push(PolicyRule {
                api_groups: Some(rule.api_groups.iter().map(|group| (*group).to_owned()).collect()),
                resources: Some(vec![resource.to_owned()]),
                verbs: verbs.collect(),
                ..PolicyRule::default()
            });
        }
    }
    granted
}

async fn grant(bed: &Bed, user: &str, leave_out: Option<(Cluster, &str, &str)>) -> Result<()> {
    for (cluster, side) in [(Cluster::A, Side::Source), (Cluster::B, Side::Destination)] {
        let is_granted = |resource: &str, verb: &str| leave_out != Some((cluster, resource, verb));
        bed.grant(cluster, user, granted(side, is_granted)).await?;
    }
    Ok(())
}

async fn enough(bed: &'static Bed) -> Result<()> {
    let mut stage = Stage::new(bed, "enough", |workload| workload).await?;
    stage.tool.user = bed.take_restricted();
    grant(bed, &stage.tool.user, None).await?;
    stage.passes().await?;
    let operator = Operator::with(bed, &stage.tool.user, &stage.tool.access_key)?;
    // Namespaces may not be listed: a wrong one is told without a nearest name.
    let wrong = ["preflight", "web", "--src", "a", "--dst", "b", "-n", "pf-enuogh"];
    let told = operator.run(wrong).await?.expect_code(FINDINGS).stdout;
    for side in ["source", "destination"] {
        ensure!(told.contains(&format!("PF-6 blocks: Namespace pf-enuogh ({side}): it is not there")), "{told}");
    }
    ensure!(!told.contains("PF-1 ") && !told.contains("did you mean"), "{told}");
    let run = |extra: &'static [&'static str]| {
        let mut arguments = stage.arguments("run");
        arguments.extend(extra.iter().map(|flag| (*flag).to_owned()));
        operator.run(arguments)
    };
    run(&["--until", "swing"]).await?.expect_code(0);
    let mut back = stage.arguments("rollback");
    back.push("--yes".to_owned());
    operator.run(back).await?.expect_code(0);
    run(&["--finalize"]).await?.expect_code(0);
    let pods: Api<Pod> = Api::namespaced(stage.b.clone(), &stage.namespace);
    exists(pods, "web-0", PATIENT).await?;
    enough_for_a_claim(&stage, &operator).await
}

/// The rights for a set are enough for a claim alone: there, back, there and finalized.
async fn enough_for_a_claim(stage: &Stage, operator: &Operator) -> Result<()> {
    let class = Class::new("pf-enough").immediate();
    apply(&stage.a, class.manifest()).await?;
    apply(&stage.b, class.manifest()).await?;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "alone" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "pf-enough",
            "resources": { "requests": { "storage": "1Gi" } },
        },
    });
    stage.put(Cluster::A, claim).await?;
    let is_bound = |claim: Option<&PersistentVolumeClaim>| {
        claim.is_some_and(|claim| claim.status.as_ref().and_then(|it| it.phase.as_deref()) == Some("Bound"))
    };
    until(stage.claims(), "alone", PATIENT, "Bound", is_bound).await?;
    let clusters = ["--src", "a", "--dst", "b", "-n", &stage.namespace];
    for command in [
        &["move-volume", "alone", "--yes"][..],
        &["rollback", "--claim", "alone", "--yes"],
        &["move-volume", "alone", "--yes", "--finalize"],
    ] {
        operator.run(command.iter().chain(&clusters)).await?.expect_code(0);
    }
    Ok(())
}

async fn one_less(bed: &'static Bed) -> Result<()> {
    let mut stage = Stage::new(bed, "one-less", |workload| workload).await?;
    let some = [
        (Cluster::A, "persistentvolumes", "patch"),
        (Cluster::A, "statefulsets", "create"),
        (Cluster::B, "persistentvolumeclaims", "delete"),
        (Cluster::B, "secrets", "create"),
    ];
    for left_out in some {
        stage.tool.user = bed.take_restricted();
        grant(bed, &stage.tool.user, Some(left_out)).await?;
        stage.refuses("PF-3").await.with_context(|| format!("without {left_out:?}"))?;
    }
    Ok(())
}
