#!/usr/bin/env python3
"""What answers cost, computed a second time: exact fractions, and none of the gateway's code.

    scripts/cost_cases.py            write llm/tests/cost_cases.json
    scripts/cost_cases.py --check    exit 1 if that file is not what would be written

Prices are those of the project's table (ext-proc/data/model_prices.json); the rules are those of docs/spend.md, section
"Prices", written down here again. The tests of both crates hold the cases against the gateway's own arithmetic.
"""

import argparse
import itertools
import json
import re
import sys
from fractions import Fraction
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "ext-proc/data/model_prices.json"
CASES = ROOT / "llm/tests/cost_cases.json"

# What an item without a rate is charged as.
INSTEAD = {
    "cached": "in", "write": "in", "write_1h": "write", "audio_in": "in", "audio_cached": "cached",
    "image_in": "in", "image_cached": "cached", "video_in": "in", "reasoning": "out", "audio_out": "out",
    "image_out": "out", "video_out": "out", "search_low": "search", "search_high": "search",
}
# LiteLLM's names of prices that the cases override.
FIELDS = {
    "input_cost_per_token": "in", "output_cost_per_token": "out", "cache_read_input_token_cost": "cached",
    "cache_creation_input_token_cost": "write", "cache_creation_input_token_cost_above_1hr": "write_1h",
    "output_cost_per_reasoning_token": "reasoning", "input_cost_per_audio_token": "audio_in",
    "output_cost_per_audio_token": "audio_out", "output_cost_per_image": "images_out",
    "input_cost_per_second": "seconds_in", "input_cost_per_request": "request", "ocr_cost_per_page": "pages",
    "input_cost_per_character": "chars_in", "input_cost_per_query": "queries",
}
SUFFIXES = {"_batches": "batch", "_flex": "flex", "_priority": "priority"}
SECONDS = {"seconds_in", "video_seconds_in", "seconds_out"}


def exact(text):
    return Fraction(text)


class Prices:
    """Dollars per unit, by item, class and the number of prompt tokens that must be exceeded (None: none)."""

    def __init__(self, rates):
        self.rates = dict(rates)

    @classmethod
    def listed(cls, row):
        rates = {}
        for place, rate in row.items():
            if place in ("mode", "max_in", "max_out", "can", "cannot"):
                continue
            match = re.fullmatch(r"(\w+)(?:@(\w+))?(?:>(\d+))?", place)
            item, service, above = match.groups()
            rates[item, service or "standard", int(above) if above else None] = Fraction(rate)
        return cls(rates)

    def with_fields(self, fields):
        rates = dict(self.rates)
        for name, value in fields.items():
            service = "standard"
            for suffix, known in SUFFIXES.items():
                if name.endswith(suffix):
                    name, service = name.removesuffix(suffix), known
            above = None
            match = re.fullmatch(r"(.*)_above_(\d+)k_tokens", name)
            if match:
                name, above = match[1], int(match[2]) * 1000
            rates[FIELDS[name], service, above] = exact(value)
        return Prices(rates)

    def rate(self, item, service, prompt):
        while item:
            known = [(above, of) for (name, of, above) in self.rates if name == item]
            crossed = sorted({above for above, _ in known if above is not None and prompt > above}, reverse=True)
            for above in [*crossed, None]:
                for wanted in (service, "standard"):
                    if (above, wanted) in known:
                        return self.rates[item, wanted, above]
            item = INSTEAD.get(item)
        return None

    def text(self):
        """As the gateway writes a price: femto-dollars."""
        out = []
        for (item, service, above), rate in self.rates.items():
            place = item + (f"@{service}" if service != "standard" else "") + (f">{above}" if above is not None else "")
            femto = rate * 10**15
            assert femto.denominator == 1, (place, rate)
            out.append(f"{place} {femto.numerator}")
        return ";".join(out)


