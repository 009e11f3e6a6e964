//! The router's answers to requests, over a store of its own.

use axum::body::{Body, to_bytes};
use axum::http::{Request as HttpRequest, StatusCode};
use flate2::write::GzDecoder;
use model::pprof::Profile;
use model::push::{LabelPair, PushRequest, RawProfileSeries, RawSample};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;
use crate::synthetic::Builder;
use crate::{Destination, Ticks};

struct Fixture {
    shared: Shared,
    router: Router,
    _directory: TempDir,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let store = Store::open(store::Config { path, bytes_max: 64 << 20, age_max_s: 86_400 }).unwrap();
    let status = Arc::new(|| Status {
        version: "0.1.0".to_owned(),
        node: "node/1 \"x\"".to_owned(),
        started_unix_ms: 5,
        healthy: Ok(()),
        ticks: Ticks::default(),
        destinations: vec![Destination {
            name: "main".to_owned(),
            kind: "pyroscope".to_owned(),
            url: "http://me:secret@pyroscope:4040".to_owned(),
            state: "sending".to_owned(),
            last_error: None,
            records_pending: 3,
        }],
    });
    let state = State { store, status };
    let shared = Shared { state: state.clone(), selections: Arc::new(Semaphore::new(SELECTIONS_MAX)) };
    Fixture { shared, router: router(state), _directory: directory }
}

fn append(store: &Store, process: &str, stack: &[&str], value_ns: i64) {
    let mut builder = Builder::default();
    builder.sample(stack, value_ns, process, None);
    let mut profile = builder.finish();
    for sample in &mut profile.sample {
        sample.label.clear();
    }
    profile.time_nanos = (now_unix_ms() - 20_000) * 1_000_000;
    profile.duration_nanos = 15_000_000_000;
    let label = |name: &str, value: &str| LabelPair { name: name.to_owned(), value: value.to_owned() };
    let push = PushRequest {
        series: vec![RawProfileSeries {
            labels: vec![label("process_name", process), label("service_name", process)],
            samples: vec![RawSample {
                raw_profile: gzip(&profile.encode_to_vec(), Compression::fast()).unwrap().into(),
                id: String::new(),
            }],
        }],
    };
    store.append(now_unix_ms() - 5_000, &push.encode_to_vec()).unwrap();
}

async fn get_from(router: &Router, uri: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Vec<u8>) {
    let mut request = HttpRequest::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, to_bytes(body, 16 << 20).await.unwrap().to_vec())
}

async fn json_from(router: &Router, uri: &str) -> (StatusCode, Value) {
    let (status, _, body) = get_from(router, uri, &[]).await;
    (status, serde_json::from_slice(&body).unwrap())
}

fn ungzip(content: &[u8]) -> Vec<u8> {
    let mut decoder = GzDecoder::new(Vec::new());
    decoder.write_all(content).unwrap();
    decoder.finish().unwrap()
}

#[tokio::test]
async fn every_answer_carries_the_strict_policy() {
    let fixture = fixture();
    for uri in
        ["/", "/assets/app.css", "/assets/none", "/api/v1/status", "/api/v1/profile?from=x", "/api/v1/x"]
    {
        let (_, headers, _) = get_from(&fixture.router, uri, &[]).await;
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{uri}: {policy}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{uri}");
    }
}

