"""Imports point one way, and no package's __init__ imports a heavy library."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("infinity_mm", "pipelines", "trainers")
HEAVY = {"torch", "transformers", "open_clip", "faiss", "vllm", "ray", "datasets"}


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Every module named by an import, relative ones resolved; `from a import b` gives a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base] if base else parts)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def forbidden(module: str) -> tuple[str, ...]:
    """The packages that a module may not import."""
    if _within(module, "infinity_mm.cli"):
        return ()
    if _within(module, "pipelines"):
        return ("trainers", "infinity_mm.cli")
    if _within(module, "trainers"):
        return ("pipelines", "infinity_mm.cli")
    return ("pipelines", "trainers", "infinity_mm.cli")


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    imported = sorted(set(_imported(ast.parse(source), module, is_package)))
    return [name for name in imported for package in forbidden(module) if _within(name, package)]


def heavy_at_the_top(source: str) -> list[str]:
    """Heavy libraries that importing this source would import: all but those inside functions."""
    found = []
    stack: list[ast.AST] = [ast.parse(source)]
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found += [name.split(".")[0] for name in _imported(node, "", False)]
        stack += ast.iter_child_nodes(node)
    return sorted(set(found) & HEAVY)


def _sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    assert violations(path.read_text(encoding="utf-8"), _module(path), path.name == "__init__.py") == []


@pytest.mark.parametrize(
    "path",
    [path for path in _sources() if path.name == "__init__.py"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_packages_import_nothing_heavy(path: Path) -> None:
    assert heavy_at_the_top(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("infinity_mm.store", "import pipelines.filter"),
        ("infinity_mm.store", "def f():\n    from trainers import llava"),
        ("infinity_mm.store", "from infinity_mm import cli"),
        ("infinity_mm.store", "from .cli import main"),
        ("pipelines.filter", "from trainers.shared import loop"),
        ("pipelines.filter", "from infinity_mm.cli.options import stage_command"),
        ("trainers.llava", "import pipelines"),
    ],
)
def test_a_wrong_import_is_seen(module: str, source: str) -> None:
    assert violations(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("infinity_mm.cli.filter", "from pipelines.filter import run"),
        ("pipelines.filter", "from infinity_mm.store import Store"),
        ("pipelines.filter", "from pipelines_of_others import x"),
    ],
)
def test_a_right_import_is_not(module: str, source: str) -> None:
    assert violations(source, module) == []


def test_heavy_imports_are_seen_at_the_top_only() -> None:
    assert heavy_at_the_top("try:\n    import torch.nn\nexcept ImportError:\n    pass") == ["torch"]
    assert heavy_at_the_top("def f():\n    import torch") == []
