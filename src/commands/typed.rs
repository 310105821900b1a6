//! What was typed, and so what to type next: hints repeat the user's own flags.

use crate::cli::{ChoiceArgs, RunArgs, SubjectArgs};
use crate::decide::Until;
use crate::plan::Order;
use crate::record::Subject;
use crate::spec::{Phase, Span};

/// The user's way of naming clusters, set and choices.
#[derive(Clone, Debug, Default)]
pub(crate) struct Typed {
    program: String,
    /// Clusters, namespaces, document, AWS.
    subject: Vec<String>,
    /// Choices of the first run.
    choices: Vec<String>,
    /// How runs behave: commands and time-outs, which are kept nowhere.
    run: Vec<String>,
    /// How far the run was to go: forgotten in a hint, `--yes` would go on beyond it unasked.
    limits: Vec<String>,
    /// Whether questions were answered beforehand.
    yes: bool,
    /// Which set or claim is meant.
    moved: Option<(Subject, String)>,
}

/// Flags as they were typed.
#[derive(Debug, Default)]
struct Words(Vec<String>);

impl Words {
    fn value(&mut self, flag: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.0.push(format!("{flag} {}", quoted(value)));
        }
    }

    fn switch(&mut self, flag: &str, is_on: bool) {
        if is_on {
            self.0.push(flag.to_owned());
        }
    }
}

impl Typed {
    /// Takes over how clusters and set were named.
    pub(crate) fn new(program: &str, subject: &SubjectArgs) -> Typed {
        let mut words = Words::default();
        words.value("-f", subject.file.as_deref().and_then(std::path::Path::to_str));
        words.value("--src", subject.place.src.as_deref());
        words.value("--dst", subject.place.dst.as_deref());
        words.value("-n", subject.place.namespace.as_deref());
        words.value("--dst-namespace", subject.place.dst_namespace.as_deref());
        words.value("--profile", subject.place.profile.as_deref());
        words.value("--region", subject.place.region.as_deref());
        let moved = subject.name.clone().map(|name| (Subject::Set, name));
        Typed { program: program.to_owned(), subject: words.0, moved, ..Typed::default() }
    }

    /// Takes over what was chosen.
    pub(crate) fn with_choices(mut self, choices: &ChoiceArgs) -> Typed {
        let mut words = Words::default();
        let order = choices.order.map(|order| Order::from(order).to_string());
        words.value("--order", order.as_deref());
        for (old, new) in &choices.volumes.storage_class_map {
            words.value("--storage-class-map", Some(&format!("{old}={new}")));
        }
        words.switch("--create-namespace", choices.volumes.create_namespace);
        words.switch("--force", choices.volumes.force);
        words.switch("--include-idle-claims", choices.include_idle_claims);
        words.switch("--leave-idle-claims", choices.leave_idle_claims);
        words.value("--migration-id", choices.volumes.migration_id.as_deref());
        self.choices = words.0;
        self
    }

    /// Takes over how the run was to behave.
    pub(crate) fn with_run(mut self, run: &RunArgs) -> Typed {
        let mut words = Words::default();
        let mut span = |flag: &str, span: Option<Span>| words.value(flag, span.map(|span| span.to_string()).as_deref());
        span("--detach-timeout", run.volumes.detach_timeout);
        span("--ready-timeout", run.ready_timeout);
        span("--command-timeout", run.command_timeout);
        words.value("--before-pod-command", run.before_pod_command.as_deref());
        words.value("--verify-command", run.verify_command.as_deref());
        words.value("--cutover-command", run.cutover_command.as_deref());
        let events = run.volumes.events.as_ref().map(|file| file.display().to_string());
        words.value("--events", events.as_deref());
        for node in &run.volumes.accept_unclean_detach {
            words.value("--accept-unclean-detach", Some(node));
        }
        self.run = words.0;
        self.yes = run.volumes.yes;
        self
    }

    /// Takes over how far the run was to go.
    pub(crate) fn with_limits(mut self, until: Option<Phase>, pause_after: Option<u32>, finalize: bool) -> Typed {
        let mut words = Words::default();
        words.value("--until", until.map(|phase| Until::from(phase).to_string()).as_deref());
        words.value("--pause-after", pause_after.map(|ordinal| ordinal.to_string()).as_deref());
        words.switch("--finalize", finalize);
        self.limits = words.0;
        self
    }

