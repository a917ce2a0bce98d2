"""How right synthesised answers are, before and after each check, on scenes whose truth is known.

    python benchmarks/synthesize.py [--count 400] [--engine tiny] [--judge SPEC]

Questions and answers are written by the engine for pictures that no training saw, and every check is taken of
every pair. A pair is right where its question can be answered from the picture in one way and the answer
says that. Each line is what is left after a check: its precision, and the share of right pairs it lost.
"""

import argparse
import tempfile
from pathlib import Path

from infinity_mm.cli import main as imm
from infinity_mm.manifest import Manifest
from infinity_mm.store import Store
from pipelines.synthesize.config import SynthesizeConfig
from pipelines.synthesize.images import images, units
from pipelines.synthesize.kinds import fitting_of
from pipelines.synthesize.pairs import Pair
from pipelines.synthesize.stage import open_engines
from pipelines.synthesize.truth import Check, by_type, is_right, scenes_of, table
from pipelines.synthesize.work import Work

SEED = 900_000  # far from the seeds of tests and trainings


def checks(config: SynthesizeConfig) -> dict[str, Check]:
    """Each check with the configuration's limits, in order."""
    return {
        "relevance": lambda pair: pair.found.get("relevance", 0.0) >= config.min_relevance,
        "score": lambda pair: pair.found.get("score", 0.0) >= config.min_score,
        "again or judge": lambda pair: (
            pair.found.get("agrees", False) or pair.found.get("judged", 0.0) >= 0.5
        ),
        "judge": lambda pair: pair.found.get("judged", 0.0) >= config.min_judged,
        "again": lambda pair: bool(pair.found.get("agrees", False)),
        "not blind": lambda pair: not pair.found.get("blind_right", False),
    }


def written(store: Store, config: SynthesizeConfig) -> list[Pair]:
    """Every pair that has an answer, with what every check found."""
    free = {"min_relevance": 0.0, "min_score": 1.0, "min_judged": 0.0, "judge_all": True, "max_same": 1.0}
    loose = config.model_copy(update=free)
    manifest = Manifest.open(store, config.manifest)
    engines = open_engines(loose)
    work = Work(store, manifest.library(), loose, fitting_of(manifest, loose), engines)
    pairs = [pair for unit in units(images(manifest, loose.language)) for pair in work.unit(unit)]
    for engine in set(engines.values()):
        engine.close()
    return [
        pair for pair in pairs if pair.rejected is None or pair.rejected.step in ("score", "judge", "alike")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=400, help="pictures")
    parser.add_argument("--engine", default="tiny", help="model that writes")
    parser.add_argument("--judge", help="model that checks [the same]")
    parser.add_argument("--questions", type=int, default=3, help="questions a picture")
    parser.add_argument("--min-score", type=float, default=8.0, help="score that an answer needs [8]")
    parser.add_argument("--min-judged", type=float, default=0.5, help="what the judge must think of it [0.5]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url, drawn = f"{folder}/store", f"{folder}/scenes"
        still = [word for part in ("multi-image", "text-only", "video") for word in (f"--{part}-share", "0")]
        imm(["scenes", "--out", drawn, "--count", str(given.count), "--seed", str(SEED), *still])
        imm(["ingest", f"{drawn}/data.json", "--out", "raw", "--source", "scenes", "--store", url])
        store = Store.open(url)
        config = SynthesizeConfig(
            store=url, manifest="raw", out="made", engine=given.engine, judge=given.judge, prompts="scenes",
            types="scenes", captions=False, questions=given.questions, blind="gray",
            min_score=given.min_score, min_judged=given.min_judged,
        )  # fmt: skip
        pairs = written(store, config)
        scenes = scenes_of(Manifest.open(store, "raw"), Path(drawn, "truth.jsonl"))
        right = [is_right(pair, scenes[pair.image.medium]) for pair in pairs]
    tests = checks(config)
    print("\n".join(table(pairs, right, tests)))
    for kind, own in by_type(pairs).items():
        print(f"\n{kind}")
        print("\n".join(table([pairs[i] for i in own], [right[i] for i in own], tests)))


if __name__ == "__main__":
    main()
