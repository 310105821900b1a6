//! Findings of preflight as text.

use std::fmt::Write as _;

use crate::checks::{Finding, Level};
use crate::report::count;

/// Returns findings as text, what blocks first, with a last line that sums up.
pub(crate) fn findings_text(findings: &[Finding], force: bool) -> String {
    let mut text = String::new();
    for finding in findings {
        let Finding { code, level, subject, what, remedy } = finding;
        let word = match level {
            Level::Forceable if force => "forced".to_owned(),
            other => other.to_string(),
        };
        let _infallible = writeln!(text, "{code} {word}: {subject}: {what}");
        if !remedy.is_empty() {
            let _infallible = writeln!(text, "      {remedy}");
        }
    }
    text.push_str(&summary(findings, force));
    text.push('\n');
    text
}

fn summary(findings: &[Finding], force: bool) -> String {
    let of = |levels: &[Level]| findings.iter().filter(|finding| levels.contains(&finding.level)).count();
    let forceable = of(&[Level::Forceable]);
    let blocking = of(&[Level::Blocks]) + if force { 0 } else { forceable };
    let mut parts = Vec::new();
    if blocking > 0 {
        parts.push(format!("{blocking} that block{}", if blocking == 1 { "s" } else { "" }));
    }
    if force && forceable > 0 {
        parts.push(format!("{forceable} forced"));
    }
    for (level, noun) in [(Level::Warns, "warning"), (Level::Tells, "note")] {
        if of(&[level]) > 0 {
            parts.push(count(of(&[level]), noun));
        }
    }
    match (blocking, parts.is_empty()) {
        (_, true) => "preflight: nothing found, ready to move".to_owned(),
        (0, false) => format!("preflight: ready to move; {}", parts.join(", ")),
        (_, false) => format!("preflight: not ready to move; {}", parts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(code: &'static str, level: Level) -> Finding {
        Finding {
            code,
            level,
            subject: "PersistentVolumeClaim data-web-1 (source)".to_owned(),
            what: "it is not Bound".to_owned(),
            remedy: "look at `kubectl describe`".to_owned(),
        }
    }

    #[test]
    fn nothing_found_is_said() {
        assert_eq!(findings_text(&[], false), "preflight: nothing found, ready to move\n");
    }

    #[test]
    fn every_finding_has_code_subject_reason_and_remedy() {
        let findings =
            [finding("PF-13", Level::Blocks), finding("PF-9", Level::Forceable), finding("PF-36", Level::Warns)];
        assert_eq!(
            findings_text(&findings, true),
            "PF-13 blocks: PersistentVolumeClaim data-web-1 (source): it is not Bound\n      look at `kubectl describe`\n\
             PF-9 forced: PersistentVolumeClaim data-web-1 (source): it is not Bound\n      look at `kubectl describe`\n\
             PF-36 warning: PersistentVolumeClaim data-web-1 (source): it is not Bound\n      look at `kubectl describe`\n\
             preflight: not ready to move; 1 that blocks, 1 forced, 1 warning\n"
        );
        assert!(findings_text(&findings[1..], false).ends_with("not ready to move; 1 that blocks, 1 warning\n"));
        assert!(findings_text(&findings[1..], true).ends_with("ready to move; 1 forced, 1 warning\n"));
    }
}
