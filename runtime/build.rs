//! Compiles the messages of the gRPC services, which only a worker outside of a simulation serves.

fn main() {
    println!("cargo::rerun-if-changed=proto");
    #[cfg(not(madsim))]
    compile();
}

#[cfg(not(madsim))]
fn compile() {
    let files = ["proto/dmmaster.proto", "proto/dmworker.proto"];
    if let Err(error) = tonic_prost_build::configure().compile_protos(&files, &["proto"]) {
        eprintln!("{error}");
        eprintln!(
            "The build needs `protoc`: install it (apt-get install protobuf-compiler, or brew \
             install protobuf), or let PROTOC name it."
        );
        std::process::exit(1);
    }
}
