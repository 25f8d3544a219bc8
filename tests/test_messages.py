"""All messages to users in one file, to be read together: a changed one shows there, in plain English.

``python tests/test_messages.py`` writes the file again.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).parent / 'data' / 'messages.txt'
ERRORS = {'UserError', 'DownloadError', 'MismatchError', 'TrainingStopped'}
# what a native reader stumbles on, and the usual word for it
STUMBLING = {
    r'\bmend(s|ed|ing)?\b': 'fix',
    r'\bpass(es|ed)? over\b': 'skip',
    r'\bcannot be had\b': 'cannot be loaded, downloaded or found',
    r'\bbe(gin|gun) anew\b|\banew\b': 'start over, again',
    r'\b(is|are) wanted\b|\bwanted (is|are)\b': 'expected',
    r'\bwithout a word\b': 'without an error message',
    r'\bof our training\b': 'written by emo-mm train',
    r'\bvouch for\b': 'confirm',
    r'\bgo(es)? on with\b': 'continue with',
    r'\bnought\b|\bwhereof\b|\bthereof\b|\bmust needs\b': 'plain words',
}


def text_of(node: ast.expr) -> str:
    """Return the text that an expression makes, with its fields in braces."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return ''.join(text_of(value) for value in node.values)
    if isinstance(node, ast.FormattedValue):
        inner = node.value
        if isinstance(inner, ast.IfExp):
            return f'[{text_of(inner.body)}|{text_of(inner.orelse)}]'
        return '{' + ast.unparse(inner) + '}'
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    if isinstance(node, ast.IfExp):
        return f'[{text_of(node.body)}|{text_of(node.orelse)}]'
    return '{' + ast.unparse(node) + '}'


def messages() -> Iterator[tuple[str, str]]:
    """Yield where each message is made, and its text."""
    for path in sorted((ROOT / 'emo_mm').rglob('*.py')):
        tree = ast.parse(path.read_text(encoding='utf-8'))
        for node in ast.walk(tree):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ''
            if name in ERRORS and node.args:
                yield (
                    path.relative_to(ROOT).as_posix(),
                    ' '.join(text_of(node.args[-1 if len(node.args) == 1 else 0]).split()),
                )


def listing() -> str:
    """Return the file's content: the messages by module, each once, in the order of the alphabet."""
    found: dict[str, set[str]] = {}
    for module, text in messages():
        if re.sub(r'\{.*?\}', '', text).strip(' :;,'):
            found.setdefault(module, set()).add(text)
    return (
        '\n\n'.join('\n'.join([module, *(f'  {text}' for text in sorted(texts))]) for module, texts in found.items())
        + '\n'
    )


def test_every_message_is_in_the_file_that_is_read() -> None:
    assert GOLDEN.read_text(encoding='utf-8') == listing(), 'run `python tests/test_messages.py` and read what changed'


@pytest.mark.parametrize('word', STUMBLING)
def test_messages_use_the_usual_words(word: str) -> None:
    found = [line for line in listing().splitlines() if re.search(word, line, re.IGNORECASE)]
    assert not found, f'better: {STUMBLING[word]}'


if __name__ == '__main__':
    GOLDEN.write_text(listing(), encoding='utf-8')
