//! Life and death of volumes: CreateVolume, DeleteVolume, ModifyVolume.

use std::collections::BTreeMap;

use super::ZONES;
use super::calls::Notes;
use super::knobs::NewVolume;
use super::model::Performance;
use super::params::Params;
use super::query::{Caller, Fault, volume_arn};
use super::read::{fill_modification, fill_volume};
use super::tags::check_tags;
use super::words::VolumeState;
use super::world::World;
use super::xml::Element;

/// The types of volumes with the largest size in GiB.
const TYPES: [(&str, i32); 7] = [
    ("standard", 1024),
    ("gp2", 16384),
    ("gp3", 65536),
    ("io1", 16384),
    ("io2", 65536),
    ("st1", 16384),
    ("sc1", 16384),
];

impl World {
    pub(super) fn create_volume(
        &mut self,
        caller: &Caller,
        params: &Params,
        notes: &mut Notes,
    ) -> Result<Element, Fault> {
        let zone = params.require("AvailabilityZone")?;
        let size = params.number("Size")?.ok_or_else(|| {
            Fault::new("MissingParameter", "The request must contain the parameter size or snapshotId")
        })?;
        let performance = Performance {
            size,
            volume_type: params.get("VolumeType").unwrap_or("gp2").to_owned(),
            iops: params.number("Iops")?,
            throughput: params.number("Throughput")?,
        };
        check_performance(&performance)?;
        let multi_attach = params.flag("MultiAttachEnabled")?;
        if multi_attach && !["io1", "io2"].contains(&performance.volume_type.as_str()) {
            return Err(Fault::new(
                "InvalidParameterCombination",
                "Multi-Attach is supported for io1 and io2 volumes only",
            ));
        }
        let encrypted = params.flag("Encrypted")?;
        let kms_key_id = params.get("KmsKeyId").map(str::to_owned);
        if kms_key_id.is_some() && !encrypted {
            return Err(Fault::new(
                "InvalidParameterDependency",
                "The parameter KmsKeyId requires the parameter Encrypted to be set.",
            ));
        }
        let tags = tags_on_create(params)?;
        if !tags.is_empty() && !caller.key.allows("CreateTags") && !caller.key.allows("CreateTags:CreateVolume") {
            return Err(caller.refused("CreateTags", &volume_arn("*")));
        }
        if !caller.is_home() || !ZONES.contains(&zone) {
            return Err(Fault::new("InvalidZone.NotFound", format!("The zone '{zone}' does not exist.")));
        }
        params.dry_run()?;
        if let Some(token) = params.get("ClientToken") {
            let fingerprint = params.fingerprint();
            if let Some((before, id)) = self.tokens.get(token) {
                if *before != fingerprint {
                    return Err(Fault::new(
                        "IdempotentParameterMismatch",
                        "The client token was already used with other parameters.",
                    ));
                }
                let id = id.clone();
                notes.made(&id);
                return Ok(fill_volume(Element::new(""), caller.volume(self, &id)?));
            }
        }
        let volume = self.add_volume(NewVolume {
            size: performance.size,
            zone: zone.to_owned(),
            volume_type: performance.volume_type,
            iops: performance.iops,
            throughput: performance.throughput,
            encrypted,
            kms_key_id,
            multi_attach,
            state: VolumeState::Creating,
            tags,
            ..NewVolume::default()
        });
        if let Some(token) = params.get("ClientToken") {
            self.tokens.insert(token.to_owned(), (params.fingerprint(), volume.volume.clone()));
        }
        notes.made(&volume.volume);
        Ok(fill_volume(Element::new(""), &volume))
    }

    pub(super) fn delete_volume(&mut self, caller: &Caller, params: &Params, _: &mut Notes) -> Result<Element, Fault> {
        let id = params.require("VolumeId")?;
        let volume = caller.volume(self, id)?;
        caller.authorize_on("DeleteVolume", &volume_arn(id), &volume.tags)?;
        params.dry_run()?;
        if let Some(attachment) = volume.attachments.first() {
            let holder = attachment.instance.as_deref().unwrap_or("another resource");
            return Err(Fault::new("VolumeInUse", format!("Volume {id} is currently attached to {holder}")));
        }
        match volume.state {
            VolumeState::Available | VolumeState::Error => {}
            VolumeState::InUse => {
                return Err(Fault::new("VolumeInUse", format!("Volume {id} is currently in use")));
            }
            _ => {
                return Err(Fault::new("IncorrectState", format!("Volume {id} is in the '{}' state", volume.state)));
            }
        }
        refuse_managed(volume.managed_by.as_deref())?;
        self.begin_delete(id);
        Ok(Element::new("").with("return", true))
    }

