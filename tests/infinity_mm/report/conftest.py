"""A report with everything in it, and the same one with every text replaced."""

import dataclasses
import io
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from PIL import Image

from infinity_mm.report.distributions import (
    Bar,
    Categories,
    Distances,
    Histogram,
    Limit,
    Measured,
    Sizes,
)
from infinity_mm.report.model import (
    Account,
    Comparison,
    DuplicateGroup,
    DuplicateMethod,
    Duplicates,
    Example,
    Failure,
    Fault,
    Medium,
    Miss,
    Only,
    Reading,
    Refusal,
    Report,
    Rule,
    Run,
    SampleCard,
    Source,
    Stage,
    Synthesis,
    SynthesisStep,
    SynthesisType,
    Thumbnail,
    Twin,
    TypeRow,
    Utterance,
    Written,
)
from infinity_mm.schema import Part, Turn


def _thumbnail() -> Thumbnail:
    file = io.BytesIO()
    Image.new("RGB", (24, 16), (40, 90, 160)).save(file, "JPEG")
    return Thumbnail(data=file.getvalue(), format="jpeg", width=24, height=16)


def whole_duplicates(media: list[Medium]) -> Duplicates:
    """A stage of dedup in which every field is given: pictures, texts, what was merged, lost or is gone."""
    whole = Utterance(role="user", runs=[Run(text="How many wrens sing?")])
    changed = Utterance(
        role="assistant", runs=[Run(text="Two "), Run(text="sing", change=-1), Run(text="fly", change=1)]
    )
    kept = Twin(
        sample_id="a1" * 16, source="birds", origin="a.jsonl:1", media=media, more_media=3, said=[whole],
        later="filter: sharp",
    )  # fmt: skip
    near = Twin(
        sample_id="b2" * 16, source="cars", origin="b.jsonl:2", media=media[:1], same_words=True,
        method="perceptual", distance="7", unit="bits", others=["semantic", "text"], detail="turned",
    )  # fmt: skip
    spoken = dataclasses.replace(near, media=[], same_words=False, said=[changed], distance=None)
    gone = Twin(sample_id="c3" * 16, gone="withdrawn", method="exact", distance="0")
    pictures = DuplicateGroup(kept=kept, dropped=[near, gone], size=41, elsewhere=[("exact", 5), ("text", 6)])
    texts = DuplicateGroup(
        kept=dataclasses.replace(kept, media=[], more_media=0), dropped=[spoken], size=1, against="benchmark"
    )
    made = DuplicateGroup(kept=kept, dropped=[near], size=1, made=True)
    perceptual = DuplicateMethod(
        name="perceptual", meaning="hashes that are near", unit="bits", threshold=8.0, near_is_high=False,
        dropped=432, alone=543, pairs=654, groups=321, recall="recall 0.98",
        distances=Distances(
            unit="bits", edges=[-0.5, 0.5, 8.5, 9.5], counts=[400, 143, 0], beyond=[0, 0, 77], threshold=8.0
        ),
        examples=[pictures, texts], misses=[Miss(a=kept, b=near, distance=9.0)],
    )  # fmt: skip
    text = dataclasses.replace(
        perceptual, name="text", unit="jaccard", threshold=0.8, near_is_high=True, alone=432, distances=None,
        misses=[], recall="",
    )  # fmt: skip
    sizes = Histogram(
        measured=Measured(name="size", n=9, of="groups", unit="samples"), edges=[1.5, 2.5, 3.5], counts=[6, 3]
    )
    return Duplicates(
        stage="dedup", groups=9, dropped=864, merged=17, keep=["resolution", "longest"],
        against=["benchmark"],
        sizes=sizes, methods=[perceptual, text], largest=[pictures], joined=[made],
        lost=[("filter: sharp", 11), ("filter: dark", 2)],
    )  # fmt: skip


