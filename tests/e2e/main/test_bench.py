"""The comparison of `make bench`: what it computes and writes. No gateway is needed."""

import json
import xml.etree.ElementTree as xml

import pytest
from benchmark import bars, chart, envoys, report
from benchmark.measure import alternate
from benchmark.variants import TITLES, full_config
from benchmark.workloads import CONCURRENCY, WORKLOADS, cell

MACHINE = {"cpu": "A & B", "cores": 2, "memory_gib": 23.0, "kernel": "6.1", "versions": {"Envoy": "1.40.0", "LiteLLM": None}}


def figures(cpu, rps=1000.0, p50=1.0, p99=2.0):
    return {"requests": 10, "rps": rps, "cpu_us": cpu, "cpu_us_by_process": {"Envoy": cpu * 0.75, "sidecar": cpu * 0.25},
            "cpu_us_beside": {"Redis": 9.0, "Postgres": 4.0}, "p50_ms": p50, "p99_ms": p99, "first_byte_p50_ms": 0.5}


def grid(**cpu):
    """A whole grid in which each pipeline uses these microseconds in each round."""
    return {cell(name, concurrency): {variant: [figures(value) for value in values] for variant, values in cpu.items()}
            for name in WORKLOADS for concurrency in CONCURRENCY}


def row(rounds, name):
    return next(each for each in bars.judge(rounds) if each["name"] == name)


def test_a_ratio_is_of_rounds_that_ran_beside_each_other():
    # The machine was twice as slow in the second round: that concerns nobody.
    rounds = {"cells": grid(plain=[40.0, 80.0, 40.0], full=[160.0, 320.0, 240.0])}
    found = row(rounds, "cpu_1kb_over_plain")
    assert (found["value"], found["spread"], found["met"], found["stretch_met"]) == (4.0, [4.0, 6.0], True, False)


def test_the_median_of_an_even_number_of_rounds_is_between_them():
    assert bars.median([4.0, 1.0, 2.0, 3.0]) == 2.5


@pytest.mark.parametrize("value, met, stretch", [(4.5, True, False), (4.51, False, False), (3.7, True, True)])
def test_a_bar_is_met_at_its_value(value, met, stretch):
    found = row({"cells": grid(plain=[1.0], full=[value])}, "cpu_1kb_over_plain")
    assert (found["met"], found["stretch_met"]) == (met, stretch)


def test_throughput_must_reach_its_bar():
    def judged(rps):
        cells = {cell("1kb", 32): {"full": [figures(1, rps=rps)], "litellm": [figures(1, rps=100.0)]}}
        found = row({"cells": cells}, "throughput_over_litellm")
        return found["value"], found["met"], found["stretch_met"]

    assert judged(4900.0) == (49.0, False, False)
    assert judged(6600.0) == (66.0, True, True)


def test_added_latency_is_a_difference():
    cells = {cell("1kb", 1): {"full": [figures(1, p50=0.75)], "plain": [figures(1, p50=0.25)]}}
    assert row({"cells": cells}, "added_p50_ms")["value"] == 0.5


def test_what_was_not_measured_has_no_value():
    found = bars.judge({"cells": {cell("1kb", 32): {"full": [figures(1)]}}})
    assert len(found) == len(bars.BARS) and all(each["value"] is None and each["met"] is None for each in found)


def samples(*values):
    return [{"requests": number, "mib": value} for number, value in enumerate(values)]


def test_memory_must_be_small_and_flat():
    flat = {"memory": {"sidecar": samples(10, 40, 60, 61), "envoy": samples(90, 130, 130, 130), "plain": samples(40, 45, 50, 50)}}
    assert row(flat, "sidecar_memory_mib")["met"] is True
    assert (row(flat, "envoy_memory_over_plain_mib")["value"], row(flat, "envoy_memory_over_plain_mib")["met"]) == (80, False)
    growing = {"memory": {"sidecar": samples(10, 40, 50, 60)}}
    assert (row(growing, "sidecar_memory_mib")["value"], row(growing, "sidecar_memory_mib")["met"]) == (60, False)


def test_every_bar_can_be_measured():
    rounds = {"cells": grid(**{name: [10.0] for name in TITLES}), "half_load": {"full": [figures(1)], "plain": [figures(1)]},
              "deployments": {"many": [figures(1)], "10": [figures(1)]}, "replicas": {"two": [figures(1)], "one": [figures(1)]},
              "memory": {"sidecar": samples(1, 1), "envoy": samples(2, 2), "plain": samples(1, 1)}}
    assert [each["name"] for each in bars.judge(rounds) if each["value"] is None] == []


# -- the document ------------------------------------------------------------------------------------------------------
def test_a_document_has_what_its_readers_expect():
    document = report.merged(None, {"cells": grid(plain=[1.0], full=[2.0])}, MACHINE, "c" * 40, "today")
    assert json.loads(json.dumps(document)) == document
    assert {"machine", "commit", "date", "bars", "quick", "rounds"} == set(document)
    assert {"name", "value", "bar", "stretch", "met", "spread"} <= set(document["bars"][0])
    assert document["bars"][0]["spread"] == [2.0, 2.0]


def test_a_quick_run_is_no_result():
    texts = [report.markdown(report.merged(None, {}, MACHINE, "c" * 40, "today", quick)) for quick in (True, False)]
    assert ["quick run" in text for text in texts] == [True, False]


