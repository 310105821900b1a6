//! The query protocol: `POST /` with a form, XML back.
//!
//! In the order in which EC2 looks at a request: who is calling (the access key id of the
//! `Authorization` header; secrets are not verified), how often, what, with which parameters, with
//! which right, on which resources, dry or not, and only then whether the state allows it.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Form, Router};
use jiff::Timestamp;
use rand::Rng;
use tokio::time::sleep;

use super::calls::Notes;
use super::keys::Key;
use super::knobs::draw;
use super::model::Volume;
use super::params::{Params, check_volume_id};
use super::world::World;
use super::xml::Element;
use super::{ACCOUNT, Ec2, REGION};

const EC2_NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";
const STS_NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// An error answer.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
}

impl Fault {
    /// An error of the client, as most are.
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        Self::with_status(400, code, message)
    }

    pub(super) fn with_status(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }
}

/// Who calls.
pub(super) struct Caller {
    pub(super) key: Key,
    /// Region that the request was signed for.
    pub(super) region: String,
}

impl Caller {
    /// Returns whether the caller looks at the account and the region in which the volumes are.
    pub(super) fn is_home(&self) -> bool {
        self.key.account == ACCOUNT && self.region == REGION
    }

    /// Returns how old the world is that the caller sees.
    pub(super) fn stale(&self) -> Duration {
        Duration::from_millis(self.key.stale_read_ms)
    }

    /// Returns a volume as the caller sees it, or EC2's error.
    pub(super) fn volume<'world>(&self, world: &'world World, id: &str) -> Result<&'world Volume, Fault> {
        check_volume_id(id)?;
        self.is_home().then(|| world.read(id, Duration::ZERO)).flatten().ok_or_else(|| no_volume(&[id]))
    }

    /// Refuses an action that the key may not do on a resource with these tags.
    pub(super) fn authorize_on(
        &self,
        action: &str,
        resource: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), Fault> {
        if self.key.allows_on(action, tags) { Ok(()) } else { Err(self.refused(action, resource)) }
    }

    /// Makes the error for a right that is not there.
    pub(super) fn refused(&self, action: &str, resource: &str) -> Fault {
        Fault::with_status(
            403,
            "UnauthorizedOperation",
            format!(
                "You are not authorized to perform this operation. User: {} is not authorized to perform: ec2:{action} on resource: {resource} because no identity-based policy allows the ec2:{action} action",
                self.key.arn()
            ),
        )
    }
}

/// Returns the ARN of a volume, as authorization errors name it.
pub(super) fn volume_arn(id: &str) -> String {
    format!("arn:aws:ec2:{REGION}:{ACCOUNT}:volume/{id}")
}

/// Makes the error for volumes that EC2 does not know.
pub(super) fn no_volume(ids: &[&str]) -> Fault {
    let message = match ids {
        [id] => format!("The volume '{id}' does not exist."),
        ids => format!("The volumes '{}' do not exist.", ids.join(", ")),
    };
    Fault::new("InvalidVolume.NotFound", message)
}

pub(super) fn router(ec2: Ec2) -> Router {
    Router::new().route("/", post(handle)).with_state(ec2)
}

async fn handle(State(ec2): State<Ec2>, headers: HeaderMap, Form(pairs): Form<Vec<(String, String)>>) -> Response {
    let received = Timestamp::now();
    let params = Params(pairs);
    let action = params.get("Action").unwrap_or_default().to_owned();
    let is_sts = params.get("Version") == Some("2011-06-15");
    let (key, region) = credential(&headers);
    let latency = ec2.with(|world| world.key(&key).map_or(Duration::ZERO, |key| draw(key.latency_ms)));
    if !latency.is_zero() {
        sleep(latency).await;
    }
    let request_id = request_id();
    let answer = ec2.with(|world| {
        let mut notes = Notes::default();
        let answer = answer(world, &key, region, &action, is_sts, &params, &mut notes);
        let error = answer.as_ref().err().map(|fault| fault.code.clone());
        world.log(received, &key, &action, notes, error);
        answer
    });
    let (status, document) = match answer {
        Ok(element) if is_sts => (200, sts_answer(&action, element, &request_id)),
        Ok(mut element) => {
            element.name = format!("{action}Response");
            let body = std::mem::take(&mut element.children);
            let mut element = element.with("requestId", &request_id);
            element.children.extend(body);
            (200, element.namespace(EC2_NAMESPACE))
        }
        Err(fault) if is_sts => (fault.status, sts_fault(&fault, &request_id)),
        Err(fault) => {
            let error = Element::new("Error").with("Code", &fault.code).with("Message", &fault.message);
            (
                fault.status,
                Element::new("Response").child(Element::new("Errors").child(error)).with("RequestID", &request_id),
            )
        }
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "text/xml;charset=UTF-8")], document.document()).into_response()
}

