//! What can go wrong with a request, by what the caller can do about it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Seconds after which a busy server may be asked again.
const RETRY_AFTER_S: u64 = 1;

/// An error of the HTTP API. The answer's body is `{"error": "…"}`, with `parameter` where one is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Change the parameter.
    #[error("parameter {parameter}: {reason}")]
    Parameter { parameter: String, reason: String },
    /// The URL's query is no list of parameters.
    #[error("the query of the URL cannot be read: {0}")]
    Query(String),
    /// Nothing stands at this address.
    #[error("no such address; the API is described in ui/API.md")]
    NotFound,
    /// Ask again later.
    #[error("{running} selections are running already; try again in {RETRY_AFTER_S} s")]
    Busy { running: usize },
    /// The store could not answer; its message says why.
    #[error("the store cannot answer: {0}")]
    Store(#[from] store::Error),
    /// A fault of the program.
    #[error("the answer could not be made: {0}")]
    Internal(String),
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Parameter { .. } | Self::Query(_) => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(_) | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!(error = %self, "a request to the UI failed");
        }
        let mut body = json!({ "error": self.to_string() });
        if let Self::Parameter { parameter, .. } = &self {
            body["parameter"] = json!(parameter);
        }
        let mut response = (status, Json(body)).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
        }
        response
    }
}
