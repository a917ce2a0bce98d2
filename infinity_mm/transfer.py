"""`imm manifest copy`: a manifest and all it stands on into another store.

Files are named by their content, so what is there already is not copied again, and a killed copy goes on.
The documents and ledgers of its ancestors come along, so that `trace` still tells the whole life; their
shards do not. Memory: one file's chunk.
"""

import os
import shutil
from collections.abc import Iterator

from infinity_mm.executor import Report, Silent
from infinity_mm.manifest import Manifest, set_ref
from infinity_mm.media.shards import add_roots, read_roots
from infinity_mm.store import Store
from infinity_mm.trace import lineage


def files_of(store: Store, manifest: Manifest) -> Iterator[str]:
    """Every file a manifest stands on, but for its own document."""
    document = manifest.document
    for entry in [*document["shards"], *document["origins"], *document["sidecars"], document["ledger"]]:
        yield entry["file"]
    for index in document["media"]:
        yield from (part["file"] for part in index["parts"])
        for shard in index["shards"]:
            for folder in ("bytes", "locations", "media"):
                if folder == "media" or store.exists(f"{folder}/{shard}.arrow"):
                    yield f"{folder}/{shard}.arrow"


def copy(
    manifest: Manifest, target: Store, name: str | None, replace: bool, report: Report | None = None
) -> dict[str, int]:
    """Copy a manifest; how many files and bytes were copied. The document goes last."""
    store = manifest.store
    report = report or Silent()
    family = lineage(store, manifest)
    names = list(dict.fromkeys(files_of(store, manifest)))
    names += [one.document["ledger"]["file"] for one in family]
    names = list(dict.fromkeys([*names, *store.names("tombstones")]))
    report.start("copy", len(names), "files")
    files = size = 0
    for file in names:
        if not target.exists(file):
            size += copy_file(store, target, file)
            files += 1
        report.advance()
    report.done()
    roots = {
        n: r.get("path") or os.path.join(store.root, r["relative"]) for n, r in read_roots(store).items()
    }
    if roots:
        add_roots(target, roots)
    for one in family:
        target.write(f"manifests/{one.file}.json", store.read(f"manifests/{one.file}.json"))
    if name:
        set_ref(target, name, manifest.file, replace)
    return {"files": files, "bytes": size}


def copy_file(store: Store, target: Store, name: str) -> int:
    """Copy one file between stores under its name; its size."""
    with target.scratch() as temporary:
        with store.open_file(name) as source, open(temporary, "wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 24)
            size = sink.tell()
        target.publish(temporary, name)
    return size
