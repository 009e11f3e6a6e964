//! The query of a request to the page's API, through the router as it is served.
#![no_main]

#[path = "shared/scratch_store.rs"]
mod scratch_store;

use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::http::{Request, Uri};
use libfuzzer_sys::fuzz_target;
use scratch_store::ScratchStore;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;
use ui::{State, Status, Ticks};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| match Builder::new_current_thread().build() {
    Ok(runtime) => runtime,
    Err(error) => panic!("{error}"),
});
static SCRATCH: LazyLock<ScratchStore> = LazyLock::new(|| {
    ScratchStore::with_segment(include_bytes!("../../userspace/store/testdata/segment-v1.seg"))
});
static STORE: LazyLock<store::Store> = LazyLock::new(|| SCRATCH.open());

fn status() -> Status {
    Status {
        version: String::new(),
        node: "fuzz \"\r\n".to_owned(),
        started_unix_ms: 0,
        healthy: Ok(()),
        ticks: Ticks::default(),
        destinations: Vec::new(),
    }
}

fuzz_target!(|query: &str| {
    for path in ["profile", "pprof"] {
        let Ok(uri) = format!("/api/v1/{path}?{query}").parse::<Uri>() else { return };
        let router = ui::router(State { store: STORE.clone(), status: Arc::new(status) });
        let Ok(request) = Request::get(uri).body(Body::empty()) else { return };
        let Ok(response) = RUNTIME.block_on(router.oneshot(request));
        assert!(matches!(response.status().as_u16(), 200 | 400), "{}", response.status());
    }
});
