"""What all sessions share: the interface, the description of a file, and what is checked against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from emo_mm.errors import UserError, first_line
from emo_mm.runtime.metadata import Metadata
from emo_mm.runtime.seal import read_sidecar, sidecar


class Session(Protocol):
    """A network that is ready to run.

    Attributes:
        metadata: The description of its input and outputs.
    """

    metadata: Metadata

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for an input, in the order of ``metadata.output.names``.

        Raises:
            UserError: If the network fails on it.
        """


def described(text: str | None, path: Path) -> Metadata:
    """Return the description that a file holds, or that lies beside it in ``<file>.json``.

    Args:
        text: What the file holds; None if nothing.
        path: The file.

    Raises:
        UserError: If there is none, or it is wrong.
    """
    if text is None:
        text, _ = read_sidecar(path)
    if text is None:
        raise UserError(
            f'{path}: does not describe itself and has no {sidecar(path).name} beside it: make it by emo-mm export'
        )
    return Metadata.from_json(text, str(path))


def check_names(
    path: Path, metadata: Metadata, inputs: Mapping[str, str], outputs: set[str], types: Mapping[str, str]
) -> None:
    """Check that a graph has the input and outputs of its description.

    Args:
        path: The file.
        metadata: Its description.
        inputs: Types of the graph's inputs, by name.
        outputs: Names of its outputs.
        types: The runtime's name of each type that a description may name.

    Raises:
        UserError: If it has not.
    """
    spec = metadata.input
    if inputs.get(spec.name) != types[spec.dtype]:
        raise UserError(f'{path}: the graph has the inputs {dict(inputs)}, its description {spec.name}: {spec.dtype}')
    missing = [name for name in metadata.output.names if name not in outputs]
    if missing:
        raise UserError(f'{path}: the graph lacks the outputs {", ".join(missing)} of its description')


def check_places(path: Path, metadata: Metadata, inputs: Sequence[str], outputs: int) -> None:
    """Check a graph whose input and outputs go by their place, because its format forgets their names.

    Args:
        path: The file.
        metadata: Its description.
        inputs: NumPy's names of the types of its inputs.
        outputs: Number of its outputs.

    Raises:
        UserError: If it has not one input of the type that the description names, or another number of outputs.
    """
    if list(inputs) != [metadata.input.dtype]:
        raise UserError(f'{path}: the graph has inputs of {", ".join(inputs)}, its description {metadata.input.dtype}')
    names = metadata.output.names
    if outputs != len(names):
        raise UserError(f'{path}: the graph has {outputs} outputs, its description {", ".join(names)}')


def cannot_load(path: Path, runtime: str, error: Exception | None = None) -> UserError:
    """Return what to say of a file that a runtime does not take."""
    reason = f': {first_line(error)}' if error is not None else ''
    return UserError(f'{path}: {runtime} cannot load it{reason}')


def fails(path: Path, batch: np.ndarray, error: Exception) -> UserError:
    """Return what to say of a network that fails on a batch."""
    size = ' x '.join(map(str, batch.shape))
    return UserError(f'{path}: fails in its runtime with an input of {size}: {first_line(error)}')
