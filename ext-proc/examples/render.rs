fn main() {
    let mut a = std::env::args().skip(1);
    let sock = a.next().unwrap();
    let wasm = a.next().unwrap();
    let mut o = attache::envoy::BootstrapOptions::new(attache::envoy::SidecarAddress::Unix(sock.into()), wasm.into());
    o.gate.max_body_bytes = 20_000_000;
    println!("{}", attache::envoy::render(&o).unwrap());
}
