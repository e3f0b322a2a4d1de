//! What Codex asks about its ChatGPT login before it sends a request: whose token it has, and which workspaces that can
//! use. Its token is a key of the gateway, so the gateway answers.

use hyper::header::HeaderMap;
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::response::{self, ClientBody};
use crate::daemon::LoginOwner;

/// Whose a token is; below the address in `CODEX_AUTHAPI_BASE_URL`.
const WHOSE: &str = "/openai/api/accounts/v1/user-auth-credential/whoami";
/// The workspaces, below `chatgpt_base_url`.
const WORKSPACES: &str = "/openai/backend-api/wham/accounts/check";
/// A plan that Codex does not know.
const NO_PLAN: &str = "unknown";
/// Where a workspace names no address of its own, Codex keeps the one that it is configured for: the gateway's.
const ANY_ADDRESS: &str = "NO_CONSTRAINT";

/// A question about the login itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LoginQuestion {
    Whose,
    Workspaces,
}

impl LoginQuestion {
    pub(super) fn of(method: &Method, path: &str) -> Option<Self> {
        let question = match path {
            WHOSE => Self::Whose,
            WORKSPACES => Self::Workspaces,
            _ => return None,
        };
        (*method == Method::GET).then_some(question)
    }

    /// The answer; without a login, that there is none.
    pub(super) fn answer(self, owner: Option<LoginOwner>, headers: &HeaderMap) -> Response<ClientBody> {
        match owner {
            Some(owner) => response::json(StatusCode::OK, &self.document(&owner, headers)),
            None => {
                let message = "lessor: no ChatGPT login can serve this key";
                response::json(StatusCode::NOT_FOUND, &json!({ "error": { "message": message } }))
            }
        }
    }

    fn document(self, owner: &LoginOwner, headers: &HeaderMap) -> Value {
        let plan = owner.plan.as_deref().unwrap_or(NO_PLAN);
        match self {
            Self::Whose => json!({
                "email": owner.email,
                "chatgpt_user_id": owner.person,
                "chatgpt_account_id": owner.account_id,
                "chatgpt_plan_type": plan,
                "chatgpt_account_is_fedramp": false,
            }),
            Self::Workspaces => {
                // the lease may be on another account by now: Codex keeps the one it has first seen
                let known = headers.get("chatgpt-account-id").and_then(|id| id.to_str().ok());
                let id = known.unwrap_or(&owner.account_id);
                json!({
                    "accounts": [{
                        "id": id,
                        "name": null,
                        "structure": "personal",
                        "plan_type": plan,
                        "account_user_role": "account-owner",
                        "can_access_with_session": true,
                        "is_deactivated": false,
                        "workspace_backend_origin": ANY_ADDRESS,
                        "account_routing_override": ANY_ADDRESS,
                        "is_fedramp_compliant_workspace": false,
                        "sso_connection_name": null,
                        "profile_picture_url": null,
                    }],
                    "account_ordering": [id],
                    "default_account_id": id,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn codex_keeps_the_account_it_has_first_seen() {
        let owner =
            LoginOwner { account_id: "ws-1".into(), person: "user-1".into(), email: None, plan: Some("plus".into()) };
        let whose = LoginQuestion::Whose.document(&owner, &HeaderMap::new());
        assert_eq!((&whose["chatgpt_account_id"], &whose["chatgpt_plan_type"]), (&json!("ws-1"), &json!("plus")));
        let mut headers = HeaderMap::new();
        for expected in ["ws-1", "ws-0"] {
            let found = LoginQuestion::Workspaces.document(&owner, &headers);
            assert_eq!(
                (&found["accounts"][0]["id"], &found["default_account_id"]),
                (&json!(expected), &json!(expected))
            );
            headers.insert("chatgpt-account-id", HeaderValue::from_static("ws-0"));
        }
    }

    #[test]
    fn only_questions_about_the_login_are_answered() {
        assert_eq!(LoginQuestion::of(&Method::GET, WHOSE), Some(LoginQuestion::Whose));
        assert_eq!(LoginQuestion::of(&Method::GET, WORKSPACES), Some(LoginQuestion::Workspaces));
        assert_eq!(LoginQuestion::of(&Method::POST, WORKSPACES), None);
        assert_eq!(LoginQuestion::of(&Method::GET, "/openai/backend-api/wham/usage"), None);
    }
}
