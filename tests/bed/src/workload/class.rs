//! Storage classes of test workloads.

use serde_json::{Value, json};

/// A StorageClass of the EBS driver.
#[derive(Clone, Debug)]
pub struct Class {
    name: String,
    reclaim_policy: &'static str,
    binding_mode: &'static str,
    mount_options: Vec<String>,
    file_system: Option<String>,
    provisioner: String,
}

impl Class {
    /// Returns a class as EKS users have it: gp3, `Delete`, bound when the first pod is scheduled.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            reclaim_policy: "Delete",
            binding_mode: "WaitForFirstConsumer",
            mount_options: Vec::new(),
            file_system: None,
            provisioner: "ebs.csi.aws.com".to_owned(),
        }
    }

    /// Sets the reclaim policy to `Retain`.
    #[must_use]
    pub fn retain(mut self) -> Self {
        self.reclaim_policy = "Retain";
        self
    }

    /// Provisions as soon as a claim exists.
    #[must_use]
    pub fn immediate(mut self) -> Self {
        self.binding_mode = "Immediate";
        self
    }

    /// Sets the mount options.
    #[must_use]
    pub fn mount_options(mut self, options: &[&str]) -> Self {
        self.mount_options = options.iter().map(|option| (*option).to_owned()).collect();
        self
    }

    /// Sets the file system.
    #[must_use]
    pub fn file_system(mut self, file_system: &str) -> Self {
        self.file_system = Some(file_system.to_owned());
        self
    }

    /// Sets another provisioner, such as the in-tree `kubernetes.io/aws-ebs`.
    #[must_use]
    pub fn provisioner(mut self, provisioner: &str) -> Self {
        provisioner.clone_into(&mut self.provisioner);
        self
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the StorageClass.
    pub fn manifest(&self) -> Value {
        let mut parameters = json!({"type": "gp3"});
        if let Some(file_system) = &self.file_system {
            parameters["csi.storage.k8s.io/fstype"] = json!(file_system);
        }
        json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": self.name},
            "provisioner": self.provisioner,
            "parameters": parameters,
            "reclaimPolicy": self.reclaim_policy,
            "volumeBindingMode": self.binding_mode,
            "mountOptions": self.mount_options,
            "allowVolumeExpansion": true,
        })
    }
}
