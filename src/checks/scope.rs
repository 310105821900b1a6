//! What every check starts from: the request and the world, with the words that findings share.

use super::{Finding, Level};
use crate::plan::{Place, Request};
use crate::record::Subject;
use crate::world::{Answer, Kind, Side, Unknown, World};

/// The request and the world.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    /// What is asked for.
    pub(super) request: &'a Request,
    /// What is known.
    pub(super) world: &'a World,
}

impl<'a> Scope<'a> {
    /// Returns the place on a side.
    pub(super) fn place(&self, side: Side) -> &'a Place {
        match side {
            Side::Source => &self.request.source,
            Side::Destination => &self.request.destination,
        }
    }

    /// Returns `kubectl` with the context of a side, and the namespace for kinds that have one.
    pub(super) fn kubectl(&self, side: Side, kind: Kind) -> String {
        let place = self.place(side);
        let mut command = format!("kubectl --context {}", place.context);
        if kind.namespaced() {
            command.push_str(&format!(" -n {}", place.namespace));
        }
        command
    }

    /// Returns a command of this program for this set or claim.
    pub(super) fn command(&self, name: &str, flags: &str) -> String {
        let is_claim = self.request.subject == Subject::Claim;
        // What `run` and `preflight` are for a set, `move-volume` is for a claim.
        let name = if is_claim && matches!(name, "run" | "preflight") { "move-volume" } else { name };
        let moved = match is_claim && name != "move-volume" {
            true => format!("--claim {}", self.request.name),
            false => self.request.name.clone(),
        };
        let (source, destination) = (&self.request.source, &self.request.destination);
        let mut command = format!(
            "sts-migrate {name} --src {} --dst {} -n {}",
            source.context, destination.context, source.namespace
        );
        if source.namespace != destination.namespace {
            command.push_str(&format!(" --dst-namespace {}", destination.namespace));
        }
        for part in [flags, &moved] {
            if !part.is_empty() {
                command.push(' ');
                command.push_str(part);
            }
        }
        command
    }

    /// Returns the command that moves a set, whatever was asked for.
    pub(super) fn of_set(&self, set: &str, flags: &str) -> String {
        let request = Request { subject: Subject::Set, name: set.to_owned(), ..self.request.clone() };
        Scope { request: &request, world: self.world }.command("run", flags)
    }

    /// Returns the command that moves a claim, whatever was asked for.
    pub(super) fn of_claim(&self, claim: &str) -> String {
        let request = Request { subject: Subject::Claim, name: claim.to_owned(), ..self.request.clone() };
        Scope { request: &request, world: self.world }.command("move-volume", "")
    }

    /// Returns why all objects of a kind are not known, if they are not.
    pub(super) fn list_unknown(&self, side: Side, kind: Kind) -> Option<Unknown> {
        match self.world.shelf(side, kind).and_then(|shelf| shelf.listed()) {
            Some(Ok(_)) => None,
            Some(Err(unknown)) => Some(unknown.clone()),
            None => Some(unread()),
        }
    }

    /// Returns a finding when a kind could not be listed: `doubt` is what is therefore not known.
    pub(super) fn doubt(
        &self,
        code: &'static str,
        level: Level,
        side: Side,
        kind: Kind,
        doubt: &str,
    ) -> Option<Finding> {
        let unknown = self.list_unknown(side, kind)?;
        Some(Finding {
            code,
            level,
            subject: format!("{}s ({side})", kind.name()),
            what: format!("they could not be listed ({}), so {doubt} is not known", unknown.reason),
            remedy: self.remedy_unknown(side, kind, "list", &unknown),
        })
    }

    /// Returns findings for all of several lists that had no answer, on both sides.
    pub(super) fn doubts(&self, code: &'static str, level: Level, kinds: &[Kind], doubt: &str) -> Vec<Finding> {
        Side::BOTH
            .into_iter()
            .flat_map(|side| kinds.iter().filter_map(move |kind| self.doubt(code, level, side, *kind, doubt)))
            .collect()
    }

    /// Returns a finding when an object could not be read.
    pub(super) fn doubt_one(
        &self,
        code: &'static str,
        level: Level,
        side: Side,
        kind: Kind,
        name: &str,
    ) -> Option<Finding> {
        let unknown = match self.world.get(side, kind, name) {
            Answer::Unknown(unknown) => unknown.clone(),
            Answer::Unread => unread(),
            Answer::Present { .. } | Answer::Absent { .. } => return None,
        };
        Some(Finding {
            code,
            level,
            subject: subject(side, kind, name),
            what: format!("it could not be read ({}), so whether it is there is not known", unknown.reason),
            remedy: self.remedy_unknown(side, kind, "get", &unknown),
        })
    }

    fn remedy_unknown(&self, side: Side, kind: Kind, verb: &str, unknown: &Unknown) -> String {
        let group = if kind.group().is_empty() { String::new() } else { format!(".{}", kind.group()) };
        let kubectl = self.kubectl(side, kind);
        if unknown.passing {
            format!(
                "see whether the API server answers (`{kubectl} get {}{group}`), then run this again",
                kind.plural()
            )
        } else {
            format!(
                "get the right (`{kubectl} auth can-i {verb} {}{group}` must say yes), then run this again",
                kind.plural()
            )
        }
    }
}

/// Returns how a finding names an object.
pub(super) fn subject(side: Side, kind: Kind, name: &str) -> String {
    format!("{kind} {name} ({side})")
}

fn unread() -> Unknown {
    Unknown { reason: "it was not read".to_owned(), passing: true }
}
