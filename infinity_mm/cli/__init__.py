"""The `imm` command: a table of commands, each in a module that is imported only when it runs.

The root is plain Python, without typer or click: `imm --help` costs what printing a table costs, however
much the commands import. A command's module has `app`, a `typer.Typer` (see `infinity_mm.cli.options`).
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from infinity_mm import __version__

# name: (module, one line of help), in the order data goes through them
COMMANDS: dict[str, tuple[str, str]] = {
    "scenes": ("infinity_mm.cli.scenes", "Draw pictures, clips and conversations whose truth is known."),
    "ingest": ("infinity_mm.cli.ingest", "Read a dataset into the store and make a manifest of it."),
    "measure": ("infinity_mm.cli.measure", "Measure samples and media, or list every measure."),
    "filter": ("infinity_mm.cli.filter", "Measure samples and keep those that pass the rules."),
    "dedup": ("infinity_mm.cli.dedup", "Drop what says the same about the same, each with its witness."),
    "fingerprint": ("infinity_mm.cli.fingerprint", "Write what tells whether a dataset has a benchmark."),
    "decontaminate": ("infinity_mm.cli.decontaminate", "Drop the samples that are in a benchmark."),
    "calibrate": ("infinity_mm.cli.calibrate", "Measure what dedup thresholds find on your own pictures."),
    "tag": ("infinity_mm.cli.tag", "Give pictures tags with scores."),
    "types": ("infinity_mm.cli.types", "Tell which questions suit which pictures, by their tags."),
    "synthesize": ("infinity_mm.cli.synthesize", "Write questions and answers by a VLM, and check them."),
    "mix": ("infinity_mm.cli.mix", "Join manifests with a weight for each."),
    "split": ("infinity_mm.cli.split", "Split a manifest into parts, such as train and validation."),
    "tokenize": ("infinity_mm.cli.tokenize", "Make codes of pictures and clips, for training an Emu3."),
    "train": ("infinity_mm.cli.train", "Train a model on manifests, stage by stage."),
    "eval": ("infinity_mm.cli.eval", "Score a trained model's answers to a manifest's questions."),
    "generate": ("infinity_mm.cli.generate", "Ask a trained model about pictures and clips."),
    "run": ("infinity_mm.cli.run", "Run the stages of a recipe; what is unchanged is skipped."),
    "manifest": ("infinity_mm.cli.manifest", "Show, verify, compare, copy and export manifests."),
    "report": ("infinity_mm.cli.report", "Write a page about a manifest, or two side by side."),
    "trace": ("infinity_mm.cli.trace", "Tell one sample's whole life."),
    "forget": ("infinity_mm.cli.forget", "Withdraw a sample, a medium or a source."),
    "gc": ("infinity_mm.cli.gc", "Delete what nothing refers to and what was withdrawn."),
    "demo": ("infinity_mm.cli.demo", "Run the whole pipeline on a small made-up dataset."),
    "doctor": ("infinity_mm.cli.doctor", "Tell what is installed, what can be used and what is missing."),
}

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


class WrongUsage(Exception):
    """What the user typed cannot be run: one line for each problem, and exit code 2."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
        # the command to look up in the help, where it is one of a group's
        self.program: str | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run `imm` with these arguments (the process's own by default) and return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _root(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # the reader left (`imm … | head`): nothing may be written to stdout any more, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _root(args: list[str]) -> int:
    if not args:
        print(_help(), file=sys.stderr)
        return WRONG_USAGE
    first, rest = args[0], args[1:]
    if first in ("-h", "--help"):
        print(_help())
        return DONE
    if first == "--version":
        print(f"imm {__version__}")
        return DONE
    if first.startswith("-"):
        return _wrong([f"no such option: {first}"], "imm")
    if first not in COMMANDS:
        return _wrong([f"no such command: {first}{_nearest(first)}"], "imm")
    return _command(first, rest)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: imm COMMAND [OPTIONS] [ARGS]...",
            "",
            "Curate, mix and trace vision-language training data: manifest in, stage, manifest out.",
            "",
            "Commands:",
            *lines,
            "",
            "Options:",
            "  --version  Print the version.",
            "  --help     Print this text; `imm COMMAND --help` prints a command's.",
        ]
    )


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
    return f"; did you mean `{near[0]}`?" if near else ""


def _wrong(problems: Sequence[str], program: str) -> int:
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"try `{program} --help`", file=sys.stderr)
    return WRONG_USAGE


def _command(name: str, args: list[str]) -> int:
    """Import one command and run it; whatever goes wrong becomes plain lines and an exit code."""
    from typer import Abort, Exit, TyperException
    from typer.main import get_command

    program = f"imm {name}"
    try:
        command = get_command(import_module(COMMANDS[name][0]).app)
        with command.make_context(program, args) as context:
            command.invoke(context)
        return DONE
    except Exit as end:
        return end.exit_code
    except WrongUsage as problem:
        return _wrong(problem.problems, problem.program or program)
    except TyperException as problem:
        where = getattr(problem, "ctx", None)
        return _wrong([problem.format_message()], where.command_path if where else program)
    except (KeyboardInterrupt, Abort):
        print("interrupted: run it again to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as problem:
        if os.environ.get("IMM_DEBUG") == "1":
            raise
        print(f"error: {_one_line(problem)}", file=sys.stderr)
        return FAILED


def _one_line(problem: Exception) -> str:
    """The message, with the kind of error where the message alone would not tell."""
    text = " ".join(str(problem).split())
    if isinstance(problem, (ValueError, OSError, RuntimeError, ImportError)) and text:
        return text
    kind = type(problem).__name__
    return f"{kind}: {text} (a defect in infinity-mm: IMM_DEBUG=1 shows where)"