def quantities(usage):
    """What is charged for: parts of the prompt and of the completion that do not overlap, and the rest."""
    get = lambda name: usage.get(name, 0)  # noqa: E731
    prompt = get("prompt")
    cached = min(get("cached"), prompt)
    written = min(get("cache_creation"), prompt - cached)
    hour = min(get("cache_creation_1h"), written)
    audio_cached = min(get("audio_cached"), cached)
    image_cached = min(get("image_cached"), cached - audio_cached)
    rest = prompt - cached - written
    audio = min(max(get("audio_in") - audio_cached, 0), rest)
    image = min(max(get("image_in") - image_cached, 0), rest - audio)
    video = min(get("video_in"), rest - audio - image)
    completion = get("completion")
    audio_out = min(get("audio_out"), completion)
    image_out = min(get("image_out"), completion - audio_out)
    video_out = min(get("video_out"), completion - audio_out - image_out)
    reasoning = min(get("reasoning"), completion - audio_out - image_out - video_out)
    size = usage.get("search_size", "medium")
    return {
        "in": rest - audio - image - video, "cached": cached - audio_cached - image_cached,
        "write": written - hour, "write_1h": hour, "audio_in": audio, "audio_cached": audio_cached,
        "image_in": image, "image_cached": image_cached, "video_in": video,
        "out": completion - audio_out - image_out - video_out - reasoning, "reasoning": reasoning,
        "audio_out": audio_out, "image_out": image_out, "video_out": video_out,
        "citations": get("citations"), "search" if size == "medium" else f"search_{size}": get("searches"),
        "seconds_in": Fraction(0 if get("audio_in") else get("audio_ms"), 1000),
        "video_seconds_in": Fraction(0 if get("video_in") else get("video_ms"), 1000),
        "seconds_out": Fraction(0 if get("audio_out") or get("video_out") else get("made_ms"), 1000),
        "chars_in": get("chars_in"), "chars_out": get("chars_out"),
        "images_in": 0 if get("image_in") else get("images_in"),
        "images_out": 0 if get("image_out") else get("images_out"),
        "queries": get("queries"), "pages": get("pages"), "request": 1,
    }


def nanos(prices, usage, adjust):
    service, prompt = usage.get("class", "standard"), usage.get("prompt", 0)
    dollars = Fraction(0)
    for item, quantity in quantities(usage).items():
        rate = prices.rate(item, service, prompt) if quantity else None
        if rate is not None:
            dollars += quantity * rate
    dollars *= 1 - exact(adjust.get("discount", "0"))
    dollars *= 1 + exact(adjust.get("margin", "0"))
    dollars += exact(adjust.get("fee", "0"))
    return (dollars * 10**9 + Fraction(1, 2)).__floor__()


def read(raw):
    """A provider's usage in our words, dialect by dialect."""
    dialect, raw = raw
    details = lambda *names: next((raw[name] for name in names if raw.get(name)), {})  # noqa: E731
    if dialect == "anthropic":
        read, write = raw.get("cache_read_input_tokens", 0), raw.get("cache_creation_input_tokens", 0)
        return {
            "prompt": raw["input_tokens"] + read + write, "completion": raw["output_tokens"], "cached": read,
            "cache_creation": write,
            "cache_creation_1h": raw.get("cache_creation", {}).get("ephemeral_1h_input_tokens", 0),
            "searches": raw.get("server_tool_use", {}).get("web_search_requests", 0),
            "class": {"batch": "batch", "priority": "priority"}.get(raw.get("service_tier"), "standard"),
        }
    if dialect == "duration":
        return {"audio_ms": int(Fraction(str(raw["seconds"])) * 1000)}
    into = details("prompt_tokens_details", "input_tokens_details", "input_token_details")
    out = details("completion_tokens_details", "output_tokens_details", "output_token_details")
    usage = {
        "prompt": raw.get("prompt_tokens", raw.get("input_tokens", 0)),
        "completion": raw.get("completion_tokens", raw.get("output_tokens", 0)),
        "cached": into.get("cached_tokens", 0), "cache_creation": into.get("cache_write_tokens", 0),
        "audio_in": into.get("audio_tokens", 0), "image_in": into.get("image_tokens", 0),
        "audio_cached": into.get("cached_tokens_details", {}).get("audio_tokens", 0),
        "image_cached": into.get("cached_tokens_details", {}).get("image_tokens", 0),
        "reasoning": out.get("reasoning_tokens", 0), "audio_out": out.get("audio_tokens", 0),
        "image_out": out.get("image_tokens", 0),
    }
    if dialect == "xai":
        usage["completion"] += usage["reasoning"]
    if dialect == "perplexity":
        usage["reasoning"] = raw.get("reasoning_tokens", 0)
        usage["completion"] += usage["reasoning"]
        usage["citations"] = raw.get("citation_tokens", 0)
        usage["searches"] = raw.get("num_search_queries", 1)
        usage["search_size"] = raw["search_context_size"]
    return usage


