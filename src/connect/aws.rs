//! The EC2 client: credentials, region and endpoint as the AWS CLI finds them.
//!
//! The SDK's own retries are off: an error is an answer that is not known, and waiting is the loop's.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_ec2::Client;

use super::REQUEST_TIMEOUT;

/// How long connecting to EC2 may take, well within one request's time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the operator said about AWS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AwsOptions {
    /// `--profile`.
    pub(crate) profile: Option<String>,
    /// `--region`.
    pub(crate) region: Option<String>,
}

/// EC2, connected to when it is first asked.
pub(crate) struct Ec2 {
    options: AwsOptions,
    /// Region of the volumes' zone, used when nothing else is configured.
    fallback: Mutex<Option<String>>,
    client: tokio::sync::Mutex<Option<Client>>,
}

impl Ec2 {
    /// Returns EC2 as these options and the environment say.
    pub(crate) fn new(options: AwsOptions) -> Ec2 {
        Ec2 { options, fallback: Mutex::new(None), client: tokio::sync::Mutex::new(None) }
    }

    /// Says in which zone volumes are seen, which names the region when nothing else does.
    pub(crate) fn suggest_zone(&self, zone: &str) {
        if let Some(region) = region_of_zone(zone) {
            self.fallback.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(region);
        }
    }

    /// Returns the region: of the options, the environment, the profile, or the volumes' zone.
    pub(crate) async fn region(&self) -> Option<String> {
        if let Some(region) = &self.options.region {
            return Some(region.clone());
        }
        let mut profile = ProfileFileRegionProvider::builder();
        if let Some(name) = &self.options.profile {
            profile = profile.profile_name(name);
        }
        let configured = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(profile.build())
            .region()
            .await
            .map(|region| region.as_ref().to_owned());
        configured.or_else(|| self.fallback.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Returns the client, made on first use; `None` when no region is known.
    pub(crate) async fn client(&self) -> Option<Client> {
        let mut slot = self.client.lock().await;
        if let Some(client) = slot.as_ref() {
            return Some(client.clone());
        }
        let region = self.region().await?;
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_timeout(REQUEST_TIMEOUT).build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(region))
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        if let Some(profile) = &self.options.profile {
            loader = loader.profile_name(profile);
        }
        let client = Client::new(&loader.load().await);
        *slot = Some(client.clone());
        Some(client)
    }

    /// Forgets the client and with it the credentials: the next one is made from fresh ones (TL-6).
    pub(crate) async fn refresh(&self) {
        *self.client.lock().await = None;
    }
}

/// Returns the region of an availability zone (`eu-west-1a`) or local zone (`us-east-1-bos-1a`): the
/// words up to the first number.
fn region_of_zone(zone: &str) -> Option<String> {
    let words: Vec<&str> = zone.split('-').collect();
    let place = words.iter().position(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    let number: String = words[place].chars().take_while(char::is_ascii_digit).collect();
    (place >= 2).then(|| format!("{}-{number}", words[..place].join("-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_the_zone_without_its_letter() {
        assert_eq!(region_of_zone("eu-west-1a").as_deref(), Some("eu-west-1"));
        assert_eq!(region_of_zone("us-gov-east-1b").as_deref(), Some("us-gov-east-1"));
        assert_eq!(region_of_zone("us-east-1-bos-1a").as_deref(), Some("us-east-1"));
        assert_eq!(region_of_zone("zone"), None);
        assert_eq!(region_of_zone("a-1a"), None);
    }

    #[tokio::test]
    async fn an_explicit_region_wins_over_the_zone() {
        let ec2 = Ec2::new(AwsOptions { profile: None, region: Some("us-east-2".to_owned()) });
        ec2.suggest_zone("eu-west-1a");
        assert_eq!(ec2.region().await.as_deref(), Some("us-east-2"));
    }
}
