//! Connected: flags and document made into one, contexts into clients.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;

use super::Typed;
use crate::checks;
use crate::cli::SubjectArgs;
use crate::connect::{AwsOptions, Cluster, ConnectError, Ec2, Endpoints, Source};
use crate::drive::Session;
use crate::events::Events;
use crate::failure::{Exit, Failure};
use crate::names::did_you_mean;
use crate::observe;
use crate::plan::{self, Place, Plan, Request};
use crate::record::Subject;
use crate::spec::{self, ClusterReference, Spec};
use crate::world::{Answer, CLUSTER_NAMESPACE, Kind, Object, Read, Side, World};

/// What every command that talks to clusters begins with.
pub(crate) struct Opened {
    /// What was asked for.
    pub(crate) spec: Spec,
    /// What was typed.
    pub(crate) typed: Typed,
    /// The connections, and what was seen there.
    pub(crate) session: Session,
    destination: Source,
}

/// Merges flags and document, without connecting.
///
/// # Errors
/// The document is wrong, or contradicts a flag.
pub(super) fn spec(subject: &SubjectArgs, flags: &Spec) -> Result<Spec, Failure> {
    match &subject.file {
        Some(file) => spec::merge(flags, &read(file)?),
        None => Ok(flags.clone()),
    }
}

/// Reads the document that `-f` names; `-` is standard input.
fn read(file: &Path) -> Result<Spec, Failure> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.map_err(|error| {
        Failure::usage(format!("{} cannot be read: {error}", file.display()), "name a file with `-f FILE`")
    })?;
    spec::parse(&text).map_err(|(reason, hint)| Failure::usage(format!("{}: {reason}", file.display()), hint))
}

/// Connects to both clusters. No request is made yet.
///
/// # Errors
/// A cluster is not named, its context is unknown, or the kubeconfig cannot be used.
pub(super) async fn open(typed: Typed, spec: Spec, events: Option<&Path>) -> Result<Opened, Failure> {
    let source = source(&spec.source_cluster, "--src").await?;
    let destination = self::source(&spec.dest_cluster, "--dst").await?;
    let from = connect(&source, spec.source_namespace.as_deref()).await?;
    let namespace = spec.dest_namespace.clone().unwrap_or_else(|| from.namespace.clone());
    let to = connect(&destination, Some(&namespace)).await?;
    let ec2 = Ec2::new(AwsOptions { profile: spec.profile.clone(), region: spec.region.clone() });
    let events = Events::new(events).map_err(|error| {
        Failure::usage(format!("{error:#}"), "name a file that can be written with `--events FILE`")
    })?;
    let endpoints = Endpoints { source: Arc::new(from), destination: Arc::new(to), ec2: Arc::new(ec2) };
    Ok(Opened { spec, typed, session: Session::new(endpoints, events), destination })
}

impl Opened {
    /// Returns the cluster of a side.
    pub(super) fn cluster(&self, side: Side) -> &Arc<Cluster> {
        self.session.endpoints.cluster(side)
    }

    /// Returns how the cluster of a side was named.
    pub(super) fn reference(&self, side: Side) -> ClusterReference {
        let given = match side {
            Side::Source => &self.spec.source_cluster,
            Side::Destination => &self.spec.dest_cluster,
        };
        given.clone().unwrap_or_else(|| ClusterReference::Context(self.cluster(side).context.clone()))
    }

    /// Moves to the destination namespace that a plan names.
    ///
    /// # Errors
    /// As [`open`].
    pub(super) async fn enter_destination(&mut self, namespace: &str) -> Result<(), Failure> {
        if self.session.endpoints.destination.namespace != namespace {
            self.session.endpoints.destination = Arc::new(connect(&self.destination, Some(namespace)).await?);
            self.session.world = World::default();
        }
        Ok(())
    }

