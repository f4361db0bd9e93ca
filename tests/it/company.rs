//! The small company that most tests begin with.

use serde_json::json;

use crate::client::{Client, Tokens};
use crate::harness::{Cluster, OPERATOR, PASSWORD};

/// In `default`: `root` is the operator, `max` an administrator, `ben` an editor (which includes viewer), `cleo` a
/// viewer, `vera` may check. In `acme`: `zoe` is its administrator. Gives `root` before replica `a`.
pub(crate) async fn company(cluster: &Cluster) -> (Client, Tokens) {
    let nobody = cluster.a.client();
    let tokens = nobody.login(OPERATOR).await;
    let root = nobody.with(&tokens);
    let user = |id: &str| json!({"op": "post", "path": "users", "body": {"id": id, "password": PASSWORD}});
    let role = |name: &str, permissions: &[&str], includes: &[&str]| {
        let body = json!({"name": name, "permissions": permissions, "includes": includes});
        json!({"op": "post", "path": "roles", "body": body})
    };
    let give = |id: &str, name: &str| json!({"op": "put", "path": format!("users/{id}/roles/{name}")});
    let default = json!({"operations": [
        role("viewer", &["invoices:read"], &[]),
        role("editor", &["invoices:write"], &["viewer"]),
        role("admins", &["permcast:admin"], &[]),
        role("checkers", &["permcast:check"], &[]),
        user("max"), give("max", "admins"),
        user("ben"), give("ben", "editor"),
        user("cleo"), give("cleo", "viewer"),
        user("vera"), give("vera", "checkers"),
    ]});
    root.post("/v1/tenants/default/batch", default).await.ok();
    root.post("/v1/tenants", json!({"name": "acme"})).await.ok();
    let acme = json!({"operations": [
        role("admins", &["permcast:admin"], &[]),
        user("zoe"), give("zoe", "admins"),
    ]});
    let made = root.post("/v1/tenants/acme/batch", acme).await.version();
    // From here on the other replica knows it, too.
    crate::client::send(
        cluster.b.client().with(&tokens).request(reqwest::Method::GET, "/v1/me").header("Permcast-At-Least", made),
    )
    .await
    .ok();
    (root, tokens)
}
