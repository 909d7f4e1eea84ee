"""What is asked in a comparison, and how many ask at once."""

from dataclasses import dataclass

CONCURRENCY = (1, 32, 256)
# The number of connections of the bars and of the chart.
MAIN = 32
# Milliseconds between the chunks of a paced stream; a model that writes 200 tokens a second.
PACE = 5


@dataclass(frozen=True)
class Workload:
    """A kind of request. `script` is what the fake provider is told to do."""

    name: str
    title: str
    body_bytes: int = 1024
    stream: bool = False
    script: str | None = None

    def options(self):
        return ["--body-bytes", self.body_bytes, *(["--stream"] if self.stream else [])]


WORKLOADS = {workload.name: workload for workload in (
    Workload("1kb", "1 KB prompt"),
    Workload("20kb", "20 KB prompt", 20_000),
    Workload("200kb", "200 KB prompt", 200_000),
    Workload("stream", "100-chunk stream", stream=True, script="chunks:100"),
    Workload("paced", "100-chunk stream, paced", stream=True, script=f"chunks:100,chunk-delay:{PACE}"),
)}


def cell(workload, concurrency):
    """Name of one figure of the grid."""
    return f"{workload}/{concurrency}"


def cells(names):
    """(workload, concurrency) of the grid, as far as these workloads go."""
    return [(WORKLOADS[name], concurrency) for name in names for concurrency in CONCURRENCY]


def slow_too(workload, concurrency):
    """Whether LiteLLM takes part: at a hundred requests a second most of the grid would only show its queue."""
    return concurrency == MAIN or (workload.name == "1kb" and concurrency == 1)
