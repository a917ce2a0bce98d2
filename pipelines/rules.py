"""Rules: Polars SQL expressions over measures that hold for what is kept.

`compiled` reads an expression once and knows what it reads, whether it can be decided row by row, and, where
it is one comparison, its two sides: what the ledger shows as value and limit. An expression is never trusted
to be right: it is parsed, its names are looked up and its type is checked before anything is measured.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from infinity_mm.media.errors import MEDIA_ERRORS
from infinity_mm.sidecars import UNAVAILABLE
from pipelines.measures.registry import META, is_known, is_media, measure_of, unknown, with_needs

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
NAMING = "letters of English, digits, _ and - only, the first a letter"
RESERVED = {"withdrawn", "repeat", *UNAVAILABLE, *MEDIA_ERRORS}
ODD_NAME = re.compile(r"\s*([^'\"(<>=:]+?)\s*:\s")
NAMED = re.compile(rf"\s*({NAME.pattern})\s*:(?!:)\s*(.*)", re.DOTALL)
PIECES = re.compile(r"('(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`)")
COMMENTS = re.compile(rf"{PIECES.pattern}|--[^\n]*|/\*.*?\*/", re.DOTALL)
META_PATH = re.compile(r"\bmeta\.[A-Za-z_]\w*(?:\.\w+)*")
TOKENS = re.compile(rf"{PIECES.pattern}|<=|>=|<>|!=|==|[<>=()]|\w+|[^\s\w]")
COMPARES = {"<", "<=", ">", ">=", "=", "==", "<>", "!="}
ADVICE = {
    "=<": "; write <=",
    "=>": "; write >=",
    "&&": "; write AND",
    "||": "; write OR",
    "quantile(": "; write QUANTILE_DISC(x, 0.95)",
    "percentile": "; write QUANTILE_DISC(x, 0.95)",
}
MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
# At the top of an expression any of these makes it more than one comparison.
JOINS = {"and", "or", "not", "between", "in", "like", "ilike", "is", "case", "rlike", "regexp", "xor"}
GROUPS = re.compile(r"\bover\s*\(\s*(?:partition\s+by\s+([^()]+?))?\s*\)", re.IGNORECASE)
CALLS = re.compile(r"(\w+|[\"`])\s*\(")  # a name in quotes may be any function
# What may stand before a bracket in an expression that looks at one row alone. Polars does not tell; with any
# other function, or a window, all rows are held at once, which is right for these too and only costs memory.
ROW_FUNCTIONS = set(
    re.findall(
        r"\w+",
        """
        and or not in case when then else between like ilike is null
        abs ceil ceiling floor round sign sqrt cbrt exp ln log log2 log10 log1p power pow mod div
        coalesce nullif ifnull if least greatest cast try_cast
        length char_length character_length octet_length bit_length lower upper initcap trim ltrim rtrim btrim
        left right substr substring strpos position replace reverse concat concat_ws starts_with ends_with
        regexp_like array_length array_contains array_get array_sum array_mean
        """,
    )
)


class RuleError(ValueError):
    """A rule that can't be used; the message says which, why, and what to do."""


class Rule(NamedTuple):
    """`keep`: Polars SQL that holds for what is kept."""

    name: str
    keep: str
    meaning: str = ""


class Comparison(NamedTuple):
    """The two sides of a rule `left operator right`, what is measured on the left; `fixed`: the right side is
    the same for every row."""

    left: str
    operator: str
    right: str
    fixed: bool


