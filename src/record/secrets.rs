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

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
    use proptest::sample::Index;

    use super::*;
    use crate::fixtures;

    /// Kubernetes' own limit for the data of a Secret.
    const SECRET_LIMIT: usize = 1024 * 1024;

    const STEM: &str = "sts-migrate-set-web-0123456789";

    /// A plan whose claims carry what does not compress: a digest per claim and round.
    fn large_plan(replicas: i64, rounds: usize) -> Plan {
        let mut plan = fixtures::plan(replicas, 2);
        for volume in plan.sets[0].ordinals.iter_mut().flat_map(|ordinal| &mut ordinal.volumes) {
            let digest = |round| {
                let hash = Sha256::digest(format!("{} {round}", volume.claim));
                hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
            };
            let noise: String = (0..rounds).map(digest).collect();
            volume.claim_before.0["metadata"]["annotations"]["example.org/noise"] = noise.into();
        }
        plan
    }

    /// Returns index and parts as they come back from a cluster.
    fn stored(plan: &Plan) -> (Object, Vec<Object>) {
        let mut secrets: Vec<Object> = to_secrets(plan, STEM, "shop").into_iter().map(Object).collect();
        let index = secrets.pop().expect("the index is last");
        (index, secrets)
    }

    fn part_bytes(part: &Object) -> Vec<u8> {
        STANDARD.decode(part.text("/data/part").expect("it has a part")).expect("it is base64")
    }

    fn set_part_bytes(part: &mut Object, bytes: &[u8]) {
        part.0["data"]["part"] = STANDARD.encode(bytes).into();
    }

    #[test]
    fn a_thousand_replicas_with_two_claims_fit_in_parts_below_the_limit() {
        let plan = large_plan(1000, 14);
        let (index, parts) = stored(&plan);
        assert!(parts.len() > 1, "the sample must be too large for one Secret");
        for part in &parts {
            assert!(part_bytes(part).len() < SECRET_LIMIT, "{}", part.name());
            assert!(part.0.to_string().len() < SECRET_LIMIT, "{} with its frame", part.name());
        }
        assert_eq!(part_count(&index).expect("it is an index"), parts.len());
        assert_eq!(from_secrets(&index, &parts).expect("nothing was changed"), plan);
    }

    #[test]
    fn parts_come_first_and_everything_is_immutable_and_named() {
        let plan = fixtures::plan(2, 1);
        let secrets = to_secrets(&plan, STEM, "shop");
        let names: Vec<&str> = secrets.iter().filter_map(|secret| secret["metadata"]["name"].as_str()).collect();
        assert_eq!(names, [part_name(STEM, 0), index_name(STEM)]);
        for secret in &secrets {
            assert_eq!(secret["immutable"], true);
            assert_eq!(secret["metadata"]["namespace"], "shop");
            assert_eq!(secret["metadata"]["labels"][MANAGED_BY_LABEL], MANAGED_BY);
        }
    }

    #[test]
    fn missing_or_swapped_parts_are_refused() {
        let (index, mut parts) = stored(&large_plan(1000, 14));
        assert!(from_secrets(&index, &parts[1..]).is_err());
        parts.swap(0, 1);
        assert!(from_secrets(&index, &parts).is_err());
    }

    #[test]
    fn a_part_of_another_plan_is_refused() {
        let plan = fixtures::plan(2, 1);
        let (index, _) = stored(&plan);
        let (other_index, other_parts) = stored(&fixtures::plan(3, 1));
        let error = from_secrets(&index, &other_parts).expect_err("it is of another plan");
        assert!(error.to_string().contains("does not match its hash"), "{error}");
        assert!(is_index_of(&index, &plan));
        assert!(!is_index_of(&other_index, &plan));
    }

    #[test]
    fn a_plan_of_a_newer_program_is_refused() {
        let (mut index, parts) = stored(&fixtures::plan(1, 1));
        index.0["data"]["version"] = STANDARD.encode("2").into();
        let error = from_secrets(&index, &parts).expect_err("it is newer");
        assert!(error.to_string().contains("newer sts-migrate"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        #[test]
        fn any_plan_reads_back(replicas in 0..6_i64, templates in 0..4_usize, start in 0..9_i64) {
            let plan = fixtures::plan_from(start, replicas, templates);
            let (index, parts) = stored(&plan);
            prop_assert_eq!(from_secrets(&index, &parts).expect("nothing was changed"), plan);
        }

        /// A byte of gzip's header (its time stamp) may change without a loss; then the plan is the same.
        #[test]
        fn a_changed_part_is_refused(place in any::<Index>(), flipped in 1..=255_u8) {
            let plan = fixtures::plan(2, 2);
            let (index, mut parts) = stored(&plan);
            let mut bytes = part_bytes(&parts[0]);
            let place = place.index(bytes.len());
            bytes[place] ^= flipped;
            set_part_bytes(&mut parts[0], &bytes);
            match from_secrets(&index, &parts) {
                Ok(read) => {
                    prop_assert!(place < 10, "byte {} is not of the header", place);
                    prop_assert_eq!(read, plan);
                }
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }

        #[test]
        fn a_shortened_part_is_refused(place in any::<Index>()) {
            let (index, mut parts) = stored(&fixtures::plan(2, 2));
            let bytes = part_bytes(&parts[0]);
            set_part_bytes(&mut parts[0], &bytes[..place.index(bytes.len())]);
            prop_assert!(from_secrets(&index, &parts).is_err());
        }
    }
}
