//! DescribeInstances and DescribeAvailabilityZones.

use super::ACCOUNT;
use super::calls::Notes;
use super::keys::matches;
use super::model::Instance;
use super::params::Params;
use super::query::{Caller, Fault};
use super::words::InstanceState;
use super::world::World;
use super::xml::Element;

impl World {
    pub(super) fn describe_instances(
        &mut self,
        caller: &Caller,
        params: &Params,
        _: &mut Notes,
    ) -> Result<Element, Fault> {
        let ids = params.list("InstanceId");
        let limit = params.number("MaxResults")?;
        if !ids.is_empty() && limit.is_some() {
            return Err(Fault::new(
                "InvalidParameterCombination",
                "The parameter instancesSet cannot be used with the parameter maxResults",
            ));
        }
        if let Some(limit) = limit.filter(|limit| *limit < 5) {
            return Err(Fault::new(
                "InvalidParameterValue",
                format!("Value ( {limit} ) for parameter maxResults is invalid. Expecting a value greater than 5."),
            ));
        }
        ids.iter().try_for_each(|id| self.instance(caller, id).map(drop))?;
        params.dry_run()?;
        let mut found: Vec<&Instance> = self
            .instances
            .values()
            .filter(|_| caller.is_home())
            .filter(|instance| ids.is_empty() || ids.contains(&instance.instance.as_str()))
            .collect();
        for (name, values) in params.filters()? {
            let pick: &dyn Fn(&Instance) -> Vec<String> = match name {
                "instance-id" => &|instance| vec![instance.instance.clone()],
                "availability-zone" => &|instance| vec![instance.zone.clone()],
                "instance-state-name" => &|instance| vec![instance.state.to_string()],
                "block-device-mapping.volume-id" => {
                    &|instance| self.mappings(&instance.instance).map(|(volume, _)| volume.to_owned()).collect()
                }
                _ => {
                    return Err(Fault::new("InvalidParameterValue", format!("The filter '{name}' is invalid")));
                }
            };
            found.retain(|instance| pick(instance).iter().any(|text| values.iter().any(|value| matches(value, text))));
        }
        if let Some(token) = params.get("NextToken") {
            let after = token
                .strip_prefix("after-")
                .ok_or_else(|| Fault::new("InvalidParameterValue", format!("Invalid value '{token}' for nextToken")))?;
            found.retain(|instance| instance.instance.as_str() > after);
        }
        let size = limit.map_or(usize::MAX, |limit| limit.min(1000) as usize);
        let more = found.len() > size;
        found.truncate(size);
        let token = found.last().filter(|_| more).map(|instance| format!("after-{}", instance.instance));
        Ok(Element::new("")
            .list("reservationSet", found, |item, instance| {
                item.with("reservationId", instance.instance.replacen("i-", "r-", 1)).with("ownerId", ACCOUNT).list(
                    "instancesSet",
                    [instance],
                    |item, instance| self.fill_instance(item, instance),
                )
            })
            .with_some("nextToken", token))
    }

    pub(super) fn describe_zones(&mut self, caller: &Caller, params: &Params, _: &mut Notes) -> Result<Element, Fault> {
        let names = params.list("ZoneName");
        let zones: Vec<String> = ["a", "b"].map(|letter| format!("{}{letter}", caller.region)).to_vec();
        if let Some(name) = names.iter().find(|name| !zones.iter().any(|zone| zone == *name)) {
            return Err(Fault::new("InvalidParameterValue", format!("Invalid availability zone: [{name}]")));
        }
        params.dry_run()?;
        let wanted = zones.iter().enumerate().filter(|(_, zone)| names.is_empty() || names.contains(&zone.as_str()));
        Ok(Element::new("").list("availabilityZoneInfo", wanted, |item, (at, zone)| {
            item.with("zoneName", zone)
                .with("zoneState", "available")
                .with("regionName", &caller.region)
                .with("zoneId", format!("euw1-az{}", at + 1))
                .with("zoneType", "availability-zone")
                .with("optInStatus", "opt-in-not-required")
        }))
    }

    /// Returns the volumes of an instance with the device names.
    fn mappings(&self, instance: &str) -> impl Iterator<Item = (&str, &super::model::Attachment)> {
        self.volumes
            .values()
            .filter_map(move |record| Some((record.volume.volume.as_str(), record.attachment(instance)?)))
    }

    fn fill_instance(&self, item: Element, instance: &Instance) -> Element {
        let code = match instance.state {
            InstanceState::Running => 16,
            InstanceState::Stopped => 80,
            _ => 48,
        };
        item.with("instanceId", &instance.instance)
            .with("instanceType", "m5.large")
            .child(Element::new("instanceState").with("code", code).with("name", &instance.state))
            .with("launchTime", instance.launched)
            .child(Element::new("placement").with("availabilityZone", &instance.zone))
            .list("blockDeviceMapping", self.mappings(&instance.instance), |item, (volume, attachment)| {
                let ebs = Element::new("ebs")
                    .with("volumeId", volume)
                    .with("status", &attachment.state)
                    .with("attachTime", attachment.attached_at)
                    .with("deleteOnTermination", attachment.delete_on_termination);
                item.with("deviceName", &attachment.device).child(ebs)
            })
            .list("tagSet", &instance.tags, |item, (key, value)| item.with("key", key).with("value", value))
    }
}
