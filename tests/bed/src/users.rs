//! Users of the bed's clusters: one per actor, so that an audit log says who did what.
//!
//! Each user has one static token. Components are in `system:masters`, which keeps them out of RBAC
//! and of the limits of API priority and fairness; the tool is not: it is bound to `cluster-admin`
//! like an operator, and has the limits of one.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::Cluster;
use crate::handle::Place;

/// A user who may do everything and is none of the actors below.
pub const ADMIN: &str = "admin";
/// The user of kube-controller-manager.
pub const CONTROLLER_MANAGER: &str = "kube-controller-manager";
/// The user of kube-scheduler.
pub const SCHEDULER: &str = "kube-scheduler";
/// The user of the external-attacher.
pub const ATTACHER: &str = "csi-attacher";
/// The user of the external-provisioner.
pub const PROVISIONER: &str = "csi-provisioner";
/// The user of the node agents.
pub const NODE_AGENT: &str = "node-agent";
/// The user of the load-balancer controllers.
pub const LOAD_BALANCER: &str = "load-balancer";

/// The group of the tool's users; bound to `cluster-admin`.
pub const TOOLS: &str = "tools";
/// The group of the users that start without any right.
pub const RESTRICTED: &str = "restricted";

/// How many `tool-N` users there are.
pub const TOOL_COUNT: u32 = 256;
/// How many `restricted-N` users there are.
pub const RESTRICTED_COUNT: u32 = 32;

/// Returns the name of the tool's user number `number`.
pub fn tool(number: u32) -> String {
    format!("tool-{number}")
}

/// Returns the name of the restricted user number `number`.
pub fn restricted(number: u32) -> String {
    format!("restricted-{number}")
}

/// Returns the token of a user.
pub fn token(user: &str) -> String {
    format!("token-{user}")
}

/// Returns the API server's static token file.
pub(crate) fn token_file() -> String {
    let masters = [ADMIN, CONTROLLER_MANAGER, SCHEDULER, ATTACHER, PROVISIONER, NODE_AGENT, LOAD_BALANCER];
    let masters = masters.into_iter().map(|user| (user.to_owned(), "system:masters"));
    let tools = (0..TOOL_COUNT).map(|number| (tool(number), TOOLS));
    let restricted = (0..RESTRICTED_COUNT).map(|number| (restricted(number), RESTRICTED));
    let mut file = String::new();
    for (user, group) in masters.chain(tools).chain(restricted) {
        let _ = writeln!(file, "{},{user},{user},\"{group}\"", token(&user));
    }
    file
}

/// Returns a kubeconfig of one user with the contexts `a` (current) and `b`.
pub(crate) fn kubeconfig(places: &[(Cluster, &Place)], user: &str) -> Value {
    let named = |make: &dyn Fn(Cluster, &Place) -> Value| -> Vec<Value> {
        places.iter().map(|(cluster, place)| make(*cluster, place)).collect()
    };
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": named(&|cluster, place| json!({
            "name": cluster.name(),
            "cluster": {
                "server": place.server,
                "certificate-authority": place.certificate_authority,
            },
        })),
        "users": [{ "name": user, "user": { "token": token(user) } }],
        "contexts": named(&|cluster, _| json!({
            "name": cluster.name(),
            "context": { "cluster": cluster.name(), "user": user },
        })),
        "current-context": places.first().map(|(cluster, _)| cluster.name()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_has_one_line_and_one_group() {
        let file = token_file();
        assert_eq!(file.lines().count(), 7 + 256 + 32);
        assert!(file.contains("token-admin,admin,admin,\"system:masters\"\n"));
        assert!(file.contains("token-tool-255,tool-255,tool-255,\"tools\"\n"));
        assert!(file.contains("token-restricted-31,restricted-31,restricted-31,\"restricted\"\n"));
    }
}
