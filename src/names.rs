//! The nearest right names for a wrong one, and a few names of many.

/// How many names a message lists.
const SHOWN: usize = 8;

/// How many names are suggested.
const SUGGESTED: usize = 3;

/// How many letters of two names must agree for one to be suggested for the other: one slip in three
/// letters is (`wbe` for `web`).
const ALIKE: f64 = 0.5;

/// How alike common beginnings make two names that differ in more.
const SAME_BEGINNING: f64 = 0.85;

/// Returns the names nearest to a mistyped one, nearest first.
fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let is_near = |name: &&str| {
        let is_part = name.contains(wanted) || wanted.contains(name);
        is_part
            || strsim::normalized_damerau_levenshtein(wanted, name) > ALIKE
            || strsim::jaro_winkler(wanted, name) >= SAME_BEGINNING
    };
    let mut near: Vec<&str> = names.into_iter().filter(is_near).collect();
    near.sort_by_key(|name| (strsim::damerau_levenshtein(wanted, name), *name));
    near.truncate(SUGGESTED);
    near
}

/// Returns `did you mean` for a mistyped name, or what there is.
pub(crate) fn did_you_mean<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let near = quoted(&nearest(wanted, names.iter().copied()));
    if !near.is_empty() {
        return format!("did you mean {}?", near.join(", "));
    }
    if names.is_empty() { "there are none".to_owned() } else { format!("there are {}", some(&quoted(&names))) }
}

/// Returns a sentence about the names that there are: the nearest, and the first few.
pub(crate) fn there_are<'a>(what: &str, wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    if names.is_empty() {
        return format!("there are no {what}");
    }
    let shown = some(&names);
    match nearest(wanted, names.iter().map(String::as_str)).first() {
        Some(near) => format!("did you mean `{near}`? The {what} there: {shown}"),
        None => format!("the {what} there: {shown}"),
    }
}

/// Returns a few names of many for a sentence.
pub(crate) fn some(names: &[String]) -> String {
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn quoted(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("`{name}`")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_comes_first_and_strangers_are_left_out() {
        assert_eq!(nearest("wbe", ["api", "web", "web-2"]), ["web"]);
        assert_eq!(nearest("wbe", ["db", "web", "worker"]), ["web"]);
        assert_eq!(nearest("prod", ["prod-eu", "prod", "pros"]), ["prod", "pros", "prod-eu"]);
        assert_eq!(nearest("postgres", ["my-release-postgresql", "redis"]), ["my-release-postgresql"]);
        assert_eq!(nearest("kafka", ["web", "db"]), [""; 0]);
    }

    #[test]
    fn without_a_near_name_it_says_what_there_is_as_far_as_a_line_goes() {
        assert_eq!(did_you_mean("zzz", ["api"]), "there are `api`");
        assert_eq!(did_you_mean("zzz", []), "there are none");
        assert_eq!(there_are("StatefulSets", "kafka", []), "there are no StatefulSets");
        let nodes: Vec<String> = (0..300).map(|it| format!("ip-10-0-0-{it}")).collect();
        assert!(did_you_mean("zzz", nodes.iter().map(String::as_str)).ends_with("`ip-10-0-0-7` and 292 more"));
    }
}
