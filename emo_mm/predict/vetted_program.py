"""Programs of ``torch.export`` from strangers, read so that nothing in them is run but tensor operators.

PyTorch's own loader trusts a file: it unpickles what it finds, runs guards that are Python source, makes source of the
names in the graph, and calls whatever function of torch a node names. So the archive is read here first. All it may
hold are raw tensors and a graph of operators on tensors; what it does not need is left out, and PyTorch gets an archive
that is made again from the rest.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emo_mm.errors import UserError, first_line

MAX_BYTES = 2**31
_NEEDED = (
    re.compile(r'archive_format|archive_version|byteorder|\.data/version|models/model\.json'),
    re.compile(r'data/(weights|constants)/([\w-]+|model_(weights|constants)_config\.json)'),
    re.compile(r'data/sample_inputs/model\.pt'),
)
_GRAPH = 'models/model.json'
_EXTRA = 'extra/'
_NOT_NEEDED = re.compile(r'\.data/serialization_id')
# Operators that compute on tensors; those of aten that touch files are none.
_TARGET = re.compile(
    r'torch\.ops\.aten\.(?!save\b|from_file\b)\w+\.\w+|torch\.ops\.torchvision\.(?:nms|roi_align)\.default'
    r'|torch\.ops\.higher_order\.wrap_with_set_grad_enabled|torch\.sym_\w+|math\.(ceil|floor|trunc)'
    r'|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|eq|ne|lt|le|gt|ge|and_|or_)'
)
_ASSERTIONS = {'torch.ops.aten._assert_scalar.default', 'torch.ops.aten._assert_async.msg'}
# Modes of operators. With no other texts, no operator learns of a path.
_WORDS = {'none', 'tanh', 'floor', 'trunc', 'ij', 'xy', 'mean', 'sum', 'prod', 'amax', 'amin', 'constant', 'reflect'}
_NAME = re.compile(r'[\w.+ -]*')  # of tensors, types and parameters: no source can be hidden in it
_TREE_TYPES = {None, 'builtins.tuple', 'builtins.list', 'builtins.dict'}
# Of what SymPy writes sizes, beside numbers and the names of sizes.
_SIZE_WORDS = {
    *('Symbol', 'Integer', 'Add', 'Mul', 'Pow', 'Mod', 'FloorDiv', 'PythonMod', 'CleanDiv', 'Max', 'Min', 'Eq', 'Ne'),
    *('Equality', 'Unequality', 'LessThan', 'GreaterThan', 'StrictLessThan', 'StrictGreaterThan'),
    *('positive', 'integer', 'nonnegative', 'True', 'False'),
}
_SIZE_PART = re.compile(r"\d+|[su]\d+|[\s(),=+*/<>'-]+")


@dataclass(frozen=True)
class VettedProgram:
    """What a file holds.

    Attributes:
        archive: The program, for ``torch.export.load``.
        extra: Texts that the file carries, by name.
    """

    archive: io.BytesIO
    extra: dict[str, str]


def read_program(path: Path) -> VettedProgram:
    """Read a ``.pt2`` file.

    Raises:
        UserError: If it is damaged, is no program of ``torch.export``, or holds more than operators on tensors.
    """
    try:
        entries = _entries(path)
    except Exception as error:  # damage shows in many ways: zip, struct, unicode and overflow errors
        raise UserError(f'{path}: is damaged or no program of torch.export: {first_line(error)}') from None
    extra = {name.removeprefix(_EXTRA): text for name, text in entries.items() if name.startswith(_EXTRA)}
    try:
        kept = {name: content for name, content in entries.items() if not name.startswith(_EXTRA)}
        kept = {name: content for name, content in kept.items() if not _NOT_NEEDED.fullmatch(name)}
        _check_entries(kept)
        kept[_GRAPH] = _vetted_graph(kept[_GRAPH])
        texts = {name: text.decode() for name, text in extra.items()}
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f'{path}: is refused, and nothing in it was run: {first_line(error)}; prediction runs programs of '
            f'torch.export that hold operators on tensors and nothing else, as torch {torch.__version__} saves them'
        ) from None
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, 'w', zipfile.ZIP_STORED) as file:
        for name, content in kept.items():
            file.writestr(f'program/{name}', content)
    archive.seek(0)
    return VettedProgram(archive, texts)


def _entries(path: Path) -> dict[str, bytes]:
    """Return the entries of an archive by their names below its one folder; reading them checks their checksums."""
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if sum(info.file_size for info in infos) > min(MAX_BYTES, path.stat().st_size):
            raise ValueError('it unpacks to more than its size')
        found = {info.filename.partition('/')[2]: archive.read(info) for info in infos}
    if len(found) < len(infos):
        raise ValueError('it has two entries of one name')
    if _GRAPH not in found:
        raise ValueError(f'it holds no {_GRAPH}')
    return found


def _check_entries(entries: dict[str, bytes]) -> None:
    """Check that an archive holds what a program needs, and no pickles of objects."""
    for name in entries:
        if not any(pattern.fullmatch(name) for pattern in _NEEDED):
            raise ValueError(f'it holds {name}')
    for kind in ('weights', 'constants'):
        config = json.loads(entries[f'data/{kind}/model_{kind}_config.json'])['config']
        pickled = [name for name, payload in config.items() if payload['use_pickle'] is not False]
        if pickled:
            raise ValueError(f'{pickled[0]} is pickled')
        _check_names(config)
    try:
        # PyTorch does so too, and unpickles anything where it fails
        torch.load(io.BytesIO(entries['data/sample_inputs/model.pt']), weights_only=True)
    except Exception:  # of the pickle or of its archive
        raise ValueError('its example input holds more than tensors') from None


def _vetted_graph(text: bytes) -> bytes:
    """Return a graph without what only serves debugging, as messages do, and without guards, which are source.

    Raises:
        ValueError: If it holds more than operators on tensors.
    """
    program = json.loads(text)
    program['guards_code'] = []
    for node in _dicts(program):
        _drop_words(node)
        _check_node(node)
    _check_names({key: value for key, value in program.items() if key != 'schema_version'})
    return json.dumps(program).encode()


def _drop_words(node: dict[str, Any]) -> None:
    """Drop from a node what only serves debugging: where it came from, and what a failure would say."""
    if 'metadata' in node:
        node['metadata'] = {}
    for argument in node['inputs'] if node.get('target') in _ASSERTIONS else ():
        if 'as_string' in argument['arg']:
            argument['arg'] = {'as_string': 'none'}


def _check_node(node: dict[str, Any]) -> None:
    """Check that a node is an operator on tensors, its texts and sizes included."""
    if 'target' in node and not _TARGET.fullmatch(node['target']):
        raise ValueError(f'it calls {node["target"]}')
    if node.get('as_operator') is not None or node.get('as_custom_obj') is not None:
        raise ValueError('it hands functions or objects to operators')
    words = [node.get('as_string') or 'none', *(node.get('as_strings') or ())]
    if not _WORDS.issuperset(words):
        raise ValueError(f'an operator gets the text {words[-1]}')
    if not _is_size(node.get('expr_str', '')):
        raise ValueError(f'a size is {node["expr_str"]}')
    for key in ('in_spec', 'out_spec'):
        _check_tree(node.get(key) or 'null')


def _is_size(text: str) -> bool:
    """Tell whether a text computes a size and nothing else; SymPy evaluates it."""
    return all(part in _SIZE_WORDS or _SIZE_PART.fullmatch(part) for part in re.findall(r'\w+|\W+', text))


def _check_tree(text: str) -> None:
    """Check how inputs or outputs are nested."""
    for node in _dicts(json.loads(text)):
        if node['type'] not in _TREE_TYPES or not re.fullmatch(r'null|\[["\w, ]*\]', node['context'] or 'null'):
            raise ValueError(f'its inputs or outputs are a {node["type"]}')


def _check_names(part: Any) -> None:
    """Check texts that PyTorch may make source of; those of other kinds are checked by themselves."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key not in ('in_spec', 'out_spec', 'expr_str'):
                _check_names(key)
                _check_names(value)
    elif isinstance(part, list):
        for value in part:
            _check_names(value)
    elif isinstance(part, str) and not _NAME.fullmatch(part):
        raise ValueError(f'it names something {part[:80]!r}')


def _dicts(part: Any) -> Iterator[dict[str, Any]]:
    """Yield all objects in parsed JSON."""
    if isinstance(part, dict):
        yield part
        part = list(part.values())
    if isinstance(part, list):
        for value in part:
            yield from _dicts(value)
