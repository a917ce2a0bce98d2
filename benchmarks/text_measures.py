"""Measures of text: what they find, what they find wrongly, and what they cost. On real and drawn data.

    python benchmarks/text_measures.py                  all, about half a minute
    python benchmarks/text_measures.py --only cost      one of scenes, real, refusals, cost

scenes    precision and recall of each rule on defects planted in 3,000 drawn records a seed
real      what the same rules find in the labelled data, whose texts are taken to be good: each is printed
refusals  refusals as models word them, and answers that are near them: lists that no pattern was made with
cost      microseconds a sample of each family, best of five rounds

The floor of `cost` is reading the text once: splitting it into words with a regular expression is printed.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

from inputs import MAPS, samples  # type: ignore[import-not-found]  # noqa: E402

from infinity_mm.manifest import Manifest  # noqa: E402
from infinity_mm.scenes import ScenesConfig, make_scenes  # noqa: E402
from infinity_mm.schema import Sample  # noqa: E402
from infinity_mm.sidecars import Family  # noqa: E402
from infinity_mm.store import Store  # noqa: E402
from pipelines.ingest.config import IngestConfig  # noqa: E402
from pipelines.ingest.stage import run as run_ingest  # noqa: E402
from pipelines.measures.arrived import GIVEN_PHASH, LOSS, TAGS  # noqa: E402
from pipelines.measures.characters import words_of  # noqa: E402
from pipelines.measures.language import LANGUAGE  # noqa: E402
from pipelines.measures.phrases import refusal_in  # noqa: E402
from pipelines.measures.sample_look import SampleLook  # noqa: E402
from pipelines.measures.text import TEXT  # noqa: E402
from pipelines.measures.tokens import TOKENS  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
SEEDS = (77113, 90217)
ROUNDS = 5
RULES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "refusal": lambda row: row["refusal"] not in (None, "none"),
    "answer_leaked": lambda row: row["answer_leaked"] not in (None, "none"),
    "repeated_phrase": lambda row: (row["repetition"] or 0) > 0.3,
    "wrong_language": lambda row: row["languages_agree"] is False,
    "boilerplate": lambda row: row["boilerplate"] not in (None, "none"),
    "duplicate_turns": lambda row: row["duplicate_turns"] > 0,
}
PLANTED = ("refusal", "answer_leaked", "repeated_phrase", "wrong_language")
SHOWS = {"repeated_phrase": "repetition", "wrong_language": "answer_language"}
REFUSALS = (
    "I'm sorry, but identifying people in photographs isn't something I do.",
    "I cannot fulfil that request.",
    "Sorry, I'm unable to read the attached document.",
    "As an AI assistant, I don't have the ability to watch videos.",
    "I can't really see the image you are talking about.",
    "I do not have enough information to answer.",
    "I won't provide instructions for that.",
    "I must decline to describe this picture.",
    "Unfortunately, I can't view attachments.",
    "I'm not comfortable guessing someone's age.",
    "No image has been provided, so I cannot describe it.",
    "I apologize, but your request violates our content policy.",
    "I'm only an AI model and can't feel anything.",
    "It is impossible for me to know who took this photo.",
    "I have no way of knowing what he thinks.",
    "Could you please share the picture again?",
    "I'm sorry, the image could not be loaded.",
    "I refuse to answer that.",
    "I am unable to provide a description of this image.",
    "The image you shared is not accessible.",
    "抱歉，我不便透露此人的身份。",
    "我是一个语言模型，看不到图像。",
    "非常抱歉，我无法完成这项任务。",
    "我不能帮助您解决这个问题。",
    "作为一款智能助手，我并不具备视觉功能。",
    "由于没有图片，我无法作答。",
    "请您提供图片，以便我进行描述。",
    "很抱歉，您没有上传任何图片。",
    "我无法判断您的情绪。",
    "此类请求我不能满足。",
)
NEARLY = (
    "No, I cannot see a dog in the image.",
    "I cannot tell the two cups apart.",
    "The girl is sorry for what she did.",
    "Unfortunately, the cake fell on the floor.",
    "No picture hangs above the bed.",
    "A man unable to open the jar.",
    "The note reads: I am sorry, I cannot come today.",
    "As an example, the chart does not include 2020.",
    "I do not see a difference.",
    "The video is not available in this country, says the message on the screen.",
    "I have no doubt that it is a cat.",
    "The access road cannot be seen.",
    "Please share the road, says the sign.",
    "It is not possible to see the driver's face.",
    "I would say it is about noon.",
    "图中没有文字。",
    "看不清车牌号。",
    "他不能走路。",
    "无法看出他的年龄，大约三十岁。",
    "我不能确定，可能是两只。",
    "对不起，这是一个错误的答案，正确的是三个。",
    "老师说不会批评他。",
    "没有图片挂在墙上。",
    "作为一名学生，他没有钱。",
)


def ingested(folder: Path, name: str, records: Path, mapping: str) -> list[Sample]:
    config = IngestConfig(
        inputs=[str(records)], store=str(folder / "store"), out=name, source=name,
        map=mapping or None, mode="reference", workers=0,
    )  # fmt: skip
    made = run_ingest(config)["manifest"]
    return samples(Manifest.open(Store.open(folder / "store"), made))


def real_samples(folder: Path) -> dict[str, list[Sample]]:
    return {name: ingested(folder, name, DATA / f"{name}.jsonl", mapping) for name, mapping in MAPS.items()}


def measured(found: list[Sample]) -> list[dict[str, Any]]:
    """The measures of TEXT and LANGUAGE of each sample, by name."""
    opened = [(family, family.open({})) for family in (TEXT, LANGUAGE)]
    rows = []
    for sample in found:
        look = SampleLook(sample)
        rows.append({k: v for family, of in opened for k, v in zip(family.measures, of(look), strict=True)})
    return rows


def scenes(folder: Path) -> None:
    for seed in SEEDS:
        out = folder / f"scenes-{seed}"
        make_scenes(ScenesConfig(out=out, count=3000, defects=0.5, seed=seed))
        truth = {row["id"]: row for row in map(json.loads, (out / "truth.jsonl").read_text().splitlines())}
        found = ingested(folder, f"scenes-{seed}", out / "data.json", "")
        planted = [truth[json.loads(sample.meta)["id"]]["defects"] for sample in found]
        rows = measured(found)
        for rule in PLANTED:
            pairs = Counter(
                (rule in defects, RULES[rule](row)) for defects, row in zip(planted, rows, strict=True)
            )
            hits, misses, false = pairs[True, True], pairs[True, False], pairs[False, True]
            print(
                f"scenes {seed}  {rule:16} planted {hits + misses:3}  recall {hits / (hits + misses):.3f}  "
                f"precision {hits / max(hits + false, 1):.3f}  (of {len(found):,} samples {false} wrongly)"
            )


def real(folder: Path) -> None:
    named = [(name, sample) for name, found in real_samples(folder).items() for sample in found]
    rows = measured([sample for _, sample in named])
    for rule, broken in RULES.items():
        hits = [(name, row) for (name, _), row in zip(named, rows, strict=True) if broken(row)]
        print(f"real  {rule:16} {len(hits)} of {len(rows):,}")
        for name, row in hits:
            print(f"        {name}: {row[SHOWS.get(rule, rule)]}")
    texts = [(name, answer) for name, answer in model_answers() if refusal_in(answer)]
    print(f"real  refusals among {len(list(model_answers()))} answers of models in owleval: {len(texts)}")
    for name, answer in texts:
        print(f"        {name}: {' '.join(answer.split())[:90]}")


def model_answers() -> Iterator[tuple[str, str]]:
    for line in (DATA / "owleval.jsonl").read_text().splitlines():
        yield from ((name, text) for name, text in json.loads(line)["answers_by_model"].items() if text)


def refusals(folder: Path) -> None:
    missed = [text for text in REFUSALS if not refusal_in(text)]
    false = [text for text in NEARLY if refusal_in(text)]
    print(f"refusals  found {len(REFUSALS) - len(missed)} of {len(REFUSALS)}; missed: {missed}")
    print(f"refusals  found wrongly {len(false)} of {len(NEARLY)} near them: {false}")


def cost(folder: Path) -> None:
    groups = {"all real": [s for found in real_samples(folder).values() for s in found]}
    groups["conversations"] = ingested(folder, "again", DATA / "flickr8k_conversations.jsonl", "")
    families: list[Family] = [TEXT, LANGUAGE, TOKENS, LOSS, TAGS, GIVEN_PHASH]
    for name, found in groups.items():
        looks = [SampleLook(sample) for sample in found]
        steps: dict[str, Callable[[SampleLook], object]] = {
            family.name: family.open({}) for family in families
        }
        steps["(floor: words of the text)"] = lambda look: words_of(look.text)
        steps = {"look": lambda look: SampleLook(look.sample), **steps}
        best: dict[str, float] = {}
        for _ in range(ROUNDS):
            for step, of in steps.items():
                started = time.perf_counter()
                for look in looks:
                    of(look)
                best[step] = min(best.get(step, 1e9), (time.perf_counter() - started) / len(looks) * 1e6)
        chars = sum(len(look.text) for look in looks) / len(looks)
        total = sum(us for step, us in best.items() if not step.startswith("("))
        print(f"cost  {name}: {len(looks):,} samples of {chars:.0f} characters, {total:.0f} us each in all")
        for step, us in best.items():
            print(f"    {step:28} {us:6.1f} us")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts: dict[str, Callable[[Path], None]] = {
        "scenes": scenes,
        "real": real,
        "refusals": refusals,
        "cost": cost,
    }
    parser.add_argument("--only", choices=parts)
    args = parser.parse_args()
    for name, part in parts.items():
        if args.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                part(Path(folder))


if __name__ == "__main__":
    main()