# Models by what their prices have, and the usages that go with that.
PLAIN = ["gpt-4o", "gpt-4o-mini", "text-embedding-3-small", "mistral/mistral-large-latest", "deepseek-v4-flash"]
CLASSES = ["gpt-5.6", "gemini-2.5-pro", "gpt-5-mini", "sail/moonshotai/Kimi-K3", "global.openai.gpt-6-astra"]
TIERED = ["gpt-5.6", "gemini-2.5-pro", "xai/grok-4.20", "dashscope/qwen3-coder-plus", "claude-haiku-5-5",
          "vertex_ai/claude-sonnet-4-5", "minimax/MiniMax-M3", "dashscope/qwen-plus-2025-07-28"]
CACHES = ["claude-sonnet-4-5", "vertex_ai/claude-sonnet-4-5", "claude-haiku-5-5", "gpt-5.6", "gemini-2.5-pro"]
AUDIO = ["gemini/gemini-2.5-flash", "azure/gpt-realtime-mini", "amazon.nova-2-sonic-v1:0"]
IMAGES = ["azure/gpt-image-1", "gemini-2.5-flash-image", "gemini-embedding-2"]


def numbered(models, usages, name):
    for model, (at, usage) in itertools.product(models, enumerate(usages, 1)):
        yield {"name": f"{name} {at}, {model}", "model": model, "usage": usage}


def plain():
    return numbered(PLAIN, [
        {"prompt": 1, "completion": 0}, {"prompt": 0, "completion": 1}, {"prompt": 0, "completion": 0},
        {"prompt": 1234, "completion": 567}, {"prompt": 1000, "completion": 10, "cached": 400},
        {"prompt": 10, "completion": 3, "cached": 4000}, {"prompt": 999_999, "completion": 123_457, "cached": 7},
    ], "plain")


def classes():
    every = ["standard", "batch", "flex", "priority", "balanced", "ultrafast"]
    sizes = [{"prompt": 1001, "completion": 77, "cached": 333}, {"prompt": 300_001, "completion": 77, "cached": 333}]
    usages = [{**usage, "class": of} for of, usage in itertools.product(every, sizes)]
    return numbered(CLASSES, usages, "class")