    pub(super) fn modify_volume(&mut self, caller: &Caller, params: &Params, _: &mut Notes) -> Result<Element, Fault> {
        let id = params.require("VolumeId")?;
        let volume = caller.volume(self, id)?;
        caller.authorize_on("ModifyVolume", &volume_arn(id), &volume.tags)?;
        let size = params.number("Size")?;
        let volume_type = params.get("VolumeType").map(str::to_owned);
        let retyped = volume_type.is_some();
        let target = Performance {
            size: size.unwrap_or(volume.size),
            volume_type: volume_type.unwrap_or_else(|| volume.volume_type.clone()),
            iops: params.number("Iops")?.or(volume.iops.filter(|_| !retyped)),
            throughput: params.number("Throughput")?.or(volume.throughput.filter(|_| !retyped)),
        };
        check_performance(&target)?;
        if target.size < volume.size {
            return Err(Fault::new("InvalidParameterValue", "New size cannot be smaller than existing size"));
        }
        params.dry_run()?;
        refuse_managed(volume.managed_by.as_deref())?;
        if !matches!(volume.state, VolumeState::Available | VolumeState::InUse) {
            return Err(Fault::new("IncorrectState", format!("Volume {id} is in the '{}' state", volume.state)));
        }
        let running = volume.modification.as_ref().map(|modification| modification.state.as_str());
        if let Some(state @ ("modifying" | "optimizing")) = running {
            return Err(Fault::new(
                "IncorrectModificationState",
                format!("Cannot modify volume {id} in modification state {}", state.to_uppercase()),
            ));
        }
        self.begin_modify(id, target);
        let modification = caller.volume(self, id)?.modification.as_ref().expect("a modification has just begun");
        Ok(Element::new("").child(fill_modification(Element::new("volumeModification"), id, modification)))
    }
}

/// Refuses what only the managing service may do.
pub(super) fn refuse_managed(managed_by: Option<&str>) -> Result<(), Fault> {
    match managed_by {
        Some(service) => Err(Fault::new(
            "OperationNotPermitted",
            format!("The resource is managed by {service} and cannot be changed directly."),
        )),
        None => Ok(()),
    }
}

fn check_performance(wanted: &Performance) -> Result<(), Fault> {
    let kind = wanted.volume_type.as_str();
    let Some((_, most)) = TYPES.iter().find(|(name, _)| *name == kind) else {
        return Err(Fault::new("UnknownVolumeType", format!("Unsupported volume type '{kind}' for volume creation.")));
    };
    if !(1..=*most).contains(&wanted.size) {
        return Err(Fault::new(
            "InvalidParameterValue",
            format!("Volume of {}GiB is invalid for volume type {kind}; must be between 1 and {most}", wanted.size),
        ));
    }
    let provisioned = ["io1", "io2"].contains(&kind);
    if provisioned && wanted.iops.is_none() {
        return Err(Fault::new(
            "MissingParameter",
            format!("The parameter iops must be specified for {kind} volumes."),
        ));
    }
    if wanted.throughput.is_some() && kind != "gp3" {
        return Err(Fault::new(
            "InvalidParameterCombination",
            format!("The parameter throughput is not supported for {kind} volumes."),
        ));
    }
    Ok(())
}

fn tags_on_create(params: &Params) -> Result<BTreeMap<String, String>, Fault> {
    let mut tags = BTreeMap::new();
    for specification in params.members("TagSpecification") {
        let resource = params.require(&format!("{specification}.ResourceType"))?;
        if resource != "volume" {
            return Err(Fault::new(
                "InvalidParameterValue",
                format!("'{resource}' is not a valid taggable resource type for this operation."),
            ));
        }
        for (key, value) in params.tags(&format!("{specification}.Tag")) {
            tags.insert(key.to_owned(), value.unwrap_or_default().to_owned());
        }
    }
    check_tags(tags.iter().map(|(key, value)| (key.as_str(), value.as_str())), tags.len())?;
    Ok(tags)
}
