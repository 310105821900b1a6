//! What a workload puts into a cluster.

use super::*;

fn find<'a>(manifest: &'a [Value], kind: &str) -> Vec<&'a Value> {
    manifest.iter().filter(|object| object["kind"] == kind).collect()
}

#[test]
fn a_set_brings_its_headless_service() {
    let manifest = Workload::new("shop", "web").replicas(3).claim("data", "1Gi", USUAL_CLASS).manifest();
    assert!(find(&manifest, "StorageClass").is_empty());
    assert_eq!(find(&manifest, "Service")[0]["spec"]["clusterIP"], "None");
    let set = find(&manifest, "StatefulSet")[0];
    assert_eq!(set["spec"]["replicas"], 3);
    assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]["mountPath"], "/data");
}

#[test]
fn claims_and_pods_are_named_from_the_first_ordinal_on() {
    let workload = Workload::new("shop", "web")
        .replicas(2)
        .start_ordinal(3)
        .claim("data", "1Gi", "gp3")
        .claim("wal", "1Gi", "gp3");
    assert_eq!(workload.pods(), ["web-3", "web-4"]);
    assert_eq!(workload.claims(), ["data-web-3", "wal-web-3", "data-web-4", "wal-web-4"]);
}

#[test]
fn raw_devices_are_not_mounted() {
    let manifest = Workload::new("shop", "web").block_claim("raw", "1Gi", "gp3").manifest();
    let set = find(&manifest, "StatefulSet")[0];
    assert_eq!(set["spec"]["volumeClaimTemplates"][0]["spec"]["volumeMode"], "Block");
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["volumeMounts"], json!([]));
    assert_eq!(container["volumeDevices"][0]["name"], "raw");
}

#[test]
fn a_class_that_is_brought_along_comes_first() {
    let class = Class::new("fast").retain().mount_options(&["noatime"]);
    let manifest = Workload::new("shop", "web").claim("data", "1Gi", "fast").class(class).manifest();
    let classes = find(&manifest, "StorageClass");
    assert_eq!(classes, [&manifest[0]]);
    assert_eq!(classes[0]["reclaimPolicy"], "Retain");
    assert_eq!(classes[0]["mountOptions"], json!(["noatime"]));
}

#[test]
fn every_kind_of_a_manifest_is_known() {
    let manifest = Workload::new("shop", "web")
        .claim("data", "1Gi", "gp3")
        .service("public", json!({"type": "LoadBalancer"}))
        .edit(|set| set["spec"]["revisionHistoryLimit"] = json!(2))
        .manifest();
    assert!(manifest.iter().all(|object| kinds::resource(object["kind"].as_str().unwrap_or_default()).is_some()));
    assert_eq!(find(&manifest, "StatefulSet")[0]["spec"]["revisionHistoryLimit"], 2);
    assert_eq!(find(&manifest, "Service")[1]["spec"]["selector"]["app"], "web");
}
