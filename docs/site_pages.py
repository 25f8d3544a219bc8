"""What the site shows beyond the files: navigation in the order of index.md, and a reference of the commands."""

from __future__ import annotations

import argparse
import inspect
import re
from pathlib import Path, PurePosixPath
from typing import Any

DOCS = Path(__file__).resolve().parent
RESULTS = 'docs/lab/benchmarks/'  # one folder each of tables that `emo-mm benchmark` wrote


def setup(app: Any) -> dict[str, bool]:
    """Register the hooks; Sphinx calls this."""
    app.connect('source-read', read)
    app.connect('autodoc-process-signature', readable_signature)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}


def read(app: Any, name: str, content: list[str]) -> None:
    """Change the text of a page as Sphinx reads it."""
    content[0] = without_folder_links(content[0], Path(app.env.doc2path(name)).parent)
    if name == 'README':
        content[0] += navigation((DOCS / 'index.md').read_text(encoding='utf-8'))
    elif name == 'docs/commands':
        content[0] += commands_reference()
    elif name.startswith(RESULTS) and name.count('/') > RESULTS.count('/'):
        content[0] = f'---\norphan: true\n---\n\n# {PurePosixPath(name).name}\n\n{content[0]}'


def without_folder_links(text: str, place: Path) -> str:
    """Return the text of a page with links to folders, which a site cannot show, as plain words."""

    def unlinked(match: re.Match[str]) -> str:
        return match[1] if (place / match[2]).is_dir() else match[0]

    return re.sub(r'(?<!!)\[([^][]+)\]\(([\w./-]+)\)', unlinked, text)


def readable_signature(
    _app: Any, _what: str, _name: str, _obj: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Return a signature without what is no Python in it: defaults that a dataclass makes for each object."""
    if signature is not None:
        signature = re.sub(r' = <factory>|=<factory>', ' = ...', signature).replace('~typing.', '')
    return signature, returns


def navigation(index: str) -> str:
    """Return one hidden table of contents for each section of index.md, in its order."""
    parts = []
    for section in re.split(r'^## ', index, flags=re.MULTILINE)[1:]:
        caption = section.splitlines()[0]
        pages = re.findall(r'^- \[([^]]+)\]\(([^)#]+)\)', section, flags=re.MULTILINE)
        lines = [f'{title} </{_document(target)}>' for title, target in pages]
        if not parts:
            lines.insert(0, 'All pages </docs/index>')
        parts.append('\n'.join(['', '```{toctree}', ':hidden:', f':caption: {caption}', '', *lines, '```', '']))
    return '\n'.join(parts)


def _document(target: str) -> str:
    """Return a path that index.md links to as Sphinx names the document."""
    path = (DOCS / target).resolve().relative_to(DOCS.parent)
    return path.with_suffix('').as_posix()


def commands_reference() -> str:
    """Return a section in Markdown for each command, from the parser of the command line."""
    lines: list[str] = []
    for name, (parser, help_text) in _commands(command_line([])).items():
        parser = _commands(command_line([name]))[name][0]
        lines += _section(parser, help_text, 2)
        for action, text in _commands(parser).values():
            lines += _section(action, text, 3)
    return '\n'.join(lines)


def command_line(words: list[str]) -> argparse.ArgumentParser:
    """Return the parser of a command line, which may know the arguments of the called command only."""
    from emo_mm import cli

    return cli._parser(words) if inspect.signature(cli._parser).parameters else cli._parser()


def _commands(parser: argparse.ArgumentParser) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """Return the commands of a parser by name, each with its line of help."""
    found = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or '' for choice in action._choices_actions}
            found |= {name: (command, helps.get(name, '')) for name, command in action.choices.items()}
    return found


def _section(parser: argparse.ArgumentParser, help_text: str, level: int) -> list[str]:
    lines = ['', f'{"#" * level} {parser.prog}', '', _sentence(help_text)]
    for group in parser._action_groups:
        rows = [_row(action) for action in group._group_actions if _is_shown(action)]
        if not rows:
            continue
        if group.description:
            lines += ['', f'*{_escaped(_sentence(f"{group.title}: {group.description}"))}*']
        kind = 'argument' if group.title == 'positional arguments' else 'option'
        lines += ['', f'| {kind} | |', '| --- | --- |', *rows]
    return lines


def _is_shown(action: argparse.Action) -> bool:
    return action.help != argparse.SUPPRESS and not isinstance(
        action, (argparse._HelpAction, argparse._SubParsersAction)
    )


def _row(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        return f'| `{value}` | {_text(action)} |'
    names = ', '.join(f'`{name}`' for name in action.option_strings)
    return f'| {names}{f" `{value}`" if value else ""} | {_text(action)} |'


def _value(action: argparse.Action) -> str:
    """Return what a usage line shows for the value of an option or argument."""
    if action.nargs == 0:
        return ''
    shown = action.metavar or ('{' + ','.join(map(str, action.choices)) + '}' if action.choices else None)
    name = str(shown or (action.dest.upper() if action.option_strings else action.dest))
    return {'?': f'[{name}]', '*': f'[{name} ...]', '+': f'{name} ...'}.get(str(action.nargs), name)


def _text(action: argparse.Action) -> str:
    required = 'required; ' if action.option_strings and action.required else ''
    return _escaped(required + (action.help or '').replace('%%', '%'))


def _escaped(text: str) -> str:
    return re.sub(r'([|*<_\[])', r'\\\1', text)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ('' if text.endswith('.') or not text else '.')
