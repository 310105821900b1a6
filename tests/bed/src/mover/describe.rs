//! The one EC2 call that a careful mover makes, over the query protocol.

use anyhow::{Context, Result, bail};
use reqwest::header::AUTHORIZATION;

use crate::ec2::REGION;
use crate::ec2::xml::Element;

/// What EC2 says of a volume.
pub(super) struct Described {
    pub(super) zone: String,
    pub(super) state: String,
    pub(super) attachments: usize,
}

impl Described {
    /// Returns whether anybody may attach it.
    pub(super) fn is_free(&self) -> bool {
        self.state == "available" && self.attachments == 0
    }
}

/// A client of the EC2 stand-in with one access key.
pub(super) struct Describe {
    http: reqwest::Client,
    endpoint: String,
    authorization: String,
}

impl Describe {
    pub(super) fn new(endpoint: &str, access_key: &str) -> Describe {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={access_key}/20260101/{REGION}/ec2/aws4_request, SignedHeaders=host;x-amz-date, Signature=none"
        );
        Describe { http: reqwest::Client::new(), endpoint: endpoint.to_owned(), authorization }
    }

    pub(super) async fn volume(&self, volume: &str) -> Result<Described> {
        let answer = self.call("DescribeVolumes", &[("VolumeId.1", volume)]).await?;
        let item = answer.items("volumeSet").next().with_context(|| format!("EC2 knows no volume {volume}"))?;
        let value = |name| item.value(name).unwrap_or_default().to_owned();
        Ok(Described {
            zone: value("availabilityZone"),
            state: value("status"),
            attachments: item.items("attachmentSet").count(),
        })
    }

    pub(super) async fn call(&self, action: &str, parameters: &[(&str, &str)]) -> Result<Element> {
        let mut form = vec![("Action", action), ("Version", "2016-11-15")];
        form.extend_from_slice(parameters);
        let request = self.http.post(&self.endpoint).header(AUTHORIZATION, &self.authorization).form(&form);
        let answer = request.send().await.with_context(|| format!("call {action}"))?;
        let status = answer.status();
        let text = answer.text().await.with_context(|| format!("read the answer of {action}"))?;
        if !status.is_success() {
            bail!("{action} answered {status}: {text}");
        }
        Element::parse(&text).with_context(|| format!("{action} answered no XML"))
    }
}
