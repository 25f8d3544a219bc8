"""Processes that live through damaged files: one that crashes or hangs is told, and replaced."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

TESTS = Path(__file__).resolve().parents[1]
_START = 300  # seconds of processor time: it imports torch
_SILENT = 1800  # seconds without an answer, even if it uses no processor


class Reader:
    """A process that reads files of a kind.

    Args:
        kind: What they are, a key of ``VICTIMS``.
        folder: Where it may keep what it needs.
        seconds: Processor time for a file.
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
        start, used = time.monotonic(), _processor_time(process.pid)
        while not select.select([process.stdout], [], [], 1)[0]:
            # not by the clock: others may hold the processor, or the process, for long
            if _processor_time(process.pid) - used > seconds or time.monotonic() - start > _SILENT:
                self._stop()
                return 'hang', f'no answer after {seconds} s of processor time'
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


def _processor_time(pid: int) -> float:
    """Return the seconds that a process has computed for."""
    try:
        fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
