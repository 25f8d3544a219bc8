"""What ``emo-mm serve`` is asked for. It imports nothing slow, as the help is made from it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from emo_mm.errors import UserError


@dataclass(frozen=True)
class ServeOptions:
    """What the command line of ``serve`` gives.

    Attributes:
        model: A checkpoint, an exported file, the name or path of a config, or ``hf://owner/name``.
        weights: A checkpoint of the whole model, for a config.
        host: Address to listen at; 0.0.0.0 for all of this machine's.
        port: Port to listen at.
        workers: Processes, each with a model of its own.
        batch: Images that the network gets at once: those that wait when it becomes free.
        max_queue: Requests that may wait in each process; more are answered with 503.
        max_mb: Largest request in MB (10^6 bytes); a larger one is answered with 413.
        score_threshold: Boxes must score higher; if not given what the training found best, or 0.3 where it noted
            nothing.
        token_file: File with a token, which requests must send as ``Authorization: Bearer TOKEN``.

    Raises:
        UserError: If a number is out of range, or the file holds no token.
    """

    model: str
    weights: str | None = None
    host: str = '127.0.0.1'
    port: int = 8000
    workers: int = 1
    batch: int = 1
    max_queue: int = 64
    max_mb: float = 32.0
    score_threshold: float | None = None
    token_file: str | None = None

    def __post_init__(self) -> None:
        for name in ('workers', 'batch', 'max_queue'):
            if getattr(self, name) < 1:
                raise UserError(f'--{name.replace("_", "-")} is {getattr(self, name)}; it must be at least 1')
        if not 0 <= self.port <= 65535:
            raise UserError(f'--port is {self.port}; it must be 0 to 65535')
        if not 0 < self.max_mb <= 1024:
            raise UserError(f'--max-mb is {self.max_mb}; it must be above 0 and at most 1024')
        if self.score_threshold is not None and not 0 <= self.score_threshold <= 1:
            raise UserError(f'--score-threshold is {self.score_threshold}; it must be 0 to 1')
        _ = self.token

    @property
    def token(self) -> str | None:
        """The token that requests must send; None where any may come.

        Raises:
            UserError: If the file cannot be read or holds no token.
        """
        if self.token_file is None:
            return None
        try:
            token = Path(self.token_file).read_text(encoding='utf-8').strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f'--token-file {self.token_file}: cannot be read: {error}') from None
        if not token.isascii() or not token.isprintable() or not token or ' ' in token:
            raise UserError(f'--token-file {self.token_file}: must hold one line of letters and digits')
        return token

    @property
    def listens_beyond_this_machine(self) -> bool:
        """Whether other machines can reach the server."""
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != 'localhost'
