//! The routes of the listener: the user interface and the collector's own endpoints.

use crate::collector::Collector;
use crate::config::hostname;
use crate::metrics;
use crate::reload::Reload;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// What names with dots end in that nobody can register in public DNS.
const PRIVATE_SUFFIXES: [&str; 4] = [".svc", ".local", ".localhost", ".internal"];

const FOREIGN_HOST: &str = "421 this server does not answer to that name, as a foreign page could have pointed \
    it here; use the IP address, localhost or the node's name, or let the proxy send `Host: localhost`\n";

const CROSS_SITE: &str = "403 a page of another site asked for the reload; send it without Origin and \
    Sec-Fetch-Site headers, for example with curl -X POST\n";

/// The user interface and the collector's own endpoints.
pub(crate) fn all(collector: Arc<Collector>, reload: Arc<Reload>) -> Router {
    let names: Arc<[String]> = [Some(collector.node.clone()), hostname()].into_iter().flatten().collect();
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
    let reload_names = Arc::clone(&names);
    let reload = move |headers: HeaderMap| async move {
        if is_cross_site(&headers, &reload_names) {
            return (StatusCode::FORBIDDEN, CROSS_SITE.to_owned());
        }
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
    ui::router(state)
        .route_layer(from_fn(move |request, next| known_host(Arc::clone(&names), request, next)))
        .merge(own)
        .layer(from_fn(ui::secure))
}

/// Keeps a page of another site from reading profiles by pointing its own name here (DNS rebinding).
async fn known_host(names: Arc<[String]>, request: Request, next: Next) -> Response {
    match request.headers().get(header::HOST) {
        Some(host) if !is_known_host(host, &names) => {
            (StatusCode::MISDIRECTED_REQUEST, FOREIGN_HOST).into_response()
        }
        _ => next.run(request).await,
    }
}

/// Whether the host of a `Host` header, with or without a port, is `names`' or can be nobody else's.
fn is_known_host(host: &HeaderValue, names: &[String]) -> bool {
    let Ok(host) = host.to_str() else { return false };
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    !name.contains('.')
        || name.parse::<Ipv4Addr>().is_ok()
        || names.iter().any(|known| known.eq_ignore_ascii_case(&name))
        || PRIVATE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// Whether a browser sent this for a page that is not ours. Other clients send neither header.
fn is_cross_site(headers: &HeaderMap, names: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        return matches!(site, Some(b"cross-site" | b"same-site"));
    };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match (origin, headers.get(header::HOST)) {
        (Some((_, origin)), Some(host)) => {
            !origin.as_bytes().eq_ignore_ascii_case(host.as_bytes()) || !is_known_host(host, names)
        }
        _ => true,
    }
}

fn verdict(result: Result<(), String>, good: &str, bad: StatusCode) -> impl IntoResponse {
    match result {
        Ok(()) => (StatusCode::OK, format!("{good}\n")),
        Err(problems) => (bad, format!("{problems}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_cross_site, is_known_host};
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    fn names() -> [String; 2] {
        ["node-1.example.com".into(), "host".into()]
    }

    #[test]
    fn only_a_name_that_another_site_can_own_is_foreign() {
        let known = |host: &str| is_known_host(&HeaderValue::from_str(host).expect("a value"), &names());
        for host in [
            "127.0.0.1:12345",
            "10.0.0.7",
            "[::1]:12345",
            "[fe80::1]",
            "localhost:12345",
            "kovar",
            "Node-1.Example.com:12345",
            "node-1.example.com.",
            "kovar.monitoring.svc:12345",
            "kovar.monitoring.svc.cluster.local",
            "printer.local",
            "ip-10-0-0-7.ec2.internal",
        ] {
            assert!(known(host), "{host}");
        }
        for host in [
            "evil.example",
            "node-1.evil.example:12345",
            "127.0.0.1.evil.example",
            "evil.example.:12345",
            "[evil.example]",
            "notlocal.example:80",
        ] {
            assert!(!known(host), "{host}");
        }
        assert!(!is_known_host(&HeaderValue::from_bytes(b"\xff").expect("a value"), &names()));
    }

    #[test]
    fn a_reload_that_a_page_of_another_site_asks_for_is_refused() {
        let cross_site = |headers: &[(&'static str, &'static str)]| {
            let headers: HeaderMap = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            is_cross_site(&headers, &names())
        };
        let host = ("host", "localhost:12345");
        assert!(!cross_site(&[host]) && !cross_site(&[]));
        assert!(!cross_site(&[host, ("origin", "http://localhost:12345")]));
        assert!(!cross_site(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(!cross_site(&[host, ("sec-fetch-site", "none")]));
        for refused in [
            ("origin", "http://evil.example"),
            ("origin", "http://localhost:8080"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert!(cross_site(&[host, refused]), "{refused:?}");
        }
        let rebound = [("host", "evil.example:12345"), ("origin", "http://evil.example:12345")];
        assert!(cross_site(&rebound));
    }
}
