//! Reads of volumes: DescribeVolumes, DescribeVolumesModifications, and volumes as XML.

use super::calls::Notes;
use super::keys::matches;
use super::model::{Attachment, Modification, Volume};
use super::params::{Params, check_volume_id};
use super::query::{Caller, Fault, no_volume};
use super::world::World;
use super::xml::Element;
use super::{ACCOUNT, REGION};

/// More ids than that EC2 does not take in one unpaginated call.
const MOST_IDS: usize = 500;
/// Most results of a page, whatever is asked for.
const MOST_RESULTS: i32 = 1000;
/// Fewest results that may be asked for.
const FEWEST_RESULTS: i32 = 5;

impl World {
    pub(super) fn describe_volumes(
        &mut self,
        caller: &Caller,
        params: &Params,
        notes: &mut Notes,
    ) -> Result<Element, Fault> {
        let (page, token) = self.select(caller, params)?;
        params.dry_run()?;
        notes.seen = page.iter().map(|volume| volume.seen()).collect();
        Ok(Element::new("").list("volumeSet", page, fill_volume).with_some("nextToken", token))
    }

    pub(super) fn describe_modifications(
        &mut self,
        caller: &Caller,
        params: &Params,
        _: &mut Notes,
    ) -> Result<Element, Fault> {
        let (page, token) = self.select(caller, params)?;
        params.dry_run()?;
        if let Some(volume) =
            page.iter().find(|volume| volume.modification.is_none() && !params.list("VolumeId").is_empty())
        {
            return Err(Fault::new(
                "InvalidVolumeModification.NotFound",
                format!("Modification for volume '{}' does not exist.", volume.volume),
            ));
        }
        let found = page.into_iter().filter_map(|volume| Some((volume, volume.modification.as_ref()?)));
        Ok(Element::new("")
            .list("volumeModificationSet", found, |item, (volume, modification)| {
                fill_modification(item, &volume.volume, modification)
            })
            .with_some("nextToken", token))
    }

    /// Returns the volumes that a request asks for, and the token of the next page.
    fn select(&self, caller: &Caller, params: &Params) -> Result<(Vec<&Volume>, Option<String>), Fault> {
        let ids = params.list("VolumeId");
        let limit = params.number("MaxResults")?;
        let token = params.get("NextToken");
        if !ids.is_empty() && (limit.is_some() || token.is_some()) {
            return Err(Fault::new(
                "InvalidParameterCombination",
                "The parameter volumes cannot be used with the parameter maxResults",
            ));
        }
        if ids.len() > MOST_IDS {
            return Err(Fault::new(
                "InvalidParameterValue",
                format!("At most {MOST_IDS} volume ids can be specified, got {}", ids.len()),
            ));
        }
        if let Some(limit) = limit.filter(|limit| *limit < FEWEST_RESULTS) {
            return Err(Fault::new(
                "InvalidParameterValue",
                format!(
                    "Value ( {limit} ) for parameter maxResults is invalid. Expecting a value greater than {FEWEST_RESULTS}."
                ),
            ));
        }
        ids.iter().try_for_each(|id| check_volume_id(id))?;
        let filters = params.filters()?;
        if let Some((name, _)) = filters.iter().find(|(name, _)| !is_filter(name)) {
            return Err(Fault::new("InvalidParameterValue", format!("The filter '{name}' is invalid")));
        }
        let visible = |id: &str| caller.is_home().then(|| self.read(id, caller.stale())).flatten();
        let mut found: Vec<&Volume> = if ids.is_empty() {
            self.volumes.keys().filter_map(|id| visible(id)).collect()
        } else {
            // One id that is unknown and the whole call fails.
            let missing: Vec<&str> = ids.iter().copied().filter(|id| visible(id).is_none()).collect();
            if !missing.is_empty() {
                return Err(no_volume(&missing));
            }
            let mut wanted = ids.clone();
            wanted.sort_unstable();
            wanted.dedup();
            wanted.into_iter().filter_map(visible).collect()
        };
        found.retain(|volume| filters.iter().all(|(name, values)| passes(volume, name, values)));
        if let Some(token) = token {
            let after = token
                .strip_prefix("after-")
                .filter(|id| check_volume_id(id).is_ok())
                .ok_or_else(|| Fault::new("InvalidParameterValue", format!("Invalid value '{token}' for nextToken")))?;
            found.retain(|volume| volume.volume.as_str() > after);
        }
        let size = limit.map_or(usize::MAX, |limit| limit.min(MOST_RESULTS) as usize);
        let more = found.len() > size;
        found.truncate(size);
        let token = found.last().filter(|_| more).map(|volume| format!("after-{}", volume.volume));
        Ok((found, token))
    }
}

