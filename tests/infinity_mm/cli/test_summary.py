"""The lines a person reads after a stage."""

from infinity_mm.cli.summary import format_summary


def test_counts_reasons_and_manifest() -> None:
    result = {
        "in": 12345,
        "kept": 12000,
        "dropped": 300,
        "failed": 45,
        "made": 0,
        "reasons": {"small": 100, "blur": 200, "cut": 45},
        "name": "clean",
        "digest": "ab12" * 16,
        "seconds": 3,
    }
    assert format_summary(result).splitlines() == [
        "in        12,345",
        "kept      12,000   97.2%",
        "dropped      300    2.4%",
        "failed        45    0.4%",
        "  blur       200    1.6%",
        "  small      100    0.8%",
        "  cut         45    0.4%",
        "manifest  clean  digest ab12ab12ab12ab12",
    ]


def test_what_only_makes_has_no_shares() -> None:
    assert format_summary({"made": 5, "name": "scenes"}).splitlines() == [
        "made      5",
        "manifest  scenes",
    ]


def test_nothing_to_say() -> None:
    assert format_summary({"seconds": 1}) == ""
