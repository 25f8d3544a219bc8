"""Errors that a user can fix."""

from __future__ import annotations

_LONGEST = 1500  # characters of a line
_LONGEST_QUOTED = 300  # characters of a line of another error


class UserError(ValueError):
    """An error in what the user gave: a path, a name, a file or a setting.

    The message is one line (or a short block) that names the offending thing and the fix; the command line prints it
    without a traceback and exits with 1. What files hold may be in it: characters that steer a terminal are escaped,
    and lines without end are cut.
    """

    def __init__(self, message: str) -> None:
        lines = printable(message).split('\n')
        super().__init__('\n'.join(line if len(line) <= _LONGEST else f'{line[:_LONGEST]} ...' for line in lines))


class MismatchError(UserError):
    """Weights that do not fit a network.

    Args:
        path: Their file.
        reason: What does not fit.
        advice: What can be done about it from Python; the command line leaves it out.

    Attributes:
        reason: As given.
        without_advice: The message for the command line.
    """

    def __init__(self, path: object, reason: str, advice: str) -> None:
        finding = f'{path} does not fit: {reason}'
        super().__init__(f'{finding}; {advice}')
        self.reason = reason
        self.without_advice = UserError(finding)


def printable(text: str) -> str:
    """Return a text with control characters and halves of characters written as escapes; lines stay."""
    if text.isprintable():
        return text
    return ''.join(c if c.isprintable() or c == '\n' else c.encode('unicode_escape').decode() for c in text)


def first_line(error: BaseException, with_type: bool = False) -> str:
    """Return the first line of what an error says, which mostly says what it is; its type where it says nothing.

    Args:
        error: The error.
        with_type: Whether its type stands before the line.
    """
    return _line(error, 0, with_type)


def last_line(error: BaseException, with_type: bool = False) -> str:
    """Return the last line of what an error says, as :func:`first_line` does.

    It is the one that counts where a text ends in the error itself: that of an import that failed, or of an error that
    comes with the traceback of another process.
    """
    return _line(error, -1, with_type)


def _line(error: BaseException, index: int, with_type: bool) -> str:
    kind, lines = type(error).__name__, str(error).strip().splitlines()
    if not lines:
        return kind
    line = lines[index].strip()[:_LONGEST_QUOTED]
    return f'{kind}: {line}' if with_type else line