    /// Returns the place of a side; its cluster's identity is empty when that could not be read.
    async fn place(&mut self, side: Side) -> Place {
        if self.session.world.object(side, Kind::Namespace, CLUSTER_NAMESPACE).is_none() {
            self.session.look([Read::Get(side, Kind::Namespace, CLUSTER_NAMESPACE.to_owned())]).await;
        }
        let found = self.session.world.object(side, Kind::Namespace, CLUSTER_NAMESPACE);
        let cluster_uid = found.map(|found| found.uid().to_owned()).unwrap_or_default();
        let cluster = self.cluster(side);
        Place { cluster_uid, context: cluster.context.clone(), namespace: cluster.namespace.clone() }
    }

    /// Returns the request for a set or claim.
    pub(super) async fn request(&mut self, subject: Subject, name: &str) -> Request {
        let source = self.place(Side::Source).await;
        let destination = self.place(Side::Destination).await;
        self.spec.request(subject, name, source, destination)
    }

    /// Makes all reads that preflight needs, and returns what it finds.
    ///
    /// # Errors
    /// EC2 has to be asked, and nothing says in which region.
    pub(super) async fn preflight(&mut self, request: &Request) -> Result<Vec<checks::Finding>, Failure> {
        self.look_while(|world| checks::needed(request, world)).await;
        self.has_region(!self.session.world.volumes.is_empty()).await?;
        Ok(checks::preflight(request, &self.session.world))
    }

    /// Builds the plan of a migration that begins, after all reads that it needs.
    ///
    /// # Errors
    /// As [`Opened::preflight`]; what is there allows no plan.
    pub(super) async fn build(&mut self, request: &Request, attempt: u32) -> Result<Plan, Failure> {
        self.look_while(|world| plan::needed(request, world)).await;
        self.has_region(!self.session.world.volumes.is_empty()).await?;
        plan::build(request, attempt, &self.session.world).map_err(|error| {
            Failure::harmless(
                Exit::Findings,
                format!("no plan can be made: {error:#}"),
                format!("`{}` says what is in the way", self.typed.beginning("preflight")),
            )
        })
    }

    /// Refuses when nothing says in which region a plan's volumes are.
    ///
    /// # Errors
    /// Neither the operator nor the volumes' zone names a region.
    pub(super) async fn can_find(&self, plan: &Plan) -> Result<(), Failure> {
        plan.volumes().for_each(|volume| self.session.endpoints.ec2.suggest_zone(&volume.zone));
        self.has_region(plan.volumes().next().is_some()).await
    }

    /// Refuses nodes that are said to be off and that no cluster has: a slip of the finger would be
    /// noticed when the time is up, with a pod down.
    ///
    /// One of the side that lets go of nothing is no mistake: documents and repeated flags serve both ways.
    ///
    /// # Errors
    /// Both clusters surely have no such node.
    pub(super) async fn has_nodes(&mut self, leaving: Side, named: &[String]) -> Result<(), Failure> {
        if named.is_empty() {
            return Ok(());
        }
        self.session.look(Side::BOTH.map(|side| Read::List(side, Kind::Node))).await;
        let world = &self.session.world;
        let is_absent = |side, name: &str| matches!(world.get(side, Kind::Node, name), Answer::Absent { .. });
        let missing = named.iter().find(|name| Side::BOTH.into_iter().all(|side| is_absent(side, name)));
        let Some(missing) = missing else { return Ok(()) };
        let near = did_you_mean(missing, world.objects(leaving, Kind::Node).map(Object::name));
        let mut failure = Failure::usage(
            format!("--accept-unclean-detach {missing}: neither cluster has such a node"),
            format!("in the {leaving} cluster: {near}"),
        )
        .hint("if it was removed, leave it out: a node that is gone is in nobody's way");
        failure.left_behind = vec!["everything as it was: this call changed nothing".to_owned()];
        Err(failure)
    }

    async fn has_region(&self, is_needed: bool) -> Result<(), Failure> {
        if !is_needed || self.session.endpoints.ec2.region().await.is_some() {
            return Ok(());
        }
        Err(Failure::usage(
            "no AWS region is known, and the zone of the volumes names none",
            "name it with `--region REGION`, or set AWS_REGION; `aws configure list` shows what the AWS CLI would use",
        ))
    }

