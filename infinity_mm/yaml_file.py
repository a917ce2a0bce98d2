"""YAML files of options: read whole, with what is wrong said in one line."""

from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def load(path: Path, what: str = "recipe") -> Any:
    """What a YAML file says; `what` it is, for errors. Raises FileNotFoundError, and ValueError for what
    can't be read or is not YAML."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{what} {path} can't be read: {error}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{what} {path} is not YAML: {' '.join(str(error).split())}") from None
