"""Arguments of a command, made from the dataclass that holds its options.

A field gives the flag, its type, choices and default, and its entry in the docstring gives the help, so that each is
written once. What a field cannot say, such as a metavar, is an :class:`Argument` in a table of the command.
"""

from __future__ import annotations

import argparse
import inspect
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

_T = TypeVar('_T')


@dataclass(frozen=True)
class Group:
    """A group of arguments under a heading of their own.

    Attributes:
        title: The heading.
        description: A line below it.
    """

    title: str
    description: str


@dataclass(frozen=True)
class Argument:
    """How an argument differs from what its field says.

    Attributes:
        flags: Its flags; ``--name-of-the-field`` if empty.
        metavar: Stands for the value in the help; N for whole numbers, and argparse's own for others, if None.
        positional: Whether it has no flag although the field has a default.
        optional_value: What a flag without its value means; None where the value is required.
        words: Whether it takes words as they are typed, one or more, which the command itself reads.
        values: What the value may be, which a table knows; added to the help.
        off: A flag that sets the field to None. Its help is the sentence of the docstring that begins with "None".
        group: Group to show it in; for a field that is a dataclass itself, the group of all its fields.
    """

    flags: tuple[str, ...] = ()
    metavar: str | None = None
    positional: bool = False
    optional_value: str | None = None
    words: bool = False
    values: str = ''
    off: str | None = None
    group: Group | None = None


def add_options(
    parser: argparse.ArgumentParser, options: type, exceptions: Mapping[str, Argument] | None = None
) -> None:
    """Add an argument for each field of a dataclass.

    A field without a default becomes a positional argument, unless its exception names flags; then it is required. An
    argument that is not given leaves nothing in the namespace: its default is that of the field, see
    :func:`read_options`.

    Args:
        parser: The parser.
        options: The dataclass, with an ``Attributes:`` section in its docstring. A field may be of a dataclass too.
        exceptions: Name of a field to how its argument differs.
    """
    exceptions = exceptions or {}
    groups: dict[Group, Any] = {}

    def add(of: type, heading: Group | None) -> None:
        hints, texts = get_type_hints(of), attribute_texts(of)
        for field in fields(of):
            how = exceptions.get(field.name, Argument())
            group = heading or how.group
            if is_dataclass(hints[field.name]):
                add(hints[field.name], group)
                continue
            if group is not None and group not in groups:
                groups[group] = parser.add_argument_group(group.title, group.description)
            place = parser if group is None else groups[group]
            text = texts.get(field.name, '')
            _add(place, field, hints[field.name], how, _help(text, field, how))
            if how.off is not None:
                place.add_argument(how.off, action='store_true', dest=_off(field), help=_help_of_none(text))

    add(options, None)


def given(args: argparse.Namespace, options: type) -> dict[str, Any]:
    """Return what was given on the command line for the fields of a dataclass, by field."""
    hints = get_type_hints(options)
    found: dict[str, Any] = {}
    for field in fields(options):
        hint = hints[field.name]
        if is_dataclass(hint):
            found[field.name] = read_options(args, hint)  # type: ignore[arg-type]
        elif getattr(args, _off(field), False):
            found[field.name] = None
        elif field.name in args:
            value = getattr(args, field.name)
            found[field.name] = tuple(value) if get_origin(_without_none(hint)) is tuple else value
    return found


def read_options(args: argparse.Namespace, options: type[_T], read: Mapping[str, Any] | None = None) -> _T:
    """Return the options that were given, with the defaults of the dataclass for those that were not.

    Args:
        args: What the parser made of the command line.
        options: The dataclass.
        read: Values that the command itself read from words, by field; they take the place of the words.
    """
    return options(**given(args, options) | dict(read or {}))


def attribute_texts(options: type) -> dict[str, str]:
    """Return the text about each attribute of a class, from the Google docstrings of it and of its bases."""
    texts: dict[str, str] = {}
    for one in reversed(options.__mro__):
        section = re.search(r'^Attributes:\n((?: .*\n|\n)*)', inspect.cleandoc(one.__doc__ or '') + '\n', re.MULTILINE)
        for name, text in re.findall(r'^    (\w+): (.*\n(?:     +.*\n)*)', section[1] if section else '', re.MULTILINE):
            texts[name] = ' '.join(text.split())
    return texts


def first_sentence(text: str) -> str:
    """Return the first sentence of a docstring as a help text: without markup, capital letter and full stop."""
    sentence = re.split(r'(?<=[.])\s+(?=[A-Z`])', text, maxsplit=1)[0].removesuffix('.')
    plain = re.sub(r'``(.*?)``', r'\1', sentence)
    is_name = sentence.startswith('``') or sentence[1:2].isupper()
    return plain if is_name else plain[:1].lower() + plain[1:]


def _add(place: Any, field: Field[Any], hint: Any, how: Argument, text: str) -> None:
    """Add one argument to a parser or a group of it."""
    required = field.default is MISSING and field.default_factory is MISSING
    positional = how.positional or (required and not how.flags)
    kind = _without_none(hint)
    settings: dict[str, Any] = {'help': text} if required else {'help': text, 'default': argparse.SUPPRESS}
    if kind is bool:
        settings |= {'action': 'store_true'}
    else:
        settings |= _value_settings(kind, how, required)
    if positional:
        place.add_argument(field.name, **settings)
        return
    flags = how.flags or (f'--{field.name.replace("_", "-")}',)
    place.add_argument(*flags, dest=field.name, **settings, **({'required': True} if required else {}))


def _value_settings(kind: Any, how: Argument, required: bool) -> dict[str, Any]:
    """Return what argparse must know of an argument's value: how many there are, their type, what stands for them."""
    settings: dict[str, Any] = {}
    several = how.words or get_origin(kind) in (tuple, Sequence, list)
    if several:
        settings['nargs'] = '*' if how.positional and not required else '+'
        kind = str if how.words else get_args(kind)[0]
    if how.optional_value is not None:
        settings |= {'nargs': '?', 'const': how.optional_value}
    if get_origin(kind) is Literal:
        settings['choices'] = get_args(kind)
    elif kind in (int, float):
        settings['type'] = kind
    metavar = how.metavar or ('N' if kind is int else None)
    return settings | ({'metavar': metavar} if metavar else {})


def _help(text: str, field: Field[Any], how: Argument) -> str:
    """Return the help of an argument: the first sentence about it, and its default where that says something."""
    default: Any = None if field.default is MISSING else field.default
    if isinstance(default, tuple):
        default = ' '.join(map(str, default))
    says_nothing = default is None or default is False or default == ''
    shown = '' if says_nothing else f' (default: {default})'
    values = f': {how.values}' if how.values else ''
    return f'{first_sentence(text)}{values}{shown}'.replace('%', '%%')


def _help_of_none(text: str) -> str:
    """Return what the docstring of a field says about None, as the help of the flag that sets it."""
    found = re.search(r'(?:^|(?<=[.] ))None .*', text)
    return first_sentence(found[0].removeprefix('None ')).replace('%', '%%') if found else ''


def _off(field: Field[Any]) -> str:
    """Return where the namespace keeps whether a field was set to None."""
    return f'no_{field.name}'


def _without_none(hint: Any) -> Any:
    """Return ``X`` for ``X | None``, and anything else as it is."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    (kind,) = (part for part in get_args(hint) if part is not type(None))
    return kind
