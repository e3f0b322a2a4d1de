//! OAuth 2.0 client: logging in by authorization code with PKCE, by pasted code and by device code, and refreshing
//! logins.
//!
//! A standard server is described by its `issuer` and a client id; each URL can also be configured separately. The user
//! configures the client: lessor ships no client id and no client secret.

mod attempt;
mod code;
mod device;
mod error_codes;
mod fetch;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod identity;
mod loopback;
mod missing;
mod server;
mod settings;
mod stored_client;
mod token;

#[cfg(test)]
pub(crate) use attempt::simulated;
pub use attempt::{RefreshResult, TokenRotation, refresh};
pub use code::{AuthorizationCode, AuthorizationRequest, AuthorizationResponse, PasteError, parse_pasted_code};
pub use device::{DeviceCode, poll as poll_device, request_device_code};
pub use fetch::REQUEST_TIMEOUT;
pub use identity::{LoginIdentity, identify, identify_token};
pub use loopback::{Loopback, Redirect};
pub use missing::MissingSettings;
pub use server::{AuthorizationServer, ServerError};
pub use settings::{OauthClient, OauthConfig, OauthSettings};
pub use stored_client::StoredClient;
pub use token::{TokenError, TokenGrant, TokenSet};
