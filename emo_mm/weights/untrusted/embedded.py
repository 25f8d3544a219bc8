"""The config that a checkpoint carries as a text: data here, although MMEngine would run it as Python.

MMEngine writes the config of a run into its checkpoints, and runs that text where a checkpoint is resumed or given to
an inferencer without a config. A text from elsewhere can hold anything. Here it is parsed and never run, and only types
that our own configs name may be built from it: MMEngine's registries find any importable function by its name, one that
unpickles an address included.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Any

from emo_mm.stack import config_root

_SCOPE = re.compile(r'(?:(?:emo_mm|mmdet|mmseg|mmpretrain|mmcv|mmengine)\.)?(?P<name>[A-Za-z]\w*)')
_BUILT = ('model', 'test_dataloader', 'visualizer')  # what an inferencer builds of a config


def plain_values(text: str, only: Collection[str] | None = None) -> dict[str, Any]:
    """Return the assignments of a config's text, which is parsed and never run.

    Args:
        text: The text.
        only: Names whose values are read, whatever else the text holds; None for a text of nothing but assignments.

    Raises:
        ValueError: If it is more than plain values.
    """
    found = {}
    try:
        for statement in ast.parse(text).body:
            targets = statement.targets if isinstance(statement, ast.Assign) else []
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            if only is None and (len(names) != 1 or len(targets) != 1):
                raise ValueError(f'line {statement.lineno} is no plain assignment')
            if only is None or set(names) & set(only):
                assert isinstance(statement, ast.Assign)
                found[names[0]] = _value(statement.value)
    except (SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise ValueError(str(error) or type(error).__name__) from None
    return found


def unknown_type(node: Any) -> str | None:
    """Return the first type in a part of a config that none of our configs names; None if there is none."""
    for kind in _types(node):
        match = _SCOPE.fullmatch(kind) if isinstance(kind, str) else None
        if match is None or match['name'] not in known_types():
            return str(kind)[:80]
    return None


@lru_cache
def known_types() -> frozenset[str]:
    """Return the types that our configs name, without their scopes."""
    texts = (path.read_text(encoding='utf-8') for path in config_root().rglob('*.py'))
    names = (name for text in texts for name in re.findall(r"\b(?:dataset_)?type ?= ?'([\w.]+)'", text))
    return frozenset(name.rpartition('.')[2] for name in names)


def is_harmless(text: Any) -> bool:
    """Tell whether a config's text may be run by MMEngine, and what an inferencer builds of it be built."""
    # `{{` is replaced by MMEngine before anything is parsed
    if not isinstance(text, str) or '{{' in text:
        return False
    try:
        values = plain_values(text)
    except ValueError:
        return False
    imports = values.get('custom_imports') or {}
    modules = imports.get('imports', []) if isinstance(imports, dict) else [None]
    modules = [modules] if isinstance(modules, str) else modules
    own = all(isinstance(module, str) and re.fullmatch(r'emo_mm(\.\w+)*', module) for module in modules)
    return own and '_base_' not in values and unknown_type([values.get(key) for key in _BUILT]) is None


def without_programs(content: dict[str, Any]) -> list[str]:
    """Take out of a checkpoint the configs that MMEngine might run and that are more than plain values.

    Args:
        content: The checkpoint; changed in place.

    Returns:
        Where they were.
    """
    hub, meta = content.get('message_hub'), content.get('meta')
    runtime = hub.get('runtime_info') if isinstance(hub, dict) else None
    removed = []
    # the last: what MMEngine's predecessor wrote, and MMEngine runs
    for place, holder, key in (
        ("message_hub['runtime_info']", runtime, 'cfg'),
        ('meta', meta, 'cfg'),
        ('meta', meta, 'config'),
    ):
        if isinstance(holder, dict) and key in holder and not is_harmless(holder[key]):
            del holder[key]
            removed.append(f'{place}[{key!r}]')
    return removed


def _types(node: Any) -> Iterator[Any]:
    """Yield the values of every key ``type``."""
    if isinstance(node, dict):
        if 'type' in node:
            yield node['type']
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _types(item)


def _value(node: ast.expr) -> Any:
    """Return the value of a literal, or of ``dict(key=literal, ...)``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        if any(keyword.arg is None for keyword in node.keywords):
            raise ValueError('dict(**...)')
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        keys = [None if key is None else ast.literal_eval(key) for key in node.keys]
        return {key: _value(value) for key, value in zip(keys, node.values, strict=True)}
    return ast.literal_eval(node)