    /// Forgets what was seen, so that all is looked at again.
    pub(super) fn forget(&mut self) {
        self.session.world = World::default();
    }

    /// Looks as long as there is something new to look at.
    pub(super) async fn look_while(&mut self, needed: impl Fn(&World) -> Vec<Read>) {
        let mut before = Vec::new();
        loop {
            let reads = needed(&self.session.world);
            // The same again: those have no answer, and asking again is for another run.
            if reads.is_empty() || reads == before {
                return;
            }
            self.session.look(reads.iter().cloned()).await;
            before = reads;
        }
    }
}

async fn connect(source: &Source, namespace: Option<&str>) -> Result<Cluster, Failure> {
    Cluster::connect(source, namespace).await.map_err(|error| failure(&error))
}

fn failure(error: &ConnectError) -> Failure {
    let hint = match error {
        ConnectError::UnknownContext { name, known } => did_you_mean(name, known.iter().map(String::as_str)),
        ConnectError::Kubeconfig(_) => "`kubectl config view` shows what kubectl would use".to_owned(),
    };
    Failure::usage(error.to_string(), hint)
}

/// Returns where a cluster's credentials are found.
async fn source(reference: &Option<ClusterReference>, flag: &str) -> Result<Source, Failure> {
    match reference {
        None => Err(Failure::usage(
            format!("{flag} is missing: which cluster is meant?"),
            format!("name it with `{flag} CONTEXT`; `kubectl config get-contexts` lists them"),
        )),
        Some(ClusterReference::Context(context)) => Ok(Source::Context(context.clone())),
        Some(ClusterReference::KubeConfig(file)) => Ok(Source::File(file.clone(), None)),
        Some(ClusterReference::KubeConfigSecret(secret)) => from_secret(secret).await,
    }
}

/// Reads a kubeconfig out of a Secret, through the current context.
async fn from_secret(secret: &str) -> Result<Source, Failure> {
    let wrong = |reason: String| Failure::usage(reason, "name a Secret as `kubeConfigSecret: NAMESPACE/NAME`");
    let Some((namespace, name)) = secret.split_once('/') else {
        return Err(wrong(format!("`{secret}` names no Secret")));
    };
    let cluster = connect(&Source::Current, Some(namespace)).await?;
    let found = observe::get(&cluster, Kind::Secret, name).await;
    let found = found.map_err(|unknown| wrong(format!("Secret `{secret}` cannot be read: {}", unknown.reason)))?;
    let Some(found) = found else {
        let failure = wrong(format!("there is no Secret `{secret}` in context {}", cluster.context));
        // Whoever may read one Secret may often not list them: then there is no nearest name.
        let there = observe::list(&cluster, Kind::Secret, None).await.unwrap_or_default();
        let near = did_you_mean(name, there.iter().map(Object::name));
        return Err(if there.is_empty() { failure } else { failure.hint(format!("in namespace {namespace}: {near}")) });
    };
    let text = kubeconfig_of(&found).ok_or_else(|| wrong(format!("Secret `{secret}` holds no kubeconfig")))?;
    Ok(Source::Text { name: format!("Secret {secret}"), text })
}

/// Returns the kubeconfig of a Secret: under one of the keys in use for it, or its only one.
fn kubeconfig_of(secret: &Object) -> Option<String> {
    // Cluster API writes `value`, others `kubeconfig` or `config`.
    const KEYS: [&str; 3] = ["kubeconfig", "value", "config"];
    let data = secret.at("/data")?.as_object()?;
    let known = KEYS.iter().find_map(|key| data.get(*key));
    let only = data.values().next().filter(|_| data.len() == 1);
    let bytes = base64::engine::general_purpose::STANDARD.decode(known.or(only)?.as_str()?).ok()?;
    String::from_utf8(bytes).ok()
}
