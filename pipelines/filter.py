"""`imm filter`: keep the samples that pass every rule; say of every other which it broke, and by how much.

Measuring is the map step (`pipelines.measure`), deciding one pass over sidecars (`pipelines.judge`). Rules
are built in (structure and validity), come from a recipe, and from `--where`; another threshold decides again
and decodes nothing.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from infinity_mm.executor import Report
from infinity_mm.ledger import Ledger
from infinity_mm.manifest import Manifest, name_is_free, publish
from infinity_mm.sidecars import deciding
from infinity_mm.store import Store
from infinity_mm.yaml_file import load
from pipelines.config import MeasuringConfig
from pipelines.frames import COLUMNS
from pipelines.judge import Account, Judge, ledger_table
from pipelines.measure import measure, settings_of, sidecar_entries
from pipelines.measures.alignment import MODEL
from pipelines.measures.registry import DECODES, DERIVED, FAMILIES
from pipelines.measures.vlm_loss import named, one_scorer
from pipelines.rules import BUILT_IN, Compiled, Rule, RuleError, check_name, compiled, parse_rule, roots
from pipelines.selection import Verdict, select

RECIPES = Path(__file__).parent / "recipes"
MOST_TOLD = 8  # limits of a rule
RECIPE_KEYS = ("rules", "allow", "max_pixels", "tokenizer", "embedder", "scorer", "seed")


class RuleText(BaseModel):
    """A rule in a recipe: what it keeps, and what it drops in words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep: str
    meaning: str = ""


class FilterConfig(MeasuringConfig):
    """Keep the samples that pass every rule."""

    manifest: str = Field(
        description="Manifest to filter: NAME, digest or path.", json_schema_extra={"positional": True}
    )
    out: str | None = Field(None, description="NAME of the manifest made; left out with --dry-run.")
    where: list[str] = Field(
        [],
        description="Rule: SQL over measures that holds for what is kept, or NAME: SQL (repeatable). "
        "A measure that does not apply passes; quantiles are over all that comes in; "
        'a recipe\'s rule of that name is replaced; "loss:MODEL", quoted so, is vlm_loss by that --scorer.',
    )
    recipe: list[str] = Field(
        [],
        description="YAML file of rules, or one that ships (repeatable): "
        "balanced, documents, infinity_mm, scored, strict.",
    )
    rules: dict[str, RuleText] = Field(
        {}, description="Rules by name.", json_schema_extra={"recipe_only": True}
    )
    allow: list[str] = Field(
        [], description=f"Rule to leave out (repeatable), such as {', '.join(BUILT_IN)}."
    )
    seed: int = Field(0, ge=0, description="Seed of the measure `draw`.")
    dry_run: bool = Field(
        False, description="Make nothing: print what each rule drops, alone and in sequence."
    )

    @model_validator(mode="before")
    @classmethod
    def _with_recipe(cls, values: Any) -> Any:
        """The recipe's rules and options beside those given here, so that the configuration says it all."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        named = values.get("recipe") or []
        values["recipe"] = [named] if isinstance(named, str) else named
        recipe = _joined([read_recipe(name) for name in values["recipe"]])
        rules = {**recipe.get("rules", {}), **(values.get("rules") or {})}
        values["rules"] = {k: {"keep": v} if isinstance(v, str) else v for k, v in rules.items()}
        values["allow"] = list(dict.fromkeys([*recipe.get("allow", []), *(values.get("allow") or [])]))
        return _with_scorer({k: v for k, v in recipe.items() if k not in ("rules", "allow")} | values)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.out is None and not self.dry_run:
            raise ValueError("--out is missing: name the manifest to make, or give --dry-run")
        self.compiled()
        return self

    def compiled(self) -> list[Compiled]:
        """All rules in order: built in, of the recipe, of `where`. Raises RuleError."""
        rules = {**BUILT_IN}
        for name, text in self.rules.items():
            check_name(name)
            if name in BUILT_IN:
                raise RuleError(f"rule {name!r} is built in: allow it, and give yours another name")
            rules[name] = Rule(name, text.keep, text.meaning)
        given: set[str] = set()
        for text_given in self.where:
            rule = parse_rule(text_given, set(rules))
            if rule.name in given or rule.name in BUILT_IN:
                raise RuleError(f"two rules are named {rule.name!r}: give `NAME: EXPR` another name")
            given.add(rule.name)
            former = rules.get(rule.name, rule)  # a recipe's rule, with another limit
            rules[rule.name] = rule._replace(meaning=former.meaning)
        for name in self.allow:
            if name not in rules:
                raise RuleError(f"no rule {name!r}: the rules are {', '.join(rules)}")
        return [compiled(rule) for name, rule in rules.items() if name not in self.allow]


def _with_scorer(values: dict[str, Any]) -> dict[str, Any]:
    """Each "loss:MODEL" in the rules as what it stands for. Raises ValueError where they name two models."""
    models: list[str] = []

    def plain(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        text, found = named(text)
        models.extend(found)
        return text

    rules = {
        name: {**rule, "keep": plain(rule.get("keep"))} if isinstance(rule, dict) else rule
        for name, rule in values["rules"].items()
    }
    where = values.get("where")
    values = values | {"rules": rules} | ({"where": [*map(plain, where)]} if isinstance(where, list) else {})
    scorer = one_scorer(values.get("scorer"), models)
    return values | ({"scorer": scorer} if scorer is not None else {})


def _joined(recipes: list[dict[str, Any]]) -> dict[str, Any]:
    """Several recipes as one. Raises ValueError where two say different things of one name."""
    whole: dict[str, Any] = {"rules": {}, "allow": []}
    for recipe in recipes:
        options = {k: v for k, v in recipe.items() if k not in ("rules", "allow")}
        for what, into in ((recipe.get("rules", {}), whole["rules"]), (options, whole)):
            for name, value in what.items():
                if into.get(name, value) != value:
                    raise ValueError(
                        f"two recipes say different things of {name!r}: write one recipe of both"
                    )
                into[name] = value
        whole["allow"] += recipe.get("allow", [])
    return whole


def shipped_recipes() -> list[str]:
    """The names of the recipes of rules that ship with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml") if "\nrules:" in path.read_text())


