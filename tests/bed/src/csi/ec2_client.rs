//! The few EC2 calls of the driver, over the query protocol.

use std::time::Duration;

use reqwest::header::AUTHORIZATION;
use tokio::time::sleep;

use crate::ec2::REGION;
use crate::ec2::xml::Element;

/// How often a throttled call is made again, as the AWS SDK does for the real driver.
const THROTTLED_ATTEMPTS: u32 = 6;
/// Pause before the second attempt; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What went wrong with a call.
#[derive(Debug)]
pub(super) struct Ec2Error {
    /// EC2's error code; empty when there was no answer from EC2 at all.
    pub(super) code: String,
    pub(super) message: String,
}

impl Ec2Error {
    /// Returns whether the volume or the instance does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        ["InvalidVolume.NotFound", "InvalidInstanceID.NotFound"].contains(&self.code.as_str())
    }
}

impl std::fmt::Display for Ec2Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.code.is_empty() {
            formatter.write_str(&self.message)
        } else {
            write!(formatter, "{}: {}", self.code, self.message)
        }
    }
}

impl std::error::Error for Ec2Error {}

/// A client of the stand-in with one access key.
pub(super) struct Ec2Client {
    http: reqwest::Client,
    endpoint: String,
    authorization: String,
}

impl Ec2Client {
    pub(super) fn new(endpoint: &str, access_key_id: &str) -> Self {
        // The stand-in does not verify secrets; it reads who is calling, for which region.
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={access_key_id}/20260101/{REGION}/ec2/aws4_request, SignedHeaders=host;x-amz-date, Signature=none"
        );
        Self { http: reqwest::Client::new(), endpoint: endpoint.to_owned(), authorization }
    }

    /// Calls an action and returns the root of the answer; a throttled call is made again.
    pub(super) async fn call(&self, action: &str, parameters: &[(&str, &str)]) -> Result<Element, Ec2Error> {
        let mut pause = FIRST_PAUSE;
        for _ in 0..THROTTLED_ATTEMPTS {
            match self.call_once(action, parameters).await {
                Err(error) if error.code == "RequestLimitExceeded" => {}
                answer => return answer,
            }
            sleep(pause).await;
            pause *= 2;
        }
        self.call_once(action, parameters).await
    }

    async fn call_once(&self, action: &str, parameters: &[(&str, &str)]) -> Result<Element, Ec2Error> {
        let broken = |error: reqwest::Error| Ec2Error { code: String::new(), message: format!("{action}: {error}") };
        let mut form = vec![("Action", action), ("Version", "2016-11-15")];
        form.extend_from_slice(parameters);
        let answer = self
            .http
            .post(&self.endpoint)
            .header(AUTHORIZATION, &self.authorization)
            .form(&form)
            .send()
            .await
            .map_err(broken)?;
        let status = answer.status();
        let text = answer.text().await.map_err(broken)?;
        let root = Element::parse(&text)
            .ok_or_else(|| Ec2Error { code: String::new(), message: format!("{action}: answer {status} is no XML") })?;
        if status.is_success() {
            return Ok(root);
        }
        let error = root.get("Errors").and_then(|errors| errors.get("Error"));
        let field = |name| error.and_then(|error| error.value(name)).unwrap_or_default().to_owned();
        Err(Ec2Error { code: field("Code"), message: field("Message") })
    }
}