class Range(NamedTuple):
    """A rule `measure BETWEEN low AND high` with two numbers."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A rule ready to be decided. `reads`: the measures named; `needs`: those and what they are made of.

    `on_media`: it is decided for each medium of a sample; `by_row`: no window or aggregate, so that a shard
    at a time will do.
    """

    rule: Rule
    sql: str
    reads: tuple[str, ...]
    needs: tuple[str, ...]
    on_media: bool
    by_row: bool
    comparison: Comparison | None

    @property
    def between(self) -> Range | None:
        """The two limits of a rule that is one measure BETWEEN two numbers."""
        found = BETWEEN.fullmatch(self.sql)
        return Range(*sorted((float(found[1]), float(found[2])))) if found else None

    @property
    def groups(self) -> tuple[str, ...] | None:
        """The measures within whose values its limit is worked out, none for one limit of all samples; None
        where it has several limits, or one that is no window's."""
        if self.comparison is None or self.comparison.fixed or self.by_row:
            return None
        found = {" ".join(by.split()) for by in GROUPS.findall(self.comparison.right)}
        if len(found) > 1:
            return None
        names = tuple(name.strip().strip('"') for name in "".join(found).split(",") if name.strip())
        return names if set(names) <= set(self.reads) else None

    @property
    def expression(self) -> pl.Expr:
        return pl.sql_expr(self.sql)


BETWEEN = re.compile(
    r"\"?[\w.]+\"?\s+BETWEEN\s+(-?[0-9.]+(?:e-?[0-9]+)?)\s+AND\s+(-?[0-9.]+(?:e-?[0-9]+)?)", re.IGNORECASE
)
# What every `imm filter` asks for, unless it is told to allow it.
BUILT_IN: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("no_turns", "turns >= 1", "the conversation is empty"),
        Rule("role_order", "role_fault = 'none'", "roles do not alternate"),
        Rule("empty_turn", "empty_turns = 0", "a turn says and shows nothing"),
        Rule("no_answer", "last_role = 'assistant'", "the last turn is no answer"),
        Rule("marker_without_media", "markers_without_media = 0", "more markers than pictures or clips"),
        Rule("media_without_marker", "media_without_marker = 0", "a picture or clip that no turn shows"),
        Rule("undecodable_media", "media_error = 'none'", "a picture or clip that does not decode strictly"),
        Rule("wrong_kind", "media_kind = shown_as", "a clip where a picture is said to be, or the reverse"),
        Rule("wrong_format", "media_format = name_format", "a file named as another format than it is"),
    )
}


def check_name(name: str) -> None:
    """Raises RuleError for a name that can't be a rule's."""
    if not NAME.fullmatch(name):
        raise RuleError(f"{name!r} can't name a rule: {NAMING}")
    if name in RESERVED or name.endswith("_failed"):
        raise RuleError(f"{name!r} can't name a rule: the ledger has a reason of that name")


def parse_rule(text: str, taken: set[str]) -> Rule:
    """`NAME: EXPR` or `EXPR`, which is then named after what it reads. Raises RuleError."""
    named = NAMED.fullmatch(text)
    if named:
        name, keep = named.groups()
        check_name(name)
        return Rule(name, keep.strip())
    odd = ODD_NAME.match(text)
    if odd:
        raise RuleError(f"{odd[1]!r} can't name a rule: {NAMING}")
    rule = Rule(text.strip(), text.strip())
    base = next(iter(compiled(rule).reads), "rule").removeprefix(META).replace(".", "_")
    number = 1
    while (name := base if number == 1 else f"{base}_{number}") in taken:
        number += 1
    return Rule(name, rule.keep)


def compiled(rule: Rule) -> Compiled:
    """Parse a rule, look its names up and check its type. Raises RuleError."""
    sql = _quote_meta(COMMENTS.sub(lambda found: found[1] or " ", rule.keep)).strip()
    expression = _parse(rule, sql)
    reads = tuple(dict.fromkeys(expression.meta.root_names()))
    if not reads:
        raise RuleError(f"rule {_shown(rule)} reads no measure: write one such as `width >= 32`")
    for name in reads:
        if not is_known(name):
            quoted = "; a text stands in single quotes" if f'"{name}"' in sql else ""
            raise RuleError(f"rule {_shown(rule)}: {unknown(name)}{quoted}")
    needs = with_needs(reads)
    if not any(name.startswith(META) for name in needs):
        arrow = pl.DataFrame(pa.table({name: pa.array([], measure_of(name).type) for name in needs}))
        check_type(rule, sql, widened(arrow).schema)
    return Compiled(
        rule=rule,
        sql=sql,
        reads=reads,
        needs=tuple(needs),
        on_media=any(is_media(name) for name in reads),
        by_row=_by_row(sql),
        comparison=_comparison(sql),
    )


