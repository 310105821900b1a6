//! `DescribeVolumes`, many volumes a call, with the missing ones told apart (EC-12).

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types;
use futures::future::join_all;

use crate::connect::Ec2;
use crate::world::{Attachment, AttachmentState, Ec2Volume, Unknown, VolumeAnswer, VolumeId, VolumeState};

/// How many volumes one call may name; the EBS CSI driver's own number.
const VOLUMES_PER_CALL: usize = 500;

/// What one call came to.
#[derive(Clone, Debug, PartialEq)]
enum Trouble {
    /// One of the volumes does not exist: nothing is said about the others.
    Missing,
    /// The credentials have expired: fresh ones may do.
    Expired(String),
    /// Another error.
    Unknown(Unknown),
}

/// Asks EC2 for volumes; each gets an answer of its own.
pub(super) async fn describe(ec2: &Ec2, ids: &[VolumeId]) -> Vec<(VolumeId, VolumeAnswer)> {
    let Some(client) = ec2.client().await else {
        let unknown =
            Unknown { reason: "no AWS region is known: give --region, or set AWS_REGION".to_owned(), passing: false };
        return ids.iter().map(|id| (id.clone(), Err(unknown.clone()))).collect();
    };
    let answers = join_all(ids.chunks(VOLUMES_PER_CALL).map(|chunk| ask(ec2, &client, chunk))).await;
    answers.into_iter().flatten().collect()
}

async fn ask(ec2: &Ec2, client: &Client, ids: &[VolumeId]) -> Vec<(VolumeId, VolumeAnswer)> {
    match bisect(client, ids).await {
        Err(reason) => {
            ec2.refresh().await;
            let again = match ec2.client().await {
                Some(client) => bisect(&client, ids).await,
                None => Err(reason),
            };
            again.unwrap_or_else(|reason| {
                let unknown = Unknown { reason, passing: false };
                ids.iter().map(|id| (id.clone(), Err(unknown.clone()))).collect()
            })
        }
        Ok(answers) => answers,
    }
}

type Answers = Result<Vec<(VolumeId, VolumeAnswer)>, String>;

/// Asks for all, and for halves when one of them poisons the call; an error means that the
/// credentials have expired.
fn bisect<'a>(client: &'a Client, ids: &'a [VolumeId]) -> Pin<Box<dyn Future<Output = Answers> + Send + 'a>> {
    Box::pin(async move {
        match call(client, ids).await {
            Ok(mut found) => Ok(ids
                .iter()
                .map(|id| {
                    let answer = found
                        .remove(id)
                        .map(Some)
                        .ok_or_else(|| Unknown { reason: format!("EC2's answer leaves {id} out"), passing: true });
                    (id.clone(), answer)
                })
                .collect()),
            Err(Trouble::Missing) if ids.len() == 1 => Ok(vec![(ids[0].clone(), Ok(None))]),
            Err(Trouble::Missing) => {
                let (left, right) = ids.split_at(ids.len() / 2);
                let (left, right) = tokio::join!(bisect(client, left), bisect(client, right));
                let mut answers = left?;
                answers.extend(right?);
                Ok(answers)
            }
            Err(Trouble::Expired(reason)) => Err(reason),
            Err(Trouble::Unknown(unknown)) => Ok(ids.iter().map(|id| (id.clone(), Err(unknown.clone()))).collect()),
        }
    })
}

async fn call(client: &Client, ids: &[VolumeId]) -> Result<BTreeMap<VolumeId, Ec2Volume>, Trouble> {
    let mut found = BTreeMap::new();
    let mut token: Option<String> = None;
    loop {
        let request = client
            .describe_volumes()
            .set_volume_ids(Some(ids.iter().map(|id| id.0.clone()).collect()))
            .set_next_token(token.take());
        let answer = request.send().await.map_err(|error| trouble(&error))?;
        for volume in answer.volumes() {
            if let Some(id) = volume.volume_id() {
                found.insert(VolumeId(id.to_owned()), translate(volume));
            }
        }
        token = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if token.is_none() {
            return Ok(found);
        }
    }
}

fn trouble<E>(error: &SdkError<E>) -> Trouble
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error {
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or_default();
            let message = service.err().message().unwrap_or_default();
            classify(code, message, service.raw().status().as_u16())
        }
        SdkError::TimeoutError(_) => passing("EC2 did not answer in time".to_owned()),
        SdkError::ResponseError(_) => passing(format!("EC2's answer cannot be read: {}", DisplayErrorContext(error))),
        SdkError::DispatchFailure(failure) => Trouble::Unknown(Unknown {
            reason: format!("EC2 cannot be asked: {}", DisplayErrorContext(error)),
            // What is neither of the network nor a time-out is about credentials: waiting brings none.
            passing: failure.is_io() || failure.is_timeout(),
        }),
        other => Trouble::Unknown(Unknown {
            reason: format!("EC2 cannot be asked: {}", DisplayErrorContext(other)),
            passing: false,
        }),
    }
}

