"""The picture of a comparison: CPU per request by workload and pipeline, as SVG. Pure.

A panel per workload, each with a scale of its own, since a stream of a hundred chunks costs many times a short question. A bar
that would dwarf the others is cut, and says so.
"""

from xml.sax.saxutils import escape

from benchmark.bars import median, shortened, spread
from benchmark.variants import TITLES
from benchmark.workloads import MAIN, WORKLOADS, cell

# Envoy's part, and that of the process beside it.
COLORS = {"plain": ("#8a94a3", "#8a94a3"), "two-phase": ("#c98b2b", "#e8c583"), "embedded": ("#3f8f7b", "#9bcfc1"),
          "full": ("#2b5fb3", "#93b4e6"), "litellm": ("#b3413b", "#b3413b")}
WIDTH, PANEL_TOP, PANEL_HEIGHT, LEFT, RIGHT = 1180, 120, 250, 24, 24
AXIS, GAP = 46, 18
# A bar this many times the largest of the others is cut.
CUT = 8.0
INK, PALE = "#1f2733", "#d9dee6"


def nice_top(value):
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    step = 1.0
    while step * 10 <= value:
        step *= 10
    while step > value:
        step /= 10
    return next(step * factor for factor in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * factor >= value)


def bars_of(cells, workload):
    """(variant, median, spread, Envoy's part) of a panel, in the order of the legend."""
    found = cells.get(cell(workload, MAIN), {})
    result = []
    for name in TITLES:
        rounds = found.get(name)
        if rounds:
            totals = [round_["cpu_us"] for round_ in rounds]
            own = median([next(iter(round_["cpu_us_by_process"].values())) for round_ in rounds])
            result.append((name, median(totals), spread(totals), own))
    return result


def panel_top(bars):
    """Top of the scale: that of all bars, or of those that are not cut."""
    ordered = sorted(high for _, _, (_, high), _ in bars)
    while len(ordered) > 1 and ordered[-1] > CUT * ordered[-2]:
        ordered.pop()
    return nice_top(ordered[-1] * 1.08)


def _text(x, y, text, size=12, anchor="middle", weight="normal", color=INK):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
            f'fill="{color}">{escape(text)}</text>')


def _rect(x, y, width, height, color):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{max(height, 0):.1f}" fill="{color}"/>'


def _line(x1, y1, x2, y2, color=INK, width=1.0):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width}"/>'


def _bar(x, width, base, scale, top, bar):
    """One bar with its parts, its spread and its figure."""
    name, value, (low, high), own = bar
    lower, upper = COLORS[name]
    cut = value > top
    shown, envoy = min(value, top), min(own, top)
    lines = [_rect(x, base - envoy * scale, width, envoy * scale, lower),
             _rect(x, base - shown * scale, width, (shown - envoy) * scale, upper)]
    middle, label = x + width / 2, base - min(high, top) * scale - 6
    if cut:
        y = base - top * scale + 12  # a white slash through the bar: it goes on
        lines.append(f'<path d="M {x - 2:.1f} {y + 4:.1f} l {width + 4:.1f} -8" stroke="#fff" stroke-width="5"/>')
    else:
        lines += [_line(middle, base - low * scale, middle, base - min(high, top) * scale),
                  _line(middle - 3, base - low * scale, middle + 3, base - low * scale),
                  _line(middle - 3, base - min(high, top) * scale, middle + 3, base - min(high, top) * scale)]
    lines.append(_text(middle, label, f"{value:,.0f}", 9.5, weight="bold"))
    return lines


def _panel(x, width, workload, bars):
    top, base = panel_top(bars), PANEL_TOP + PANEL_HEIGHT
    scale = (PANEL_HEIGHT - 24) / top
    lines = [_text(x + AXIS + (width - AXIS) / 2, PANEL_TOP - 8, WORKLOADS[workload].title, 13, weight="bold")]
    lines.append(_text(x + AXIS - 5, PANEL_TOP + 10, "µs", 10, "end"))
    for part in range(5):
        value = top * part / 4
        y = base - value * scale
        lines += [_line(x + AXIS, y, x + width, y, PALE), _text(x + AXIS - 5, y + 4, f"{value:,.0f}", 10, "end")]
    room = (width - AXIS) / len(bars)
    for number, bar in enumerate(bars):
        lines += _bar(x + AXIS + number * room + room * 0.15, room * 0.7, base, scale, top, bar)
    lines.append(_line(x + AXIS, base, x + width, base))
    return lines


def _legend(names, y):
    lines, x = [], float(LEFT)
    for name in names:
        lower, upper = COLORS[name]
        lines += [_rect(x, y - 10, 8, 12, lower), _rect(x + 8, y - 10, 8, 12, upper), _text(x + 22, y, TITLES[name], 12, "start")]
        x += 44 + 6.6 * len(TITLES[name])
    return lines


def svg(document):
    """The whole picture; without figures a note that there are none."""
    cells = document["rounds"].get("cells", {})
    panels = [(name, bars) for name in WORKLOADS if (bars := bars_of(cells, name))]
    machine = document["machine"]
    height = PANEL_TOP + PANEL_HEIGHT + 66
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
             'font-family="Helvetica, Arial, DejaVu Sans, sans-serif" role="img">',
             "<title>CPU per request by workload and pipeline</title>",
             _rect(0, 0, WIDTH, height, "#ffffff"),
             _text(LEFT, 30, f"CPU per request, microseconds, {MAIN} connections (lower is better)", 18, "start", "bold"),
             _text(LEFT, 52, f"{machine['cpu']}, {machine['cores']} cores; commit {shortened(document['commit'])}, {document['date']}; "
                   "medians, whiskers: all rounds", 12, "start", color="#5a6573")]
    if panels:
        shown = [name for name in TITLES if any(name == bar[0] for _, bars in panels for bar in bars)]
        lines += _legend(shown, 80)
        width = (WIDTH - LEFT - RIGHT - GAP * (len(panels) - 1)) / len(panels)
        for number, (name, bars) in enumerate(panels):
            lines += _panel(LEFT + number * (width + GAP), width, name, bars)
        lines.append(_text(LEFT, height - 28, "Dark: Envoy (LiteLLM: all of it). Light: the process beside Envoy, sidecar or "
                           "processor. Each panel has its own scale; a bar with a white slash is cut.", 12, "start"))
        lines.append(_text(LEFT, height - 10, "Redis and Postgres are not included; the table has them apart.", 12, "start"))
    else:
        lines.append(_text(WIDTH / 2, PANEL_TOP + 60, "no figures of this kind in this run", 14))
    return "\n".join([*lines, "</svg>"]) + "\n"
