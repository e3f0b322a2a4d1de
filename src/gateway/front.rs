//! What comes first: who may come in, and where a path leads.

use std::sync::{Arc, PoisonError, RwLock};

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde_json::json;

use crate::daemon::{Desk, GatewayConfig};

use super::connection::Way;
use super::reply::{self, Body};

/// The gateway, as every connection sees it.
#[derive(Debug)]
pub(super) struct Front {
    desk: Desk,
    config: RwLock<Arc<GatewayConfig>>,
}

/// A client.
#[derive(Debug)]
pub(super) struct Guest {
    way: Way,
}

impl Front {
    pub(super) fn new(desk: Desk) -> Arc<Self> {
        let config = RwLock::new(Arc::new(desk.config()));
        Arc::new(Self { desk, config })
    }

    /// Lets what the configuration says now hold from now on.
    pub(super) fn configure(&self) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(self.desk.config());
    }

    /// A client that has come in.
    pub(super) fn welcome(&self, way: Way) -> Arc<Guest> {
        Arc::new(Guest { way })
    }

    /// Answers a request.
    pub(super) async fn answer(&self, _guest: &Arc<Guest>, request: Request<Incoming>) -> Response<Body> {
        match request.uri().path() {
            "/healthz" => reply::json(StatusCode::OK, &json!({ "ok": true })),
            _ => reply::json(StatusCode::NOT_FOUND, &json!({ "error": { "message": "there is nothing here" } })),
        }
    }
}
