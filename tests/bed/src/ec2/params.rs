//! The parameters of a request: `Name.1`, `Filter.2.Value.1`, and ids that must look like ids.

use super::query::Fault;

/// The parameters of a request.
pub(super) struct Params(pub(super) Vec<(String, String)>);

impl Params {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Returns a parameter that must be there.
    pub(super) fn require(&self, name: &str) -> Result<&str, Fault> {
        self.get(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Fault::new("MissingParameter", format!("The request must contain the parameter {name}")))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<i32>, Fault> {
        self.get(name)
            .map(|value| {
                value.parse().map_err(|_| {
                    Fault::new(
                        "InvalidParameterValue",
                        format!("Value ({value}) for parameter {name} is invalid. Expected a number"),
                    )
                })
            })
            .transpose()
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Fault> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(value) => Err(Fault::new(
                "InvalidParameterValue",
                format!("Value ({value}) for parameter {name} is invalid. Expected: 'true' or 'false'"),
            )),
        }
    }

    /// Returns the values of `name.1`, `name.2`, …
    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        self.members(name).into_iter().filter_map(|member| self.get(&member)).collect()
    }

    /// Returns the prefixes `name.1`, `name.2`, … in the order of their numbers.
    pub(super) fn members(&self, name: &str) -> Vec<String> {
        let mut numbers: Vec<u32> = self
            .0
            .iter()
            .filter_map(|(found, _)| found.strip_prefix(name)?.strip_prefix('.')?.split('.').next()?.parse().ok())
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().map(|number| format!("{name}.{number}")).collect()
    }

    /// Returns the filters: each a name and the values of which one must match.
    pub(super) fn filters(&self) -> Result<Vec<(&str, Vec<&str>)>, Fault> {
        self.members("Filter")
            .into_iter()
            .map(|filter| {
                let name = self.require(&format!("{filter}.Name"))?;
                let values = self.list(&format!("{filter}.Value"));
                if values.len() > 200 {
                    return Err(Fault::new(
                        "FilterLimitExceeded",
                        "The maximum number of filter values specified on a single call is 200",
                    ));
                }
                Ok((name, values))
            })
            .collect()
    }

    /// Returns the tags below a prefix.
    pub(super) fn tags(&self, prefix: &str) -> Vec<(&str, Option<&str>)> {
        self.members(prefix)
            .iter()
            .filter_map(|tag| Some((self.get(&format!("{tag}.Key"))?, self.get(&format!("{tag}.Value")))))
            .collect()
    }

    /// Answers a dry run, at the point at which everything but the state is settled.
    pub(super) fn dry_run(&self) -> Result<(), Fault> {
        if self.flag("DryRun")? {
            return Err(Fault::with_status(
                412,
                "DryRunOperation",
                "Request would have succeeded, but DryRun flag is set.",
            ));
        }
        Ok(())
    }

    /// Refuses parameters that the action does not know.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Fault> {
        let unknown = self
            .0
            .iter()
            .map(|(name, _)| name.split('.').next().unwrap_or_default())
            .find(|name| !["Action", "Version", "DryRun"].contains(name) && !known.contains(name));
        match unknown {
            Some(name) => Err(Fault::new("UnknownParameter", format!("The parameter {name} is not recognized"))),
            None => Ok(()),
        }
    }

    /// Returns the request without its dry-run flag, to compare requests that share a client token.
    pub(super) fn fingerprint(&self) -> String {
        self.0.iter().filter(|(name, _)| name != "DryRun").map(|(name, value)| format!("{name}={value}\n")).collect()
    }
}

/// Refuses what does not look like a volume id.
pub(super) fn check_volume_id(id: &str) -> Result<(), Fault> {
    check_id(id, "vol-", "InvalidVolumeID.Malformed")
}

/// Refuses what does not look like an instance id.
pub(super) fn check_instance_id(id: &str) -> Result<(), Fault> {
    check_id(id, "i-", "InvalidInstanceID.Malformed")
}

fn check_id(id: &str, prefix: &str, code: &str) -> Result<(), Fault> {
    let well_formed = id.strip_prefix(prefix).is_some_and(|digits| {
        [8, 17].contains(&digits.len()) && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    });
    if well_formed {
        Ok(())
    } else {
        Err(Fault::new(code, format!("Invalid id: \"{id}\" (expecting \"{prefix}...\")")))
    }
}
