//! The HTTP routes of the page and its API.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Extract};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use flate2::{Compression, write::GzEncoder};
use prost::Message;
use store::Store;
use tokio::sync::{Semaphore, TryAcquireError};

use crate::answer::Answer;
use crate::query::Request;
use crate::{Error, Status, assets};

/// Selections that run at once; more are answered with 503.
const SELECTIONS_MAX: usize = 2;

type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// What the page shows.
#[derive(Clone)]
pub struct State {
    pub store: Store,
    /// Called once for each request of the status; must not block.
    pub status: Arc<dyn Fn() -> Status + Send + Sync>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Shared {
    state: State,
    selections: Arc<Semaphore>,
}

/// `/`, `/assets/…` and `/api/v1/…`, all of them GET. Without a fallback, so that it can be merged.
pub fn router(state: State) -> Router {
    let shared = Shared { state, selections: Arc::new(Semaphore::new(SELECTIONS_MAX)) };
    Router::new()
        .route("/", get(assets::index))
        .route("/assets/{*path}", get(assets::asset))
        .route("/api/v1/status", get(status))
        .route("/api/v1/profile", get(profile))
        .route("/api/v1/pprof", get(pprof))
        .route("/api/v1/{*path}", get(not_found))
        .layer(middleware::from_fn(assets::secure))
        .with_state(shared)
}

async fn not_found() -> Error {
    Error::NotFound
}

async fn status(Extract(shared): Extract<Shared>) -> Response {
    let mut response = Json((shared.state.status)()).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn profile(
    Extract(shared): Extract<Shared>,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Response, Error> {
    let request = request(pairs)?;
    let compress = accepts_gzip(&headers);
    let body = select(&shared, move |store| {
        let selection = store.select(&request.to_store(true))?;
        let json = serde_json::to_vec(&Answer::new(&request, &selection)).map_err(internal)?;
        if compress { gzip(&json, Compression::fast()).map_err(internal) } else { Ok(json) }
    })
    .await?;
    let mut response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if compress {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

async fn pprof(Extract(shared): Extract<Shared>, pairs: Pairs) -> Result<Response, Error> {
    let request = request(pairs)?;
    let name = file_name(&(shared.state.status)().node, &request);
    let body = select(&shared, move |store| {
        let selection = store.select(&request.to_store(false))?;
        gzip(&selection.profile.encode_to_vec(), Compression::default()).map_err(internal)
    })
    .await?;
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, disposition.as_str()),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, body).into_response())
}

fn request(pairs: Pairs) -> Result<Request, Error> {
    let Query(pairs) = pairs.map_err(|rejection| Error::Query(rejection.body_text()))?;
    Request::parse(&pairs, now_unix_ms())
}

/// Runs a read of the store on a thread of its own. The permit goes along, so that a client which hangs up
/// does not make room for more work than there should be.
async fn select<T: Send + 'static>(
    shared: &Shared,
    read: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let permit = Arc::clone(&shared.selections).try_acquire_owned().map_err(|error| match error {
        TryAcquireError::NoPermits => Error::Busy { running: SELECTIONS_MAX },
        TryAcquireError::Closed => Error::Internal("the server is stopping".to_owned()),
    })?;
    let store = shared.state.store.clone();
    let task = tokio::task::spawn_blocking(move || {
        let answer = read(&store);
        drop(permit);
        answer
    });
    task.await.map_err(internal)?
}

fn gzip(content: &[u8], level: Compression) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(content)?;
    encoder.finish()
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or("");
    accepted.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|q| q == "q=0")
    })
}

/// `kovar-NODE-FILTERS-FROM-TO.pb.gz`, of characters that every file system and header takes.
fn file_name(node: &str, request: &Request) -> String {
    let mut parts = vec!["kovar".to_owned(), plain(node)];
    parts.extend(request.matchers.iter().take(3).map(|m| plain(&m.value)));
    parts.push(request.from_unix_ms.to_string());
    parts.push(request.to_unix_ms.to_string());
    parts.retain(|part| !part.is_empty());
    format!("{}.pb.gz", parts.join("-"))
}

fn plain(text: &str) -> String {
    let kept = text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    let kept: String = kept.take(32).collect();
    kept.trim_matches(['.', '-']).to_owned()
}

fn now_unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn internal(error: impl fmt::Display) -> Error {
    Error::Internal(error.to_string())
}

#[cfg(test)]
mod tests;