fn passing(reason: String) -> Trouble {
    Trouble::Unknown(Unknown { reason, passing: true })
}

/// Sorts EC2's error codes by what they mean for the question.
fn classify(code: &str, message: &str, http_status: u16) -> Trouble {
    let reason = format!("EC2 answers {code}: {message}");
    match code {
        "InvalidVolume.NotFound" | "InvalidVolumeID.NotFound" => Trouble::Missing,
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => Trouble::Expired(reason),
        "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "RequestThrottled"
        | "EC2ThrottledException"
        | "InternalError"
        | "InternalFailure"
        | "ServiceUnavailable"
        | "Unavailable" => passing(reason),
        _ => Trouble::Unknown(Unknown { reason, passing: http_status >= 500 || http_status == 429 || code.is_empty() }),
    }
}

fn translate(volume: &types::Volume) -> Ec2Volume {
    Ec2Volume {
        state: match volume.state() {
            Some(types::VolumeState::Creating) => VolumeState::Creating,
            Some(types::VolumeState::Available) => VolumeState::Available,
            Some(types::VolumeState::InUse) => VolumeState::InUse,
            Some(types::VolumeState::Deleting) => VolumeState::Deleting,
            Some(types::VolumeState::Deleted) => VolumeState::Deleted,
            Some(types::VolumeState::Error) => VolumeState::Error,
            _ => VolumeState::Other,
        },
        attachments: volume
            .attachments()
            .iter()
            .map(|attachment| Attachment {
                instance: attachment.instance_id().unwrap_or_default().to_owned(),
                state: match attachment.state() {
                    Some(types::VolumeAttachmentState::Attaching) => AttachmentState::Attaching,
                    Some(types::VolumeAttachmentState::Attached) => AttachmentState::Attached,
                    Some(types::VolumeAttachmentState::Detaching) => AttachmentState::Detaching,
                    Some(types::VolumeAttachmentState::Detached) => AttachmentState::Detached,
                    Some(types::VolumeAttachmentState::Busy) => AttachmentState::Busy,
                    _ => AttachmentState::Other,
                },
                delete_on_termination: attachment.delete_on_termination().unwrap_or_default(),
            })
            .filter(|attachment| attachment.state != AttachmentState::Detached)
            .collect(),
        zone: volume.availability_zone().unwrap_or_default().to_owned(),
        size_gib: volume.size().unwrap_or_default().into(),
        volume_type: volume.volume_type().map_or(String::new(), |name| name.as_str().to_owned()),
        multi_attach: volume.multi_attach_enabled().unwrap_or_default(),
        kms_key: volume.kms_key_id().map(str::to_owned),
        managed: volume.operator().and_then(types::OperatorResponse::managed).unwrap_or_default(),
        outpost: volume.outpost_arn().map(str::to_owned),
        tags: volume
            .tags()
            .iter()
            .filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned())))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_passing(trouble: Trouble) -> bool {
        matches!(trouble, Trouble::Unknown(Unknown { passing: true, .. }))
    }

    #[test]
    fn throttling_and_server_errors_pass_and_refusals_do_not() {
        assert!(is_passing(classify("RequestLimitExceeded", "", 503)));
        assert!(is_passing(classify("Unavailable", "", 503)));
        assert!(is_passing(classify("SomethingNew", "", 500)));
        assert!(is_passing(classify("", "", 200)));
        assert!(!is_passing(classify("UnauthorizedOperation", "", 403)));
        assert!(!is_passing(classify("AuthFailure", "", 401)));
        assert!(!is_passing(classify("InvalidParameterValue", "", 400)));
    }

    #[test]
    fn a_missing_volume_and_expired_credentials_are_told_apart() {
        assert_eq!(classify("InvalidVolume.NotFound", "", 400), Trouble::Missing);
        assert!(matches!(classify("ExpiredToken", "", 400), Trouble::Expired(_)));
    }

    #[test]
    fn states_that_are_not_known_are_never_free() {
        let volume = types::Volume::builder().state(types::VolumeState::from("vanishing")).build();
        assert!(!translate(&volume).is_free());
        let detached = types::VolumeAttachment::builder().state(types::VolumeAttachmentState::Detached).build();
        let volume = types::Volume::builder().state(types::VolumeState::Available).attachments(detached).build();
        assert!(translate(&volume).is_free());
    }
}
