//! What clients and verifiers discover: the keys (RFC 7517) and the endpoints (RFC 8414).

use actix_web::http::header::{CacheControl, CacheDirective, ContentType};
use actix_web::{HttpResponse, web};
use serde_json::json;

use super::exchange::GRANT_TYPE;
use crate::token::{KeySet, Sessions};

/// How long they may be kept, in seconds. The next key is shown long before it signs, so that no verifier must ask anew.
const KEPT_FOR_S: u32 = 300;

fn kept_for_a_while() -> CacheControl {
    CacheControl(vec![CacheDirective::Public, CacheDirective::MaxAge(KEPT_FOR_S)])
}

/// The public keys.
pub(super) async fn jwks(keys: web::Data<KeySet>) -> HttpResponse {
    HttpResponse::Ok().insert_header(kept_for_a_while()).insert_header(ContentType::json()).body(keys.jwks())
}

/// The endpoints.
pub(super) async fn metadata(sessions: web::Data<Sessions>) -> HttpResponse {
    let issuer = sessions.issuer();
    let at = |path: &str| format!("{}{path}", issuer.trim_end_matches('/'));
    let by_secret = ["client_secret_basic", "client_secret_post"];
    HttpResponse::Ok().insert_header(kept_for_a_while()).json(json!({
        "issuer": issuer,
        "token_endpoint": at("/oauth/token"),
        "token_endpoint_auth_methods_supported": ["none", by_secret[0], by_secret[1]],
        "revocation_endpoint": at("/oauth/revoke"),
        "revocation_endpoint_auth_methods_supported": ["none"],
        "introspection_endpoint": at("/oauth/introspect"),
        "introspection_endpoint_auth_methods_supported": by_secret,
        "jwks_uri": at("/.well-known/jwks.json"),
        "grant_types_supported": ["refresh_token", "client_credentials", GRANT_TYPE],
        "response_types_supported": [],
    }))
}
