"""`imm calibrate`."""

from collections.abc import Mapping
from typing import Any

from infinity_mm.cli.options import stage_command
from infinity_mm.cli.tables import columns
from pipelines.calibrate.stage import CalibrateConfig, run


def show(result: Mapping[str, Any]) -> str:
    """A table for each method, and the setting that is precise enough."""
    kinds = list(result["variants"])
    lines = [
        f"{result['pictures']:,} pictures of {result['in_manifest']:,}, and a variant of each kind of each"
    ]
    for name, count in result["skipped"].items():
        lines += [f"{count:,} {name} passed over"] if count else []
    for method in result["methods"]:
        head = ("threshold", "recall", "precision", "false pairs", *kinds)
        rows = [
            (
                f"{row['threshold']:g}",
                f"{row['recall']:.1%}",
                "-" if row["precision"] is None else f"{row['precision']:.2%}",
                f"{row['false_pairs']:,}",
                *(f"{row['by_variant'][kind]:.0%}" for kind in kinds),
            )
            for row in _shown(method["curve"])
        ]
        lines += ["", f"{method['name']} ({method['unit']})", *columns([head, *rows], right=range(len(head)))]
        lines.append(_advice(method, result["wanted_precision"]))
    if result.get("out"):
        lines += ["", f"wrote {result['out']}: open it in a browser"]
    return "\n".join(lines)


def _shown(curve: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Every row, or of many every fifth."""
    return curve if len(curve) <= 20 else curve[::5]


def _advice(method: Mapping[str, Any], wanted: float) -> str:
    setting = method["setting"]
    if setting is None:
        return f"no threshold has a precision of {wanted:g}"
    likely, most = setting["false_in_manifest"]
    return (
        f"for a precision of {wanted:g}: {method['option']} {setting['threshold']:g} "
        f"(recall {setting['recall']:.1%}; false pairs to expect in the whole manifest: {likely:,.0f}, "
        f"at most {most:,.0f} with 95 % confidence)"
    )


app = stage_command(
    CalibrateConfig,
    run,
    show=show,
    name="calibrate",
    help="Measure on a manifest's own pictures what dedup thresholds find, rightly and wrongly.",
)
