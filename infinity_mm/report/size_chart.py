"""Widths by heights of pictures, as a map of cells on two logarithmic axes."""

import math
from collections.abc import Callable, Sequence

from infinity_mm.report.charts import anchor, svg
from infinity_mm.report.distributions import Sizes
from infinity_mm.report.figures import compact, figure, log_ticks, plural
from infinity_mm.report.html import Html, tag


def size_chart(one: Sizes) -> Html:
    """Widths by heights of pictures, the darker the more; the line is the square."""
    most, total = max((count for row in one.counts for count in row), default=0), sum(map(sum, one.counts))
    if not most:
        return tag("p", "No pictures.", cls="empty")
    top, foot = 6, 246
    x, y = _log_place(one.width_edges, 0, 100), _log_place(one.height_edges, foot, top)
    cells = []
    for row, (low, high) in enumerate(zip(one.height_edges, one.height_edges[1:], strict=False)):
        for column, (left, right) in enumerate(zip(one.width_edges, one.width_edges[1:], strict=False)):
            count = one.counts[row][column]
            if count:
                words = f"{figure(left)} to {figure(right)} wide, {figure(low)} to {figure(high)} high"
                cells.append(
                    tag(
                        "rect",
                        tag("title", f"{words}: {count:,}"),
                        x=f"{x(left):.2f}%",
                        width=f"{x(right) - x(left):.2f}%",
                        y=f"{y(high):.1f}",
                        height=f"{y(low) - y(high):.1f}",
                        fill_opacity=f"{0.12 + 0.88 * math.sqrt(count / most):.3f}",
                        cls="cell",
                    )
                )
    low = max(one.width_edges[0], one.height_edges[0])
    high = min(one.width_edges[-1], one.height_edges[-1])
    across, upwards = (f"{x(low):.2f}%", f"{x(high):.2f}%"), (f"{y(low):.1f}", f"{y(high):.1f}")
    square = tag("line", x1=across[0], x2=across[1], y1=upwards[0], y2=upwards[1], cls="square")
    up = log_ticks(one.height_edges[0], one.height_edges[-1])
    along = log_ticks(one.width_edges[0], one.width_edges[-1])
    chart = svg(
        "Widths and heights of pictures",
        f"{total:,} pictures; the fullest cell has {most:,}.",
        [_line_across(y(m)) for m in up],
        cells,
        [square] if high > low else [],
        [tag("text", compact(m), x=-6, y=f"{y(m) + 4:.1f}", cls="end") for m in up],
        tag("line", x1="0%", x2="100%", y1=foot + 0.5, y2=foot + 0.5, cls="axis"),
        [tag("text", compact(m), x=f"{x(m):.2f}%", y=foot + 16, cls=anchor(x(m))) for m in along],
        tag("text", "width in pixels; height upwards", x="50%", y=foot + 31, cls="mid unit"),
        height=foot + 34,
    )
    note = f"{plural(total, 'picture')}; the darkest cell has {most:,}; the dashed line is the square."
    caption = tag("figcaption", tag("h4", "Sizes of pictures"), tag("p", note, cls="quiet"))
    return tag("figure", caption, chart, cls="chart")


def _line_across(y: float) -> Html:
    return tag("line", x1="0%", x2="100%", y1=f"{y:.1f}", y2=f"{y:.1f}", cls="grid")


def _log_place(edges: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    low, high = math.log10(edges[0]), math.log10(edges[-1])
    return lambda value: start + (end - start) * (math.log10(value) - low) / (high - low)
