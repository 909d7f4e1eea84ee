"""Envoy without Attaché, as configuration: plain pass-through, and the pattern of two ext_proc phases.

The second is what Envoy AI Gateway configures (read in its extension server, November 2026). In the listener's chain an
ext_proc filter is sent headers and buffered body of the request, and headers and body of the answer, buffered too unless the
processor switches to pieces for a stream. In the chain of the upstream cluster another one is sent the request headers of each
attempt. Both speak to one processor over a Unix socket. Its own windows and buffer limit are taken over.
"""

import json

TYPES = "type.googleapis.com/envoy.extensions"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
PROCESSOR = "processor"
BUFFER_LIMIT = 52_428_800

FIRST_PHASE = {"request_header_mode": "SEND", "request_body_mode": "BUFFERED", "request_trailer_mode": "SKIP",
               "response_header_mode": "SEND", "response_body_mode": "BUFFERED", "response_trailer_mode": "SKIP"}
PER_ATTEMPT = {"request_header_mode": "SEND", "request_body_mode": "NONE", "request_trailer_mode": "SKIP",
               "response_header_mode": "SKIP", "response_body_mode": "NONE", "response_trailer_mode": "SKIP"}


def _address(address):
    host, port = address.rsplit(":", 1)
    return {"address": {"socket_address": {"address": host, "port_value": int(port)}}}


def _filter(name, kind, **config):
    return {"name": name, "typed_config": {"@type": f"{TYPES}.filters.http.{kind}", **config}}


def _endpoint(cluster, address):
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": [{"endpoint": address}]}]}


def _ext_proc(mode):
    return _filter("envoy.filters.http.ext_proc", "ext_proc.v3.ExternalProcessor",
                   grpc_service={"envoy_grpc": {"cluster_name": PROCESSOR}, "timeout": "30s"}, message_timeout="10s",
                   processing_mode=mode, allow_mode_override=True)


def plain(listen, admin, provider):
    """Forwards to the provider, and nothing else."""
    router = _filter("envoy.filters.http.router", "router.v3.Router")
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "plain",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
            "match": {"prefix": "/"},
            "route": {"cluster": "provider", "prefix_rewrite": "/openai/", "timeout": "60s"}}]}]},
        "http_filters": [router],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {
        "admin": _address(admin),
        "static_resources": {
            "listeners": [{**_address(listen), "filter_chains": [chain]}],
            "clusters": [{"name": "provider", "type": "STATIC", "load_assignment": _endpoint("provider", _address(provider))}],
        },
    }


def two_phases(listen, admin, provider, socket):
    """The same with an ext_proc phase before routing and one per attempt."""
    config = plain(listen, admin, provider)
    listener, = config["static_resources"]["listeners"]
    listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"].insert(0, _ext_proc(FIRST_PHASE))
    upstream, = config["static_resources"]["clusters"]
    codec = _filter("envoy.filters.http.upstream_codec", "upstream_codec.v3.UpstreamCodec")
    upstream["typed_extension_protocol_options"] = {HTTP_OPTIONS: {
        "@type": f"{TYPES}.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http_protocol_options": {}},
        "http_filters": [_ext_proc(PER_ATTEMPT), codec]}}
    config["static_resources"]["clusters"].append({
        "name": PROCESSOR, "type": "STATIC", "per_connection_buffer_limit_bytes": BUFFER_LIMIT,
        "typed_extension_protocol_options": {HTTP_OPTIONS: {
            "@type": f"{TYPES}.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {
                "initial_stream_window_size": 65_536, "initial_connection_window_size": 1_048_576}}}},
        "load_assignment": _endpoint(PROCESSOR, {"address": {"pipe": {"path": str(socket)}}})})
    return config


def write(config, path):
    path.write_text(json.dumps(config, indent=1))  # JSON is YAML
    return path