def tiers(table):
    for model in TIERED:
        above = sorted({above for _, _, above in Prices.listed(table[model]).rates if above is not None})
        assert above, model
        # At the threshold, one beyond, and far beyond; what is cached counts towards it.
        for prompt in itertools.chain.from_iterable((edge, edge + 1, edge + 100_003) for edge in above):
            usage = {"prompt": prompt, "completion": 1013, "cached": prompt // 3, "reasoning": 13}
            yield {"name": f"tier {prompt}, {model}", "model": model, "usage": usage}


def caches():
    return numbered(CACHES, [
        {"prompt": 5000, "completion": 9, "cached": 1000, "cache_creation": 2000},
        {"prompt": 5000, "completion": 9, "cached": 1000, "cache_creation": 2000, "cache_creation_1h": 1500},
        {"prompt": 5000, "completion": 9, "cached": 4000, "cache_creation": 2000, "cache_creation_1h": 2000},
        {"prompt": 300_000, "completion": 9, "cache_creation": 250_000, "cache_creation_1h": 1},
        {"prompt": 5000, "completion": 9, "cache_creation": 100, "cache_creation_1h": 900, "class": "batch"},
    ], "cache")


def modalities():
    yield from numbered(AUDIO, [
        {"prompt": 320, "completion": 180, "audio_in": 240, "audio_out": 90, "cached": 12, "reasoning": 15},
        {"prompt": 320, "completion": 180, "audio_in": 240, "cached": 100, "audio_cached": 90},
        {"prompt": 100, "completion": 50, "audio_in": 400, "audio_out": 400, "cached": 30, "reasoning": 40},
        {"prompt": 100, "completion": 50, "audio_in": 60, "class": "batch"},
    ], "audio")
    yield from numbered(IMAGES, [
        {"prompt": 500, "completion": 4493, "image_in": 323, "image_out": 4160},
        {"prompt": 500, "completion": 4493, "image_in": 323, "cached": 400, "image_cached": 300, "images_out": 2},
        {"prompt": 500, "completion": 10, "image_in": 323, "video_in": 400, "class": "batch"},
    ], "image")
    yield from numbered(["gemini-embedding-2", "gemini-omni-flash-preview"],
                        [{"prompt": 900, "completion": 70, "video_in": 700, "video_out": 60, "audio_in": 150}], "video")


def other_units():
    for model, usage in [
        ("azure/sora-2", {"made_ms": 8000}), ("assemblyai/best", {"audio_ms": 61_337}),
        ("gpt-4o-transcribe", {"audio_ms": 1}), ("gpt-4o-transcribe", {"prompt": 10, "completion": 4, "audio_in": 9,
                                                                     "audio_ms": 90_000}),
        ("gemini-3.1-flash-live-preview", {"video_ms": 12_345, "prompt": 8}),
        ("aws_polly/neural", {"chars_in": 12_345}), ("gemini/gemma-3-27b-it", {"chars_in": 7, "chars_out": 8}),
        ("aiml/dall-e-2", {"images_out": 3}), ("1024-x-1024/gpt-image-1.5", {"images_out": 2}),
        ("amazon.titan-embed-image-v1", {"prompt": 30, "images_in": 2}),
        ("amazon.rerank-v1:0", {"queries": 4}), ("mistral/mistral-ocr-3", {"pages": 17}),
        ("mistral/mistral-ocr-3", {"pages": 17, "class": "batch"}),
        ("perplexity/pplx-70b-online", {"prompt": 100, "completion": 20}),
        ("perplexity/sonar", {"prompt": 10, "completion": 20, "searches": 1, "search_size": "low"}),
        ("perplexity/sonar", {"prompt": 10, "completion": 20, "searches": 2}),
        ("perplexity/sonar", {"prompt": 10, "completion": 20, "searches": 3, "search_size": "high"}),
        ("claude-sonnet-4-5", {"prompt": 10, "completion": 20, "searches": 3, "search_size": "high"}),
        ("gpt-4o", {"prompt": 10, "completion": 20, "searches": 3, "pages": 9, "audio_ms": 5000}),
        ("dashscope/qwen-plus-2025-04-28", {"prompt": 10, "completion": 900, "reasoning": 850}),
        ("dashscope/qwen-plus-2025-04-28", {"prompt": 10, "completion": 90, "reasoning": 850}),
        ("perplexity/sonar-deep-research", {"prompt": 33, "completion": 900, "reasoning": 800, "citations": 20_016}),
    ]:
        yield {"name": f"units {sorted(usage.items())}, {model}", "model": model, "usage": usage}


def overrides():
    usage = {"prompt": 2000, "completion": 100, "cached": 500, "cache_creation": 300, "reasoning": 40}
    for model, over in [
        ("gpt-4o", {"input_cost_per_token": "0.000003"}), ("gpt-4o", {"output_cost_per_token": "1.5e-05"}),
        ("gpt-4o", {"cache_read_input_token_cost": "0"}), ("gpt-4o", {"cache_creation_input_token_cost": "3.125e-6"}),
        ("gpt-4o", {"output_cost_per_reasoning_token": "2e-5", "input_cost_per_request": "0.001"}),
        ("gpt-4o", {"input_cost_per_token_above_1k_tokens": "9e-6"}),
        ("gpt-4o", {"input_cost_per_token_above_2k_tokens": "9e-6"}),
        ("gpt-5.6", {"input_cost_per_token_priority": "1e-5"}),
        ("gpt-5.6", {"output_cost_per_token_above_1k_tokens_flex": "7e-6"}),
        (None, {"input_cost_per_token": "1e-6"}), (None, {"output_cost_per_token": "1e-6"}),
        (None, {"input_cost_per_token": "1e-15", "output_cost_per_token": "4.99999e-10"}),
        (None, {"output_cost_per_token": "5e-12"}), (None, {"output_cost_per_token": "4.999e-12"}),
        (None, {"input_cost_per_token": "0", "output_cost_per_token": "0"}),
    ]:
        for of in ("standard", "flex", "priority"):
            name = f"override {sorted(over.items())}, {model}, {of}"
            yield {"name": name, "model": model, "over": over, "usage": {**usage, "class": of}}


def adjusted():
    usages = [{"prompt": 1234, "completion": 567, "cached": 89}, {"prompt": 0, "completion": 0}, {"prompt": 7}]
    for (at, usage), adjust in itertools.product(enumerate(usages, 1), [
        {"discount": "0.05"}, {"margin": "0.1"}, {"discount": "0.05", "margin": "0.1"}, {"discount": "1"},
        {"fee": "0.001"}, {"discount": "0.333333333", "margin": "0.0725", "fee": "0.00000000049999"},
        {"margin": "100"}, {"discount": "0.5", "margin": "1"}, {"fee": "0.0000000005"},
    ]):
        yield {"name": f"adjusted {sorted(adjust.items())} {at}", "model": "gpt-4o-mini", "usage": usage, "adjust": adjust}


def dialects():
    for model, dialect, raw in [
        ("gpt-4o", "openai", {"prompt_tokens": 320, "completion_tokens": 180, "total_tokens": 500,
                              "prompt_tokens_details": {"cached_tokens": 12, "audio_tokens": 240},
                              "completion_tokens_details": {"reasoning_tokens": 15, "audio_tokens": 90}}),
        ("gpt-5.6", "openai", {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010,
                               "prompt_tokens_details": {"cached_tokens": 300, "cache_write_tokens": 200}}),
        ("gpt-5.6", "openai", {"input_tokens": 1755, "input_tokens_details": {"cached_tokens": 1000},
                               "output_tokens": 1314, "output_tokens_details": {"reasoning_tokens": 1152},
                               "total_tokens": 3069}),
        ("azure/gpt-image-1", "openai", {"input_tokens": 12, "input_tokens_details": {"image_tokens": 4, "text_tokens": 8},
                                         "output_tokens": 4493, "output_tokens_details": {"image_tokens": 4160}}),
        ("azure/gpt-realtime-mini", "openai", {
            "input_tokens": 120, "output_tokens": 50, "total_tokens": 170,
            "input_token_details": {"audio_tokens": 60, "image_tokens": 40, "cached_tokens": 32,
                                    "cached_tokens_details": {"audio_tokens": 20, "image_tokens": 10}},
            "output_token_details": {"audio_tokens": 40}}),
        ("claude-sonnet-4-5", "anthropic", {"input_tokens": 3883, "output_tokens": 49, "cache_creation_input_tokens": 0,
                                            "cache_read_input_tokens": 30464}),
        ("claude-sonnet-4-5", "anthropic", {
            "input_tokens": 10, "cache_creation_input_tokens": 2200, "cache_read_input_tokens": 3000,
            "cache_creation": {"ephemeral_5m_input_tokens": 2000, "ephemeral_1h_input_tokens": 200},
            "output_tokens": 7, "server_tool_use": {"web_search_requests": 2}, "service_tier": "batch"}),
        ("vertex_ai/claude-sonnet-4-5", "anthropic", {"input_tokens": 1, "output_tokens": 9,
                                                      "cache_read_input_tokens": 200_000}),
        ("vertex_ai/claude-sonnet-4-5", "anthropic", {"input_tokens": 1, "output_tokens": 9,
                                                      "cache_read_input_tokens": 199_999}),
        ("xai/grok-4.20", "xai", {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135,
                                  "completion_tokens_details": {"reasoning_tokens": 94}}),
        ("perplexity/sonar-deep-research", "perplexity", {
            "prompt_tokens": 33, "completion_tokens": 7163, "total_tokens": 7196, "search_context_size": "low",
            "citation_tokens": 20016, "num_search_queries": 18, "reasoning_tokens": 73997}),
        ("perplexity/sonar", "perplexity", {"prompt_tokens": 14, "completion_tokens": 250, "total_tokens": 264,
                                            "search_context_size": "high"}),
        ("gpt-4o-transcribe", "duration", {"type": "duration", "seconds": 12.34}),
    ]:
        yield {"name": f"{dialect} {json.dumps(raw)}, {model}", "model": model, "raw": raw, "usage": read((dialect, raw))}


def table_rows():
    return json.loads(TABLE.read_text(), parse_float=exact, parse_int=int)["models"]


def listed(model):
    """Prices of a model in the table."""
    return Prices.listed(table_rows()[model])


def cases():
    table = table_rows()
    made = list(itertools.chain(plain(), classes(), tiers(table), caches(), modalities(), other_units(), overrides(),
                                adjusted(), dialects()))
    used = {}
    for case in made:
        model = case.pop("model")
        prices = Prices({})
        if model:
            prices = Prices.listed(table[model])
            used[model] = prices.text()
            case["model"] = model
        if "over" in case:
            prices = prices.with_fields(case["over"])
            case["price"] = prices.text()
        case["nanos"] = nanos(prices, case["usage"], case.get("adjust", {}))
        if "raw" in case:
            del case["usage"]
    return used, made


def render():
    used, made = cases()
    lines = lambda items: ",\n".join(items)  # noqa: E731
    prices = lines(f"{json.dumps(model)}:{json.dumps(text)}" for model, text in sorted(used.items()))
    body = lines(json.dumps(case, separators=(",", ":")) for case in made)
    return f'{{"prices":{{\n{prices}\n}},"cases":[\n{body}\n]}}\n'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if the file is stale")
    text = render()
    if not parser.parse_args().check:
        CASES.write_text(text)
        print(f"{text.count('nanos')} cases in {CASES.relative_to(ROOT)}")
    elif not CASES.exists() or CASES.read_text() != text:
        sys.exit(f"{CASES.relative_to(ROOT)} is out of date: scripts/cost_cases.py")


if __name__ == "__main__":
    main()