#[tokio::test]
async fn a_file_that_is_known_is_not_sent_again() {
    let fixture = fixture();
    let (status, headers, body) = get_from(&fixture.router, "/", &[]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(String::from_utf8(body).unwrap().contains("id=\"flamegraph\""));
    let tag = headers["etag"].to_str().unwrap();
    let (status, _, body) = get_from(&fixture.router, "/", &[("if-none-match", tag)]).await;
    assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let fixture = fixture();
    for (query, parameter) in [
        ("from=yesterday", "from"),
        ("to=now-5", "to"),
        ("frames=none", "frames"),
        ("group=planet", "group"),
        ("shape=round", "shape"),
        ("from=now&to=now-5m", "from"),
    ] {
        for route in ["profile", "pprof"] {
            let (status, body) = json_from(&fixture.router, &format!("/api/v1/{route}?{query}")).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
            assert_eq!(body["parameter"], parameter, "{query}");
            assert!(body["error"].as_str().unwrap().contains(parameter), "{query}");
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_404_in_json() {
    let fixture = fixture();
    for uri in ["/api/v1/flames", "/assets/../Cargo.toml", "/assets/js/none.js"] {
        let (status, body) = json_from(&fixture.router, uri).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{uri}");
        assert!(body["error"].is_string(), "{uri}");
    }
}

#[tokio::test]
async fn status_shows_no_secret() {
    let fixture = fixture();
    let (status, body) = json_from(&fixture.router, "/api/v1/status").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["destinations"][0]["url"], "http://pyroscope:4040");
    assert_eq!(body["healthy"]["ok"], true);
}

#[tokio::test]
async fn an_empty_store_gives_an_empty_profile() {
    let fixture = fixture();
    let (status, body) = json_from(&fixture.router, "/api/v1/profile").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&body["total_ns"], &body["machine_ns"]), (&Value::from(0), &Value::from(0)));
    assert_eq!(body["nodes"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_filter_narrows_the_profile_and_not_the_series() {
    let fixture = fixture();
    append(&fixture.shared.state.store, "web", &["main", "serve"], 60_000_000);
    append(&fixture.shared.state.store, "db", &["main", "scan"], 40_000_000);
    let (_, body) = json_from(&fixture.router, "/api/v1/profile?from=now-5m&process=web&group=process").await;
    assert_eq!(
        (&body["total_ns"], &body["machine_ns"]),
        (&Value::from(60_000_000), &Value::from(100_000_000))
    );
    assert_eq!(body["series"].as_array().unwrap().len(), 2);
    let names: Vec<&str> =
        body["frames"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["all", "web", "main", "serve"]);
    let sum: i64 = body["timeline"]["value_ns"].as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).sum();
    assert_eq!(sum, 60_000_000);
}

#[tokio::test]
async fn an_answer_is_compressed_for_those_who_take_it() {
    let fixture = fixture();
    let (_, headers, body) =
        get_from(&fixture.router, "/api/v1/profile", &[("accept-encoding", "deflate, gzip;q=0.5")]).await;
    assert_eq!(headers["content-encoding"], "gzip");
    assert!(serde_json::from_slice::<Value>(&ungzip(&body)).unwrap()["nodes"].is_array());
    let (_, headers, _) =
        get_from(&fixture.router, "/api/v1/profile", &[("accept-encoding", "gzip;q=0")]).await;
    assert!(!headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn the_download_is_a_pprof_with_a_plain_file_name() {
    let fixture = fixture();
    append(&fixture.shared.state.store, "web", &["main", "serve"], 60_000_000);
    let (status, headers, body) =
        get_from(&fixture.router, "/api/v1/pprof?from=now-5m&process=web", &[]).await;
    assert_eq!(status, StatusCode::OK);
    let disposition = headers["content-disposition"].to_str().unwrap();
    assert!(disposition.starts_with("attachment; filename=\"kovar-node1x-web-"), "{disposition}");
    assert!(disposition.ends_with(".pb.gz\""), "{disposition}");
    let profile = Profile::decode(ungzip(&body).as_slice()).unwrap();
    assert_eq!(profile.sample.iter().map(|s| s.value[0]).sum::<i64>(), 60_000_000);
}

#[tokio::test]
async fn more_selections_than_allowed_are_told_to_come_back() {
    let fixture = fixture();
    let shared = fixture.shared.clone();
    let held = Arc::clone(&shared.selections).acquire_many_owned(SELECTIONS_MAX as u32).await.unwrap();
    let error = select(&shared, |_| Ok(())).await.unwrap_err();
    let response = error.into_response();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    drop(held);
    select(&shared, |_| Ok(())).await.unwrap();
}
