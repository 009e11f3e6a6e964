//! The page's files, held in the binary, and the headers that keep the page to them.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::Error;

/// Scripts, styles and data from this server alone. The hash is that of the one style element that
/// d3-flamegraph.umd.min.js makes for itself; nothing else inline is allowed.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; \
    style-src 'self' 'sha256-PjPkXjWPssRCMzB6p5SnF25xrwIH7ThbVHWlE+SG1DE='; \
    object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

const INDEX: Asset = Asset {
    path: "index.html",
    content_type: "text/html; charset=utf-8",
    content: include_bytes!("../assets/index.html"),
};

macro_rules! assets {
    ($($path:literal => $content_type:expr),* $(,)?) => {
        [$(Asset {
            path: $path,
            content_type: $content_type,
            content: include_bytes!(concat!("../assets/", $path)),
        }),*]
    };
}

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

static ASSETS: &[Asset] = &assets![
    "favicon.svg" => SVG,
    "app.css" => CSS,
    "js/app.js" => JS,
    "js/combobox.js" => JS,
    "js/dom.js" => JS,
    "js/filters.js" => JS,
    "js/flamegraph.js" => JS,
    "js/format.js" => JS,
    "js/matcher.js" => JS,
    "js/palette.js" => JS,
    "js/profile.js" => JS,
    "js/range.js" => JS,
    "js/status.js" => JS,
    "js/theme.js" => JS,
    "js/timeline.js" => JS,
    "js/tooltip.js" => JS,
    "js/top.js" => JS,
    "js/view.js" => JS,
    "js/words.js" => JS,
    "vendor/d3-7.9.2/d3.min.js" => JS,
    "vendor/d3-7.9.2/LICENSE" => TEXT,
    "vendor/d3-flame-graph-5.0.0/d3-flamegraph.umd.min.js" => JS,
    "vendor/d3-flame-graph-5.0.0/d3-flamegraph.css" => CSS,
    "vendor/d3-flame-graph-5.0.0/LICENSE" => TEXT,
    "vendor/uplot-1.6.32/uPlot.iife.min.js" => JS,
    "vendor/uplot-1.6.32/uPlot.min.css" => CSS,
    "vendor/uplot-1.6.32/LICENSE" => TEXT,
];

#[derive(Debug)]
struct Asset {
    path: &'static str,
    content_type: &'static str,
    content: &'static [u8],
}

impl Asset {
    fn respond(&self, request: &HeaderMap) -> Response {
        let mut hasher = DefaultHasher::new();
        self.content.hash(&mut hasher);
        let tag = format!("\"{:016x}\"", hasher.finish());
        // A path with a version in it never changes its content.
        let cache =
            if self.path.starts_with("vendor/") { "public, max-age=31536000, immutable" } else { "no-cache" };
        let headers = [
            (header::CONTENT_TYPE, self.content_type),
            (header::CACHE_CONTROL, cache),
            (header::ETAG, tag.as_str()),
        ];
        if request.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, Body::from(Bytes::from_static(self.content))).into_response()
    }
}

/// The page.
pub(crate) async fn index(headers: HeaderMap) -> Response {
    INDEX.respond(&headers)
}

/// One of the page's files.
pub(crate) async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    match ASSETS.iter().find(|asset| asset.path == path) {
        Some(asset) => asset.respond(&headers),
        None => Error::NotFound.into_response(),
    }
}

/// Puts the security headers on every answer.
pub async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> &'static str {
        std::str::from_utf8(INDEX.content).unwrap()
    }

    #[test]
    fn every_file_that_the_page_names_is_served() {
        let mut names = 0;
        for attribute in ["src=\"", "href=\""] {
            for rest in page().split(attribute).skip(1) {
                let path = rest.split('"').next().unwrap();
                if let Some(path) = path.strip_prefix("/assets/") {
                    assert!(ASSETS.iter().any(|a| a.path == path), "{path}");
                    names += 1;
                } else {
                    assert!(
                        path.starts_with('#') || path.starts_with("/api/"),
                        "{path} is not of this server"
                    );
                }
            }
        }
        assert!(names >= 7, "{names}");
    }

    #[test]
    fn every_module_that_a_script_imports_is_served() {
        for script in ASSETS.iter().filter(|a| a.path.starts_with("js/")) {
            let text = std::str::from_utf8(script.content).unwrap();
            for rest in text.split(" from \"./").skip(1) {
                let name = rest.split('"').next().unwrap();
                assert!(
                    ASSETS.iter().any(|a| a.path == format!("js/{name}")),
                    "{} imports {name}",
                    script.path
                );
            }
        }
    }

    #[test]
    fn the_page_has_no_inline_script_or_style_and_scripts_set_no_markup() {
        assert!(!page().contains("<script>") && !page().contains("<style") && !page().contains(" style="));
        for script in ASSETS.iter().filter(|a| a.path.starts_with("js/")) {
            let text = std::str::from_utf8(script.content).unwrap();
            for banned in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", ".html(", "eval("]
            {
                assert!(!text.contains(banned), "{} uses {banned}", script.path);
            }
        }
    }
}