def widened(frame: pl.DataFrame) -> pl.DataFrame:
    """Whole numbers as 64 bits, so that arithmetic does not wrap where a measure is stored in fewer."""
    return frame.with_columns(pl.col(pl.Int8, pl.Int16, pl.Int32).cast(pl.Int64))


def check_type(rule: Rule, sql: str, types: Mapping[str, pl.DataType]) -> None:
    """Whether a rule gives true or false for measures of these types. Raises RuleError."""
    try:
        kind = pl.DataFrame(schema=dict(types)).select(pl.sql_expr(sql).alias("keep")).schema["keep"]
    except pl.exceptions.PolarsError as error:
        raise RuleError(f"rule {_shown(rule)} can't be worked out: {first_line(error)}") from None
    if kind not in (pl.Boolean, pl.Null):
        raise RuleError(f"rule {_shown(rule)} is a {kind}, not true or false: compare it with something")


def _parse(rule: Rule, sql: str) -> pl.Expr:
    try:
        expression = pl.sql_expr(sql)
        names = expression.meta.root_names()
    except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
        advice = next((text for sign, text in ADVICE.items() if sign in sql.lower()), "")
        raise RuleError(f"rule {_shown(rule)} is no SQL expression: {first_line(error)}{advice}") from None
    if expression.meta.has_multiple_outputs() or "*" in names:
        raise RuleError(f"rule {_shown(rule)} stands for several columns: write one condition")
    return expression


def _by_row(sql: str) -> bool:
    """Whether no call, and no window (`OVER (` reads as one), looks at more than a row."""
    return set(CALLS.findall('"'.join(PIECES.split(sql)[::2]).lower())) <= ROW_FUNCTIONS


def _quote_meta(text: str) -> str:
    """`meta.a.b` as the quoted name of one column, outside of quotes."""
    pieces = PIECES.split(text)
    return "".join(
        piece if i % 2 else META_PATH.sub(lambda m: f'"{m[0]}"', piece) for i, piece in enumerate(pieces)
    )


def _comparison(sql: str) -> Comparison | None:
    """The two sides, where the whole expression is one comparison."""
    found: list[tuple[int, int, str]] = []
    depth = 0
    for token in TOKENS.finditer(sql):
        text = token[0].lower()
        depth += (text == "(") - (text == ")")
        if depth == 0 and text in JOINS:
            return None
        if depth == 0 and text in COMPARES:
            found.append((*token.span(), text))
    if len(found) != 1:
        return None
    start, end, operator = found[0]
    left, right = sql[:start].strip(), sql[end:].strip()
    try:
        fixed = [not pl.sql_expr(side).meta.root_names() for side in (left, right)]
    except pl.exceptions.PolarsError:
        return None
    if fixed[0] and not fixed[1]:
        left, operator, right, fixed = right, MIRRORED.get(operator, operator), left, fixed[::-1]
    return Comparison(left, operator, right, fixed[1])


def _shown(rule: Rule) -> str:
    return f"{rule.name}: {rule.keep!r}" if rule.name != rule.keep else repr(rule.keep)


def first_line(error: Exception) -> str:
    """Polars' own words, without the account of where in a plan it was."""
    return re.split(r"\n| This error occurred", str(error).strip())[0][:300]


def roots(rules: list[Compiled]) -> Iterator[str]:
    """Every measure that some rule needs, each once."""
    yield from dict.fromkeys(name for rule in rules for name in rule.needs)
