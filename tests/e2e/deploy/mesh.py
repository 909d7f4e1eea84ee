"""Istio's and Envoy Gateway's part of the work, as far as `attache render` makes use of it: what they make of their own
objects, and how they apply patches. From their sources (Istio 1.31, Envoy Gateway 1.9); neither can run here.
"""

import copy
import json

import yaml

HCM = "envoy.filters.network.http_connection_manager"
TYPE = "type.googleapis.com/envoy."
# Maps of protobuf, which a merge of Istio replaces entry by entry; any other object is merged, any list gets longer.
MAPS = {"typed_extension_protocol_options", "filter_metadata"}
# Of a `oneof` the last one that is set remains.
ONEOFS = {"route_config": "rds"}


def documents(text):
    return [json.loads(json.dumps(item)) for item in yaml.safe_load_all(text) if item]


def named(objects, kind):
    return [item for item in objects if item["kind"] == kind]


def manager(*filters, **more):
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPE}extensions.filters.http.router.v3.Router"}}
    return {"name": HCM, "typed_config": {
        "@type": f"{TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "mesh", "http_filters": [*filters, router], **more}}


def bootstrap(stack, listener, clusters):
    def address(text):
        host, port = text.split(":")
        return {"socket_address": {"address": host, "port_value": int(port)}}

    return json.dumps({"node": {"id": "mesh", "cluster": "mesh"}, "admin": {"address": address(stack.admin)},
                       "static_resources": {"listeners": [{"address": address(stack.listen), **listener}], "clusters": clusters}})


# -- Istio -------------------------------------------------------------------------------------------------------------
def merge(target, patch):
    for name, value in patch.items():
        if name in MAPS:
            target.setdefault(name, {}).update(copy.deepcopy(value))
        elif isinstance(value, dict) and isinstance(target.get(name), dict):
            merge(target[name], value)
        elif isinstance(value, list):
            target.setdefault(name, []).extend(copy.deepcopy(value))
        else:
            target[name] = copy.deepcopy(value)
        if name in ONEOFS:
            target.pop(ONEOFS[name], None)


def outbound(entry, rule):
    """The cluster of a service entry and its destination rule."""
    (host,), (port,) = entry["spec"]["hosts"], entry["spec"]["ports"]
    assert rule["spec"]["host"] == host
    name = f"outbound|{port['number']}||{host}"
    policy = rule["spec"]["trafficPolicy"]
    pool = policy["connectionPool"]
    endpoints = [{"endpoint": {"address": {"socket_address": {"address": one["address"], "port_value": port["number"]}}}}
                 for one in entry["spec"]["endpoints"]]
    cluster = {
        "name": name, "type": {"DNS": "STRICT_DNS", "STATIC": "STATIC"}[entry["spec"]["resolution"]],
        "connect_timeout": pool["tcp"]["connectTimeout"], "dns_lookup_family": "V4_ONLY",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "circuit_breakers": {"thresholds": [{
            "max_connections": pool["tcp"]["maxConnections"], "max_pending_requests": pool["http"]["http1MaxPendingRequests"],
            "max_requests": pool["http"]["http2MaxRequests"], "max_retries": pool["http"]["maxRetries"],
            "track_remaining": True}]},
        "metadata": {"filter_metadata": {"istio": {"services": [{"host": host}]}}},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPE}extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http_protocol_options": {}},
                "common_http_protocol_options": {"idle_timeout": pool["http"]["idleTimeout"]}}},
    }
    if policy["tls"]["mode"] == "SIMPLE":
        names = [{"exact": name} for name in policy["tls"]["subjectAltNames"]]
        cluster["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": f"{TYPE}extensions.transport_sockets.tls.v3.UpstreamTlsContext", "sni": policy["tls"].get("sni", ""),
            "common_tls_context": {"validation_context": {
                "trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"}, "match_subject_alt_names": names}}}}
    return cluster


LISTENERS = {"GATEWAY": "0.0.0.0_{}", "SIDECAR_OUTBOUND": "0.0.0.0_{}", "SIDECAR_INBOUND": "main_internal"}