const FILTERS: [&str; 14] = [
    "attachment.delete-on-termination",
    "attachment.device",
    "attachment.instance-id",
    "attachment.status",
    "availability-zone",
    "encrypted",
    "multi-attach-enabled",
    "size",
    "snapshot-id",
    "status",
    "tag-key",
    "volume-id",
    "volume-type",
    "modification-state",
];

fn is_filter(name: &str) -> bool {
    name.starts_with("tag:") || FILTERS.contains(&name)
}

fn passes(volume: &Volume, name: &str, values: &[&str]) -> bool {
    let any = |found: &str| values.iter().any(|value| matches(value, found));
    let attachment =
        |pick: &dyn Fn(&Attachment) -> String| volume.attachments.iter().any(|attachment| any(&pick(attachment)));
    match name {
        "attachment.delete-on-termination" => attachment(&|attachment| attachment.delete_on_termination.to_string()),
        "attachment.device" => attachment(&|attachment| attachment.device.clone()),
        "attachment.instance-id" => attachment(&|attachment| attachment.instance.clone().unwrap_or_default()),
        "attachment.status" => attachment(&|attachment| attachment.state.to_string()),
        "availability-zone" => any(&volume.zone),
        "encrypted" => any(&volume.encrypted.to_string()),
        "multi-attach-enabled" => any(&volume.multi_attach.to_string()),
        "size" => any(&volume.size.to_string()),
        "snapshot-id" => any(volume.snapshot_id.as_deref().unwrap_or_default()),
        "status" => any(volume.state.as_str()),
        "tag-key" => volume.tags.keys().any(|key| any(key)),
        "volume-id" => any(&volume.volume),
        "volume-type" => any(&volume.volume_type),
        "modification-state" => volume.modification.as_ref().is_some_and(|modification| any(&modification.state)),
        _ => name.strip_prefix("tag:").and_then(|key| volume.tags.get(key)).is_some_and(|value| any(value)),
    }
}

/// Writes a volume.
pub(super) fn fill_volume(item: Element, volume: &Volume) -> Element {
    let managed = Element::new("operator")
        .with("managed", volume.managed_by.is_some())
        .with_some("principal", volume.managed_by.as_ref());
    item.with("volumeId", &volume.volume)
        .with("volumeArn", format!("arn:aws:ec2:{REGION}:{ACCOUNT}:volume/{}", volume.volume))
        .with("size", volume.size)
        .with("snapshotId", volume.snapshot_id.as_deref().unwrap_or_default())
        .with("availabilityZone", &volume.zone)
        .with_some("outpostArn", volume.outpost_arn.as_ref())
        .with("status", &volume.state)
        .with("createTime", volume.created)
        .list("attachmentSet", &volume.attachments, |item, attachment| {
            fill_attachment(item, &volume.volume, attachment)
        })
        .list("tagSet", &volume.tags, |item, (key, value)| item.with("key", key).with("value", value))
        .with("volumeType", &volume.volume_type)
        .with_some("iops", volume.iops)
        .with_some("throughput", volume.throughput)
        .with("encrypted", volume.encrypted)
        .with_some("kmsKeyId", volume.kms_key_id.as_ref())
        .with("multiAttachEnabled", volume.multi_attach)
        .child(managed)
}

/// Writes an attachment.
pub(super) fn fill_attachment(item: Element, volume: &str, attachment: &Attachment) -> Element {
    item.with("volumeId", volume)
        .with_some("instanceId", attachment.instance.as_ref())
        .with_some("associatedResource", attachment.associated_resource.as_ref())
        .with("device", &attachment.device)
        .with("status", &attachment.state)
        .with("attachTime", attachment.attached_at)
        .with("deleteOnTermination", attachment.delete_on_termination)
}

/// Writes a modification.
pub(super) fn fill_modification(item: Element, volume: &str, modification: &Modification) -> Element {
    let progress = match modification.state.as_str() {
        "completed" => 100,
        "optimizing" => 50,
        _ => 0,
    };
    item.with("volumeId", volume)
        .with("modificationState", &modification.state)
        .with("targetSize", modification.target.size)
        .with("targetVolumeType", &modification.target.volume_type)
        .with_some("targetIops", modification.target.iops)
        .with_some("targetThroughput", modification.target.throughput)
        .with("originalSize", modification.original.size)
        .with("originalVolumeType", &modification.original.volume_type)
        .with_some("originalIops", modification.original.iops)
        .with_some("originalThroughput", modification.original.throughput)
        .with("progress", progress)
        .with("startTime", modification.started)
        .with_some("endTime", modification.ended)
}
