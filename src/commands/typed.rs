//! What was typed, and so what to type next: hints repeat the user's own flags.

use crate::cli::SubjectArgs;

/// The user's way of naming clusters and set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Typed {
    program: String,
    words: Vec<String>,
    name: Option<String>,
}

impl Typed {
    /// Takes over what was typed.
    pub(crate) fn new(program: &str, subject: &SubjectArgs) -> Typed {
        let mut words = Vec::new();
        let mut word = |flag: &str, value: Option<&str>| {
            if let Some(value) = value {
                words.push(format!("{flag} {}", quoted(value)));
            }
        };
        word("-f", subject.file.as_deref().and_then(std::path::Path::to_str));
        word("--src", subject.src.as_deref());
        word("--dst", subject.dst.as_deref());
        word("-n", subject.namespace.as_deref());
        word("--dst-namespace", subject.dst_namespace.as_deref());
        word("--profile", subject.profile.as_deref());
        word("--region", subject.region.as_deref());
        Typed { program: program.to_owned(), words, name: subject.name.clone() }
    }

    /// Says which set is meant, when it was not typed and is in no document.
    pub(crate) fn named(&mut self, name: &str) {
        let is_in_document = self.words.iter().any(|word| word.starts_with("-f "));
        if self.name.is_none() && !is_in_document {
            self.name = Some(name.to_owned());
        }
    }

    /// Returns the command to type for a subcommand, which may have flags of its own.
    pub(crate) fn command(&self, subcommand: &str) -> String {
        let mut words = vec![self.program.clone(), subcommand.to_owned()];
        words.extend(self.words.iter().cloned());
        words.extend(self.name.as_deref().map(quoted));
        words.join(" ")
    }

    /// Returns the same in backticks, for a hint.
    pub(crate) fn hint(&self, subcommand: &str) -> String {
        format!("`{}`", self.command(subcommand))
    }
}

/// Quotes a word for a shell where that is needed.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:@=,%+".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_command_repeats_what_was_typed() {
        let subject = SubjectArgs {
            src: Some("arn:aws:eks:eu-west-1:1:cluster/a".into()),
            dst: Some("b prod".into()),
            namespace: Some("shop".into()),
            ..SubjectArgs::default()
        };
        let mut typed = Typed::new("sts-migrate", &subject);
        typed.named("web");
        assert_eq!(
            typed.command("rollback"),
            "sts-migrate rollback --src arn:aws:eks:eu-west-1:1:cluster/a --dst 'b prod' -n shop web"
        );
    }

    #[test]
    fn a_document_already_names_the_set() {
        let subject = SubjectArgs { file: Some("m.yaml".into()), ..SubjectArgs::default() };
        let mut typed = Typed::new("kubectl sts-migrate", &subject);
        typed.named("web");
        assert_eq!(typed.command("run"), "kubectl sts-migrate run -f m.yaml");
    }
}
