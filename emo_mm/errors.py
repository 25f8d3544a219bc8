"""Errors that a user can mend."""

from __future__ import annotations


class UserError(ValueError):
    """A fault in what the user gave: a path, a name, a file or a setting.

    The message is one line (or a short block) that names the offending thing and the fix; the command line prints it
    without a traceback and exits with 1.
    """
