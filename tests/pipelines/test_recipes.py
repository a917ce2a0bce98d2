"""Recipes of rules: how they are read, and that those that ship do what they say."""

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inputs import reasons, record, samples
from pydantic import ValidationError

from infinity_mm.manifest import Manifest
from infinity_mm.scenes import ScenesConfig, make_scenes
from pipelines.filter import FilterConfig, read_recipe, shipped_recipes
from pipelines.filter import run as run_filter
from pipelines.recipe import RecipeConfig
from pipelines.recipe import run as run_recipe
from pipelines.rules import BUILT_IN

Ingest = Callable[..., Manifest]
Dataset = Callable[..., Path]


def filtered(manifest: Manifest, **options: Any) -> Manifest:
    config = FilterConfig(store=manifest.store.url, manifest="raw", out="x", **{"workers": 0, **options})
    return Manifest.open(manifest.store, run_filter(config)["manifest"])


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_recipe_that_ships_is_whole(name: str) -> None:
    rules = FilterConfig(manifest="raw", dry_run=True, recipe=name).compiled()
    assert len(rules) > len(BUILT_IN)
    assert all(rule.rule.meaning for rule in rules)


def test_the_recipes_that_ship() -> None:
    assert shipped_recipes() == ["balanced", "documents", "infinity_mm", "scored", "strict"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: {a: 'width >='}", "rule a: 'width >=' is no SQL expression"),
        ("rules: {a: {keep: width > 1, colour: red}}", "Extra inputs are not permitted"),
        ("rules: {a: 5}", "rule 'a' has no SQL: write NAME: SQL"),
        ("rules: {a: width > 1, b: width > 2, a: width > 3}", "the key 'a' is given twice"),
        ("rules: {'my rule': width > 1}", "'my rule' can't name a rule: letters of English"),
        ("rules: {withdrawn: width > 1}", "the ledger has a reason of that name"),
        ("rules: {loss_failed: width > 1}", "the ledger has a reason of that name"),
        ("allow: no_turns", "`allow` is a list of names of rules"),
        ("rules: {empty_turn: turns > 1}", "rule 'empty_turn' is built in"),
        ("rules: [width > 1]", "has no mapping `rules`"),
        ("stages: [{filter: {}}]", "is of stages: give it to `imm run`"),
        ("rule: {}", "unknown 'rule'; a recipe has rules, allow"),
        ("rules: {a: [}", "is not YAML"),
        ("allow: [nothing]", "no rule 'nothing': the rules are no_turns"),
    ],
)
def test_a_recipe_that_is_wrong_says_so(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ValidationError, match=said):
        FilterConfig(manifest="raw", out="x", recipe=str(path))


def test_a_recipe_that_is_not_there_names_those_that_ship() -> None:
    with pytest.raises(ValueError, match=r"no recipe 'strickt': .* ships: balanced, documents"):
        read_recipe("strickt")


def rules_of(**options: Any) -> dict[str, str]:
    compiled = FilterConfig(manifest="raw", dry_run=True, **options).compiled()
    return {rule.rule.name: rule.rule.keep for rule in compiled}


def test_two_rules_of_one_name_are_refused() -> None:
    for where in (["a: chars > 1", "a: chars > 2"], ["empty_turn: turns > 1"]):
        with pytest.raises(ValidationError, match="two rules are named"):
            FilterConfig(manifest="raw", out="x", where=where)


def test_a_rule_given_by_name_replaces_the_recipes() -> None:
    before = rules_of(recipe="strict")
    after = rules_of(recipe="strict", where=["small_picture: short_side >= 200"])
    assert after == before | {"small_picture": "short_side >= 200"}
    assert list(after) == list(before)


def test_recipes_add_up(tmp_path: Path) -> None:
    both = rules_of(recipe=["strict", "balanced"])
    assert both == rules_of(recipe="strict") | rules_of(recipe="balanced")
    with pytest.raises(ValidationError, match="two recipes say different things of 'small_picture'"):
        rules_of(recipe=["strict", "documents"])


def test_out_may_be_left_out_of_a_dry_run_only() -> None:
    FilterConfig(manifest="raw", dry_run=True)
    with pytest.raises(ValidationError, match="--out is missing"):
        FilterConfig(manifest="raw")