fn answer(
    world: &mut World,
    key: &str,
    region: String,
    action: &str,
    is_sts: bool,
    params: &Params,
    notes: &mut Notes,
) -> Result<Element, Fault> {
    notes.of(params);
    let Some(key) = world.key(key) else {
        return Err(match (is_sts, key.is_empty()) {
            (true, true) => {
                Fault::with_status(403, "MissingAuthenticationToken", "Request is missing Authentication Token")
            }
            (true, false) => Fault::with_status(
                403,
                "InvalidClientTokenId",
                "The security token included in the request is invalid.",
            ),
            (false, true) => Fault::with_status(
                401,
                "AuthFailure",
                "AWS was not able to authenticate the request: access credentials are missing",
            ),
            (false, false) => {
                Fault::with_status(401, "AuthFailure", "AWS was not able to validate the provided access credentials")
            }
        });
    };
    if key.throttle > 0.0 && rand::rng().random::<f64>() < key.throttle {
        return Err(if is_sts {
            Fault::new("Throttling", "Rate exceeded")
        } else {
            Fault::with_status(503, "RequestLimitExceeded", "Request limit exceeded.")
        });
    }
    let forced = world.keys.get_mut(&key.key).and_then(|key| key.take_error(action));
    if let Some(forced) = forced {
        return Err(Fault::with_status(forced.status, &forced.code, forced.message));
    }
    let caller = Caller { key, region };
    if is_sts {
        return match action {
            "GetCallerIdentity" => Ok(Element::new("GetCallerIdentityResult")
                .with("Arn", caller.key.arn())
                .with("UserId", format!("AIDA{}", caller.key.key.trim_start_matches("AKIA")))
                .with("Account", &caller.key.account)),
            _ => Err(Fault::new("InvalidAction", format!("Could not find operation {action} for version 2011-06-15"))),
        };
    }
    let version = params.get("Version").unwrap_or_default();
    let Some((_, known, act)) = ACTIONS.iter().find(|(name, ..)| *name == action).filter(|_| version == "2016-11-15")
    else {
        return Err(Fault::new("InvalidAction", format!("The action {action} is not valid for this web service.")));
    };
    params.only(known)?;
    if !caller.key.allows(action) {
        return Err(caller.refused(action, "*"));
    }
    act(world, &caller, params, notes)
}

type Act = fn(&mut World, &Caller, &Params, &mut Notes) -> Result<Element, Fault>;

/// The actions with the parameters that they know, beside `DryRun`.
const ACTIONS: [(&str, &[&str], Act); 11] = [
    (
        "DescribeVolumes",
        &["VolumeId", "Filter", "MaxResults", "NextToken", "IncludeManagedResources"],
        World::describe_volumes,
    ),
    ("DescribeVolumesModifications", &["VolumeId", "Filter", "MaxResults", "NextToken"], World::describe_modifications),
    (
        "DescribeInstances",
        &["InstanceId", "Filter", "MaxResults", "NextToken", "IncludeManagedResources"],
        World::describe_instances,
    ),
    ("DescribeAvailabilityZones", &["ZoneName", "ZoneId", "AllAvailabilityZones", "Filter"], World::describe_zones),
    (
        "CreateVolume",
        &[
            "AvailabilityZone",
            "Size",
            "VolumeType",
            "Iops",
            "Throughput",
            "Encrypted",
            "KmsKeyId",
            "MultiAttachEnabled",
            "TagSpecification",
            "ClientToken",
        ],
        World::create_volume,
    ),
    ("DeleteVolume", &["VolumeId"], World::delete_volume),
    ("AttachVolume", &["VolumeId", "InstanceId", "Device"], World::attach_volume),
    ("DetachVolume", &["VolumeId", "InstanceId", "Device", "Force"], World::detach_volume),
    ("ModifyVolume", &["VolumeId", "Size", "VolumeType", "Iops", "Throughput"], World::modify_volume),
    ("CreateTags", &["ResourceId", "Tag"], World::create_tags),
    ("DeleteTags", &["ResourceId", "Tag"], World::delete_tags),
];

/// Reads access key id and region out of a signature; empty where there is none.
fn credential(headers: &HeaderMap) -> (String, String) {
    let scope = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once("Credential="))
        .map(|(_, rest)| rest.split([',', ' ']).next().unwrap_or_default())
        .unwrap_or_default();
    let mut parts = scope.split('/');
    let key = parts.next().unwrap_or_default().to_owned();
    let region = parts.nth(1).unwrap_or_default().to_owned();
    (key, region)
}

fn sts_answer(action: &str, result: Element, request_id: &str) -> Element {
    Element::new(&format!("{action}Response"))
        .namespace(STS_NAMESPACE)
        .child(result)
        .child(Element::new("ResponseMetadata").with("RequestId", request_id))
}

fn sts_fault(fault: &Fault, request_id: &str) -> Element {
    let error = Element::new("Error").with("Type", "Sender").with("Code", &fault.code).with("Message", &fault.message);
    Element::new("ErrorResponse").namespace(STS_NAMESPACE).child(error).with("RequestId", request_id)
}

fn request_id() -> String {
    let random: u128 = rand::rng().random();
    let digits = format!("{random:032x}");
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}
