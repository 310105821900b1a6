//! The one typed failure at the boundary: why, what is left behind, what to type.
//!
//! Inside, errors are `anyhow`; a command turns them into a [`Failure`] before they reach the
//! terminal, where the command line prints it. [`Exit::code`] is the only place that knows exit codes.

use std::fmt;

/// How the process ends; the numbers are part of the command line's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for is done.
    Done,
    /// Failed; paused at trouble or an `n`; `status` found no migration, or no answer.
    Failed,
    /// The command line or the document makes no sense, or asks without a terminal.
    Usage,
    /// Preflight found something that blocks.
    Findings,
    /// Refused: locked, a foreign object, not its turn.
    Refused,
    /// Interrupted by a signal.
    Interrupted,
}

impl Exit {
    /// Returns the process' exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Findings => 3,
            Exit::Refused => 4,
            Exit::Interrupted => 130,
        }
    }
}

/// What stands there when nothing was written.
pub(crate) const NOTHING: &str = "nothing: neither cluster was changed";

/// Why a command did not do what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    /// The reason, in one sentence without a full stop.
    pub(crate) reason: String,
    /// More lines of the reason, such as single differences.
    pub(crate) details: Vec<String>,
    /// What is left behind; at least one line.
    pub(crate) left_behind: Vec<String>,
    /// What to type; at least one line, commands in backticks.
    pub(crate) hints: Vec<String>,
}

impl Failure {
    /// Returns a failure after which both clusters are as they were.
    pub(crate) fn harmless(exit: Exit, reason: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure {
            exit,
            reason: reason.into(),
            details: Vec::new(),
            left_behind: vec![NOTHING.to_owned()],
            hints: vec![hint.into()],
        }
    }

    /// Returns a mistake on the command line or in the document.
    pub(crate) fn usage(reason: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure::harmless(Exit::Usage, reason, hint)
    }

    /// Returns the failure as a refusal (exit 4) when somebody else is at work.
    pub(crate) fn refusing_if(mut self, is_taken: bool) -> Failure {
        if is_taken {
            self.exit = Exit::Refused;
        }
        self
    }

    /// Returns the failure with one more hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.exit {
            Exit::Interrupted => "interrupted",
            Exit::Refused => "refused",
            Exit::Done | Exit::Failed | Exit::Usage | Exit::Findings => "error",
        };
        write!(formatter, "{word}: {}", self.reason)?;
        for detail in &self.details {
            write!(formatter, "\n  {detail}")?;
        }
        for left in &self.left_behind {
            write!(formatter, "\nleft behind: {left}")?;
        }
        for hint in &self.hints {
            write!(formatter, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let all = [Exit::Done, Exit::Failed, Exit::Usage, Exit::Findings, Exit::Refused, Exit::Interrupted];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 130]);
    }

    #[test]
    fn a_failure_is_reason_then_what_is_left_then_what_to_type() {
        let mut failure = Failure::usage("there is no context `prod`", "did you mean `prod-a`?");
        failure.details.push("in /home/me/.kube/config".to_owned());
        assert_eq!(
            failure.to_string(),
            "error: there is no context `prod`\n  in /home/me/.kube/config\n\
             left behind: nothing: neither cluster was changed\nhint: did you mean `prod-a`?"
        );
    }
}
