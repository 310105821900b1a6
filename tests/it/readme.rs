//! What README and examples say must be what the program and the checks do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use sts_migrate::checks::rights::rules;
use sts_migrate::world::Side;

use crate::support::alone;

const README: &str = include_str!("../../README.md");
const CI: &str = include_str!("../../.ci/run");
const SCHEMA: &str = include_str!("../../examples/statefulsetmigration.schema.json");
const RBAC: &str = include_str!("../../examples/rbac.yaml");

/// README's table of commands: each with the exit codes that it may end with.
static CODES: LazyLock<BTreeMap<String, BTreeSet<i32>>> = LazyLock::new(|| codes(README));

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        alone("readme::the_table_of_commands_has_each_of_them_once", || async { commands() }),
        alone("readme::the_rights_in_the_example_are_those_that_preflight_asks_for", || async { rights() }),
        alone("readme::the_checks_before_a_change_are_those_that_readme_names", || async { checks() }),
        alone("readme::the_schema_in_the_example_is_the_printed_one", || async { schema() }),
    ]
}

/// Fails when a command ended in a way that README's table does not know of; every run of a trial is held
/// against it.
pub(crate) fn may_end(command: &str, code: i32) -> Result<()> {
    let Some(codes) = CODES.get(command) else { return Ok(()) };
    ensure!(codes.contains(&code), "{command} ended with {code}, of which README's table of commands says nothing");
    Ok(())
}

/// Reads the rows `| names | what it does | exit codes and when |` under the head of the table.
fn codes(text: &str) -> BTreeMap<String, BTreeSet<i32>> {
    let rows = text.lines().skip_while(|line| *line != "| command | does | ends with |").skip(2);
    let mut found = BTreeMap::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [names, _, ends] = cells.as_slice() else { panic!("not three cells: {row}") };
        let mut codes = BTreeSet::new();
        // `0 – 4, 130`, `0, 2; 1 when …`
        for part in ends.split([',', ';']) {
            let mut numbers = part.split_whitespace().map_while(|word| match word {
                "–" => Some(None),
                word => word.parse::<i32>().ok().map(Some),
            });
            match (numbers.next().flatten(), numbers.next(), numbers.next().flatten()) {
                (Some(first), Some(None), Some(last)) => codes.extend(first..=last),
                (Some(only), None, None) => codes.extend([only]),
                _ => {}
            }
        }
        for name in names.split(',') {
            let name = name.trim().trim_matches('`').split(' ').next().unwrap_or_default();
            assert!(found.insert(name.to_owned(), codes.clone()).is_none(), "{name} has two rows");
        }
    }
    found
}

fn commands() -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_sts-migrate")).arg("-h").output()?;
    let help = String::from_utf8(output.stdout)?;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: BTreeSet<&str> =
        listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
    let rows: BTreeSet<&str> = CODES.keys().map(String::as_str).collect();
    assert_eq!(rows, commands, "the rows of README's table, and the commands of `sts-migrate -h`");
    let set = |codes: &[i32]| codes.iter().copied().collect::<BTreeSet<i32>>();
    ensure!(CODES["run"] == set(&[0, 1, 2, 3, 4, 130]) && CODES["status"] == set(&[0, 1, 2]), "{:?}", *CODES);
    Ok(())
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
    let output = Command::new(env!("CARGO_BIN_EXE_sts-migrate")).arg("schema").output()?;
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
