//! HTTP client with TLS, secrets and capped bodies.
