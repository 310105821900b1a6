//! The plan as immutable Secrets: compressed, split when too large, with an index written last.
//!
//! Before-images may hold what only Secrets should hold. An index that is there says that all parts
//! are; its hash says that they are the right ones. Pure; `store` writes and reads the objects.

use std::io::{Read as _, Write as _};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::plan::{PLAN_VERSION, Plan};
use crate::world::Object;

/// Bytes of compressed plan in one Secret: etcd takes 1.5 MiB per request, base64 adds a third.
const PART_BYTES: usize = 700 * 1024;

/// Returns the name of the index Secret.
pub fn index_name(stem: &str) -> String {
    format!("{stem}-plan")
}

/// Returns the name of a part.
pub fn part_name(stem: &str, part: usize) -> String {
    format!("{stem}-plan-{part}")
}

/// Returns the Secrets of a plan, parts first, index last: to be created in this order.
pub fn to_secrets(plan: &Plan, stem: &str, namespace: &str) -> Vec<Value> {
    let packed = pack(plan);
    let secret = |name: String, data: Value| {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": { MANAGED_BY_LABEL: MANAGED_BY },
                "annotations": { crate::plan::MIGRATION_ANNOTATION: plan.mark() },
            },
            "type": "sts-migrate.io/plan",
            "immutable": true,
            "data": data,
        })
    };
    let parts: Vec<&[u8]> = packed.chunks(PART_BYTES).collect();
    let index = json!({
        "version": STANDARD.encode(PLAN_VERSION.to_string()),
        "parts": STANDARD.encode(parts.len().to_string()),
        "sha256": STANDARD.encode(hash(plan)),
    });
    let mut secrets: Vec<Value> = parts
        .iter()
        .enumerate()
        .map(|(number, part)| secret(part_name(stem, number), json!({ "part": STANDARD.encode(part) })))
        .collect();
    secrets.push(secret(index_name(stem), index));
    secrets
}

/// Returns how many parts an index names.
///
/// # Errors
/// The Secret is no index, or one of a newer program.
pub fn part_count(index: &Object) -> anyhow::Result<usize> {
    let version: u32 = field(index, "version")?.parse().context("read the plan's version")?;
    ensure!(version <= PLAN_VERSION, "Secret `{}` was written by a newer sts-migrate (format {version})", index.name());
    field(index, "parts")?.parse().context("read the number of the plan's parts")
}

/// Puts a plan together again.
///
/// # Errors
/// A part is missing or was changed.
pub fn from_secrets(index: &Object, parts: &[Object]) -> anyhow::Result<Plan> {
    ensure!(part_count(index)? == parts.len(), "Secret `{}` names other parts than were read", index.name());
    let mut packed = Vec::new();
    for part in parts {
        let text = part.text("/data/part").with_context(|| format!("Secret `{}` has no part", part.name()))?;
        packed.extend(STANDARD.decode(text).with_context(|| format!("decode Secret `{}`", part.name()))?);
    }
    let mut json = Vec::new();
    GzDecoder::new(packed.as_slice()).read_to_end(&mut json).context("unpack the plan")?;
    let plan: Plan = serde_json::from_slice(&json).context("read the plan")?;
    ensure!(hash(&plan) == field(index, "sha256")?, "the plan in Secret `{}` does not match its hash", index.name());
    Ok(plan)
}

/// Returns whether an index is that of this plan.
pub fn is_index_of(index: &Object, plan: &Plan) -> bool {
    field(index, "sha256").is_ok_and(|found| found == hash(plan))
}

fn field(index: &Object, key: &str) -> anyhow::Result<String> {
    let text = index
        .at("/data")
        .and_then(|data| data.get(key))
        .and_then(Value::as_str)
        .with_context(|| format!("Secret `{}` is no index of a plan: no key {key}", index.name()))?;
    let bytes = STANDARD.decode(text).with_context(|| format!("decode key {key} of Secret `{}`", index.name()))?;
    String::from_utf8(bytes).with_context(|| format!("read key {key} of Secret `{}`", index.name()))
}

fn json(plan: &Plan) -> Vec<u8> {
    serde_json::to_vec(plan).expect("a plan is plain data")
}

fn hash(plan: &Plan) -> String {
    Sha256::digest(json(plan)).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pack(plan: &Plan) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&json(plan)).expect("memory takes every byte");
    encoder.finish().expect("memory takes every byte")
}
