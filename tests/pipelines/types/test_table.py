"""The table of types and tags: its numbers by hand, its file, what fits a picture, what is drawn for it."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinity_mm.report.page import document
from pipelines.tag.kept import Tagged
from pipelines.types.sampler import Sampler
from pipelines.types.table import PRIOR, Seeds, Table, weighted
from pipelines.types.taxonomy import Taxonomy

SCENES = Taxonomy.load("scenes")


def tagged(*tags: str, score: float | None = None) -> list[Tagged]:
    return [Tagged(tag, score) for tag in tags]


def counted(*pairs: tuple[str, str, int], by_score: bool = False) -> Seeds:
    """`n` seeds of a type with the tags that a text names."""
    seeds = Seeds(SCENES, by_score)
    for type, tags, n in pairs:
        for _ in range(n):
            seeds.add(type, tagged(*tags.split(",")))
    return seeds


@pytest.fixture
def table() -> Table:
    return counted(
        ("chart", "chart,number", 40), ("read_text", "text,number", 30), ("colour", "car,sky", 20),
        ("count", "car,people", 20), ("shape", "sky", 3),
    ).table()  # fmt: skip


def test_the_numbers_by_hand() -> None:
    found = counted(("colour", "car", 10), ("count", "car,dog", 10)).table()
    assert found.types == ["colour", "count"] and found.tags == ["car", "dog"]
    dog = 10 * PRIOR / 20  # of PRIOR pictures more, those with a dog
    tf = [[1.0, dog / (10 + PRIOR)], [1.0, (10 + dog) / (10 + PRIOR)]]
    assert found.shares == pytest.approx(np.array(tf))
    soft = (tf[0][1] + tf[1][1]) / tf[1][1]
    idf = math.log(3 / (1 + soft))
    assert math.log(3 / (1 + 2)) == 0  # a car is in all pictures of both types, and tells nothing
    assert idf > 0
    assert found.weights == pytest.approx(np.array([[0, 1], [0, 1]]))


def test_types_are_told_apart_by_what_they_do_not_share(table: Table) -> None:
    best = {row.type: row.tags[0][0] for row in table.rows()}
    assert best == {"chart": "chart", "read_text": "text", "colour": "sky", "count": "people", "shape": "sky"}
    assert [row.type for row in table.rows()] == ["colour", "shape", "read_text", "count", "chart"]
    assert [row.seeds for row in table.rows()] == [20, 3, 30, 20, 40]
    assert all(len(row.tags) <= 2 for row in table.rows(2))


def test_few_seeds_do_not_look_certain(table: Table) -> None:
    sky = table.tags.index("sky")
    assert table.shares[table.types.index("shape"), sky] < table.shares[table.types.index("colour"), sky]


def test_rare_tags_and_types_without_seeds_are_left_out() -> None:
    seeds = counted(("chart", "chart", 9), ("colour", "rare,car", 4), ("count", "car", 1))
    assert seeds.table().tags == ["car", "chart"] and seeds.table(1).tags == ["car", "chart", "rare"]
    assert seeds.table().types == ["colour", "count", "chart"]
    with pytest.raises(ValueError, match="no tag comes with 5 seed questions or more: give more seeds"):
        counted(("chart", "chart", 4)).table()


def test_aliases_count_for_their_type() -> None:
    seeds = counted(("color", "car", 5), ("Colour", "car", 5), ("颜色", "car", 5))
    assert seeds.table().seeds == {"colour": 15}
    with pytest.raises(ValueError, match="has no type 'smell'"):
        seeds.add("smell", tagged("car"))
    seeds.add("count", [])
    assert seeds.table().seeds == {"colour": 15}


def test_a_picture_fits_the_type_of_its_tags(table: Table) -> None:
    assert table.fit(tagged("chart", "number"))[0].type == "chart"
    assert table.fit(tagged("text"))[0].type == "read_text"
    assert table.fit(tagged("people"))[0].type == "count"
    fits = table.fit(tagged("chart", "never seen"))
    assert fits[0].type == "chart" and 0 < fits[0].fit < table.fit(tagged("chart"))[0].fit <= 1
    for none in ([], tagged("never seen")):
        assert [(one.type, one.fit) for one in table.fit(none)] == [(type, 0.0) for type in table.types]


def test_weights_of_tags() -> None:
    tags = [Tagged("a", 8.0), Tagged("b", 2.0), Tagged("c", None), Tagged("d", -1.0)]
    assert weighted(tags, by_score=True) == {"a": 1.0, "b": 0.25, "c": 1.0, "d": 0.0}
    assert weighted(tags, by_score=False) == dict.fromkeys("abcd", 1.0)
    assert weighted(tagged("a", score=-0.5), by_score=True) == {"a": 1.0}


def test_scores_as_weights() -> None:
    seeds = Seeds(SCENES, by_score=True)
    for _ in range(20):
        seeds.add("chart", [Tagged("chart", 0.3), Tagged("car", 0.03)])
        seeds.add("colour", [Tagged("car", 0.3), Tagged("chart", 0.03)])
    table = seeds.table(2)
    assert table.counts["chart", "car"] == pytest.approx(2)
    assert table.fit([Tagged("car", 0.3), Tagged("chart", 0.06)])[0].type == "colour"


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)


@given(
    st.lists(
        st.tuples(st.sampled_from(list(SCENES.types)), st.lists(NAMES, min_size=1, max_size=4)), min_size=1
    )
)
def test_a_table_comes_back_from_its_file(pairs: list[tuple[str, list[str]]]) -> None:
    def made(of: list[tuple[str, list[str]]]) -> Table:
        seeds = Seeds(SCENES)
        for type, tags in of:
            seeds.add(type, tagged(*tags))
        return seeds.table(1)

    import tempfile

    table = made(pairs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "types.tsv"
        table.write(path)
        again = Table.read(path)
        assert again.text() == table.text() == made(pairs[::-1]).text() == path.read_bytes().decode()
    assert (again.seeds, again.counts) == (table.seeds, table.counts)
    assert np.array_equal(again.weights, table.weights)
    assert all(0 <= one.fit <= 1 + 1e-9 for one in table.fit(tagged(*pairs[0][1])))


def test_the_file_is_read_by_people(table: Table) -> None:
    head, names, *lines = table.text().splitlines()
    assert head.startswith('# {"format": "imm-types", "version": 1, "taxonomy": "scenes"')
    assert names == "type\ttag\tseeds\tshare\tweight"
    rows = [line.split("\t") for line in lines]
    assert ["chart", "chart", "40.0"] in [row[:3] for row in rows]
    for type in table.types:
        weights = [float(row[4]) for row in rows if row[0] == type]
        assert weights == sorted(weights, reverse=True)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("imm-types", "else"),
        lambda text: text.replace('"version": 1', '"version": 2'),
        lambda text: text.replace("\nchart\t", "\nsmell\t"),
        lambda text: text.replace("\t40.0\t", "\tmany\t"),
        lambda text: text.splitlines()[0],
        lambda text: "",
        lambda text: text.replace("\tcar\t", "\tcar"),
    ],
)
def test_what_is_no_table_is_refused(table: Table, tmp_path: Path, spoil: object) -> None:
    path = tmp_path / "types.tsv"
    path.write_text(spoil(table.text()), encoding="utf-8")  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"types.tsv is no table of types of version 1: .*; make it again"):
        Table.read(path)
    with pytest.raises(ValueError, match="no table of types"):
        Table.read(tmp_path / "gone.tsv")


def test_the_report_s_section_escapes_what_it_shows(table: Table) -> None:
    seeds = counted(("colour", "<script>alert(1)</script>", 9), ("count", "car & \u202e", 9))
    section = seeds.table().section(SCENES, {"colour": 1234})
    page = document("t", section.body, [section])
    assert "<script>alert" not in section.body and "&lt;script&gt;" in section.body and "\u202e" not in page
    assert "1,234" in section.body and "Colour" in section.body and ">9<" in section.body
    assert "drawn" not in table.section(SCENES).body.replace("drawn to", "")


def pictures(n: int) -> list[bytes]:
    return [i.to_bytes(16, "big") for i in range(n)]


def test_draws_depend_on_seed_shard_and_pictures_alone(table: Table) -> None:
    tags = tagged("car", "sky", "people")

    def drawn(seed: int = 1, shard: str = "s", of: Table = table) -> list[list[str]]:
        sampler = Sampler(of, seed, shard)
        return [sampler.draw(one, tags, 2) for one in pictures(30)]

    assert drawn() == drawn() == drawn(of=Table.read(_written(table)))
    assert drawn() != drawn(seed=2) and drawn() != drawn(shard="t")
    assert all(len(set(types)) == 2 for types in drawn())
    sampler = Sampler(table, 1, "s")
    assert [sampler.draw(one, tags, 2) for one in pictures(10)] == drawn()[:10]


def _written(table: Table) -> Path:
    import tempfile

    path = Path(tempfile.mkdtemp()) / "types.tsv"
    table.write(path)
    return path


def test_the_best_fitting_is_drawn_most_and_the_unfitting_never(table: Table) -> None:
    sampler = Sampler(table, 3, "s")
    counts = Counter(
        type for one in pictures(300) for type in sampler.draw(one, tagged("chart", "number"), 1)
    )
    assert counts["chart"] > 200 and counts["colour"] == counts["count"] == 0
    hot = Sampler(table, 3, "s", temperature=9)
    drawn = {type for one in pictures(99) for type in hot.draw(one, tagged("chart"), 1)}
    assert drawn == {"chart", "shape"}  # of three seeds: it is tried on pictures of all kinds
    every = Sampler(table, 3, "s")
    assert every.draw(pictures(1)[0], [], 99) and len(every.drawn) == len(table.types)


def test_variety_is_kept() -> None:
    """A type that fits less is drawn more often than its fit alone would have it, the best one still most."""
    skewed = counted(("colour", "car", 60), ("count", "car,people", 30), ("shape", "car,people,sky", 30))
    tags = tagged("car", "people", "sky")
    fits = [one.type for one in skewed.table().fit(tags)]
    least = {}
    for variety in (0.0, 2.0):
        sampler = Sampler(skewed.table(), 5, "s", temperature=0.05, variety=variety)
        counts = Counter(type for one in pictures(400) for type in sampler.draw(one, tags, 1))
        assert counts.most_common(1)[0][0] == fits[0]
        least[variety] = counts[fits[-1]]
    assert least[2.0] > 1.5 * least[0.0] > 0


def test_a_temperature_is_more_than_zero(table: Table) -> None:
    with pytest.raises(ValueError, match="temperature is 0: give more than 0"):
        Sampler(table, 1, "s", temperature=0)
    with pytest.raises(ValueError, match="variety is -1: give 0 or more"):
        Sampler(table, 1, "s", variety=-1)
