"""Measures that need more than the five pipelines side by side."""

import statistics

from benchmark.measure import alternate, checked, idle, load_command, measure, run_loads, settle
from benchmark.variants import TITLES, Full, Gateway
from project import Failure, say
from stack import DEMO_CONFIG

FEW, MANY = 10, 10_000
# More than ever wait at once, also where a busy machine stalls for a moment: else requests could not be sent when they are due.
CONNECTIONS_OF_OPEN_LOOP = 512


def half_load(contest, saturation, rounds, seconds):
    """p99 at half of the rate at which Attaché is saturated, of plain Envoy at the very same rate."""
    rate = saturation / 2
    say(f"p99 at {rate:.0f} requests a second, half of what saturates {TITLES['full']}")

    def once(variant):
        options = ["--body-bytes", 1024, "--rate", f"{rate:.0f}"]
        # The warm-up is for connections that are not there yet.
        (result,), _ = run_loads([load_command(variant, options, seconds, CONNECTIONS_OF_OPEN_LOOP, warm_up=1)])
        # The window may end before its last request is sent. So few do not move a p99.
        few = result["dropped"] * 200 <= result["due"]
        checked(variant.name, {**result, "dropped": 0} if few else result)
        settle([variant])  # rows of this round are not written during the next
        print(f"    {TITLES[variant.name]:30}p50{result['p50_ms']:>8.2f}  p99{result['p99_ms']:>8.2f} ms   sent late: "
              f"{result['late']}, not sent: {result['dropped']}, of {result['due']}", flush=True)
        return {"rate": rate, **{name: result[name] for name in ("rps", "p50_ms", "p99_ms", "due", "late", "dropped")}}

    return alternate({name: contest.variants[name] for name in ("plain", "full")}, rounds, once)


def saturation(cells):
    """Requests per second that Attaché with everything on reaches, of 1 KB; None if that was not measured."""
    found = [statistics.median(round_["rps"] for round_ in variants["full"])
             for name, variants in cells.items() if name.startswith("1kb/") and "full" in variants]
    return max(found, default=None)


def warm(variants, seconds, concurrency):
    """Connections, caches, and V8, which compiles in the background what is used a lot."""
    for variant in variants:
        measure([variant], [], seconds, concurrency)


def _worlds(worlds):
    for world in reversed(worlds):
        world.stop()


def deployments(folder, provider, rounds, seconds, concurrency, many=MANY):
    """CPU per request of a group of ten alone, and among thousands of other deployments."""
    worlds = []
    try:
        for count in (FEW, many):
            say(f"starting Attaché with {count:,} deployments")
            worlds.append(Full(folder / f"deployments-{count}", provider, f"{count} deployments", deployments=count,
                               ready_seconds=600))
        contestants = {str(FEW): worlds[0], "many": worlds[1]}
        warm(worlds, seconds, concurrency)
        housekeeping = {world.name: idle([world]) for world in worlds}
        for name, used in housekeeping.items():
            share = ", ".join(f"{process} {part:.1%}" for process, part in used.items())
            print(f"    {name:30}of a core while nobody asks: {share}", flush=True)

        def once(world):
            found = measure([world], [], seconds, concurrency)
            own = sum(housekeeping[world.name].values()) * found["seconds"] * 1e6 / found["requests"]
            return {**found, "cpu_us_less_idle": found["cpu_us"] - own}

        return alternate(contestants, rounds, once)
    finally:
        _worlds(worlds)


def replicas(folder, provider, rounds, seconds, concurrency):
    """CPU per request of one gateway, and of two on the same Redis and Postgres, each as busy as the one.

    With half of the connections each would find less to do whenever it wakes up: what a request costs more then is the price of
    a low load, not of sharing (seen: 1.22 instead of 1.10).
    """
    worlds = []
    try:
        say("starting Attaché twice, on one Redis and Postgres")
        worlds.append(Full(folder / "replica-1", provider, "replica 1"))
        worlds.append(Full(folder / "replica-2", provider, "replica 2", sibling=worlds[0]))
        contestants = {"one": worlds[:1], "two": worlds}
        warm(worlds, seconds, concurrency)
        return alternate(contestants, rounds, lambda which: measure(which, [], seconds, concurrency * len(which)))
    finally:
        _worlds(worlds)


# -- a spend row -------------------------------------------------------------------------------------------------------
def _books(gateway, keep):
    """Envoy anew, with usage records or without: nothing else of the bootstrap differs."""
    stack = gateway.stack
    stack.envoy.stop()
    if keep:
        stack.start_envoy()
    else:
        text = stack.bootstrap().read_text()
        # The filter's configuration is JSON inside a string.
        wanted = r'\"usage\":true'
        if wanted not in text:
            raise Failure("the bootstrap has no switch for usage records")
        stack.start_envoy(text.replace(wanted, r'\"usage\":false'))
    stack.wait_ready()
    gateway.processes["Envoy"] = stack.envoy


def spend_row(folder, provider, rounds, seconds, concurrency):
    """What a spend row costs: the same requests with and without, in alternating rounds, embedded stores."""
    gateway = Gateway("spend-row", "", DEMO_CONFIG, folder / "spend-row", provider)
    try:
        gateway.new_key(key_alias="bench-row")

        def once(keep):
            _books(gateway, keep)
            return measure([gateway], [], seconds, concurrency)

        return alternate({"with": True, "without": False}, rounds * 2, once)
    finally:
        gateway.stop()
