"""One record: from its plan to its LLaVA entry, its files and its truth.

A record can be made from the plans alone; a copy makes its original again rather than reading it back.
"""

from dataclasses import dataclass
from typing import Any

from .benchmark import Item
from .config import ScenesConfig
from .conversation_defects import CONVERSATION_DEFECTS
from .conversations import Content, assemble, exchanges_for, make_content
from .copies import COPIES
from .defects import LEAK, OTHER_QUESTIONS
from .draw import decode, encode, encode_clip, picture
from .picture_defects import PICTURE_DEFECTS
from .plan import Plan
from .randomness import CONTENT, DEFECT, PICTURE, chance, pick, pick_weighted, stream
from .world import placed, scene_key, scene_truth

FOLDER = 1000  # records whose files share a folder


@dataclass
class Record:
    """An entry of data.json, the files it brings (name -> bytes), and its line of truth.jsonl."""

    entry: dict[str, Any]
    files: dict[str, bytes]
    truth: dict[str, Any]


def record_id(config: ScenesConfig, index: int) -> str:
    """The id of a record; it tells nothing of what the record holds."""
    return f"scene-{config.seed}-{index:07d}"


def _name(index: int, form: str, part: str = "") -> str:
    kind = "videos" if form == "mp4" else "images"
    return f"{kind}/{index // FOLDER:04d}/{index:07d}{part}.{form}"


def _clean(config: ScenesConfig, plan: Plan) -> Content:
    """The content without its defect, files included."""
    rng = stream(config.seed, plan.index, CONTENT)
    content = make_content(config, plan.medium, plan.kind, plan.language, rng)
    rng = stream(config.seed, plan.index, PICTURE)
    for k, scene in enumerate(content.scenes):
        if plan.medium == "video":
            form, data = "mp4", encode_clip(scene)
        else:
            form = "png" if chance(rng, config.png_share) else "jpg"
            data = encode(picture(scene), form, int(rng.integers(80, 93)))
        name = _name(plan.index, form, f"_{k + 1}" if len(content.scenes) > 1 else "")
        content.media.append(name)
        content.files[name] = data
    return content


def _other_questions(config: ScenesConfig, plan: Plan, original: Content) -> Content:
    """A new conversation about the original's picture, none of whose questions the original has."""
    rng = stream(config.seed, plan.index, DEFECT)
    asked = {t["value"].removeprefix("<image>\n") for t in original.turns if t["from"] == "human"}
    while True:
        kind = pick_weighted(rng, config.image_kinds())
        exchanges = exchanges_for(config, original.scenes[0], kind, plan.language, rng)
        if exchanges and not asked & {question for question, _, _ in exchanges}:
            break
    content = assemble("image", plan.language, original.scenes, exchanges)
    content.media = list(original.media)
    return content


def _leaked(plan: Plan, item: Item, config: ScenesConfig) -> tuple[Content, dict[str, Any]]:
    """The benchmark's item as a training record: its picture's bytes or a worse JPEG, its question."""
    rng = stream(config.seed, plan.index, DEFECT)
    content = item.content()
    ((item_file, data),) = content.files.items()
    form, how = item_file.rpartition(".")[2], pick(rng, ("same_bytes", "recompressed"))
    if how == "recompressed":
        form, data = "jpg", encode(decode(data), "jpg", int(rng.integers(40, 71)))
    name = _name(plan.index, form)
    content.media, content.files = [name], {name: data}
    return content, {"sub_kind": how, "item": item.id, "item_file": item_file}


def make_record(config: ScenesConfig, plans: list[Plan], index: int, benchmark: list[Item]) -> Record:
    """The record of that index with its planted defect, if its plan has one."""
    plan = plans[index]
    rng = stream(config.seed, index, DEFECT)
    detail: dict[str, Any] = {}
    original: dict[str, Any] | None = None
    group, kind = record_id(config, index), plan.kind
    if plan.original is not None:
        content = _clean(config, plans[plan.original])
        (source,) = content.media
        original = {"index": plan.original, "id": record_id(config, plan.original), "file": source}
        group = original["id"]
        if plan.defect == OTHER_QUESTIONS:
            content = _other_questions(config, plan, content)
            kind = content.answers[0]["kind"] if len(content.answers) == 1 else "conversation"
        else:
            assert plan.defect is not None
            data, form, detail, placing = COPIES[plan.defect](
                content.files[source], source.rpartition(".")[2], rng
            )
            content.scenes = [placed(content.scenes[0], *placing)]
            name = _name(index, form)
            content.media, content.files = [name], {name: data}
    elif plan.defect == LEAK:
        item = pick(rng, benchmark)
        content, detail = _leaked(plan, item, config)
        group, kind = item.id, item.kind
    else:
        content = _clean(config, plan)
        if plan.defect in PICTURE_DEFECTS:
            ((name, data),) = content.files.items()
            image = picture(content.scenes[0])
            data, form, detail = PICTURE_DEFECTS[plan.defect](image, data, name.rpartition(".")[2], rng)
            name = _name(index, form)
            content.media, content.files = [name], {name: data}
        elif plan.defect is not None:
            detail = CONVERSATION_DEFECTS[plan.defect](content, rng)
    return Record(
        llava_entry(record_id(config, index), content),
        content.files,
        {
            "index": index,
            "id": record_id(config, index),
            "kind": kind,
            "medium": content.medium,
            "language": content.language,
            "files": content.media,
            "scenes": [scene_truth(s) for s in content.scenes],
            "scene_keys": [scene_key(s) for s in content.scenes],
            "answers": content.answers,
            "defects": [plan.defect] if plan.defect else [],
            "detail": detail,
            "original": original,
            "group": group,
        },
    )


def llava_entry(name: str, content: Content) -> dict[str, Any]:
    """The record as LLaVA writes it: "image" is one name or a list of names."""
    entry: dict[str, Any] = {"id": name}
    if content.media:
        key = "video" if content.medium == "video" else "image"
        entry[key] = content.media[0] if len(content.media) == 1 else content.media
    return {**entry, "conversations": content.turns}
