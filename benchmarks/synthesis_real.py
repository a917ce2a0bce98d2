"""Tagging and synthesis over real pictures and real texts, with a report to read of each.

    python benchmarks/synthesis_real.py DATA [--out FOLDER] [--clip SPEC] [--photographs 40]

`owleval`: what several models of uneven quality answered about the same pictures goes through the checks
as if one engine had written it: one model answers, another answers again unseen, and how far an answer
shares its words with all others' is what the engine says of relevance, right and score. `photographs`: the
small models that ship tag and ask about what they never saw, which shows what the checks do with an engine
that knows nothing; `--clip` names an embedder that knows photographs (open_clip:MODEL/WEIGHTS). DATA is a
folder with `owleval.jsonl` and `flickr8k.jsonl` and their pictures.
"""

import argparse
import hashlib
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from infinity_mm.cli import main as imm
from infinity_mm.engines.base import ENGINES, Answer, Failure, Identity, Picture, Reply, Request
from infinity_mm.schema import media_id

WORD = re.compile(r"[^\W_]+")
BLIND = "I can't tell without a picture."


class Said(dict[str, str]):
    """The answers of several models to one question, by their names."""

    question: str = ""


class Owls:
    """An engine that says what the models of owleval said about a picture."""

    spec = "owleval"
    identity = Identity("owleval", "answers", "float32", "cpu", "")

    def __init__(self, data: Path) -> None:
        self.said: defaultdict[str, list[Said]] = defaultdict(list)
        for line in (data / "owleval.jsonl").read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            answers = Said({name: text for name, text in record["answers_by_model"].items() if text})
            answers.question = record["question"]
            self.said[media_id((data / record["image"]).read_bytes()).hex()].append(answers)

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        for place, request in enumerate(requests):
            text = self.say(request)
            failure = Failure("empty_reply", "no model said anything")
            yield place, Reply(text, "stop", 1, len(text.split())) if text else failure

    def say(self, request: Request) -> str:
        [message] = request.messages[-1:]
        prompt = " ".join(part for part in message.parts if isinstance(part, str))
        shown = [part.id for part in message.parts if isinstance(part, Picture) and part.id in self.said]
        if not shown:
            return BLIND
        about = self.said[shown[-1]]
        lot = int(hashlib.sha256(request.key.encode()).hexdigest()[:8], 16)
        asked = next((said for said in about if said.question in prompt), about[lot % len(about)])
        answer = next((text for text in asked.values() if f"Answer: {text.strip()}" in prompt), None)
        shared = 1.0 if answer is None else overlap(answer, [t for t in asked.values() if t != answer])
        if request.choices:
            return request.choices[shared < 0.25]
        if answer is not None:
            return str(min(10, 1 + round(30 * shared)))
        if asked.question in prompt:
            return list(asked.values())[lot % len(asked)]
        return asked.question if "question" in prompt else max(asked.values(), key=len)

    def close(self) -> None: ...


def overlap(text: str, others: Sequence[str]) -> float:
    """The mean share of words that a text has in common with others: of both, F1."""
    own = set(WORD.findall(text.lower()))
    shares = []
    for other in others:
        theirs = set(WORD.findall(other.lower()))
        shares.append(2 * len(own & theirs) / max(1, len(own) + len(theirs)))
    return sum(shares) / max(1, len(shares))


def command(*words: object) -> None:
    """Run and show a command. Raises SystemExit where it fails."""
    said = [str(word) for word in words]
    print(f"\n$ imm {' '.join(said)}", flush=True)
    if imm(said):
        raise SystemExit(1)


def owleval(data: Path, out: Path) -> None:
    store, engine = out / "store", Owls(data)
    ENGINES["owleval"] = lambda rest, device, options: engine
    lines = "image=image,question=question,id=question_id"
    command("ingest", data / "owleval.jsonl", "--map", lines, "--media-root", data, "--out", "owls",
            "--store", store)  # fmt: skip
    command("synthesize", "owls", "--engine", "owleval", "--questions", 2, "--out", "owls-made",
            "--min-score", 6, "--store", store)  # fmt: skip
    command("report", "owls-made", "--out", out / "owleval.html", "--store", store)


def photographs(data: Path, out: Path, clip: str | None, count: int) -> None:
    store = out / "store"
    some = out / "photographs.jsonl"
    lines = (data / "flickr8k.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    some.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command("ingest", some, "--map", "image=image,text=text,id=id", "--media-root", data, "--out", "photos",
            "--store", store)  # fmt: skip
    command("tag", "photos", "--with", clip or "engine:tiny", "--out", "photos-tagged", "--store", store)
    command("synthesize", "photos-tagged", "--questions", 1, "--max-answer", 60, "--out", "photos-made",
            "--store", store)  # fmt: skip
    command("report", "photos-made", "--out", out / "photographs.html", "--store", store)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="?", help="folder of labelled pictures")
    parser.add_argument("--out", type=Path, help="folder of the pages [a temporary one]")
    parser.add_argument("--clip", help="embedder that tags photographs [the small VLM]")
    parser.add_argument("--photographs", type=int, default=40)
    given = parser.parse_args()
    if given.data is None or not (given.data / "owleval.jsonl").is_file():
        print("synthesis over real texts: not run, it needs a folder with owleval.jsonl")
        return
    with tempfile.TemporaryDirectory() as folder:
        out = given.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        owleval(given.data, out)
        photographs(given.data, out, given.clip, given.photographs)


if __name__ == "__main__":
    main()