def test_a_run_of_one_part_keeps_the_others():
    first = report.merged(None, {"cells": grid(plain=[1.0], full=[2.0])}, MACHINE, "a" * 40, "monday")
    memory = {"memory": {"sidecar": samples(1, 1)}}
    both = report.merged(first, memory, MACHINE, "b" * 40, "tuesday")
    commits = {each["name"]: (each["value"], each["commit"], each["date"]) for each in both["bars"]}
    assert commits["cpu_1kb_over_plain"] == (2.0, "a" * 40, "monday")
    assert commits["sidecar_memory_mib"] == (1, "b" * 40, "tuesday")
    one_cell = {"cells": {cell("1kb", 32): {"plain": [figures(1.0)], "full": [figures(3.0)]}}}
    again = report.merged(both, one_cell, MACHINE, "d" * 40, "friday")
    assert row(again["rounds"], "cpu_1kb_over_plain")["value"] == 3.0
    assert row(again["rounds"], "cpu_200kb_over_plain")["value"] == 2.0


def test_figures_of_another_machine_are_not_mixed_in():
    first = report.merged(None, {"memory": {"sidecar": samples(1, 1)}}, {**MACHINE, "cores": 64}, "a" * 40, "monday")
    second = report.merged(first, {"cells": grid(plain=[1.0], full=[2.0])}, MACHINE, "b" * 40, "tuesday")
    assert "memory" not in second["rounds"]


def test_the_table_names_what_is_missed_and_shows_the_spread():
    document = report.merged(None, {"cells": grid(plain=[1.0, 1.0], full=[6.0, 5.0])}, MACHINE, "e" * 40 + "-changed", "today")
    text = report.markdown(document)
    line = next(line for line in text.splitlines() if "/ plain Envoy" in line and "1 KB" in line)
    assert "5.50 (5.00–6.00)" in line and "≤ 4.5" in line and "**no**" in line and "eeeeeeeeeeee-changed" in line
    assert "| 100-chunk stream, paced | 256 |" in text and "Postgres" in text
    assert "LiteLLM None" not in text


def test_what_was_measured_beside_the_grid_is_told():
    rounds = {"deployments": {"10": [figures(100.0)], "many": [{**figures(120.0), "cpu_us_less_idle": 101.5}]},
              "half_load": {"plain": [{"rps": 500.0, "p50_ms": 0.5, "p99_ms": 1.25}]},
              "memory": {"sidecar": samples(*range(20)), "envoy": samples(*range(20)), "plain": samples(*range(20))}}
    lines = report.markdown(report.merged(None, rounds, MACHINE, "f" * 40, "today")).splitlines()
    assert any("| 10,000 | 120 (120–120) | 102 (102–102) |" in line for line in lines)
    assert any("plain Envoy | – | – | 500 (500–500)" in line for line in lines)
    assert "| 9 | 9.00 | 9.00 | 9.00 |" in lines and "| 19 | 19.0 | 19.0 | 19.0 |" in lines


# -- the picture -------------------------------------------------------------------------------------------------------
def test_the_picture_has_a_bar_for_each_figure():
    cells = {cell("1kb", 32): {"plain": [figures(40.0)], "full": [figures(140.0), figures(160.0)], "litellm": [figures(9000.0)]}}
    document = report.merged(None, {"cells": cells}, MACHINE, "f" * 40, "today")
    root = xml.fromstring(chart.svg(document))
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"40", "150", "9,000", "1 KB prompt", "plain Envoy", "LiteLLM, 1 worker", "µs"} <= set(texts)
    assert "20 KB prompt" not in texts
    assert any("A & B" in text for text in texts)
    heights = [float(each.get("height")) for each in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert max(heights[1:]) <= chart.PANEL_HEIGHT, "the cut bar stays in its panel"
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) == 1, "one bar is cut"


@pytest.mark.parametrize("value, top", [(99, 100), (100, 100), (101, 150), (0.7, 0.8), (7200, 8000)])
def test_scales_end_at_round_numbers(value, top):
    assert chart.nice_top(value) == pytest.approx(top)


def test_a_document_without_figures_has_a_picture():
    document = report.merged(None, {}, MACHINE, "f" * 40, "today")
    assert "no figures" in chart.svg(document)


# -- the run -----------------------------------------------------------------------------------------------------------
def test_rounds_alternate_and_nobody_is_always_first():
    order = []
    found = alternate({"a": "A", "b": "B"}, 3, lambda which: order.append(which) or len(order))
    assert "".join(order) == "ABBAAB"
    assert found == {"a": [1, 4, 5], "b": [2, 3, 6]}


def test_many_deployments_leave_the_group_as_it_was():
    few, many = full_config(10), full_config(10_000)
    group = lambda config: [each for each in config["model_list"] if each["model_name"] == "gpt-4o"]  # noqa: E731
    assert group(few) == group(many) and len(group(few)) == 10
    assert len({each["model_info"]["id"] for each in many["model_list"]}) == 10_001


def test_the_second_phase_is_per_attempt():
    config = envoys.two_phases("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "/tmp/x.sock")
    provider, processor = config["static_resources"]["clusters"]
    filters = provider["typed_extension_protocol_options"][envoys.HTTP_OPTIONS]["http_filters"]
    assert filters[0]["typed_config"]["processing_mode"]["request_header_mode"] == "SEND"
    assert filters[-1]["name"] == "envoy.filters.http.upstream_codec", "the last one, or Envoy refuses it"
    assert processor["name"] == filters[0]["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"]
