"""Processes that live through damaged files: one that crashes or hangs is told, and replaced."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType

TESTS = Path(__file__).resolve().parents[1]
_START = 300  # seconds: it imports torch on a busy machine


class Reader:
    """A process that reads files of a kind.

    Args:
        kind: What they are, a key of ``VICTIMS``.
        folder: Where it may keep what it needs.
        seconds: Time for a file.
        gigabytes: Memory beyond what its libraries take.
    """

    def __init__(self, kind: str, folder: Path, seconds: float = 60, gigabytes: float = 4) -> None:
        self.kind, self.folder, self.seconds, self.gigabytes = kind, folder, seconds, gigabytes
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def read(self, path: Path) -> tuple[str, str]:
        """Return what became of a file: ``answered``, ``refused``, ``wrong``, ``error``, ``crash`` or ``hang``."""
        process = self._process or self._started()
        assert process.stdin is not None
        process.stdin.write(f'{path}\n')
        process.stdin.flush()
        return self._answer(self.seconds)

    def _started(self) -> subprocess.Popen[str]:
        paths = [os.environ.get('PYTHONPATH', ''), str(TESTS), str(TESTS.parent)]
        self._log = (self.folder / f'{self.kind}.log').open('w+')
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'fuzzing.worker', self.kind, str(self.folder), str(self.gigabytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=self.folder,
            env=os.environ
            | {
                'PYTHONPATH': os.pathsep.join(filter(None, paths)),
                'OMP_NUM_THREADS': '1',
                'EMO_MM_CACHE': str(self.folder / 'cache'),
            },
        )
        found, said = self._answer(_START)
        if found != 'ready':
            raise RuntimeError(f'the process for {self.kind} did not start: {found}: {said}')
        return self._process

    def _answer(self, seconds: float) -> tuple[str, str]:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        if not ready:
            self._stop()
            return 'hang', f'no answer after {seconds} s'
        line = process.stdout.readline()
        if line:
            found, said = json.loads(line)
            return found, said
        code = process.wait()
        self._log.seek(0)
        said = f'exit code {code}\n{self._log.read()[-3000:]}'
        self._stop()
        return 'crash', said

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, self._log):
                if stream is not None:
                    stream.close()