def read_recipe(name: str) -> dict[str, Any]:
    """A recipe of rules, by path or by the name of one that ships. Raises ValueError."""
    path = Path(name)
    if not path.is_file() and (RECIPES / f"{name}.yaml").exists():
        path = RECIPES / f"{name}.yaml"
    try:
        recipe = load(path)
    except FileNotFoundError:
        raise ValueError(
            f"no recipe {name!r}: give a YAML file, or one that ships: {', '.join(shipped_recipes())}"
        ) from None
    if isinstance(recipe, dict) and "stages" in recipe:
        raise ValueError(f"recipe {path} is of stages: give it to `imm run`")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("rules", {}), dict):
        raise ValueError(f"recipe {path} has no mapping `rules` of NAME: SQL")
    unknown = sorted(set(recipe) - set(RECIPE_KEYS))
    if unknown:
        raise ValueError(f"recipe {path}: unknown {unknown[0]!r}; a recipe has {', '.join(RECIPE_KEYS)}")
    allow = recipe.get("allow", [])
    if not isinstance(allow, list) or not all(isinstance(rule, str) for rule in allow):
        raise ValueError(f"recipe {path}: `allow` is a list of names of rules, such as [wrong_format]")
    for rule, text in recipe.get("rules", {}).items():
        if not isinstance(rule, str) or not isinstance(text, str | dict):
            raise ValueError(f"recipe {path}: rule {rule!r} has no SQL: write NAME: SQL, or keep and meaning")
    return recipe


