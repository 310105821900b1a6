//! Would something that keeps manifests in Git, or Helm, put the set back or take our objects away?
//! (PF-9, OP-1 to OP-3)

use std::collections::BTreeMap;

use super::case::Case;
use super::scope::subject;
use super::{Finding, Level};
use crate::names::some;
use crate::world::{Kind, Object, Read, Side, World};

/// A tool that puts objects back, by what it wrote on them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Keeper {
    /// An Argo CD Application of that name.
    Argo(String),
    /// A Flux Kustomization, `namespace/name`.
    Kustomization(String),
    /// A Flux HelmRelease, `namespace/name`.
    HelmRelease(String),
    /// Another tool that puts objects back; its name.
    Other(&'static str),
    /// A Helm release, `namespace/name`; puts nothing back by itself.
    Helm(String),
}

/// Prefixes of label and annotation keys of tools whose pause cannot be read from the cluster.
const OTHERS: &[(&str, &str)] = &[
    ("objectset.rio.cattle.io/", "Rancher Fleet"),
    ("configsync.gke.io/", "Config Sync"),
    ("configmanagement.gke.io/", "Config Sync"),
    ("kapp.k14s.io/app", "kapp"),
    ("crossplane.io/", "Crossplane"),
];

/// PF-9: nothing that tracks the set, its claims, PVs or Services is about to put them back.
pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut tracked: BTreeMap<Keeper, Vec<String>> = BTreeMap::new();
    for (side, kind, object) in objects(case) {
        for keeper in keepers(object) {
            tracked.entry(keeper).or_default().push(subject(side, kind, object.name()));
        }
    }
    tracked.into_iter().filter_map(|(keeper, objects)| finding(case, &keeper, &objects)).collect()
}

/// Returns the reads that tell whether what tracks the objects is suspended.
pub(super) fn reads(case: &Case<'_>) -> Vec<Read> {
    let mut kinds: Vec<Kind> = objects(case)
        .flat_map(|(_, _, object)| keepers(object))
        .filter_map(|keeper| match keeper {
            Keeper::Argo(_) => Some(Kind::Application),
            Keeper::Kustomization(_) => Some(Kind::Kustomization),
            Keeper::HelmRelease(_) => Some(Kind::HelmRelease),
            Keeper::Other(_) | Keeper::Helm(_) => None,
        })
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.into_iter().flat_map(|kind| Side::BOTH.map(|side| Read::List(side, kind))).collect()
}

/// The set's objects in A, and what has their names in B.
fn objects<'a>(case: &Case<'a>) -> impl Iterator<Item = (Side, Kind, &'a Object)> {
    let mut names = vec![(Kind::StatefulSet, case.set.name().to_owned())];
    if let Some(service) = case.set.text("/spec/serviceName") {
        names.push((Kind::Service, service.to_owned()));
    }
    for claim in &case.claims {
        names.push((Kind::PersistentVolumeClaim, claim.name.clone()));
        names.extend(claim.volume.map(|volume| (Kind::PersistentVolume, volume.name().to_owned())));
    }
    let world = case.world();
    Side::BOTH.into_iter().flat_map(move |side| {
        let found = names.iter().filter_map(move |(kind, name)| Some((side, *kind, world.object(side, *kind, name)?)));
        found.collect::<Vec<_>>()
    })
}

fn keepers(object: &Object) -> Vec<Keeper> {
    let mut keepers = Vec::new();
    // `app:group/Kind:namespace/name`; an app out of its controller's namespace is `namespace_app`.
    // The old default, label `app.kubernetes.io/instance`, is on most charts and by itself no sign.
    if let Some(app) = object.annotation("argocd.argoproj.io/tracking-id").and_then(|id| id.split(':').next()) {
        keepers.push(Keeper::Argo(app.to_owned()));
    } else if let Some(app) = object.label("argocd.argoproj.io/instance") {
        keepers.push(Keeper::Argo(app.to_owned()));
    }
    let flux = |group: &str| {
        let name = object.label(&format!("{group}/name"))?;
        let namespace = object.label(&format!("{group}/namespace")).unwrap_or_default();
        Some(format!("{namespace}/{name}"))
    };
    let release = flux("helm.toolkit.fluxcd.io");
    keepers.extend(flux("kustomize.toolkit.fluxcd.io").map(Keeper::Kustomization));
    // Flux's releases are Helm's too: one finding is enough.
    match (release, object.annotation("meta.helm.sh/release-name")) {
        (Some(release), _) => keepers.push(Keeper::HelmRelease(release)),
        (None, Some(name)) => {
            let namespace = object.annotation("meta.helm.sh/release-namespace").unwrap_or(object.namespace());
            keepers.push(Keeper::Helm(format!("{namespace}/{name}")));
        }
        (None, None) => {}
    }
    for (prefix, tool) in OTHERS {
        if object.marks().any(|(key, _)| key.starts_with(prefix)) && !keepers.contains(&Keeper::Other(tool)) {
            keepers.push(Keeper::Other(tool));
        }
    }
    keepers
}