    /// Takes over how long to wait for a claim that is in use.
    pub(crate) fn with_wait(mut self, wait: Option<Span>) -> Typed {
        // Without the sign the next word would be the claim.
        self.limits.extend(wait.map(|wait| format!("--wait={wait}")));
        self
    }

    /// Says which set or claim is meant, when it was not typed and is in no document.
    pub(crate) fn named(&mut self, subject: Subject, name: &str) {
        if self.moved.is_none() && !self.has("-f ") {
            self.moved = Some((subject, name.to_owned()));
        }
    }

    /// Takes over which claim was named instead of a set.
    pub(crate) fn with_claim(mut self, claim: Option<&str>) -> Typed {
        if let Some(claim) = claim {
            self.moved = Some((Subject::Claim, claim.to_owned()));
        }
        self
    }

    /// Says in which namespace of A the set is, when that was not typed.
    pub(crate) fn in_namespace(mut self, namespace: &str) -> Typed {
        self.subject.retain(|word| !word.starts_with("-n "));
        self.subject.push(format!("-n {}", quoted(namespace)));
        self
    }

    /// Forgets the destination namespace, which an open migration has in its plan.
    pub(crate) fn without_destination_namespace(mut self) -> Typed {
        self.subject.retain(|word| !word.starts_with("--dst-namespace "));
        self
    }

    /// Returns the command to type for a subcommand of a migration that is open.
    pub(crate) fn command(&self, subcommand: &str) -> String {
        self.command_within(subcommand, &[])
    }

    fn command_within(&self, subcommand: &str, limits: &[String]) -> String {
        let is_run = matches!(subcommand, "run" | "freeze" | "swing" | "finalize" | "rollback" | "move-volume");
        // Going back, no pod of A is about to be stopped, and nothing is to be verified.
        let is_forward =
            |word: &str| word.starts_with("--before-pod-command ") || word.starts_with("--verify-command ");
        let is_said = |word: &&String| is_run && (subcommand != "rollback" || !is_forward(word));
        let run: Vec<String> = self.run.iter().filter(is_said).cloned().collect();
        self.words(subcommand, &[&self.subject, limits, &run])
    }

    /// Returns the command that goes on with what was typed: `--yes` is repeated too.
    pub(crate) fn again(&self, subcommand: &str) -> String {
        self.consenting(self.command_within(subcommand, self.limits(subcommand)))
    }

    /// Returns the command to type for a subcommand that begins a migration, its choices included.
    pub(crate) fn beginning(&self, subcommand: &str) -> String {
        let run: &[String] = if matches!(subcommand, "run" | "freeze" | "move-volume") { &self.run } else { &[] };
        self.words(subcommand, &[&self.subject, &self.choices, self.limits(subcommand), run])
    }

    /// Adds `--yes` to a command if it was typed.
    pub(crate) fn consenting(&self, command: String) -> String {
        if self.yes { format!("{command} --yes") } else { command }
    }

    /// Returns what limits a subcommand; the others do not know the flags.
    fn limits(&self, subcommand: &str) -> &[String] {
        if matches!(subcommand, "run" | "swing" | "move-volume") { &self.limits } else { &[] }
    }

    /// Returns [`Typed::command`] in backticks, for a hint.
    pub(crate) fn hint(&self, subcommand: &str) -> String {
        format!("`{}`", self.command(subcommand))
    }

    fn words(&self, subcommand: &str, groups: &[&[String]]) -> String {
        let is_claim = matches!(self.moved, Some((Subject::Claim, _)));
        // What `run` is for a set, `move-volume` is for a claim.
        let subcommand = if is_claim && subcommand == "run" { "move-volume" } else { subcommand };
        let mut words = vec![self.program.clone(), subcommand.to_owned()];
        words.extend(groups.iter().copied().flatten().cloned());
        if let Some((_, name)) = &self.moved {
            words.extend((is_claim && subcommand != "move-volume").then(|| "--claim".to_owned()));
            words.push(quoted(name));
        }
        words.join(" ")
    }

