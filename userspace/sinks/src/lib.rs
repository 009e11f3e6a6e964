//! Where signals go out: encode, send, verdict.
