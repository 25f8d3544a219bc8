"""What ``emo-mm serve`` does."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from dataclasses import asdict
from typing import Any

from emo_mm.errors import UserError
from emo_mm.serve.options import ServeOptions

DRAIN_SECONDS = 30  # that requests under way have to end once the server is told to


def serve(options: ServeOptions) -> None:
    """Answer requests until a signal ends it; requests under way are answered first.

    Raises:
        UserError: If what it needs is not installed, or the model cannot be loaded.
    """
    try:
        import uvicorn

        from emo_mm.serve.app import OPTIONS_VARIABLE, application, open_model
    except ImportError as error:
        raise UserError(
            f"emo-mm serve needs what is missing here ({error.name}): pip install 'emo-mm[serve]'"
        ) from None
    if options.listens_beyond_this_machine and options.token is None:
        print(
            f'warning: everybody who reaches {options.host} may send requests; --token-file FILE asks them for a token',
            file=sys.stderr,
        )
    settings: dict[str, Any] = {
        'host': options.host,
        'port': options.port,
        'timeout_graceful_shutdown': DRAIN_SECONDS,
        'server_header': False,
    }
    _check_address(options)
    if options.workers == 1:
        uvicorn.run(application(options), **settings)
        return
    open_model(options)  # here, where a fault is a line; the processes would be started over and over
    os.environ[OPTIONS_VARIABLE] = json.dumps(asdict(options))
    with tempfile.TemporaryDirectory() as folder:
        os.environ['PROMETHEUS_MULTIPROC_DIR'] = folder  # where processes put their figures together
        uvicorn.run('emo_mm.serve.app:from_environment', factory=True, workers=options.workers, **settings)


def _check_address(options: ServeOptions) -> None:
    """Check that nothing else listens there.

    Raises:
        UserError: If something does, or there is no such address.
    """
    try:
        family = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((options.host, options.port))
    except OSError as error:
        raise UserError(
            f'--host {options.host} --port {options.port}: cannot be listened at: {error.strerror}; give another --port'
        ) from None
