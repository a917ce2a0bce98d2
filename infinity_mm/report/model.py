"""What a report says, and nothing of how it is drawn: a `Report` of one manifest, a `Comparison` of two.

Whoever fills it bounds it: some dozens of samples and of examples a rule, distributions already counted.
Texts may be whole, the page cuts them. Ids and digests are lower-case hex. None means "not known" or "not
given", never 0. Order is kept: sources, stages, rules and samples are shown as they come.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from infinity_mm.report.distributions import Categories, Distances, Distribution, Histogram, Sizes
from infinity_mm.schema import Turn

Value = str | int | float | bool
THUMBNAIL_FORMATS = ("jpeg", "png", "webp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """A small picture. `data`: its file's bytes; `format`: jpeg, png or webp; `width`, `height` in pixels."""

    data: bytes
    format: str
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.format not in THUMBNAIL_FORMATS:
            raise ValueError(f"format {self.format!r}: a thumbnail is one of {', '.join(THUMBNAIL_FORMATS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a medium cannot be shown. `code`: its class (truncated …); `detail`: what the decoder said."""

    code: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """A picture or clip of a sample.

    `kind`: image, video or unknown; `name`: as the source had it; `format`: the true one; `width`, `height`
    in pixels; `length` in bytes; `seconds` of a clip. `thumbnail` is a small picture of it (of a clip: a
    frame) and None where there is none, then `fault` says why, if there is a reason.
    """

    media_id: str
    kind: str
    name: str | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    length: int | None = None
    seconds: float | None = None
    thumbnail: Thumbnail | None = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A measure of one sample, in its three states: `value`; neither (not applicable); `error` (failed)."""

    name: str
    unit: str = ""
    value: Value | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCard:
    """A sample to look at. A part's `media` is an index into `media`; `meta` is JSON text."""

    sample_id: str
    source: str
    origin: str
    turns: Sequence[Turn]
    media: Sequence[Medium] = ()
    rejected: Sequence[Turn] | None = None
    weight: float = 1.0
    readings: Sequence[Reading] = ()
    meta: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A sample or record as a rule or a failure saw it.

    `value` and `limit`: what was measured and what is allowed; `question`, `answer`: its first ones, whole or
    cut; `medium`: the offending picture or clip, None for a rule on text; `others`: other rules it broke;
    `detail`: what else is to be said, e.g. by the decoder. `sample_id` is None for a record that never
    became a sample.
    """

    origin: str
    source: str
    sample_id: str | None = None
    value: Value | None = None
    limit: Value | None = None
    question: str = ""
    answer: str = ""
    medium: Medium | None = None
    others: Sequence[str] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What became of what came in. Raises ValueError if `came = kept + dropped + failed` does not hold."""

    came: int
    kept: int
    dropped: int
    failed: int
    made: int = 0

    def __post_init__(self) -> None:
        if self.came != self.kept + self.dropped + self.failed:
            raise ValueError(f"in = kept + dropped + failed does not hold: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of how the manifest came about, and the manifest it made.

    `title` tells stages of one kind apart; `digest` names the manifest made; `names`: the refs to it;
    `parents`: titles of the stages it read; `sources`: the account of each source; `reasons`: how many each
    reason took, dropped and failed; `settings`: what was asked, as lines of name and value.
    """

    title: str
    kind: str
    digest: str
    account: Account
    names: Sequence[str] = ()
    parents: Sequence[str] = ()
    sources: Sequence[tuple[str, Account]] = ()
    reasons: Sequence[tuple[str, int]] = ()
    settings: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule of a stage and what it did.

    `keep`: the SQL (or the words) of what it keeps; `meaning`: what it drops and why; `alone`: how many it
    would drop by itself (None: not counted), `in_sequence`: how many it dropped after the rules before it;
    `failed`: samples whose measure failed; `nearly`: kept samples nearest to the limit.
    """

    stage: str
    name: str
    keep: str
    meaning: str
    in_sequence: int
    alone: int | None = None
    failed: int = 0
    dropped: Sequence[Example] = ()
    nearly: Sequence[Example] = ()
    distributions: Sequence[Distribution] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where samples come from. `yes`, `no`: how many yes/no questions are answered so (None: not counted)."""

    name: str
    samples: int
    licence: str | None = None
    uri: str | None = None
    citation: str | None = None
    yes: int | None = None
    no: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A class of failures of a stage: its code, what it means, how many, and some of them."""

    stage: str
    code: str
    meaning: str
    count: int
    examples: Sequence[Example] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Some words. `change`: 0 for what both of two texts say, 1 for what this one alone says, -1 for what
    only the text says that it is compared with."""

    text: str
    change: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """What a role says, in runs."""

    role: str
    runs: Sequence[Run]


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """One of samples that are much alike: the kept one, one dropped for it, or one of a near miss.

    `said`: of the kept one its first words, of the others where theirs differ from its; `same_words`: they
    differ in none, and `said` is empty. `media` in the sample's order, and `more_media` that are not shown.
    `method` and `distance`: what dropped it, and how far it is from the kept one; `others`: the other methods
    that would; `later`: what a later stage did with it; `gone`: why nothing of it can be shown.
    """

    sample_id: str
    source: str = ""
    origin: str = ""
    media: Sequence[Medium] = ()
    more_media: int = 0
    said: Sequence[Utterance] = ()
    same_words: bool = False
    method: str | None = None
    distance: str | None = None
    unit: str = ""
    others: Sequence[str] = ()
    detail: str = ""
    later: str = ""
    gone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateGroup:
    """A kept sample, and some of the `size` that were dropped for it.

    `made`: it was made by merging them; `against`: the other manifest that it is in, or None; `elsewhere`:
    how many more each other method dropped for it.
    """

    kept: Twin
    dropped: Sequence[Twin]
    size: int
    made: bool = False
    against: str | None = None
    elsewhere: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """Two kept samples that lie just beyond the threshold, and how far apart they are."""

    a: Twin
    b: Twin
    distance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateMethod:
    """A way of finding duplicates and what it did.

    `threshold`: the largest distance of duplicates, or the smallest where `near_is_high` (a similarity);
    `dropped` in sequence, `alone` by itself; `pairs` within the threshold; `groups`: how many kept samples it
    dropped others for; `recall` in words; `examples` of groups; `misses`: the nearest first.
    """

    name: str
    meaning: str
    unit: str
    threshold: float
    near_is_high: bool
    dropped: int
    alone: int
    pairs: int
    groups: int
    recall: str = ""
    distances: Distances | None = None
    examples: Sequence[DuplicateGroup] = ()
    misses: Sequence[Miss] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """What a stage found of duplicates.

    `groups`: kept samples that others were dropped for, `dropped` those others; `merged`: samples that were
    joined into samples made, and `joined` some of those made; `keep`: what decides which of a group is kept,
    first to last; `against`: other manifests whose duplicates were dropped; `sizes`: of groups, the kept one
    counted; `lost`: how many of the dropped have lost what was kept for them, by later stage and reason.
    """

    stage: str
    groups: int
    dropped: int
    merged: int = 0
    keep: Sequence[str] = ()
    against: Sequence[str] = ()
    sizes: Histogram | None = None
    methods: Sequence[DuplicateMethod] = ()
    largest: Sequence[DuplicateGroup] = ()
    joined: Sequence[DuplicateGroup] = ()
    lost: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisStep:
    """A step of a synthesis: how many pairs took it and passed; of the others so many got no reply."""

    name: str
    meaning: str
    taken: int
    passed: int
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisType:
    """A type of question: how many pairs were drawn of it (None: not counted), how many were accepted, and
    the highest loss that is kept (None: not measured)."""

    name: str
    accepted: int
    drawn: int | None = None
    loss_limit: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeRow:
    """A type of the table of types: its group, seed questions, how often it was drawn, its best tags."""

    group: str
    name: str
    seeds: int
    drawn: int | None = None
    tags: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """An accepted pair: a question about a picture, its answer, and what each step found of it.

    `relevance`: the probability that the question fits; `score`: 1 to 10; `again`: what the judge answered
    unseen, `agrees`: whether that is the answer to the letter, `judged`: else the probability that the answer
    is right; `blind`: what was answered without the picture, `blind_right`: whether that is the answer. None
    is of a step that was not taken.
    """

    sample_id: str
    type: str
    style: str
    question: str
    answer: str
    medium: Medium | None = None
    relevance: float | None = None
    score: float | None = None
    again: str | None = None
    agrees: bool | None = None
    judged: float | None = None
    blind: str | None = None
    blind_right: bool | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A reason for which pairs were not kept, how many, and some of them. `failed`: no reply was given."""

    name: str
    meaning: str
    count: int
    failed: bool = False
    examples: Sequence[Example] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesis:
    """What a stage wrote and how it was checked.

    `drawn`: pairs of a question and an answer that were begun, `accepted` those kept; `pictures` of which
    `done` were asked about, and `stopped`: the budget that ended it, if one did. `models`: who wrote, checked
    and scored, as lines of name and value. `distributions` are of the accepted. `table`: of types and tags,
    empty where none was used.
    """

    stage: str
    drawn: int
    accepted: int
    pictures: int
    done: int
    stopped: str | None = None
    models: Sequence[tuple[str, str]] = ()
    steps: Sequence[SynthesisStep] = ()
    types: Sequence[SynthesisType] = ()
    distributions: Sequence[Distribution] = ()
    pairs: Sequence[Written] = ()
    refusals: Sequence[Refusal] = ()
    table: Sequence[TypeRow] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A manifest, told.

    `made`: when, as it should read; `bytes`: of all media; `tokens`: of all texts; `weight`: the sum of the
    samples' weights. `kinds`, `languages`, `formats`, `sizes`, `turns` and `lengths` (token lengths) say what
    the dataset is; `distributions` are all other measures. `stages`: parents before children, this
    manifest's last. `notes`: what a reader must know of the report itself (what was drawn by chance, what
    is not measured); `facts`: further lines of name and value, such as software versions.
    """

    name: str
    digest: str
    provenance: str
    stage: str
    samples: int
    media: int
    made: str | None = None
    bytes: int | None = None
    tokens: int | None = None
    weight: float | None = None
    notes: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    sources: Sequence[Source] = ()
    kinds: Categories | None = None
    languages: Categories | None = None
    formats: Categories | None = None
    sizes: Sizes | None = None
    turns: Histogram | None = None
    lengths: Histogram | None = None
    stages: Sequence[Stage] = ()
    rules: Sequence[Rule] = ()
    duplicates: Sequence[Duplicates] = ()
    synthesis: Sequence[Synthesis] = ()
    distributions: Sequence[Distribution] = ()
    cards: Sequence[SampleCard] = ()
    failures: Sequence[Failure] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Only:
    """What one manifest has and the other has not: how many samples, of which sources, and some of them."""

    samples: int
    sources: Sequence[tuple[str, int]] = ()
    cards: Sequence[SampleCard] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two manifests side by side. `same`: samples in both with one weight; `reweighted`: with two.

    Histograms of one measure must have the same edges in both, or none. Raises ValueError if they have not.
    """

    a: Report
    b: Report
    same: int
    reweighted: int
    only_a: Only
    only_b: Only

    def __post_init__(self) -> None:
        edges = {name: list(h.edges) for name, h in histograms(self.a).items()}
        for name, histogram in histograms(self.b).items():
            known = edges.get(name)
            if known and histogram.edges and known != list(histogram.edges):
                raise ValueError(f"{name}: two histograms can be laid over each other only with equal edges")


def histograms(report: Report) -> dict[str, Histogram]:
    """The histograms of a report that belong to no rule, by the measure's name."""
    every = [report.turns, report.lengths, *report.distributions]
    return {d.measured.name: d for d in every if isinstance(d, Histogram)}
