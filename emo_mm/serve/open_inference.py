"""The Open Inference Protocol (version 2): what a request's tensors are, and a result as tensors.

Source: https://github.com/kserve/open-inference-protocol, and Triton's binary tensor data, which its clients send.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emo_mm.errors import UserError
from emo_mm.runtime.images import MAX_PIXELS, decode_image
from emo_mm.runtime.results import Classification, Detections, Result

HEADER = 'Inference-Header-Content-Length'  # length of the JSON, where binary data follow it
IMAGE = 'image'
_DATATYPES = {'float32': 'FP32', 'int64': 'INT64', 'uint8': 'UINT8', 'uint16': 'UINT16'}
REQUEST_SCHEMA = {
    'type': 'object',
    'required': ['inputs'],
    'properties': {
        'id': {'type': 'string'},
        'inputs': {
            'type': 'array',
            'minItems': 1,
            'maxItems': 1,
            'items': {
                'type': 'object',
                'required': ['name', 'datatype', 'shape', 'data'],
                'properties': {
                    'name': {'enum': [IMAGE]},
                    'datatype': {'enum': ['UINT8', 'BYTES']},
                    'shape': {'type': 'array', 'items': {'type': 'integer'}},
                    'data': {'type': 'array', 'items': {}},
                },
            },
        },
    },
}
INPUTS = [{'name': IMAGE, 'datatype': 'UINT8', 'shape': [-1, -1, 3]}]


@dataclass(frozen=True)
class Asked:
    """What a request wants.

    Attributes:
        id: Its id; None where it has none.
        outputs: Name of each output that is wanted, and whether as binary data; all of them as JSON if empty.
    """

    id: str | None
    outputs: Mapping[str, bool]


def read_request(body: bytes, header_length: str | None, known: Sequence[str]) -> tuple[Asked, np.ndarray]:
    """Return what a request wants, and the photograph in it.

    The tensor ``image`` holds pixels (UINT8, H x W x 3 or 1 x H x W x 3, red first), or a file (BYTES, one element).

    Args:
        body: The body of the request.
        header_length: How long its JSON is, where binary data follow; None where all of it is JSON.
        known: Names of the outputs that there are.

    Raises:
        UserError: If it is no such request.
    """
    length = _length(header_length, len(body))
    try:
        request = json.loads(body[:length])
    except (ValueError, RecursionError):
        raise UserError('the request is no JSON') from None
    try:
        asked = Asked(_id(request.get('id')), _outputs(request.get('outputs') or [], known))
        (tensor,) = request['inputs']
        name, datatype = tensor['name'], tensor['datatype']
        shape = tuple(int(side) for side in tensor['shape'])
        size = (tensor.get('parameters') or {}).get('binary_data_size')
        binary = None if size is None else body[length : length + int(size)]
        data = tensor.get('data')
    except KeyError as error:
        raise UserError(f'the request lacks {error}') from None
    except (ValueError, TypeError, AttributeError):
        raise UserError("the request must have 'inputs' with one tensor: name, datatype, shape and data") from None
    if name != IMAGE:
        raise UserError(f'the tensor is called {str(name)[:40]!r}; it must be {IMAGE!r}')
    return asked, _photograph(datatype, shape, binary, data)


def _length(told: str | None, whole: int) -> int:
    if told is None:
        return whole
    if not told.isdecimal() or int(told) > whole:
        raise UserError(f'{HEADER} is {told[:20]!r}; it must be the length of the JSON in bytes')
    return int(told)


def _outputs(wanted: list[Any], known: Sequence[str]) -> dict[str, bool]:
    found = {str(one['name']): bool((one.get('parameters') or {}).get('binary_data')) for one in wanted}
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise UserError(f'there is no output {unknown[0][:40]!r}; there are {", ".join(known)}')
    return found


def _photograph(datatype: Any, shape: tuple[int, ...], binary: bytes | None, data: Any) -> np.ndarray:
    """Return the pixels of a tensor.

    Raises:
        UserError: If it is no photograph.
    """
    if datatype == 'BYTES':
        return decode_image(_file(binary, data), 'the image')
    if datatype != 'UINT8':
        raise UserError(f'the datatype is {str(datatype)[:20]!r}; it must be UINT8, or BYTES for a file')
    if len(shape) == 4 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 3 or shape[2] != 3 or min(shape) < 1 or shape[0] * shape[1] > MAX_PIXELS:
        raise UserError(f'the shape is {list(shape)}; it must be height, width, 3, of at most {MAX_PIXELS} pixels')
    return _array(binary, data, math.prod(shape)).reshape(shape)  # H*W*3 -> H,W,3


def tensors_of(result: Result) -> dict[str, np.ndarray]:
    """Return a result as tensors: boxes, scores and labels; labels of pixels; or probabilities."""
    if isinstance(result, Detections):
        boxes = {'boxes': result.boxes.astype(np.float32), 'scores': result.scores.astype(np.float32)}
        return {**boxes, 'labels': result.labels.astype(np.int64)}
    if isinstance(result, Classification):
        return {'probabilities': result.probabilities.astype(np.float32)}
    return {'labels': result.labels}


def response(model: str, asked: Asked, result: Result) -> tuple[dict[str, Any], bytes]:
    """Return the answer to a request: its JSON, and the binary data that follow."""
    outputs, binary = [], b''
    for name, tensor in tensors_of(result).items():
        if asked.outputs and name not in asked.outputs:
            continue
        output = {'name': name, 'datatype': _DATATYPES[tensor.dtype.name], 'shape': list(tensor.shape)}
        if asked.outputs.get(name):
            data = np.ascontiguousarray(tensor, tensor.dtype.newbyteorder('<')).tobytes()
            outputs.append({**output, 'parameters': {'binary_data_size': len(data)}})
            binary += data
        else:
            outputs.append({**output, 'data': tensor.reshape(-1).tolist()})  # row by row, as the protocol has it
    return {'model_name': model, **({} if asked.id is None else {'id': asked.id}), 'outputs': outputs}, binary


def outputs_of(kinds: Mapping[str, tuple[str, list[int]]]) -> list[dict[str, Any]]:
    """Return the description of outputs by name: datatype and shape, -1 for what varies."""
    return [{'name': name, 'datatype': datatype, 'shape': shape} for name, (datatype, shape) in kinds.items()]


def _id(number: Any) -> str | None:
    return number if isinstance(number, str) else None


def _file(binary: bytes | None, data: Any) -> bytes:
    """Return the one element of a tensor of BYTES; before it stand its length, four bytes, where it is binary."""
    if binary is not None:
        return binary[4:]
    element = data[0] if isinstance(data, list) and len(data) == 1 else None
    if not isinstance(element, str):
        raise UserError('BYTES hold one file; send it as binary data, or its base64 text')
    import base64
    import binascii

    try:
        return base64.b64decode(element, validate=True)
    except (binascii.Error, ValueError):
        raise UserError('BYTES in JSON must be base64') from None


def _array(binary: bytes | None, data: Any, size: int) -> np.ndarray:
    try:
        values = np.frombuffer(binary, np.uint8) if binary is not None else np.array(data).reshape(-1)
    except (ValueError, TypeError, OverflowError):
        raise UserError('the data are no whole numbers') from None
    if values.dtype.kind not in 'iu':  # rounding them would change the picture
        raise UserError('the data are no whole numbers')
    if values.size != size:
        raise UserError(f'the data hold {values.size} values; the shape has {size}')
    if values.size and not 0 <= values.min() <= values.max() <= 255:
        raise UserError('the data must be 0 to 255')
    return values.astype(np.uint8)
