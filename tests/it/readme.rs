//! What README and examples say must be what the program and the checks do.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use sts_migrate::checks::rights::rules;
use sts_migrate::world::Side;

use crate::support::alone;

const README: &str = include_str!("../../README.md");
const CI: &str = include_str!("../../.ci/run");
const SCHEMA: &str = include_str!("../../examples/statefulsetmigration.schema.json");
const RBAC: &str = include_str!("../../examples/rbac.yaml");

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        alone("readme::the_rights_in_the_example_are_those_that_preflight_asks_for", || async { rights() }),
        alone("readme::the_checks_before_a_change_are_those_that_readme_names", || async { checks() }),
        alone("readme::the_schema_in_the_example_is_the_printed_one", || async { schema() }),
    ]
}

fn rights() -> Result<()> {
    let mut wanted = String::from(
        "# The smallest rights that `sts-migrate` needs; cluster-admin in both clusters is enough too.\n\
         # Bind each role to the user of its context. A test keeps this file the same as what preflight asks for.\n",
    );
    for (name, side) in [("sts-migrate-source", Side::Source), ("sts-migrate-destination", Side::Destination)] {
        let _infallible = write!(
            wanted,
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: {name}\nrules:\n"
        );
        for rule in rules(side, true) {
            let _infallible = writeln!(
                wanted,
                "  - apiGroups: {:?}\n    resources: {:?}\n    verbs: {:?}",
                rule.api_groups, rule.resources, rule.verbs
            );
        }
    }
    assert_eq!(RBAC, wanted, "examples/rbac.yaml must be:\n{wanted}");
    Ok(())
}

fn schema() -> Result<()> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sts-migrate")).arg("schema").output()?;
    ensure!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout)?;
    assert_eq!(SCHEMA, printed, "examples/statefulsetmigration.schema.json must be what `sts-migrate schema` prints");
    Ok(())
}

fn checks() -> Result<()> {
    let steps: Vec<&str> = CI.lines().filter_map(|line| line.strip_prefix("step ")).collect();
    ensure!(!steps.is_empty(), ".ci/run has no steps");
    for step in steps {
        ensure!(README.contains(step), "README does not name `{step}`");
    }
    Ok(())
}
