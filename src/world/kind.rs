//! The kinds of Kubernetes objects that the program reads or writes.

/// A kind, with what its REST path needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the variants are the kinds' own names")]
pub enum Kind {
    Application,
    ConfigMap,
    ControllerRevision,
    CronJob,
    CsiDriver,
    CsiNode,
    DaemonSet,
    Deployment,
    HelmRelease,
    HorizontalPodAutoscaler,
    Ingress,
    Job,
    Kustomization,
    Lease,
    Namespace,
    NetworkPolicy,
    Node,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    PodDisruptionBudget,
    PriorityClass,
    RoleBinding,
    RuntimeClass,
    ScaledObject,
    Secret,
    Service,
    ServiceAccount,
    StatefulSet,
    StorageClass,
    VerticalPodAutoscaler,
    VolumeAttachment,
}

impl Kind {
    /// Returns group/version, kind and plural.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Kind::Application => ("argoproj.io/v1alpha1", "Application", "applications"),
            Kind::ConfigMap => ("v1", "ConfigMap", "configmaps"),
            Kind::ControllerRevision => ("apps/v1", "ControllerRevision", "controllerrevisions"),
            Kind::CronJob => ("batch/v1", "CronJob", "cronjobs"),
            Kind::CsiDriver => ("storage.k8s.io/v1", "CSIDriver", "csidrivers"),
            Kind::CsiNode => ("storage.k8s.io/v1", "CSINode", "csinodes"),
            Kind::DaemonSet => ("apps/v1", "DaemonSet", "daemonsets"),
            Kind::Deployment => ("apps/v1", "Deployment", "deployments"),
            Kind::HelmRelease => ("helm.toolkit.fluxcd.io/v2", "HelmRelease", "helmreleases"),
            Kind::HorizontalPodAutoscaler => ("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
            Kind::Ingress => ("networking.k8s.io/v1", "Ingress", "ingresses"),
            Kind::Job => ("batch/v1", "Job", "jobs"),
            Kind::Kustomization => ("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "kustomizations"),
            Kind::Lease => ("coordination.k8s.io/v1", "Lease", "leases"),
            Kind::Namespace => ("v1", "Namespace", "namespaces"),
            Kind::NetworkPolicy => ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
            Kind::Node => ("v1", "Node", "nodes"),
            Kind::PersistentVolume => ("v1", "PersistentVolume", "persistentvolumes"),
            Kind::PersistentVolumeClaim => ("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
            Kind::Pod => ("v1", "Pod", "pods"),
            Kind::PodDisruptionBudget => ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Kind::PriorityClass => ("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses"),
            Kind::RoleBinding => ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
            Kind::RuntimeClass => ("node.k8s.io/v1", "RuntimeClass", "runtimeclasses"),
            Kind::ScaledObject => ("keda.sh/v1alpha1", "ScaledObject", "scaledobjects"),
            Kind::Secret => ("v1", "Secret", "secrets"),
            Kind::Service => ("v1", "Service", "services"),
            Kind::ServiceAccount => ("v1", "ServiceAccount", "serviceaccounts"),
            Kind::StatefulSet => ("apps/v1", "StatefulSet", "statefulsets"),
            Kind::StorageClass => ("storage.k8s.io/v1", "StorageClass", "storageclasses"),
            Kind::VerticalPodAutoscaler => ("autoscaling.k8s.io/v1", "VerticalPodAutoscaler", "verticalpodautoscalers"),
            Kind::VolumeAttachment => ("storage.k8s.io/v1", "VolumeAttachment", "volumeattachments"),
        }
    }

    /// Returns the API version, such as `apps/v1`.
    pub fn api_version(self) -> &'static str {
        self.names().0
    }

    /// Returns the kind's name, such as `StatefulSet`.
    pub fn name(self) -> &'static str {
        self.names().1
    }

    /// Returns the plural in REST paths and RBAC rules, such as `statefulsets`.
    pub fn plural(self) -> &'static str {
        self.names().2
    }

    /// Returns the API group, empty for the core group.
    pub fn group(self) -> &'static str {
        self.api_version().split_once('/').map_or("", |(group, _)| group)
    }

    /// Returns whether its objects are read in the migration's namespace; [`Kind::is_everywhere`] are not.
    pub fn namespaced(self) -> bool {
        !matches!(
            self,
            Kind::Application
                | Kind::CsiDriver
                | Kind::CsiNode
                | Kind::HelmRelease
                | Kind::Kustomization
                | Kind::Namespace
                | Kind::Node
                | Kind::PersistentVolume
                | Kind::PriorityClass
                | Kind::RuntimeClass
                | Kind::StorageClass
                | Kind::VolumeAttachment
        )
    }

    /// Returns whether its objects live in namespaces of their own choice and are listed over all of
    /// them: a [`super::Shelf`] keeps them as `namespace/name`.
    pub fn is_everywhere(self) -> bool {
        matches!(self, Kind::Application | Kind::HelmRelease | Kind::Kustomization)
    }

    /// Returns whether it comes from a CustomResourceDefinition: where that is missing, there are no
    /// such objects, and a 404 of the whole resource means an empty list.
    pub fn is_custom(self) -> bool {
        self.is_everywhere() || matches!(self, Kind::ScaledObject | Kind::VerticalPodAutoscaler)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}