def istio(stack, text):
    """The configuration of a proxy to which all objects apply."""
    objects = documents(text)
    (envoy_filter,) = named(objects, "EnvoyFilter")
    patches = envoy_filter["spec"]["configPatches"]
    (context,) = {patch["match"]["context"] for patch in patches}
    port = int(stack.listen.rpartition(":")[2])
    fault = {"name": "envoy.filters.http.fault", "typed_config": {"@type": f"{TYPE}extensions.filters.http.fault.v3.HTTPFault"}}
    upgrade = [{"upgrade_type": "websocket"}]
    chain = {"name": f"inbound-vip|{port}|http|attache.attache.svc.cluster.local",
             "filters": [manager(fault, rds={"route_config_name": "istio's own"}, upgrade_configs=upgrade)]}
    listener = {"name": LISTENERS[context].format(port), "filter_chains": [chain]}
    rules = named(objects, "DestinationRule")
    clusters = [outbound(entry, rule) for entry, rule in zip(named(objects, "ServiceEntry"), rules, strict=True)]
    for patch in patches:
        match, operation, value = patch["match"], patch["patch"]["operation"], patch["patch"]["value"]
        if patch["applyTo"] == "CLUSTER" and operation == "ADD":
            clusters.append(value)
        elif patch["applyTo"] == "CLUSTER":
            (found,) = [one for one in clusters if one["name"] == match["cluster"]["name"]]
            merge(found, value)
        else:
            assert match["listener"].get("name", listener["name"]) == listener["name"]
            assert match["listener"].get("portNumber", port) == port
            chain_match = match["listener"]["filterChain"]
            assert chain_match.get("name", chain["name"]) == chain["name"] and chain_match["filter"]["name"] == HCM
            config = chain["filters"][0]["typed_config"]
            if patch["applyTo"] == "NETWORK_FILTER":
                assert operation == "MERGE"
                merge(config, value["typed_config"])
            else:
                assert (patch["applyTo"], operation) == ("HTTP_FILTER", "INSERT_BEFORE")
                before = chain_match["filter"]["subFilter"]["name"]
                (place,) = [index for index, one in enumerate(config["http_filters"]) if one["name"] == before]
                config["http_filters"].insert(place, value)
    return bootstrap(stack, listener, clusters)


# -- Envoy Gateway -----------------------------------------------------------------------------------------------------
def envoy_gateway(stack, text):
    """The configuration of the proxies of the gateway."""
    objects = documents(text)
    (gateway,), (policy,) = named(objects, "Gateway"), named(objects, "EnvoyPatchPolicy")
    (entry,) = gateway["spec"]["listeners"]
    name = f"{gateway['metadata']['namespace']}/{gateway['metadata']['name']}/{entry['name']}"
    assert policy["spec"]["targetRef"]["name"] == gateway["metadata"]["name"]
    (route,) = named(objects, "HTTPRoute")
    assert route["spec"]["parentRefs"] == [{"name": gateway["metadata"]["name"], "sectionName": entry["name"]}]
    listener = {"name": name, "default_filter_chain": {"name": name, "filters": [manager(normalize_path=True)]}}
    routes = {"name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
        {"match": {"prefix": "/"}, "direct_response": {"status": 500}}]}]}
    clusters = []
    for patch in policy["spec"]["jsonPatches"]:
        operation = patch["operation"]
        assert operation["op"] == "add"
        kind = patch["type"].rpartition(".")[2]
        if kind == "Cluster":
            assert operation["path"] == "" and patch["name"] == operation["value"]["name"]
            clusters.append(operation["value"])
        else:
            assert patch["name"] == name
            add({"Listener": listener, "RouteConfiguration": routes}[kind], operation)
    listener["default_filter_chain"]["filters"][0]["typed_config"]["route_config"] = routes
    return bootstrap(stack, listener, clusters)


def add(node, operation):
    """`add` of RFC 6902."""
    *parents, last = operation["path"].split("/")[1:]
    for part in parents:
        node = node[int(part) if isinstance(node, list) else part]
    if isinstance(node, list):
        node.insert(int(last), operation["value"])
    else:
        node[last] = operation["value"]
