"""What must hold, computed from the raw rounds. Pure: no processes, no clocks.

Values are ratios of rounds that ran one after the other, paired in their order; a bar's value is their median, its spread the
smallest and the largest.
"""

from dataclasses import dataclass
from typing import Callable

from benchmark.workloads import MAIN, cell

# Of resident memory in the second half of a long run, as a share of what it was: below this it counts as flat.
FLAT = 0.05


def median(values):
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def spread(values):
    return [min(values), max(values)]


def shortened(commit):
    """A commit as people write it, with its mark if the tree was changed."""
    head, mark, _ = (commit or "").partition("-")
    return head[:12] + mark + ("changed" if mark else "")


def paired(above, below, pick, combine=lambda a, b: a / b):
    """One value per pair of rounds; nothing if either is missing."""
    return [combine(pick(a), pick(b)) for a, b in zip(above or (), below or ())]


def _cpu(round_):
    return round_["cpu_us"]


def _grid(rounds, name, concurrency, variant):
    return rounds.get("cells", {}).get(cell(name, concurrency), {}).get(variant)


def cpu_ratio(name, over, concurrency=MAIN):
    """CPU per request of Attaché with everything on, over another pipeline's."""
    return lambda rounds: paired(_grid(rounds, name, concurrency, "full"), _grid(rounds, name, concurrency, over), _cpu)


def added_p50(rounds):
    return paired(_grid(rounds, "1kb", 1, "full"), _grid(rounds, "1kb", 1, "plain"), lambda r: r["p50_ms"],
                  lambda a, b: a - b)


def throughput_ratio(rounds):
    return paired(_grid(rounds, "1kb", MAIN, "full"), _grid(rounds, "1kb", MAIN, "litellm"), lambda r: r["rps"])


def section_ratio(section, above, below, pick=_cpu):
    def ratio(rounds):
        found = rounds.get(section, {})
        return paired(found.get(above), found.get(below), pick)

    return ratio


def memory(process, over=None):
    """Resident memory at the end of the long run, less another process's."""
    def value(rounds):
        found = rounds.get("memory", {})
        if process not in found or (over and over not in found):
            return []
        return [found[process][-1]["mib"] - (found[over][-1]["mib"] if over else 0)]

    return value


def growth(samples):
    """Growth in the second half of a run, as a share."""
    half = samples[len(samples) // 2]["mib"]
    return samples[-1]["mib"] / half - 1


def flat(process):
    return lambda rounds: growth(rounds["memory"][process]) <= FLAT


@dataclass(frozen=True)
class Bar:
    """One row. `values` takes the raw rounds and returns one value per round; `also` is a second condition."""

    name: str
    title: str
    bar: float
    stretch: float | None
    values: Callable
    unit: str = "×"
    at_least: bool = False
    also: Callable | None = None

    def holds(self, value, limit):
        return value >= limit if self.at_least else value <= limit

    def judged(self, rounds):
        """The row of the result; without a measurement its value is null."""
        row = {"name": self.name, "title": self.title, "value": None, "bar": self.bar, "stretch": self.stretch, "met": None,
               "stretch_met": None, "spread": None, "unit": self.unit, "at_least": self.at_least}
        values = self.values(rounds)
        if not values:
            return row
        value, good = median(values), self.also is None or self.also(rounds)
        return {**row, "value": value, "spread": spread(values), "met": self.holds(value, self.bar) and good,
                "stretch_met": None if self.stretch is None else self.holds(value, self.stretch) and good}


BARS = (
    Bar("cpu_1kb_over_plain", "CPU per request, 1 KB, c=32: Attaché (Envoy + sidecar) / plain Envoy", 4.5, 3.7,
        cpu_ratio("1kb", "plain")),
    Bar("cpu_1kb_over_two_phase", "the same / two ext_proc phases with no-op processors", 1.2, 1.0,
        cpu_ratio("1kb", "two-phase")),
    Bar("cpu_200kb_over_plain", "CPU per request, 200 KB, c=32: Attaché / plain Envoy", 3.0, 2.0, cpu_ratio("200kb", "plain")),
    Bar("cpu_paced_stream_over_plain", "CPU per 100-chunk stream, paced, c=32: Attaché / plain Envoy", 1.7, 1.35,
        cpu_ratio("paced", "plain")),
    Bar("added_p50_ms", "added latency, p50, 1 KB, c=1, over plain Envoy", 0.6, 0.35, added_p50, "ms"),
    Bar("p99_half_load_over_plain", "p99 at half of Attaché's saturation rate / plain Envoy at the same rate", 3, 2,
        section_ratio("half_load", "full", "plain", lambda r: r["p99_ms"])),
    Bar("throughput_over_litellm", "throughput, 1 KB, c=32: Attaché / LiteLLM", 50, 65, throughput_ratio, at_least=True),
    Bar("sidecar_memory_mib", "sidecar memory, 10,000 active keys, 200 deployments, after 1 million requests; flat", 80, 50,
        memory("sidecar"), "MiB", also=flat("sidecar")),
    Bar("envoy_memory_over_plain_mib", "Envoy's memory over plain Envoy's, one worker, the same; flat", 60, 30,
        memory("envoy", "plain"), "MiB", also=flat("envoy")),
    Bar("cpu_10000_deployments_over_10", "CPU per request, 1 KB, c=32: 10,000 deployments / 10", 1.1, 1.02,
        section_ratio("deployments", "many", "10")),
    Bar("cpu_two_sidecars_over_one", "CPU per request, 1 KB, c=32: two sidecars on one Redis / one", 1.05, None,
        section_ratio("replicas", "two", "one")),
)


def judge(rounds):
    return [bar.judged(rounds) for bar in BARS]
