"""The documentation: links, command lines, names and paths in it exist. Sphinx is not needed."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
from argparse import ArgumentParser
from collections.abc import Iterator
from functools import cache
from inspect import signature
from pathlib import Path
from types import ModuleType

import pytest

from emo_mm import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md')]
    + [path for kind in ('md', 'rst') for path in (ROOT / 'docs').rglob(f'*.{kind}') if '_build' not in path.parts]
)
MARKDOWN = [page for page in PAGES if page.suffix == '.md']
# Lines that are no command as they stand: {a,b} for one of several, "..." for a part left out, <name> for a value.
PLACEHOLDER = re.compile(r'\{\w+,\w|\.\.\.|<\w+>')
# Registered types, which configs call emo_mm.<Type>, and what MIM reads.
IN_CONFIGS = re.compile(r'emo_mm\.[A-Z]\w*|emo_mm\.pth')


def pages(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize('page', paths, ids=lambda path: path.relative_to(ROOT).as_posix())


@cache
def read(page: Path) -> str:
    return page.read_text(encoding='utf-8')


def without_code(text: str) -> str:
    text = re.sub(r'^```.*?^```', '', text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r'`[^`\n]*`', '``', text)


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and pictures within the repository."""
    targets = re.findall(r'\]\(([^()\s]+)\)', without_code(re.sub(r'\[`([^`]*)`\]', '[code]', read(page))))
    return [target for target in targets if not re.match(r'[a-z]+:', target)]


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code forges and the site name them."""
    headings = re.findall(r'^#{1,6} (.+)$', re.sub(r'^```.*?^```', '', read(page), flags=re.M | re.S), flags=re.M)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).strip().replace(' ', '-') for heading in headings}


@pages(MARKDOWN)
def test_every_link_and_anchor_leads_somewhere(page: Path) -> None:
    dead = []
    for link in links(page):
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert not dead


def blocks(page: Path) -> Iterator[str]:
    """Yield the code blocks of a page that are in no language, or in a shell's."""
    for language, block in re.findall(r'^```(\w*)[^\n]*\n(.*?)^```$', read(page), flags=re.MULTILINE | re.DOTALL):
        if language in ('', 'sh', 'bash'):
            yield block


def command_lines(page: Path) -> Iterator[str]:
    """Yield the lines of a page's blocks that call ``emo-mm``, joined where a backslash ends them."""
    for block in blocks(page):
        for line in block.replace('\\\n', ' ').splitlines():
            if re.match(r'(\w+=\S+ +)*emo-mm ', line) and not PLACEHOLDER.search(line.split('#')[0]):
                yield line


def parser_of(words: list[str]) -> ArgumentParser:
    """Return the parser of a command line, which may know the arguments of the called command only."""
    return cli._parser(words) if signature(cli._parser).parameters else cli._parser()


@pages([page for page in MARKDOWN if any(command_lines(page))])
def test_every_command_line_parses(page: Path) -> None:
    wrong = []
    for line in command_lines(page):
        words = shlex.split(line, comments=True)
        words = words[words.index('emo-mm') + 1 :]
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            try:
                parser_of(words).parse_args(words)
            except SystemExit as left:  # --help and --version leave with 0
                if left.code:
                    wrong.append(f'{line.strip()}: {said.getvalue().splitlines()[-1]}')
    assert not wrong


def exists(name: str) -> bool:
    """Tell whether a dotted name leads to a module, or to something that a module defines; nothing is imported."""
    parts = name.split('.')
    for split in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:split])
        source = path / '__init__.py' if path.is_dir() else path.with_suffix('.py')
        if source.is_file():
            text = read(source)
            return all(re.search(rf"(def|class) {part}\b|^ *'?{part}'?( =|:)", text, re.M) for part in parts[split:])
    return False


@pages(PAGES)
def test_every_dotted_name_exists(page: Path) -> None:
    names = set(re.findall(r'(?<![\w/.-])emo_mm(?:\.\w+)+(?![\w/])', read(page)))
    assert not sorted(name for name in names if not IN_CONFIGS.fullmatch(name) and not exists(name))


@pages(PAGES)
def test_every_type_that_a_config_may_name_is_registered(page: Path) -> None:
    known = set(re.findall(r"^ +'(\w+)': 'emo_mm\.", read(ROOT / 'emo_mm' / 'registry.py'), flags=re.MULTILINE))
    named = set(re.findall(r'(?<![\w/.-])emo_mm\.([A-Z]\w*)', read(page))) - {'YourHead'}
    assert not named - known


@pages(PAGES)
def test_every_path_exists(page: Path) -> None:
    paths = set(re.findall(r'(?<![\w/.-])(?:emo_mm|tools|tests|docs|configs|requirements)/[\w./-]*\w', read(page)))
    paths -= {path for path in paths if path.startswith(('emo_mm/.mim', 'docs/_build'))}
    here = {page.parent, ROOT}  # links are relative to their page
    assert not sorted(path for path in paths if not any((place / path).exists() for place in here))


def test_index_lists_every_page() -> None:
    index = ROOT / 'docs' / 'index.md'
    listed = {(index.parent / link.partition('#')[0]).resolve() for link in links(index)}
    results = ROOT / 'docs' / 'lab' / 'benchmarks'
    expected = {page for page in PAGES if page.parent.parent != results and page.parent.name != 'api'}
    assert expected - listed - {index, ROOT / 'README.md'} == set()


def test_architecture_shows_the_layers_of_the_import_contract() -> None:
    tomllib = pytest.importorskip('tomllib')  # from Python 3.11 on
    contracts = tomllib.loads((ROOT / 'pyproject.toml').read_text())['tool']['importlinter']['contracts']
    layers = next(contract['layers'] for contract in contracts if contract['type'] == 'layers')
    rows = re.findall(r'^\| \d+ \| ([^|]+) \|', read(ROOT / 'docs' / 'architecture.md'), flags=re.MULTILINE)
    assert [set(re.findall(r'\w+', row)) for row in rows] == [set(re.findall(r'\w+', layer)) for layer in layers]


@pytest.fixture(scope='module')
def site_pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location('site_pages', ROOT / 'docs' / 'site_pages.py')
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_commands_page_has_a_section_for_every_command_and_a_row_for_every_option(site_pages: ModuleType) -> None:
    page = site_pages.commands_reference()
    for heading in ('## emo-mm train\n', '## emo-mm doctor\n', '### emo-mm weights convert\n'):
        assert heading in page
    for option in ('`--data-root` `DIR`', '`--resume` `[FILE]`', '`--bad-data` `{error,skip}`'):
        assert option in page


def test_navigation_of_the_site_follows_the_index(site_pages: ModuleType) -> None:
    index = '# All\n\n## Start\n\n- [Own data](own_data.md): x\n\n## More\n\n- [S](../S.md)\n'
    shown = site_pages.navigation(index)
    assert re.findall(r':caption: (.*)', shown) == ['Start', 'More']
    assert re.findall(r'<(/.*)>', shown) == ['/docs/index', '/docs/own_data', '/S']