    fn has(&self, flag: &str) -> bool {
        self.subject.iter().any(|word| word.starts_with(flag))
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
    use crate::cli::{PlaceArgs, VolumeChoiceArgs, VolumeRunArgs};

    #[test]
    fn a_claim_has_a_command_of_its_own_and_a_flag_elsewhere() {
        let place = PlaceArgs { src: Some("a".into()), ..PlaceArgs::default() };
        let subject = SubjectArgs { place, ..SubjectArgs::default() };
        let typed = Typed::new("sts-migrate", &subject).with_claim(Some("uploads"));
        assert_eq!(typed.command("run"), "sts-migrate move-volume --src a uploads");
        assert_eq!(typed.beginning("preflight"), "sts-migrate preflight --src a --claim uploads");
        assert_eq!(typed.command("rollback"), "sts-migrate rollback --src a --claim uploads");
        let waiting = typed.with_wait("8h".parse().ok());
        assert_eq!(waiting.beginning("move-volume"), "sts-migrate move-volume --src a --wait=8h uploads");
        assert_eq!(waiting.beginning("preflight"), "sts-migrate preflight --src a --claim uploads");
    }

    #[test]
    fn the_next_command_repeats_what_was_typed() {
        let place = PlaceArgs {
            src: Some("arn:aws:eks:eu-west-1:1:cluster/a".into()),
            dst: Some("b prod".into()),
            namespace: Some("shop".into()),
            ..PlaceArgs::default()
        };
        let subject = SubjectArgs { place, ..SubjectArgs::default() };
        let mut typed = Typed::new("sts-migrate", &subject);
        typed.named(Subject::Set, "web");
        assert_eq!(
            typed.command("rollback"),
            "sts-migrate rollback --src arn:aws:eks:eu-west-1:1:cluster/a --dst 'b prod' -n shop web"
        );
    }

    #[test]
    fn choices_are_repeated_until_the_plan_has_them_and_commands_always() {
        let volumes = VolumeChoiceArgs { create_namespace: true, force: true, ..VolumeChoiceArgs::default() };
        let choices = ChoiceArgs { volumes, ..ChoiceArgs::default() };
        let run = RunArgs {
            ready_timeout: "30m".parse().ok(),
            cutover_command: Some("./dns.sh web".into()),
            verify_command: Some("./count".into()),
            volumes: VolumeRunArgs { yes: true, events: Some("web.jsonl".into()), ..VolumeRunArgs::default() },
            ..RunArgs::default()
        };
        let mut typed = Typed::new("sts-migrate", &SubjectArgs::default()).with_choices(&choices).with_run(&run);
        typed.named(Subject::Set, "web");
        let behaves =
            "--ready-timeout 30m --verify-command ./count --cutover-command './dns.sh web' --events web.jsonl";
        assert_eq!(typed.beginning("run"), format!("sts-migrate run --create-namespace --force {behaves} web"));
        assert_eq!(typed.beginning("preflight"), "sts-migrate preflight --create-namespace --force web");
        let back = "sts-migrate rollback --ready-timeout 30m --cutover-command './dns.sh web' --events web.jsonl web";
        assert_eq!(typed.command("rollback"), back, "nothing is verified on the way back");
        assert_eq!(typed.again("run"), format!("sts-migrate run {behaves} web --yes"));
        assert_eq!(typed.command("status"), "sts-migrate status web");
    }

    #[test]
    fn a_run_that_was_to_end_early_is_repeated_with_its_end() {
        let run = RunArgs { volumes: VolumeRunArgs { yes: true, ..VolumeRunArgs::default() }, ..RunArgs::default() };
        let typed = |until, pause_after, finalize| {
            let mut typed = Typed::new("sts-migrate", &SubjectArgs::default()).with_run(&run).with_limits(
                until,
                pause_after,
                finalize,
            );
            typed.named(Subject::Set, "web");
            typed
        };
        let canary = typed(Some(Phase::Swing), Some(0), false);
        assert_eq!(canary.again("run"), "sts-migrate run --until swing --pause-after 0 web --yes");
        assert_eq!(canary.beginning("run"), "sts-migrate run --until swing --pause-after 0 web");
        assert_eq!(canary.beginning("preflight"), "sts-migrate preflight web");
        assert_eq!(canary.command("run"), "sts-migrate run web", "what comes next has no end yet");
        assert_eq!(canary.again("rollback"), "sts-migrate rollback web --yes");
        assert_eq!(typed(None, Some(2), false).again("swing"), "sts-migrate swing --pause-after 2 web --yes");
        assert_eq!(typed(None, None, true).again("run"), "sts-migrate run --finalize web --yes");
    }

    #[test]
    fn a_document_already_names_the_set() {
        let subject = SubjectArgs { file: Some("m.yaml".into()), ..SubjectArgs::default() };
        let mut typed = Typed::new("kubectl sts-migrate", &subject);
        typed.named(Subject::Set, "web");
        assert_eq!(typed.command("run"), "kubectl sts-migrate run -f m.yaml");
    }
}
