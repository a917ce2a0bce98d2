"""Tags by a vision-language model that is asked for a list of them (the prompt `tags`).

Asked is about the media that a manifest uses, each once: what is known of a medium under the same model,
prompt and vocabulary is not asked again, whichever manifest it was asked for. A sidecar holds the media
asked about, in the shard's order, with the reply beside its tags. A clip counts as its middle frame. What
the engine could not answer, and media that could not be read, fail and are asked again next time; a reply
that is no list of tags fails for good (`pipelines.tag.replies`).

The engine is opened in this process and batches by itself. Time is the engine's. Memory: the files of PIECE
pictures; after each PIECE what was said is kept, so that a killed run loses no more than that.
"""

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image

from infinity_mm.engines.base import Answer, Engine, Failure, Message, Picture, Reply, Request
from infinity_mm.executor import Report, Silent
from infinity_mm.manifest import Manifest
from infinity_mm.media.decode import MediaError
from infinity_mm.media.index import Unavailable, read_checked
from infinity_mm.media.shards import Shard
from infinity_mm.sidecars import Family, Measure, sidecar_name, table_of, write_sidecar
from infinity_mm.store import Store, digest_of, read_table
from pipelines.embed import middle_frame
from pipelines.measures.alignment import MODEL
from pipelines.prompting import Template
from pipelines.tag.replies import NotTags, read_tags
from pipelines.tag.vocabulary import Vocabulary
from pipelines.values import Values

PIECE = 256
ASKED = 12  # tags that the prompt asks for
MAX_TOKENS = 160
FOR_GOOD = "no_tags_"  # how a failure begins that lies in what was said

Rows = dict[bytes, tuple[Any, ...]]  # of a sidecar, by medium: tags, scores, reply, error


class Asking(NamedTuple):
    """What media of a shard are asked, and where what is said is kept."""

    store: Store
    engine: Engine
    prompt: str
    read: Callable[[Reply], Sequence[Any]]
    withdrawn: frozenset[bytes]


def engine_settings(engine: Engine, template: Template, vocabulary: Vocabulary) -> dict[str, Any]:
    """What the tags depend on."""
    return {
        "engine": engine.identity.key,
        "prompt": template.digest,
        "asked": ASKED,
        "max_tokens": MAX_TOKENS,
        "vocabulary": vocabulary.digest,
    }


def tag_by_engine(
    store: Store,
    manifest: Manifest,
    engine: Engine,
    template: Template,
    vocabulary: Vocabulary,
    *,
    report: Report | None = None,
) -> dict[str, str]:
    """Tag the media that a manifest uses, where that is missing; the sidecar of each media shard.

    Raises EngineError where the engine answers nothing any more: what came before it is kept.
    """
    settings = engine_settings(engine, template, vocabulary)
    prompt = template.fill(limit=ASKED)
    read = open_reading({"vocabulary": vocabulary, "prompt": prompt})
    asking = Asking(store, engine, prompt, read, manifest.withdrawn.ids)
    names = store.names(f"sidecars/{BY_ENGINE.name}")
    used = Values(manifest, {}).used
    report = report or Silent()
    report.start("tag", sum(map(len, used.values())), "media")
    files = {}
    for digest, rows in used.items():
        if len(rows):
            name = sidecar_name(BY_ENGINE, settings, digest).removesuffix(".parquet")
            there = [one for one in names if one.startswith(f"{name}.")]
            files[digest] = _tag_shard(asking, Shard(store, digest), rows, name, there, report)
    report.done()
    return files


def _tag_shard(
    asking: Asking, shard: Shard, rows: np.ndarray, name: str, there: Sequence[str], report: Report
) -> str:
    """Ask what is missing of `rows`; the file of a sidecar that has them all."""
    known: Rows = {}
    for file in there:
        for identity, *values, error in zip(
            *read_table(asking.store, file).to_pydict().values(), strict=True
        ):
            if error is None or error.startswith(FOR_GOOD):
                known[identity] = (*values, error)
    missing = [int(row) for row in rows if shard.media_id(int(row)) not in known]
    report.advance(len(rows) - len(missing))
    parts = [file for file in there if ".part-" in file]
    for start in range(0, len(missing), PIECE):
        piece = missing[start : start + PIECE]
        found = dict(_asked(asking, shard, piece, report))
        known |= found
        if start + PIECE < len(missing):
            parts.append(_write(asking.store, f"{name}.part", [(shard.media_id(i), found) for i in piece]))
    whole = _write(asking.store, f"{name}.of", [(shard.media_id(int(i)), known) for i in rows])
    for file in parts:
        asking.store.delete(file)
    shard.close()
    return whole


def _write(store: Store, name: str, rows: Sequence[tuple[bytes, Rows]]) -> str:
    """Publish rows under a name that tells which they are."""
    table = table_of(BY_ENGINE, [(identity, *found[identity]) for identity, found in rows])
    errors = table.column("error").to_pylist()
    told = digest_of([identity.hex() for identity, _ in rows] + errors)[:12]
    return write_sidecar(store, f"{name}-{told}.parquet", table)


def _asked(
    asking: Asking, shard: Shard, rows: Sequence[int], report: Report
) -> Iterator[tuple[bytes, tuple[Any, ...]]]:
    """Medium and values of each row, as the engine answers."""
    requests: list[Request] = []
    of: list[bytes] = []
    for row in rows:
        identity = shard.media_id(row)
        try:
            picture = Picture(identity.hex(), _still(asking, shard, row))
        except (MediaError, Unavailable) as error:
            report.advance()
            yield identity, (None, None, None, str(error))
            continue
        requests.append(_request(asking.prompt, picture))
        of.append(identity)
    for place, answer in asking.engine.ask(requests) if requests else ():
        report.advance()
        yield of[place], _values(asking, answer)


def _still(asking: Asking, shard: Shard, row: int) -> bytes:
    """A picture's stored file; a clip's middle frame as PNG. Raises MediaError and Unavailable."""
    data = read_checked(shard, row, asking.withdrawn)
    if shard.kinds[row] != "video":
        return data
    png = BytesIO()
    Image.fromarray(middle_frame(data)).save(png, "PNG")
    return png.getvalue()


def _request(prompt: str, picture: Picture) -> Request:
    return Request(messages=(Message("user", (picture, prompt)),), max_tokens=MAX_TOKENS, top_logprobs=1)


def _values(asking: Asking, answer: Answer) -> tuple[Any, ...]:
    if isinstance(answer, Failure):
        return None, None, None, f"{answer.reason}: {answer.detail}"
    try:
        return (*asking.read(answer), None)
    except NotTags as error:
        return None, None, answer.text, str(error)


def open_reading(config: dict[str, Any]) -> Callable[[Reply], Sequence[Any]]:
    """A function from a reply to the measures of BY_ENGINE; it raises NotTags."""

    def read(reply: Reply) -> Sequence[Any]:
        said = read_tags(reply, config["vocabulary"], config["prompt"])
        return [one.tag for one in said], [one.score for one in said], reply.text

    return read


BY_ENGINE = Family(
    "tags_by_engine",
    "media",
    1,
    {
        "tags": Measure(pa.list_(pa.string()), "", "what the model says the picture shows, in its order"),
        "scores": Measure(pa.list_(pa.float32()), "0 to 1", "mean probability of each tag's tokens"),
        "reply": Measure(pa.string(), "", "the words it said"),
    },
    open_reading,
    ("pillow", "av"),
    MODEL,
)