def whole_synthesis(medium: Medium, example: Example) -> Synthesis:
    """A stage of synthesis in which every field is given, with pairs that are told in every way."""
    score = Histogram(
        measured=Measured(name="score", n=9, of="pairs", unit="1 to 10", meaning="of the answer"),
        edges=[8, 9, 10], counts=[4, 5], limits=[Limit(at=8.0)],
    )  # fmt: skip
    pair = Written(
        sample_id="d4" * 16, type="colour", style="brief", question="What color is the wren?",
        answer="Brown.", medium=medium, relevance=0.93, score=8.75, again="brown", agrees=True, blind="Brown",
        blind_right=True, loss=1.25,
    )  # fmt: skip
    judged = dataclasses.replace(pair, again="dark", agrees=False, judged=0.83, blind_right=False)
    bare = Written(sample_id="e5" * 16, type="caption", style="detailed", question="Describe.", answer="A.")
    return Synthesis(
        stage="synthesize", drawn=2_468, accepted=1_357, pictures=777, done=666, stopped="max_hours",
        models=[("writes", "vllm:m; cuda"), ("seed", "0")],
        steps=[
            SynthesisStep(name="score", meaning="is right", taken=2_400, passed=1_400, failed=39),
        ],
        types=[
            SynthesisType(name="colour", drawn=876, accepted=765, loss_limit=2.125),
            SynthesisType(name="shape", accepted=0),
        ],
        distributions=[score], pairs=[pair, judged, bare],
        refusals=[
            Refusal(name="low_score", meaning="too low", count=961, examples=[example]),
            Refusal(name="no_time", meaning="too long", count=39, failed=True),
        ],
        table=[
            TypeRow(group="one thing", name="Colour", seeds=543, drawn=876, tags=[("feather", 0.75)]),
            TypeRow(group="one thing", name="Shape", seeds=0),
        ],
    )  # fmt: skip