def test_a_recipe_is_recorded_whole(ingest: Ingest, dataset: Dataset, tmp_path: Path) -> None:
    manifest = ingest(dataset([record(None, "x" * i) for i in range(1, 20)], {}))
    path = tmp_path / "r.yaml"
    path.write_text("seed: 3\nallow: [no_turns]\nrules: {long: {keep: chars > 12, meaning: too short}}")
    first = filtered(manifest, recipe=str(path))
    assert first.document["config"]["rules"] == {"long": {"keep": "chars > 12", "meaning": "too short"}}
    assert (first.document["config"]["seed"], first.document["config"]["allow"]) == (3, ["no_turns"])
    path.write_text("rules: {long: chars > 14}")
    second = filtered(manifest, recipe=str(path), replace=True)
    assert second.samples < first.samples
    recipe = tmp_path / "run.yaml"
    stage = {"filter": {"manifest": "raw", "out": "y", "recipe": str(path)}}
    recipe.write_text(json.dumps({"store": manifest.store.url, "stages": [stage]}))
    assert run_recipe(RecipeConfig(recipe=recipe))["stages"][0]["digest"] == second.digest
    assert run_recipe(RecipeConfig(recipe=recipe))["skipped"] == 1
    path.write_text("rules: {long: chars > 15}")
    changed = run_recipe(RecipeConfig(recipe=recipe, replace=True))
    assert (changed["skipped"], changed["stages"][0]["samples"]) == (0, second.samples - 1)


def test_yes_and_no_are_balanced_within_each_source(ingest: Ingest, dataset: Dataset) -> None:
    answers = {"a": 12 * ["Yes."] + 5 * ["No."], "b": 3 * ["Yes, it is."] + 7 * ["No."], "c": 4 * ["Yes."]}
    answers["d"] = 6 * ["Yes."] + 2 * ["No."] + 3 * ["A dog."]
    records = [
        record(None, f"Is it {i} {source}?", answer, source=source)
        for source, said in answers.items()
        for i, answer in enumerate(said)
    ]
    manifest = ingest(dataset(records, {}), source_field="source")

    def kept(seed: int) -> tuple[dict[str, int], set[bytes]]:
        made = filtered(manifest, recipe="balanced", seed=seed, replace=True)
        yes: dict[str, int] = defaultdict(int)
        for sample in samples(made):
            yes[sample.source] += str(sample.turns[-1].parts[0].text).startswith("Yes")
        assert set(reasons(made).values()) == {"surplus_yes"}
        assert made.samples == len(records) - 7 - 4
        return dict(yes), {s.sample_id for s in samples(made)}

    one, other = kept(0), kept(1)
    assert one[0] == other[0] == {"a": 5, "b": 3, "c": 4, "d": 2}
    assert one[1] != other[1]
    assert kept(0)[1] == one[1]


def test_the_published_loss_cut(ingest: Ingest, dataset: Dataset) -> None:
    records = [
        record(None, f"Question {i} {source}?", qw2vl_loss=factor * i, source=source)
        for source, factor in (("a", 1), ("b", 100))
        for i in range(1, 41)
    ]
    records += [record(None, "No loss came with this.", source="a")]
    records += [record(None, "The scorer failed here.", qw2vl_loss=0.0, source="b")]
    made = filtered(ingest(dataset(records, {}), source_field="source"), recipe="infinity_mm")
    lost = {int(o.split(":")[1]): r for o, r in reasons(made).items()}
    assert lost == {38: "loss_cut", 39: "loss_cut", 78: "loss_cut", 79: "loss_cut", 81: "loss_failed"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path]:
    folder = tmp_path_factory.mktemp("drawn") / "scenes"
    make_scenes(ScenesConfig(out=folder, count=700, seed=11, defects=0.5))
    return [json.loads(line) for line in (folder / "truth.jsonl").read_text().splitlines()], folder


def test_planted_defects_are_found_by_the_rules_that_look_for_them(
    ingest: Ingest, drawn: tuple[list[dict[str, Any]], Path]
) -> None:
    truth, folder = drawn
    manifest = ingest(folder / "data.json")
    came = {int(s.origin.split(":")[1]) for s in samples(manifest)}
    found = {int(o.split(":")[1]): r for o, r in reasons(filtered(manifest, recipe="strict")).items()}
    planted: dict[str, set[int]] = defaultdict(set)
    for i, one in enumerate(truth):
        for defect in one["defects"] if i in came else ():
            planted[defect].add(i)
    wanted = {
        "undecodable_media": ("corrupt_bytes", "truncated", "bit_flipped", "html_as_jpg", "zero_bytes"),
        "wrong_format": ("wrong_extension",),
        "blank_picture": ("blank",),
        "answer_leaked": ("answer_leaked",),
        "refusal": ("refusal",),
        "repetition": ("repeated_phrase",),
        "other_language": ("wrong_language",),
    }
    for rule, defects in wanted.items():
        meant = {i for d in defects for i in planted[d]}
        assert len(meant) >= 5, rule
        assert {i for i in meant if found.get(i) == rule} == meant, rule
    for rule in ("undecodable_media", "wrong_format", "role_order", "answer_leaked", "refusal", "repetition"):
        assert all(truth[i]["defects"] for i, reason in found.items() if reason == rule), rule
    sound = [i for i in came if not truth[i]["defects"]]
    assert sum(i in found for i in sound) <= 0.02 * len(sound)
