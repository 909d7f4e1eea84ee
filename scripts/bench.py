#!/usr/bin/env python3
"""CPU per request of the whole gateway (Envoy and sidecar) against plain Envoy, in alternating rounds of one run.

The numbers of two runs on a shared machine differ more than the two pipelines of one run, so only the latter are
compared. Load is a closed loop; the provider is the fake one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from project import LOAD, LOCAL, Failure, envoy_binary, main, say, wait_for  # noqa: E402
from stack import DEMO_CONFIG, Process, Stack, free_address, http  # noqa: E402

WORKLOADS = {
    "1 KB chat": [],
    "200 KB chat": ["--body-bytes", "200000"],
    "stream, 100 chunks": ["--stream", "--script", "openai=chunks:100"],
}

PLAIN = """
admin: {{address: {{socket_address: {{address: {admin_host}, port_value: {admin_port}}}}}}}
static_resources:
  listeners:
  - address: {{socket_address: {{address: {host}, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: plain
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: "/"}}
                route: {{cluster: provider, prefix_rewrite: "/openai/", timeout: 60s}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: provider
    type: STATIC
    load_assignment:
      cluster_name: provider
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {provider_host}, port_value: {provider_port}}}}}}}}}]}}]
"""


class PlainEnvoy:
    """Envoy that only forwards to the provider."""

    def __init__(self, folder, provider_url):
        self.listen, self.admin = free_address(), free_address()
        host, port = self.listen.split(":")
        admin_host, admin_port = self.admin.split(":")
        provider_host, provider_port = provider_url.removeprefix("http://").split(":")
        path = folder / "plain.yaml"
        path.write_text(PLAIN.format(host=host, port=port, admin_host=admin_host, admin_port=admin_port,
                                     provider_host=provider_host, provider_port=provider_port))
        command = [envoy_binary(), "-c", path, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
        self.process = Process("plain-envoy", command, folder, dict(os.environ)).start()
        wait_for("plain Envoy", lambda: http("GET", f"http://{self.admin}/ready")[0] == 200, 15)


def load(listen, key, options, seconds, concurrency):
    command = [LOAD, "--target", listen, "--key", key, "--seconds", seconds, "--concurrency", concurrency, "--warm-up",
               "0", *options]
    done = subprocess.run([str(part) for part in command], check=True, text=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def measure(listen, key, processes, options, arguments):
    """One round: the load generator's figures, and microseconds of CPU per request by process."""
    load(listen, key, options, 0.5, arguments.concurrency)  # connections, caches, V8's compiler
    before = [process.cpu_seconds() for process in processes]
    result = load(listen, key, options, arguments.seconds, arguments.concurrency)
    if not result["requests"] or result["errors"]:
        raise Failure(f"the run had errors: {result}")
    used = [process.cpu_seconds() - start for process, start in zip(processes, before)]
    result["cpu_us"] = [seconds * 1e6 / result["requests"] for seconds in used]
    return result


def books(stack, keep):
    """Envoy anew, with usage records or without: nothing else of the bootstrap differs."""
    stack.envoy.stop()
    if keep:
        stack.start_envoy()
    else:
        path = stack.bootstrap()
        text = path.read_text()
        # The filter's configuration is JSON inside a string.
        wanted = r'\"usage\":true'
        if wanted not in text:
            raise Failure("the bootstrap has no switch for usage records")
        stack.start_envoy(text.replace(wanted, r'\"usage\":false'))
    stack.wait_ready()


def row_cost(stack, key, arguments):
    """What a spend row costs the request path: the same requests with and without, in alternating rounds."""
    found = {True: [], False: []}
    for _ in range(arguments.rounds * 2):
        for keep in (True, False):
            books(stack, keep)
            found[keep].append(measure(stack.listen, key, [stack.envoy, stack.sidecar], [], arguments))
            time.sleep(1.5)  # what waits is written, in nobody's round
    for name, at in (("Envoy", 0), ("sidecar", 1)):
        with_rows, without = ([r["cpu_us"][at] for r in found[keep]] for keep in (True, False))
        pairs = sorted(a - b for a, b in zip(with_rows, without))
        print(f"  {'a spend row':20}{name:14}{statistics.median(with_rows) - statistics.median(without):>8.1f} µs   with "
              f"{statistics.median(with_rows):.0f}, without {statistics.median(without):.0f}; of pairs {pairs[0]:.1f} to "
              f"{pairs[-1]:.1f}", flush=True)


def middle(rounds, pick):
    return statistics.median(pick(result) for result in rounds)


def show(name, plain, whole):
    for label, rounds in (("plain Envoy", plain), ("Attaché", whole)):
        parts = [middle(rounds, lambda r, i=i: r["cpu_us"][i]) for i in range(len(rounds[0]["cpu_us"]))]
        detail = f"Envoy {parts[0]:.0f} + sidecar {parts[1]:.0f}" if len(parts) > 1 else ""
        print(f"  {name:20}{label:14}{sum(parts):>8.0f} µs{middle(rounds, lambda r: r['rps']):>9.0f} rps"
              f"{middle(rounds, lambda r: r['p50_ms']):>9.2f}{middle(rounds, lambda r: r['p99_ms']):>9.2f} ms  {detail}",
              flush=True)


def bench():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3, help="of each measured round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=32)
    arguments = parser.parse_args()
    folder = LOCAL / "run" / "bench"
    with Stack(DEMO_CONFIG, folder, concurrency=1) as stack:
        key = stack.new_key(key_alias="bench")
        plain = PlainEnvoy(folder, stack.provider.url)
        say(f"CPU per request; one Envoy worker, {arguments.concurrency} connections, median of {arguments.rounds} "
            f"rounds of {arguments.seconds:.0f} s")
        print(f"  {'':34}{'CPU':>11}{'':>13}{'p50':>9}{'p99':>9}")
        for name, options in WORKLOADS.items():
            rounds = [(measure(plain.listen, "sk-plain", [plain.process], options, arguments),
                       measure(stack.listen, key, [stack.envoy, stack.sidecar], options, arguments))
                      for _ in range(arguments.rounds)]
            show(name, [first for first, _ in rounds], [second for _, second in rounds])
        row_cost(stack, key, arguments)
        plain.process.stop()


if __name__ == "__main__":
    main(bench)
