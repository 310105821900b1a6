//! The nearest right name for a wrong one.

/// How alike two names must be to be suggested: one slip in three letters is (`wbe` for `web`).
const ALIKE: f64 = 0.6;

/// How alike common beginnings make two names that differ in more.
const SAME_BEGINNING: f64 = 0.85;

/// How many names a message lists.
const SHOWN: usize = 8;

/// Returns the name that is most like the wanted one.
pub(super) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    names
        .into_iter()
        .map(|name| {
            let is_part = name.contains(wanted) || wanted.contains(name);
            let beginning = strsim::jaro_winkler(wanted, name);
            let slips = strsim::normalized_damerau_levenshtein(wanted, name);
            let close = if is_part || beginning >= SAME_BEGINNING { ALIKE } else { 0.0 };
            (slips.max(close), name)
        })
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, name)| name)
}

/// Returns a sentence about the names that there are: the nearest, and the first few.
pub(super) fn there_are<'a>(what: &str, wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() {
        return format!("there are no {what}");
    }
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(SHOWN);
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    match nearest(wanted, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? The {what} there: {shown}{rest}"),
        None => format!("the {what} there: {shown}{rest}"),
    }
}

/// Returns a few names of many for a sentence.
pub(super) fn some(names: &[String]) -> String {
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_name() {
        assert_eq!(nearest("wbe", ["db", "web", "worker"]), Some("web"));
        assert_eq!(nearest("postgres", ["my-release-postgresql", "redis"]), Some("my-release-postgresql"));
    }

    #[test]
    fn nothing_alike_is_not_suggested() {
        assert_eq!(nearest("kafka", ["web", "db"]), None);
        assert_eq!(there_are("StatefulSets", "kafka", []), "there are no StatefulSets");
    }
}
