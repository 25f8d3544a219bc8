"""A process that reads damaged files, one by one: ``python -m fuzzing.worker KIND FOLDER GIGABYTES``.

It gets the name of a file per line and answers with a line of JSON: what became of it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import sys
import traceback
from pathlib import Path

from emo_mm.errors import UserError
from fuzzing.victims import VICTIMS, WrongAnswerError

LONGEST_LINE = 2000  # characters


def main(kind: str, folder: str, gigabytes: str) -> None:
    # Libraries may print: answers go another way.
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    faulthandler.enable()
    victim = VICTIMS[kind](Path(folder))
    # What the libraries have reserved so far does not count.
    reserved = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (reserved + int(float(gigabytes) * 2**30),) * 2)
    print(json.dumps(['ready', '']), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(outcome(victim, Path(line.rstrip('\n')))), file=answers, flush=True)


def outcome(victim, path: Path) -> tuple[str, str]:
    """Return ``answered``, ``refused`` (as users are told), ``wrong`` or ``error``, and its message."""
    try:
        victim(path)
    except WrongAnswerError as error:
        return 'wrong', str(error)
    except UserError as error:
        message = str(error)
        lines = message.split('\n')
        # the list of faults names the file where the table does not
        named = path.name in message or 'data_faults.csv' in message
        if not named or len(lines) > 40 or not all(line.isprintable() and len(line) < LONGEST_LINE for line in lines):
            return 'error', f'the message is not clear: {message[:LONGEST_LINE]!r}'
        return 'refused', message
    except BaseException:
        return 'error', traceback.format_exc()
    return 'answered', ''


if __name__ == '__main__':
    main(*sys.argv[1:])
