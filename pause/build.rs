//! How `pause` is linked: no start files, no library, laid out by `pause.ld`. All words mean the same to a
//! compiler that links (`cc`) and to a linker (`rust-lld`).

fn main() {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    for word in ["-nostdlib", "-static", "-no-pie", "-s", &format!("-T{here}/pause.ld")] {
        println!("cargo:rustc-link-arg-bins={word}");
    }
    println!("cargo:rerun-if-changed=pause.ld");
}