def whole_report() -> Report:
    """A report in which every field is given and every section has something."""
    shown = Medium(
        media_id="ab" * 16, kind="image", name="a.jpg", format="jpeg", width=640, height=480, length=9_876,
        thumbnail=_thumbnail(),
    )  # fmt: skip
    clip = dataclasses.replace(shown, kind="video", seconds=2.5)
    broken = Medium(
        media_id="cd" * 16, kind="image", name="b.jpg", fault=Fault(code="truncated", detail="early")
    )
    example = Example(
        origin="a.jsonl:1", source="birds", sample_id="12" * 16, value=0.25, limit="sharpness >= 1",
        question="What?", answer="A wren.", medium=shown, others=["dark"], detail="tile 3",
    )  # fmt: skip
    words = dataclasses.replace(example, medium=None, value="de")
    unseen = dataclasses.replace(example, medium=broken)
    sharpness = Histogram(
        measured=Measured(
            name="sharpness", n=1_110, not_applicable=7, failed=3, of="media", unit="levels", meaning="edges",
            source="Somebody 2000",
        ),
        edges=[0.1, 1, 10, 100], counts=[101, 1_000, 7], dropped=[101, 0, 0], above=2, log=True,
        minimum=0.2, median=5.0, maximum=900.0,
        limits=[Limit(at=1.0, label="birds"), Limit(at=2.0, label="cars")],
    )  # fmt: skip
    turns = Histogram(measured=Measured(name="turns", n=5), edges=[0.5, 1.5, 2.5], counts=[2, 3])
    tokens = dataclasses.replace(turns, measured=Measured(name="tokens", n=5, unit="tokens"))
    languages = Categories(
        measured=Measured(name="language", n=40, meaning="of all turns"),
        bars=[Bar(label="en", count=30, dropped=4), Bar(label="zh", count=7)], others=2, others_count=3,
    )  # fmt: skip
    account = Account(came=1_234, kept=1_000, dropped=222, failed=12, made=55)
    stage = Stage(
        title="filter", kind="filter", digest="ef" * 32, names=["sound"], account=account,
        parents=["raw", "more"], sources=[("birds", account)], reasons=[("sharp", 222), ("missing", 12)],
        settings=[("where", "a > 1")],
    )  # fmt: skip
    card = SampleCard(
        sample_id="34" * 16, source="birds", origin="a.jsonl:2", weight=2.5, media=[shown, broken, clip],
        turns=[
            Turn("system", (Part("text", "Be brief."),)),
            Turn("user", (Part("image", None, 0), Part("text", "What is it?"), Part("image", None, 1))),
            Turn("assistant", (Part("text", "鹪鹩。"),)),
            Turn("user", (Part("image"),)),
        ],
        rejected=[Turn("assistant", (Part("text", "A car."),))], meta='{"id": 3}',
        readings=[
            Reading(name="chars", unit="characters", value=12),
            Reading(name="language", value="en"),
            Reading(name="loss"),
            Reading(name="sharpness", error="corrupt: bad code"),
        ],
    )  # fmt: skip
    return Report(
        name="birds-v2", digest="56" * 32, provenance="78" * 32, stage="filter", samples=1_055, media=987,
        made="2025-01-02", bytes=123_456_789, tokens=76_543, weight=1_056.5, notes=["Drawn with seed 0."],
        facts=[("polars", "2.1")],
        sources=[
            Source(
                name="birds", samples=1_000, licence="MIT", uri="https://birds", citation="B. 1",
                yes=31, no=17,
            ),
            Source(name="cars", samples=55),
        ],
        kinds=languages, languages=languages, formats=languages,
        sizes=Sizes(width_edges=[10, 100, 1000], height_edges=[10, 100, 1000], counts=[[0, 3], [321, 0]]),
        turns=turns, lengths=tokens, stages=[stage],
        rules=[
            Rule(
                stage="filter", name="sharp", keep="sharpness >= 1", meaning="blurred", in_sequence=222,
                alone=345, failed=12, dropped=[example, words, unseen], nearly=[example],
                distributions=[sharpness, languages],
            )
        ],
        duplicates=[whole_duplicates([shown, broken, clip])],
        synthesis=[whole_synthesis(shown, example)],
        distributions=[sharpness, languages], cards=[card],
        failures=[
            Failure(stage="ingest", code="missing", meaning="no file", count=12, examples=[unseen, words])
        ],
    )  # fmt: skip


def with_texts(value: Any, say: Callable[[], str]) -> Any:
    """The same model with every text replaced by what `say` gives, in order; bytes and numbers stay."""
    if isinstance(value, str):
        return say()
    if isinstance(value, Thumbnail):
        return value
    if isinstance(value, Part):
        return Part(value.type, with_texts(value.text, say), value.media)
    if isinstance(value, Turn):
        return Turn(say(), with_texts(value.parts, say))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return dataclasses.replace(value, **{name: with_texts(getattr(value, name), say) for name in names})
    if isinstance(value, list | tuple):
        return type(value)(with_texts(item, say) for item in value)
    return value


def numbered(text: str) -> Callable[[], str]:
    """`text` with a number that differs each time, so that names stay apart."""
    numbers = count()
    return lambda: f"{text}{next(numbers)}"


def compare(a: Report, b: Report) -> Comparison:
    sides = [Only(samples=9, sources=[(r.sources[0].name, 9)], cards=r.cards) for r in (a, b)]
    return Comparison(a=a, b=b, same=800, reweighted=6, only_a=sides[0], only_b=sides[1])


@pytest.fixture
def report() -> Report:
    return whole_report()


@pytest.fixture
def comparison() -> Comparison:
    return compare(whole_report(), whole_report())


@pytest.fixture
def saying() -> Callable[[str], list[Report | Comparison]]:
    """For a text: a report and a comparison that have it in every field."""

    def build(text: str) -> list[Report | Comparison]:
        a, b = (with_texts(whole_report(), numbered(text)) for _ in range(2))
        return [a, compare(a, b)]

    return build
