//! The routes of the listener: the user interface and the collector's own endpoints.

use crate::collector::Collector;
use crate::metrics;
use crate::reload::Reload;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use std::sync::Arc;

/// The user interface and the collector's own endpoints.
pub(crate) fn all(collector: Arc<Collector>, reload: Arc<Reload>) -> Router {
    let state = ui::State {
        store: collector.store.clone(),
        status: {
            let collector = Arc::clone(&collector);
            Arc::new(move || collector.status())
        },
    };
    let page = {
        let collector = Arc::clone(&collector);
        move || async move {
            ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(&collector.metrics()))
        }
    };
    let ready = {
        let collector = Arc::clone(&collector);
        move || async move { verdict(collector.ready(), "ready", StatusCode::SERVICE_UNAVAILABLE) }
    };
    let healthy =
        move || async move { verdict(collector.healthy(), "healthy", StatusCode::SERVICE_UNAVAILABLE) };
    let reload = move || async move {
        // On a task of its own: a client that hangs up must not leave a reload half done.
        let done = tokio::spawn(async move { reload.run().await }).await;
        match done.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(text) => (StatusCode::OK, text),
            Err(text) => (StatusCode::BAD_REQUEST, format!("{text}\n")),
        }
    };
    let own = Router::new()
        .route("/metrics", get(page))
        .route("/-/ready", get(ready))
        .route("/-/healthy", get(healthy))
        .route("/-/reload", post(reload));
    ui::router(state).merge(own)
}

fn verdict(result: Result<(), String>, good: &str, bad: StatusCode) -> impl IntoResponse {
    match result {
        Ok(()) => (StatusCode::OK, format!("{good}\n")),
        Err(problems) => (bad, format!("{problems}\n")),
    }
}
