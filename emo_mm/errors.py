"""Errors that a user can mend."""

from __future__ import annotations


class UserError(ValueError):
    """A fault in what the user gave: a path, a name, a file or a setting.

    The message is one line (or a short block) that names the offending thing and the fix; the command line prints it
    without a traceback and exits with 1. Characters that steer a terminal, which names in files may have, are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Return a text with control characters and halves of characters written as escapes; lines stay."""
    if text.isprintable():
        return text
    return ''.join(c if c.isprintable() or c == '\n' else c.encode('unicode_escape').decode() for c in text)
