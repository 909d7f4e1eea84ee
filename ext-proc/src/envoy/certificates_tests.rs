use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::envoy::bootstrap::{ListenerTls, render};

fn options(sds: bool) -> BootstrapOptions {
    let sidecar = SidecarAddress::Tcp {
        host: "attache.svc".into(),
        port: 4443,
        ca: "/side/ca.pem".into(),
        cert: "/side/tls.crt".into(),
        key: "/side/tls.key".into(),
    };
    let tls = ListenerTls {
        cert: "/public/tls.crt".into(),
        key: "/public/tls.key".into(),
        client_ca: Some("/clients/ca.crt".into()),
        client_optional: false,
        http3: Some(443),
    };
    let sds_dir = sds.then(|| "/run/bootstrap".into());
    BootstrapOptions { tls: Some(tls), sds_dir, ..BootstrapOptions::new(sidecar, "/filter.wasm".into()) }
}

fn parsed(options: &BootstrapOptions) -> Value {
    serde_yaml_ng::from_str(&render(options).unwrap()).unwrap()
}

fn listener(bootstrap: &Value, at: usize) -> &Value {
    &bootstrap["static_resources"]["listeners"][at]["filter_chains"][0]
}

#[test]
fn every_certificate_has_a_file_that_watches_its_folder() {
    let options = options(true);
    let files: BTreeMap<PathBuf, Value> = secret_files(&options)
        .unwrap()
        .into_iter()
        .map(|(path, text)| (path, serde_yaml_ng::from_str(&text).unwrap()))
        .collect();
    let bootstrap = render(&options).unwrap();
    assert_eq!(files.len(), 4);
    for (path, secret) in &files {
        let secret = &secret["resources"][0];
        assert_eq!(
            path,
            &Path::new("/run/bootstrap").join(format!("{}.yaml", secret["name"].as_str().unwrap()))
        );
        assert!(bootstrap.contains(path.to_str().unwrap()), "{path:?} is not in the bootstrap");
    }
    let of = |name: &str| &files[&Path::new("/run/bootstrap").join(format!("{name}.yaml"))]["resources"][0];
    let public = &of("attache_public")["tls_certificate"];
    assert_eq!(public["certificate_chain"]["filename"], "/public/tls.crt");
    assert_eq!(public["watched_directory"]["path"], "/public");
    let clients = &of("attache_clients")["validation_context"];
    assert_eq!(clients["trusted_ca"]["filename"], "/clients/ca.crt");
    assert_eq!(clients["watched_directory"]["path"], "/clients");
    assert_eq!(of("attache_sidecar")["tls_certificate"]["private_key"]["filename"], "/side/tls.key");
    assert_eq!(of("attache_sidecar_ca")["validation_context"]["watched_directory"]["path"], "/side");
    for name in ["tls.crt", "tls.key", "ca.crt", "ca.pem"] {
        assert!(!bootstrap.contains(name), "{name} would be read once");
    }
}

#[test]
fn the_sidecars_name_is_checked_in_both_ways() {
    for sds in [false, true] {
        let bootstrap = parsed(&options(sds));
        let clusters = bootstrap["static_resources"]["clusters"].as_array().unwrap();
        let sidecar = clusters.iter().find(|cluster| cluster["name"] == "attache_sidecar").unwrap();
        let context = &sidecar["transport_socket"]["typed_config"]["common_tls_context"];
        let own = match sds {
            true => &context["combined_validation_context"]["default_validation_context"],
            false => &context["validation_context"],
        };
        let name = &own["match_typed_subject_alt_names"][0];
        assert_eq!((&name["san_type"], &name["matcher"]["exact"]), (&"DNS".into(), &"attache.svc".into()));
        assert_eq!(context["tls_params"]["tls_minimum_protocol_version"], "TLSv1_3");
    }
    assert!(secret_files(&options(false)).unwrap().is_empty());
}

#[test]
fn http3_differs_from_the_listener_in_codec_and_transport_alone() {
    for access_log in [true, false] {
        let bootstrap = parsed(&BootstrapOptions { access_log, ..options(true) });
        let of = |at| listener(&bootstrap, at)["filters"][0]["typed_config"].as_object().unwrap().clone();
        let (mut tcp, mut quic) = (of(0), of(1));
        for (config, codec, own) in
            [(&mut tcp, "AUTO", "http2_protocol_options"), (&mut quic, "HTTP3", "http3_protocol_options")]
        {
            assert_eq!(config.remove("codec_type").unwrap(), codec);
            assert_eq!(
                config.remove(own).unwrap().to_string().matches("1000").count(),
                1,
                "streams are bounded"
            );
        }
        assert_eq!(tcp, quic);
        let hosts = &tcp["route_config"]["virtual_hosts"][0];
        assert_eq!(hosts["response_headers_to_add"][0]["header"]["value"], "h3=\":443\"; ma=86400");
    }
    let mut without = options(true);
    without.tls.as_mut().unwrap().http3 = None;
    let text = render(&without).unwrap();
    assert!(!text.contains("alt-svc, value") && !text.contains("QuicDownstreamTransport"));
}

#[test]
fn http3_asks_for_certificates_as_the_listener_does() {
    for (optional, sds) in [(false, true), (true, true), (false, false)] {
        let mut options = options(sds);
        options.tls.as_mut().unwrap().client_optional = optional;
        let bootstrap = parsed(&options);
        let tcp = &listener(&bootstrap, 0)["transport_socket"]["typed_config"];
        let quic = &listener(&bootstrap, 1)["transport_socket"]["typed_config"];
        assert_eq!(quic["enable_early_data"], false, "a completion that is sent again is paid for again");
        let quic = &quic["downstream_tls_context"];
        assert_eq!(tcp.get("require_client_certificate"), quic.get("require_client_certificate"));
        assert_eq!(quic.get("require_client_certificate").is_some(), !optional);
        let mut common = tcp["common_tls_context"].as_object().unwrap().clone();
        common.remove("alpn_protocols");
        common.remove("tls_params");
        assert_eq!(&Value::from(common), &quic["common_tls_context"]);
    }
}
