//! Data on stdout: findings, plans and states as text, JSON or YAML. Nothing here is asked or done.

use std::io::Write as _;

use serde::Serialize;

use crate::cli::Output;
use crate::failure::{Exit, Failure};

mod addresses;
mod changes;
mod findings;
mod left;
mod plan;
mod status;

pub(crate) use addresses::{Address, addresses};
pub(crate) use changes::changes;
pub(crate) use findings::findings_text;
pub(crate) use left::{left_in_source, left_lines, needed as left_needed};
pub(crate) use plan::{PlanView, headline};
pub(crate) use status::{Phase, Status, needed as status_needed, reached, record as record_in_force};

/// Prints data in the form that was asked for.
///
/// # Errors
/// Nobody reads stdout any more.
pub(crate) fn print<T: Serialize>(output: Output, data: &T, text: impl FnOnce() -> String) -> Result<(), Failure> {
    put(&rendered(output, data, text))
}

/// Returns data in a form. YAML begins its document, so that several in a row stay several.
fn rendered<T: Serialize>(output: Output, data: &T, text: impl FnOnce() -> String) -> String {
    match output {
        Output::Text => text(),
        Output::Json => format!("{:#}\n", serde_json::to_value(data).expect("reports are plain data")),
        Output::Yaml => format!("---\n{}", serde_yaml::to_string(data).expect("reports are plain data")),
    }
}

/// Writes text to stdout.
///
/// # Errors
/// Nobody reads stdout any more.
pub(crate) fn put(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| {
        Failure::harmless(Exit::Failed, format!("stdout cannot be written: {error}"), "run the same command again")
    })
}

/// Returns names as a list for people: the first few, and how many more.
pub(crate) fn names<T: AsRef<str>>(names: &[T]) -> String {
    // More than this make a line that nobody reads; names of PersistentVolumes are long.
    const SHOWN: usize = 6;
    const COLUMNS: usize = 90;
    let mut columns = 0;
    let fits = |name: &&str| {
        columns += name.len() + 2;
        columns <= COLUMNS
    };
    let mut shown: Vec<&str> = names.iter().map(AsRef::as_ref).take(SHOWN).take_while(fits).collect();
    if shown.is_empty() {
        shown.extend(names.first().map(AsRef::as_ref));
    }
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Returns a count with its noun.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;

    use super::*;

    #[test]
    fn yaml_printed_twice_is_two_documents() {
        let printed: String = ["Pending", "Completed"].map(|it| rendered(Output::Yaml, &[it], String::new)).concat();
        let documents: Vec<Vec<String>> = serde_yaml::Deserializer::from_str(&printed)
            .map(|document| Vec::deserialize(document).expect("a list"))
            .collect();
        assert_eq!(documents, [["Pending"], ["Completed"]]);
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(names(&["a", "b"]), "a, b");
        assert_eq!(names(&["1", "2", "3", "4", "5", "6", "7", "8"]), "1, 2, 3, 4, 5, 6 and 2 more");
        let long = ["a".repeat(40), "b".repeat(40), "c".repeat(40)];
        assert_eq!(names(&long), format!("{}, {} and 1 more", long[0], long[1]));
        assert_eq!(names(&["x".repeat(100)]), "x".repeat(100));
        assert_eq!(count(1, "claim"), "1 claim");
        assert_eq!(count(2, "claim"), "2 claims");
    }
}
