"""Rules: what they read, how they are named, and what is said of those that can't be used."""

import pytest

from pipelines.rules import BUILT_IN, Comparison, Rule, RuleError, compiled, parse_rule


def read(text: str, taken: set[str] = frozenset()) -> Rule:  # type: ignore[assignment]
    return parse_rule(text, set(taken))


@pytest.mark.parametrize(
    ("text", "name", "keep"),
    [
        ("width >= 32", "width", "width >= 32"),
        ("  small : short_side >= 32 ", "small", "short_side >= 32"),
        ("a_b-2: chars > 1", "a_b-2", "chars > 1"),
        ("chars::int > 1", "chars", "chars::int > 1"),
        ("language IN ('en', 'zh: not a name')", "language", "language IN ('en', 'zh: not a name')"),
        ("meta.a.score > 1", "a_score", "meta.a.score > 1"),
        ("5 < width", "width", "5 < width"),
    ],
)
def test_a_rule_has_the_name_given_or_that_of_its_measure(text: str, name: str, keep: str) -> None:
    assert read(text)[:2] == (name, keep)


def test_names_do_not_collide() -> None:
    assert read("width > 1", {"width"}).name == "width_2"
    assert read("width > 1", {"width", "width_2"}).name == "width_3"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("widht >= 32", "no measure 'widht'; did you mean 'width'"),
        ("Language = 'en'", "did you mean 'language'"),
        ("qqqqqq > 1", "no measure 'qqqqqq' \\(imm measure --list"),
        ("width >=", "is no SQL expression: unable to parse"),
        ("width >= 32; DROP TABLE x", "is no SQL expression"),
        ("", "is no SQL expression"),
        ("width", "is a Int64, not true or false: compare it with something"),
        ("width > 'a'", "can't be worked out: cannot compare string with numeric"),
        ("1 = 1", "reads no measure: write one such as"),
        ("COUNT(*) > 1", "reads no measure"),
        ("foo(width) > 1", "unsupported function 'foo'"),
        ("loss <= QUANTILE_DISC(loss, 95)", "between 0 and 1"),
        ("*", "is no SQL expression"),
        ("width =< 3", "is no SQL expression: .*; write <="),
        ("QUANTILE(loss, 0.9) > loss", "write QUANTILE_DISC"),
        ('refusal = "none"', "a text stands in single quotes"),
        ("größe: chars > 3", "'größe' can't name a rule"),
        ("my rule: chars > 3", "'my rule' can't name a rule"),
        ("repeat: chars > 3", "the ledger has a reason of that name"),
    ],
)
def test_what_can_not_be_used_is_said(text: str, said: str) -> None:
    with pytest.raises(RuleError, match=said):
        read(text)


@pytest.mark.parametrize(
    ("text", "left", "operator", "right", "fixed"),
    [
        ("width >= 32", "width", ">=", "32", True),
        ("width=32", "width", "=", "32", True),
        ("refusal <> 'no < yes'", "refusal", "<>", "'no < yes'", True),
        ("(chars + words) * 2 < 10", "(chars + words) * 2", "<", "10", True),
        ("loss <= QUANTILE_DISC(loss, 0.9) OVER (PARTITION BY source)", "loss", "<=",
         "QUANTILE_DISC(loss, 0.9) OVER (PARTITION BY source)", False),
        ("media_kind = shown_as", "media_kind", "=", "shown_as", False),
        ("meta.a > 1", '"meta.a"', ">", "1", True),
        ("20 <= chars", "chars", ">=", "20", True),
        ("0.5 > special_ratio", "special_ratio", "<", "0.5", True),
    ],
)  # fmt: skip
def test_a_comparison_has_two_sides(text: str, left: str, operator: str, right: str, fixed: bool) -> None:
    assert compiled(read(text)).comparison == Comparison(left, operator, right, fixed)


@pytest.mark.parametrize(
    "text",
    [
        "width > 1 AND height > 1", "width > 1 or height > 1", "NOT (width > 1)", "width BETWEEN 1 AND 2",
        "language IN ('en')", "loss IS NULL", "1 < width = (height > 2)", "animated",
        "CASE WHEN width > 1 THEN chars > 1 ELSE chars < 1 END",
    ],
)  # fmt: skip
def test_what_is_more_than_a_comparison_has_none(text: str) -> None:
    assert compiled(read(text)).comparison is None


@pytest.mark.parametrize(
    ("text", "by_row", "on_media"),
    [
        ("width > 1", True, True),
        ("chars > 1", True, False),
        ("chars > 1 AND width > 1", True, True),
        ("LENGTH(refusal) < 9 AND language IN ('en') AND COALESCE(loss, 1) < ABS(chars)", True, False),
        ("refusal <> 'over (x)'", True, False),
        ("chars > 1 /* MAX(chars) */ -- OVER", True, False),
        ("MAX/**/(chars) > 3 AND chars > 1", False, False),
        ('chars > 1 AND "max"(chars) > 3', False, False),
        ("chars /* don't */ <= MIN(chars)", False, False),
        ("chars > AVG(chars)", False, False),
        ("loss <= QUANTILE_DISC(loss, 0.9)", False, False),
        ("ROW_NUMBER() OVER (PARTITION BY source ORDER BY draw) <= 9", False, False),
        ("bytes <= MAX(bytes) over (partition by source)", False, True),
        ("shown_as = 'image'", True, True),
    ],
)
def test_what_a_rule_looks_at(text: str, by_row: bool, on_media: bool) -> None:
    rule = compiled(read(text))
    assert (rule.by_row, rule.on_media) == (by_row, on_media)


def test_what_a_derived_measure_is_made_of_is_read_too() -> None:
    assert compiled(read("media_kind = shown_as")).needs == ("media_kind", "media_shown_as", "shown_as")


@pytest.mark.parametrize("rule", BUILT_IN.values(), ids=lambda rule: rule.name)
def test_built_in_rules_are_comparisons_with_a_meaning(rule: Rule) -> None:
    assert compiled(rule).comparison is not None
    assert rule.meaning