def run(config: FilterConfig, report: Report | None = None) -> dict[str, Any]:
    """Filter a manifest; the account and the manifest made, or the account alone for a dry run."""
    store = Store.open(config.store)
    if config.out is not None and not config.dry_run:
        name_is_free(store, config.out, config.replace, "filter", config.recorded())
    rules = config.compiled()
    with store.using(), Ledger(store, keep_rows=not config.dry_run) as ledger:
        manifest = Manifest.open(store, config.manifest)
        settings = settings_of(config, list(roots(rules)))
        files, measured = measure(store, manifest, settings, workers=config.workers, report=report)
        judge = Judge(manifest, rules, files, config.seed)

        def decide(number: int, at: np.ndarray, table: pa.Table) -> Verdict:
            decided = judge.decide(number, at, table)
            return Verdict(decided.first < 0, ledger_table(rules, decided, table))

        shards = select(manifest, ledger, decide, COLUMNS)
        accounts = judge.accounts()
        result: dict[str, Any] = {
            "stage": "filter",
            "reasons": dict(sorted(ledger.reasons.items())),
            "rules": _recorded_rules(rules, accounts, judge),
            "measured_shards": sum(measured.values()),
            "note": "\n".join(
                [*_remarks(rules, accounts, judge.seen), *_cut_notes(rules, judge), *_measured_note(measured)]
            ),
        }
        kept = sum(len(s.selected.rows) for s in shards)
        if config.dry_run:
            ledger.check(kept)
            return {**result, "dry_run": True, **ledger.counts, "samples": kept}
        made = publish(
            store,
            stage="filter",
            config=config.recorded(),
            shards=shards,
            media=manifest.document["media"],
            ledger=ledger.close(kept),
            counts=dict(ledger.counts),
            parents=[manifest],
            sources=manifest.document["sources"],
            origins=manifest.document["origins"],
            sidecars=sidecar_entries(store, files),
            name=config.out,
            replace=config.replace,
            extra={
                "rules": result["rules"],
                "measures": {f: deciding(given) for f, given in settings.items()},
            },
        )
        return {**result, "name": config.out, **made.reference()}


def _recorded_rules(rules: list[Compiled], accounts: list[Account], judge: Judge) -> list[dict[str, Any]]:
    """What the manifest says of the rules that made it, and what each did."""
    return [
        {
            "name": r.rule.name,
            "keep": r.rule.keep,
            "meaning": r.rule.meaning,
            "reads": list(r.reads),
            **a._asdict(),
            **({"cuts": [cut._asdict() for cut in cuts]} if (cuts := judge.cuts(number)) else {}),
        }
        for number, (r, a) in enumerate(zip(rules, accounts, strict=True))
    ]


def _remarks(rules: list[Compiled], accounts: list[Account], samples: int) -> list[str]:
    """What a user should hear of rules that do everything or nothing."""
    said, idle = [], []
    for rule, account in zip(rules, accounts, strict=True):
        name, keep = rule.rule.name, " ".join(rule.rule.keep.split())
        reads = ", ".join(n for n in rule.reads if n not in DERIVED)
        if samples and account.alone + account.undecided == samples:
            what = "drops every sample"
            if account.undecided:
                what = f"keeps no sample: it drops {account.alone:,}, and its measures failed for the others"
            said.append(f"rule {name} {what} ({keep})")
        elif name in BUILT_IN or account.alone + account.undecided:
            continue
        elif samples and account.not_applicable == samples:
            said.append(f"rule {name} drops nothing: no sample has {reads} ({keep})")
        else:
            idle.append(f"{name} ({keep})")
    if idle:
        said.append(f"drops nothing: {', '.join(idle)}")
    return said


def _cut_notes(rules: list[Compiled], judge: Judge) -> list[str]:
    """The limits that rules worked out, the first few of each."""
    notes = []
    for number, rule in enumerate(rules):
        cuts = judge.cuts(number)
        of = [
            " for ".join([cut.limit, *[", ".join(map(str, cut.group.values()))] * bool(cut.group)])
            for cut in cuts
            if cut.limit is not None
        ]
        if of and rule.comparison is not None:
            more = f"; and {len(of) - MOST_TOLD:,} more" if len(of) > MOST_TOLD else ""
            limit = f"{rule.comparison.left} {rule.comparison.operator}"
            notes.append(f"rule {rule.rule.name}, worked out: {limit} {'; '.join(of[:MOST_TOLD])}{more}")
    return notes


def _measured_note(measured: dict[str, int]) -> list[str]:
    """Whether this run decoded anything."""
    now = [name for name, shards in measured.items() if shards]
    if not now:
        return ["every measure was there already: nothing was decoded"]
    if not any(FAMILIES[name].cost in (*DECODES, MODEL) for name in now if name in FAMILIES):
        return [f"nothing was decoded; measured: {', '.join(now)}"]
    return []
