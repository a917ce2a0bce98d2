"""The page of `imm calibrate`: precision and recall against the threshold of each dedup method."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from infinity_mm.report.charts import BOTTOM, TOP, svg
from infinity_mm.report.figures import figure, ticks
from infinity_mm.report.html import Html, join, tag
from infinity_mm.report.page import document
from infinity_mm.report.tables import Section, table, tiles

Curve = Sequence[Mapping[str, Any]]
_HEIGHT = 2 * BOTTOM - TOP + 34


def calibration(name: str, result: Mapping[str, Any]) -> str:
    """The page of a result of `pipelines.calibrate`; `name`: the manifest's, as it was given."""
    head = tag(
        "header",
        tag("p", "Calibration", cls="kicker"),
        tag("h1", name),
        tag(
            "p",
            f"{result['pictures']:,} of its {result['in_manifest']:,} pictures, each with known "
            f"near-duplicates: {', '.join(result['variants'])}.",
            cls="by",
        ),
        cls="top",
    )
    parts = [_method(method, result) for method in result["methods"]]
    made = table(["kind", "what was done"], list(result["variants"].items()), wide=[1])
    return document(f"{name}: calibration", head, [*parts, Section("made", "Near-duplicates", made)])


def _method(method: Mapping[str, Any], result: Mapping[str, Any]) -> Section:
    setting, wanted = method["setting"], result["wanted_precision"]
    if setting is None:
        said = tag("p", f"No threshold reaches a precision of {wanted:g}.", cls="warning")
    else:
        low, high = setting["false_in_manifest"]
        said = tiles(
            [
                (f"{method['option']}, for a precision of {wanted:g} or more", figure(setting["threshold"])),
                ("of the near-duplicates found", f"{setting['recall']:.1%}"),
                (f"false of {method['different_pairs']:,} different pairs", f"{setting['false_pairs']:,}"),
                ("false pairs to expect in the whole manifest", f"{low:,.0f} (≤ {high:,.0f})"),
            ]
        )
    kinds = list(result["variants"])
    rows = [
        [
            figure(row["threshold"]),
            f"{row['recall']:.1%}",
            "–" if row["precision"] is None else f"{row['precision']:.2%}",
            f"{row['false_pairs']:,}",
            *(f"{row['by_variant'][kind]:.0%}" for kind in kinds),
        ]
        for row in method["curve"]
    ]
    heads = [f"threshold ({method['unit']})", "recall", "precision", "false pairs", *kinds]
    left_out = f"{method['twins']:,} pairs of pictures that look the same already were left out."
    body = join(
        said,
        _curves(method["curve"], method["unit"], setting),
        tag("p", left_out, cls="quiet") if method["twins"] else None,
        table(heads, rows, numbers=range(1, len(heads))),
    )
    return Section(method["name"].replace(" ", "-"), method["name"], body)


def _curves(curve: Curve, unit: str, setting: Mapping[str, Any] | None) -> Html:
    """Recall, precision and the recall of each kind; across the threshold, upwards the share."""
    first, last = curve[0]["threshold"], curve[-1]["threshold"]
    low, high = min(first, last), max(first, last)

    def x(threshold: float) -> float:
        return 100 * (threshold - low) / ((high - low) or 1)

    def y(value: float) -> float:
        return _HEIGHT - 34 - (_HEIGHT - 34 - TOP) * value

    marks = []
    for value in (0.0, 0.5, 1.0):
        marks.append(tag("line", x1="0%", x2="100%", y1=f"{y(value):.1f}", y2=f"{y(value):.1f}", cls="grid"))
        marks.append(tag("text", f"{value:.0%}", x=-6, y=f"{y(value) + 4:.1f}", cls="end"))
    for value in ticks(low, high):
        marks.append(tag("text", figure(value), x=f"{x(value):.2f}%", y=f"{_HEIGHT - 16}", cls="mid"))
    lines = []
    for kind in curve[0]["by_variant"]:
        lines += _line(curve, [row["by_variant"][kind] for row in curve], x, y, "thin", kind)
    lines += _line(curve, [row["recall"] for row in curve], x, y, "recall", "recall")
    lines += _line(curve, [row["precision"] for row in curve], x, y, "precision", "precision")
    if setting is not None:
        at = f"{x(setting['threshold']):.2f}%"
        lines.append(tag("line", x1=at, x2=at, y1=TOP - 6, y2=f"{y(0):.1f}", cls="limit"))
    key = [
        tag("p", tag("i", cls="key recall"), "recall, thin lines by kind"),
        tag("p", tag("i", cls="key precision"), "precision"),
    ]
    words = f"Recall and precision against the threshold, in {unit}."
    drawn = svg("Recall and precision against threshold", words, marks, lines, height=_HEIGHT)
    caption = tag("figcaption", tag("h4", f"Recall and precision against the threshold ({unit})"))
    return tag("figure", caption, drawn, tag("div", key, cls="quiet"), cls="chart wide")


def _line(curve: Curve, values: Sequence[float | None], x: Any, y: Any, cls: str, name: str) -> list[Html]:
    """Straight pieces from point to point, in per cent across, so that they fit any width."""
    points = [(row["threshold"], v) for row, v in zip(curve, values, strict=True) if v is not None]
    return [
        tag(
            "line",
            tag("title", name),
            x1=f"{x(a):.2f}%",
            x2=f"{x(b):.2f}%",
            y1=f"{y(v):.1f}",
            y2=f"{y(w):.1f}",
            cls=f"curve {cls}",
        )
        for (a, v), (b, w) in pairwise(points)
    ]
