//! CreateTags and DeleteTags on volumes and instances.

use std::collections::BTreeMap;

use super::calls::Notes;
use super::params::Params;
use super::query::{Caller, Fault, volume_arn};
use super::world::World;
use super::xml::Element;

type Tags = BTreeMap<String, String>;

/// Most tags that a resource can have.
const MOST_TAGS: usize = 50;

impl World {
    pub(super) fn create_tags(&mut self, caller: &Caller, params: &Params, _: &mut Notes) -> Result<Element, Fault> {
        let news = params.tags("Tag");
        if news.is_empty() {
            return Err(Fault::new("MissingParameter", "The request must contain the parameter Tag"));
        }
        let resources = self.tagged(caller, "CreateTags", params)?;
        for (_, tags) in &resources {
            let own = tags.keys().filter(|key| !key.starts_with("aws:"));
            let count = own.filter(|key| !news.iter().any(|(new, _)| new == key)).count() + news.len();
            check_tags(news.iter().map(|(key, value)| (*key, value.unwrap_or_default())), count)?;
        }
        params.dry_run()?;
        for (resource, _) in resources {
            self.change_tags(&resource, |tags| {
                tags.extend(news.iter().map(|(key, value)| ((*key).to_owned(), value.unwrap_or_default().to_owned())));
            });
        }
        Ok(Element::new("").with("return", true))
    }

    pub(super) fn delete_tags(&mut self, caller: &Caller, params: &Params, _: &mut Notes) -> Result<Element, Fault> {
        let gone = params.tags("Tag");
        if let Some((key, _)) = gone.iter().find(|(key, _)| key.starts_with("aws:")) {
            return Err(reserved(key));
        }
        let resources = self.tagged(caller, "DeleteTags", params)?;
        params.dry_run()?;
        for (resource, _) in resources {
            self.change_tags(&resource, |tags| {
                tags.retain(|key, value| {
                    let named =
                        gone.iter().any(|(name, wanted)| name == key && wanted.is_none_or(|wanted| wanted == value));
                    // Without any tag in the request all of the user's own go.
                    key.starts_with("aws:") || !(gone.is_empty() || named)
                });
            });
        }
        Ok(Element::new("").with("return", true))
    }

    /// Returns the resources of a request with their tags, when the caller may tag them all.
    fn tagged(&self, caller: &Caller, action: &str, params: &Params) -> Result<Vec<(String, Tags)>, Fault> {
        let ids = params.list("ResourceId");
        if ids.is_empty() {
            return Err(Fault::new("MissingParameter", "The request must contain the parameter resourceIdSet"));
        }
        let mut resources = Vec::new();
        for id in ids {
            let tags = if id.starts_with("vol-") {
                caller.volume(self, id)?.tags.clone()
            } else if id.starts_with("i-") {
                self.instance(caller, id)?.tags.clone()
            } else {
                return Err(Fault::new("InvalidID", format!("The ID '{id}' is not valid")));
            };
            caller.authorize_on(action, &volume_arn(id), &tags)?;
            resources.push((id.to_owned(), tags));
        }
        Ok(resources)
    }

    fn change_tags(&mut self, resource: &str, change: impl Fn(&mut Tags)) {
        if let Some(record) = self.volumes.get_mut(resource) {
            change(&mut record.volume.tags);
            self.note(resource);
        } else if let Some(instance) = self.instances.get_mut(resource) {
            change(&mut instance.tags);
        }
    }
}

/// Refuses tags that EC2 does not take; `count` is how many the resource would have.
pub(super) fn check_tags<'tag>(tags: impl Iterator<Item = (&'tag str, &'tag str)>, count: usize) -> Result<(), Fault> {
    for (key, value) in tags {
        if key.starts_with("aws:") {
            return Err(reserved(key));
        }
        if key.is_empty() || key.chars().count() > 128 {
            return Err(Fault::new("InvalidParameterValue", "Tag key must be between 1 and 128 characters long"));
        }
        if value.chars().count() > 256 {
            return Err(Fault::new("InvalidParameterValue", "Tag value exceeds the maximum length of 256 characters"));
        }
    }
    if count > MOST_TAGS {
        return Err(Fault::new("TagLimitExceeded", format!("More than {MOST_TAGS} tags specified")));
    }
    Ok(())
}

fn reserved(key: &str) -> Fault {
    Fault::new("InvalidParameterValue", format!("Tag keys starting with 'aws:' are reserved for internal use: {key}"))
}
