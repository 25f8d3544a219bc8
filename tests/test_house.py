"""The house stays one that can be lived in: rooms in layers, and what differs between tasks in one row."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from emo_mm.tasks import TASKS, TASKS_OF_SCOPE

NAMES = {*TASKS, *TASKS_OF_SCOPE}
# Here a task's name is a key of the table itself, or a distribution's name.
TABLES = {'emo_mm/tasks.py', 'emo_mm/stack.py'}


def sources(root: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((root / 'emo_mm').rglob('*.py')):
        yield path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding='utf-8'))


def constants(node: ast.AST) -> set[str]:
    return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def test_nothing_but_its_row_switches_on_a_task_or_its_toolbox(repo_root: Path) -> None:
    found = []
    for name, tree in sources(repo_root):
        for node in ast.walk(tree) if name not in TABLES else ():
            compared = isinstance(node, (ast.Compare, ast.MatchValue)) and constants(node) & NAMES
            written = node.keys if isinstance(node, ast.Dict) else ()
            keys = {key.value for key in written if isinstance(key, ast.Constant)}
            if compared or len(NAMES.intersection(keys)) > 1:
                found.append(f'{name}:{node.lineno}: {ast.unparse(node)[:80]}')  # type: ignore[attr-defined]
    assert not found


def test_rooms_import_from_those_below_them(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    importlinter = pytest.importorskip('importlinter.cli', reason='import-linter is not installed')
    monkeypatch.chdir(repo_root)
    assert importlinter.lint_imports(no_cache=True) == 0
