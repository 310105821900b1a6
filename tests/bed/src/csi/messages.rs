//! The messages of CSI v1 that the driver speaks, by hand: field numbers are those of `csi.proto`.
//!
//! A `oneof` is written as one optional field per case, which is the same on the wire. Fields that the
//! driver does not read are left out; prost skips them.

use std::collections::HashMap;

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Empty {}

/// `google.protobuf.BoolValue`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BoolValue {
    #[prost(bool, tag = "1")]
    pub(super) value: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetPluginInfoResponse {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) vendor_version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetPluginCapabilitiesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) capabilities: Vec<Capability>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ControllerGetCapabilitiesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) capabilities: Vec<Capability>,
}

/// `PluginCapability` with a service, and `ControllerServiceCapability` with an RPC: alike on the wire.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Capability {
    #[prost(message, optional, tag = "1")]
    pub(super) kind: Option<CapabilityKind>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CapabilityKind {
    #[prost(int32, tag = "1")]
    pub(super) number: i32,
}

impl Capability {
    /// Plugin: `CONTROLLER_SERVICE`.
    pub(super) const CONTROLLER_SERVICE: i32 = 1;
    /// Plugin: `VOLUME_ACCESSIBILITY_CONSTRAINTS`.
    pub(super) const VOLUME_ACCESSIBILITY_CONSTRAINTS: i32 = 2;
    /// Controller: `CREATE_DELETE_VOLUME`.
    pub(super) const CREATE_DELETE_VOLUME: i32 = 1;
    /// Controller: `PUBLISH_UNPUBLISH_VOLUME`.
    pub(super) const PUBLISH_UNPUBLISH_VOLUME: i32 = 2;

    pub(super) fn all(numbers: [i32; 2]) -> Vec<Self> {
        numbers.map(|number| Self { kind: Some(CapabilityKind { number }) }).to_vec()
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ProbeResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) ready: Option<BoolValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CreateVolumeRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) capacity_range: Option<CapacityRange>,
    #[prost(message, repeated, tag = "3")]
    pub(super) volume_capabilities: Vec<VolumeCapability>,
    #[prost(map = "string, string", tag = "4")]
    pub(super) parameters: HashMap<String, String>,
    #[prost(message, optional, tag = "6")]
    pub(super) volume_content_source: Option<Empty>,
    #[prost(message, optional, tag = "7")]
    pub(super) accessibility_requirements: Option<TopologyRequirement>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CreateVolumeResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) volume: Option<Volume>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CapacityRange {
    #[prost(int64, tag = "1")]
    pub(super) required_bytes: i64,
    #[prost(int64, tag = "2")]
    pub(super) limit_bytes: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct VolumeCapability {
    #[prost(message, optional, tag = "1")]
    pub(super) block: Option<Empty>,
    #[prost(message, optional, tag = "2")]
    pub(super) mount: Option<MountVolume>,
    #[prost(message, optional, tag = "3")]
    pub(super) access_mode: Option<AccessMode>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MountVolume {
    #[prost(string, tag = "1")]
    pub(super) fs_type: String,
    #[prost(string, repeated, tag = "2")]
    pub(super) mount_flags: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AccessMode {
    #[prost(int32, tag = "1")]
    pub(super) mode: i32,
}

impl AccessMode {
    /// `SINGLE_NODE_WRITER`.
    pub(super) const SINGLE_NODE_WRITER: i32 = 1;
    /// `MULTI_NODE_MULTI_WRITER`.
    pub(super) const MULTI_NODE_MULTI_WRITER: i32 = 5;
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Volume {
    #[prost(int64, tag = "1")]
    pub(super) capacity_bytes: i64,
    #[prost(string, tag = "2")]
    pub(super) volume_id: String,
    #[prost(map = "string, string", tag = "3")]
    pub(super) volume_context: HashMap<String, String>,
    #[prost(message, repeated, tag = "5")]
    pub(super) accessible_topology: Vec<Topology>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TopologyRequirement {
    #[prost(message, repeated, tag = "1")]
    pub(super) requisite: Vec<Topology>,
    #[prost(message, repeated, tag = "2")]
    pub(super) preferred: Vec<Topology>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Topology {
    #[prost(map = "string, string", tag = "1")]
    pub(super) segments: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeleteVolumeRequest {
    #[prost(string, tag = "1")]
    pub(super) volume_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ControllerPublishVolumeRequest {
    #[prost(string, tag = "1")]
    pub(super) volume_id: String,
    #[prost(string, tag = "2")]
    pub(super) node_id: String,
    #[prost(message, optional, tag = "3")]
    pub(super) volume_capability: Option<VolumeCapability>,
    #[prost(bool, tag = "4")]
    pub(super) readonly: bool,
    #[prost(map = "string, string", tag = "6")]
    pub(super) volume_context: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ControllerPublishVolumeResponse {
    #[prost(map = "string, string", tag = "1")]
    pub(super) publish_context: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ControllerUnpublishVolumeRequest {
    #[prost(string, tag = "1")]
    pub(super) volume_id: String,
    #[prost(string, tag = "2")]
    pub(super) node_id: String,
}
