//! AttachVolume and DetachVolume: the fence on which everything else relies.

use super::calls::Notes;
use super::model::Instance;
use super::params::{Params, check_instance_id};
use super::query::{Caller, Fault, volume_arn};
use super::read::fill_attachment;
use super::volumes::refuse_managed;
use super::words::{AttachmentState, InstanceState, VolumeState};
use super::world::World;
use super::xml::Element;

/// Most instances that can share a multi-attach volume.
const MOST_SHARERS: usize = 16;

impl World {
    pub(super) fn attach_volume(&mut self, caller: &Caller, params: &Params, _: &mut Notes) -> Result<Element, Fault> {
        let id = params.require("VolumeId")?;
        let instance_id = params.require("InstanceId")?;
        let device = params.require("Device")?;
        check_device(device)?;
        let volume = caller.volume(self, id)?;
        let instance = self.instance(caller, instance_id)?;
        caller.authorize_on("AttachVolume", &volume_arn(id), &volume.tags)?;
        params.dry_run()?;
        refuse_managed(volume.managed_by.as_deref())?;
        if instance.state != InstanceState::Running && instance.state != InstanceState::Stopped {
            return Err(Fault::new("IncorrectState", format!("Instance '{instance_id}' is not 'running'.")));
        }
        if volume.zone != instance.zone {
            return Err(Fault::new(
                "InvalidVolume.ZoneMismatch",
                format!("The volume '{id}' is not in the same availability zone as instance '{instance_id}'"),
            ));
        }
        let attached_here =
            volume.attachments.iter().any(|attachment| attachment.instance.as_deref() == Some(instance_id));
        let full = volume.attachments.len() >= if volume.multi_attach { MOST_SHARERS } else { 1 };
        if attached_here || full {
            return Err(Fault::new("VolumeInUse", format!("{id} is already attached to an instance")));
        }
        match volume.state {
            VolumeState::Available => {}
            VolumeState::InUse if volume.multi_attach => {}
            VolumeState::InUse => {
                return Err(Fault::new("VolumeInUse", format!("{id} is already attached to an instance")));
            }
            _ => {
                return Err(Fault::new("IncorrectState", format!("{id} is not 'available'.")));
            }
        }
        let taken = self
            .volumes
            .values()
            .any(|record| record.attachment(instance_id).is_some_and(|attachment| attachment.device == device));
        if taken {
            return Err(Fault::new(
                "InvalidParameterValue",
                format!("Invalid value '{device}' for unixDevice. Attachment point {device} is already in use"),
            ));
        }
        self.begin_attach(id, instance_id, device);
        self.attachment_answer(id, instance_id)
    }

    pub(super) fn detach_volume(&mut self, caller: &Caller, params: &Params, _: &mut Notes) -> Result<Element, Fault> {
        let id = params.require("VolumeId")?;
        let force = params.flag("Force")?;
        let volume = caller.volume(self, id)?;
        if let Some(instance) = params.get("InstanceId") {
            self.instance(caller, instance)?;
        }
        caller.authorize_on("DetachVolume", &volume_arn(id), &volume.tags)?;
        params.dry_run()?;
        refuse_managed(volume.managed_by.as_deref())?;
        if volume.attachments.is_empty() {
            return Err(Fault::new("IncorrectState", format!("Volume '{id}' is in the '{}' state.", volume.state)));
        }
        let attachment = match params.get("InstanceId") {
            Some(instance) => volume
                .attachments
                .iter()
                .find(|attachment| attachment.instance.as_deref() == Some(instance))
                .ok_or_else(|| no_attachment(id, instance))?,
            None if volume.attachments.len() > 1 => {
                return Err(Fault::new(
                    "InvalidParameterCombination",
                    "The parameter InstanceId must be specified for a Multi-Attach volume.",
                ));
            }
            None => &volume.attachments[0],
        };
        let instance = attachment.instance.clone().ok_or_else(|| no_attachment(id, "unknown"))?;
        if params.get("Device").is_some_and(|device| device != attachment.device) {
            return Err(no_attachment(id, &instance));
        }
        match attachment.state {
            AttachmentState::Attached => {}
            // Only force gets past a guest that does not let go.
            AttachmentState::Busy if force => {}
            _ => {
                return Err(Fault::new(
                    "IncorrectState",
                    format!("Volume '{id}' is not 'attached' to '{instance}' but '{}'.", attachment.state),
                ));
            }
        }
        let before = attachment.clone();
        self.begin_detach(id, &instance, force);
        // EC2 says `detaching` here, also of what a later read finds to be `busy`.
        let answer = super::model::Attachment { state: AttachmentState::Detaching, ..before };
        Ok(fill_attachment(Element::new(""), id, &answer))
    }

    /// Returns an instance as the caller sees it, or EC2's error.
    pub(super) fn instance(&self, caller: &Caller, id: &str) -> Result<&Instance, Fault> {
        check_instance_id(id)?;
        self.instances
            .get(id)
            .filter(|_| caller.is_home())
            .ok_or_else(|| Fault::new("InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist")))
    }

    fn attachment_answer(&self, id: &str, instance: &str) -> Result<Element, Fault> {
        let attachment = self
            .volumes
            .get(id)
            .and_then(|record| record.attachment(instance))
            .ok_or_else(|| no_attachment(id, instance))?;
        Ok(fill_attachment(Element::new(""), id, attachment))
    }
}

fn no_attachment(volume: &str, instance: &str) -> Fault {
    Fault::new("InvalidAttachment.NotFound", format!("The volume '{volume}' is not attached to instance '{instance}'."))
}

/// Refuses what is no device name: `/dev/sdf`, `/dev/xvdba`.
fn check_device(device: &str) -> Result<(), Fault> {
    let letters = device.strip_prefix("/dev/sd").or_else(|| device.strip_prefix("/dev/xvd"));
    let well_formed = letters.is_some_and(|letters| {
        (1..=2).contains(&letters.len()) && letters.bytes().all(|letter| letter.is_ascii_lowercase())
    });
    if well_formed {
        Ok(())
    } else {
        Err(Fault::new(
            "InvalidParameterValue",
            format!("Value ({device}) for parameter device is invalid. {device} is not a valid EBS device name."),
        ))
    }
}
