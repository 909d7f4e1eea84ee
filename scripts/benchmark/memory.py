"""Memory after a million requests of ten thousand keys over two hundred deployments, and whether it still grows."""

import time
from concurrent.futures import ThreadPoolExecutor

from benchmark.measure import checked, load_command, resident_mib, run_loads, settle
from benchmark.variants import Full, PLENTY, Plain
from project import Failure, say

KEYS, DEPLOYMENTS, SAMPLES = 10_000, 200, 20
CONNECTIONS = 64


def make_keys(gateway, count, folder):
    """A file with the keys, in the order of their use, one a line."""
    def make(number):
        return gateway.stack.new_key(key_alias=f"active-{number}", rpm_limit=PLENTY, tpm_limit=PLENTY, max_budget=1e6)

    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(make, range(count)))
    path = folder / "keys.txt"
    path.write_text("".join(f"{key}\n" for key in keys))
    return path


def _portion(variant, path, requests):
    """The next requests: keys in turn, as many lines as requests."""
    keys = path.read_text().split()
    turn = path.with_suffix(".turn")
    whole, rest = divmod(requests, len(keys))
    turn.write_text("".join(f"{key}\n" for key in keys * whole + keys[:rest]))
    command = load_command(variant, ["--keys", turn], 3600, CONNECTIONS)
    at = command.index("--key")  # one or the other
    (result,), _ = run_loads([command[:at] + command[at + 2:]])
    return checked(variant.name, result)["requests"]


def _watch(variant, processes, path, requests):
    """Resident memory of these processes after each twentieth of the requests."""
    found, done = {name: [] for name in processes}, 0
    for _ in range(SAMPLES):
        done += _portion(variant, path, requests // SAMPLES)
        settle([variant])
        for name, process in processes.items():
            found[name].append({"requests": done, "mib": resident_mib(process)})
        told = ", ".join(f"{name} {samples[-1]['mib']:.0f} MiB" for name, samples in found.items())
        print(f"  {done:>10,} requests   {told}", flush=True)
    return found


def memory(folder, provider, requests, keys=KEYS):
    """Samples of sidecar, Envoy, and plain Envoy under the same requests."""
    if requests < SAMPLES:
        raise Failure(f"--memory-requests must be at least {SAMPLES}")
    gateway = Full(folder / "memory", provider, "memory", deployments=DEPLOYMENTS)
    try:
        begun = time.monotonic()
        path = make_keys(gateway, keys, folder / "memory")
        say(f"{keys:,} keys made in {time.monotonic() - begun:.0f} s; {requests:,} requests")
        found = _watch(gateway, {"sidecar": gateway.stack.sidecar, "envoy": gateway.stack.envoy}, path, requests)
    finally:
        gateway.stop()
    plain = Plain(folder / "memory", provider)
    try:
        return {**found, **_watch(plain, {"plain": plain.processes["Envoy"]}, path, requests)}
    finally:
        plain.stop()
