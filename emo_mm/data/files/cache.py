"""What earlier runs found in files that have not changed since, in the user's cache."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock

from emo_mm.weights.cache import cache_dir

_TABLE = """CREATE TABLE IF NOT EXISTS answers (
    folder TEXT, name TEXT, kind TEXT, size INTEGER, time INTEGER, answer TEXT,
    PRIMARY KEY (folder, name, kind)) WITHOUT ROWID"""
# A change in how files are checked makes earlier answers worthless.
_VERSION = 2


class CheckCache:
    """Answers by the path, size and time of modification of a file.

    A cache that cannot be read or written is one without answers: it saves time and nothing depends on it.

    Args:
        folder: Where the database lies; made if absent.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / f'files_{_VERSION}.sqlite'

    def get(self, paths: Sequence[str], versions: Sequence[tuple[int, int] | None], kind: str) -> dict[int, list]:
        """Return the answers to files that are as they were.

        Args:
            paths: The files.
            versions: Size and time of modification of each; None for one that is not there.
            kind: The check. What ``full`` found also answers ``quick``.

        Returns:
            Index of a file to its answer.
        """
        kinds = ('quick', 'full') if kind == 'quick' else (kind,)
        found: dict[int, list] = {}
        try:
            with closing(sqlite3.connect(self.path)) as base:
                rows: dict[tuple[str, str], tuple[int, int, str]] = {}
                for folder in dict.fromkeys(_split(path)[0] for path in paths):
                    for each in kinds:
                        query = 'SELECT name, size, time, answer FROM answers WHERE folder = ? AND kind = ?'
                        rows |= {(folder, name): rest for name, *rest in base.execute(query, (folder, each))}
            for index, (path, version) in enumerate(zip(paths, versions, strict=True)):
                row = rows.get(_split(path))
                if row is not None and version == (row[0], row[1]):
                    found[index] = json.loads(row[2])
        except (sqlite3.Error, ValueError):
            return {}
        return found

    def put(
        self,
        paths: Sequence[str],
        versions: Sequence[tuple[int, int] | None],
        kind: str,
        answers: dict[int, list],
    ) -> None:
        """Keep answers, by the index of their file."""
        rows = []
        for index, answer in answers.items():
            version = versions[index]
            if version is not None:
                rows.append((*_split(paths[index]), kind, *version, json.dumps(answer)))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path)) as base, base:
                base.execute(_TABLE)
                base.executemany('INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)', rows)
        except (sqlite3.OperationalError, OSError):
            pass  # locked by another run, or not ours to write
        except sqlite3.DatabaseError:  # damaged, and it would never heal
            self.path.unlink(missing_ok=True)


@contextmanager
def known_answers() -> Iterator[CheckCache]:
    """Give the cache of answers; of the processes of a distributed run one after another checks, the first for all."""
    folder = cache_dir().with_name('checks')
    cache = CheckCache(folder)
    if int(os.environ.get('WORLD_SIZE', os.environ.get('SLURM_NTASKS', 1))) == 1:
        yield cache
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / 'lock')
        lock.acquire()
    except OSError:  # not ours to write: each process checks for itself
        yield cache
        return
    try:
        yield cache
    finally:
        lock.release()


def _split(path: str) -> tuple[str, str]:
    """Folder and name of a file, whatever the working directory; bytes that are no text as escapes."""
    known = str(Path(path).absolute()).encode(errors='backslashreplace').decode()
    folder, _, name = known.rpartition('/')
    return folder, name
