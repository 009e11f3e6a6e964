//! Generates the protobuf types of `proto/` into OUT_DIR.

use std::error::Error;

const PROTOS: [&str; 2] = ["proto/pprof.proto", "proto/push.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for proto in PROTOS {
        println!("cargo::rerun-if-changed={proto}");
    }
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    prost_build::Config::new().bytes([".push.v1.RawSample.raw_profile"]).compile_fds(descriptors)?;
    Ok(())
}