fn finding(case: &Case<'_>, keeper: &Keeper, objects: &[String]) -> Option<Finding> {
    let world = case.world();
    let (what, remedy) = match keeper {
        Keeper::Argo(app) => {
            let found = find(world, Kind::Application, |found| {
                found.name() == app || format!("{}_{}", found.namespace(), found.name()) == *app
            });
            let (state, side, namespace) = match found {
                Some((_, application)) if !is_automated(application) => return None,
                Some((side, application)) => ("syncs by itself", side, application.namespace()),
                None => ("was not found here, so whether it syncs by itself is not known", Side::Source, "argocd"),
            };
            let name = app.rsplit('_').next().unwrap_or(app);
            (
                format!("Argo CD application {app} {state}: it may put its objects back in the middle of the move"),
                format!(
                    "`kubectl --context {} -n {namespace} annotate application {name} argocd.argoproj.io/skip-reconcile=true`, or take `spec.syncPolicy.automated` out; or add `--force`",
                    case.scope.place(side).context
                ),
            )
        }
        Keeper::Kustomization(key) => suspendable(case, Kind::Kustomization, key, "kustomization")?,
        Keeper::HelmRelease(key) => suspendable(case, Kind::HelmRelease, key, "helmrelease")?,
        Keeper::Other(tool) => (
            format!(
                "{tool} keeps it, and whether that is paused cannot be read: it may put its objects back in the middle of the move"
            ),
            format!(
                "pause {tool} for these objects, then add `--force` (`{} get {} {} -o yaml` shows its marks)",
                case.source(case.kind()),
                case.kind().name().to_lowercase(),
                case.scope.request.name
            ),
        ),
        Keeper::Helm(release) => (
            format!(
                "it is of Helm release {release}: a `helm upgrade` in the source during the move would put its objects back"
            ),
            format!(
                "let nobody upgrade it until the move is done (`helm --kube-context {} history {} -n {}`), and uninstall it in the source only after `finalize`",
                case.scope.request.source.context,
                release.rsplit('/').next().unwrap_or(release),
                release.split('/').next().unwrap_or_default()
            ),
        ),
    };
    let level = if matches!(keeper, Keeper::Helm(_)) { Level::Warns } else { Level::Forceable };
    Some(Finding { code: "PF-9", level, subject: some(objects), what, remedy })
}

/// Argo CD 3 knows `automated: {enabled: false}`.
fn is_automated(application: &Object) -> bool {
    application.annotation("argocd.argoproj.io/skip-reconcile") != Some("true")
        && application
            .at("/spec/syncPolicy/automated")
            .is_some_and(|automated| automated.get("enabled") != Some(&false.into()))
}

fn suspendable(case: &Case<'_>, kind: Kind, key: &str, resource: &str) -> Option<(String, String)> {
    let found = find(case.world(), kind, |found| format!("{}/{}", found.namespace(), found.name()) == key);
    let (state, side) = match found {
        Some((_, object)) if object.at("/spec/suspend") == Some(&true.into()) => return None,
        Some((side, _)) => ("is not suspended", side),
        None => ("was not found here, so whether it is suspended is not known", Side::Source),
    };
    let (namespace, name) = key.split_once('/').unwrap_or(("flux-system", key));
    Some((
        format!("Flux {kind} {key} {state}: it may put its objects back in the middle of the move"),
        format!(
            "`kubectl --context {} -n {namespace} patch {resource} {name} --type merge -p '{{\"spec\":{{\"suspend\":true}}}}'`, or add `--force`",
            case.scope.place(side).context
        ),
    ))
}

fn find(world: &World, kind: Kind, is: impl Fn(&Object) -> bool) -> Option<(Side, &Object)> {
    Side::BOTH.into_iter().find_map(|side| Some((side, world.objects(side, kind).find(|object| is(object))?)))
}
