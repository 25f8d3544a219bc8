"""The web application: photographs in, predictions out."""

from __future__ import annotations

import asyncio
import hmac
import io
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from PIL import Image
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from starlette.exceptions import HTTPException

from emo_mm.errors import UserError
from emo_mm.machine import available_cores
from emo_mm.predict.options import PredictOptions
from emo_mm.predict.run import open_predictor
from emo_mm.runtime.colours import class_colours
from emo_mm.runtime.drawing import draw_result
from emo_mm.runtime.images import decode_image
from emo_mm.runtime.metadata import Metadata
from emo_mm.runtime.predictor import Predictor
from emo_mm.runtime.results import Result
from emo_mm.serve.answers import as_json
from emo_mm.serve.batcher import Batcher, QueueFullError
from emo_mm.serve.open_inference import HEADER, INPUTS, REQUEST_SCHEMA, outputs_of, read_request, response
from emo_mm.serve.options import ServeOptions
from emo_mm.tasks import TASKS
from emo_mm.version import __version__

OPTIONS_VARIABLE = 'EMO_MM_SERVE'  # the options as JSON, for processes that uvicorn starts
_OPEN = ('/v2/health/live', '/v2/health/ready')  # paths that need no token
_log = logging.getLogger('emo_mm.serve')


@dataclass(frozen=True)
class Measures:
    """What ``/metrics`` tells."""

    registry: CollectorRegistry
    requests: Counter
    seconds: Histogram
    batches: Histogram
    waiting: Gauge


def from_environment() -> FastAPI:
    """Return the application whose options are in the environment."""
    return application(ServeOptions(**json.loads(os.environ[OPTIONS_VARIABLE])))


def application(options: ServeOptions, predictor: Predictor | None = None) -> FastAPI:
    """Return the application.

    Args:
        options: What was asked for.
        predictor: The model; that of the options if None.

    Raises:
        UserError: If the model cannot be loaded.
    """
    predictor = predictor or open_model(options)
    measures = _measures()
    batcher = Batcher(predictor, options.max_queue, measures.batches.observe)
    decoders = ThreadPoolExecutor(available_cores(), thread_name_prefix='decoding')

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        batcher.close()  # after uvicorn has waited for the requests under way
        decoders.shutdown()

    app = FastAPI(title=f'{Path(options.model).name}: emo_mm', version=__version__, lifespan=lifespan)
    service = Service(options, predictor.metadata, batcher, decoders, measures.waiting)
    _add_guards(app, options, measures)
    _add_prediction(app, service)
    _add_health(app)
    _add_open_inference(app, service)

    @app.get('/metrics', response_class=Response, summary='Figures for Prometheus')
    def metrics() -> Response:
        registry = measures.registry
        if 'PROMETHEUS_MULTIPROC_DIR' in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        return Response(generate_latest(registry), media_type='text/plain; version=0.0.4')

    return app


def open_model(options: ServeOptions) -> Predictor:
    """Return the predictor that was asked for.

    Raises:
        UserError: If the model cannot be loaded.
    """
    settings: dict[str, Any] = {'batch': options.batch, 'score_threshold': options.score_threshold}
    return open_predictor(PredictOptions([], options.model, options.weights, **settings))


class Service:
    """What becomes of a photograph.

    Args:
        options: What was asked for.
        metadata: The description of the model.
        batcher: Where images wait for the network.
        decoders: Threads that decode files.
        waiting: Counts the images in there.
    """

    def __init__(
        self,
        options: ServeOptions,
        metadata: Metadata,
        batcher: Batcher,
        decoders: ThreadPoolExecutor,
        waiting: Gauge,
    ) -> None:
        self.name = Path(options.model).stem
        self.metadata = metadata
        self.largest = int(options.max_mb * 1e6)
        self._colours = metadata.palette or class_colours(len(metadata.classes))
        self._batcher = batcher
        self._decoders = decoders
        self._waiting = waiting

    async def body_of(self, request: Request) -> bytes:
        """Return the body of a request.

        Raises:
            HTTPException: If it is too large.
        """
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.largest:
                raise HTTPException(413, f'the request is larger than {self.largest / 1e6:g} MB')
        return bytes(body)

    async def image_of(self, request: Request) -> bytes:
        """Return the file in a request: its body, or the one file of a form.

        Raises:
            HTTPException: If there is none, or it is too large.
        """
        if not request.headers.get('content-type', '').startswith('multipart/form-data'):
            return await self.body_of(request)
        length = request.headers.get('content-length', '')
        if not length.isdecimal():
            raise HTTPException(411, 'a form must tell its length')
        if int(length) > self.largest:
            raise HTTPException(413, f'the request is larger than {self.largest / 1e6:g} MB')
        async with request.form(max_files=1, max_fields=8) as form:
            files = [value for value in form.values() if not isinstance(value, str)]
            if len(files) != 1:
                raise HTTPException(422, 'a form must hold one file')
            return bytes(await files[0].read())

    async def decoded(self, read: Callable[[], Any]) -> Any:
        """Run what decodes in a thread.

        Raises:
            HTTPException: If it cannot.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._decoders, read)
        except UserError as error:
            raise HTTPException(422, str(error)) from None

    async def predict(self, pixels: np.ndarray) -> Result:
        """Return what is predicted for a photograph.

        Raises:
            HTTPException: If too many wait, or there is no result.
        """
        try:
            with self._waiting.track_inprogress():
                return await asyncio.wrap_future(self._batcher.submit(pixels))
        except QueueFullError:
            raise HTTPException(503, 'too many requests wait; try again', {'Retry-After': '1'}) from None
        except UserError as error:
            raise HTTPException(422, str(error)) from None

    def picture(self, pixels: np.ndarray, result: Result) -> bytes:
        """Return the photograph with the result drawn in, as JPEG."""
        buffer = io.BytesIO()
        drawn = draw_result(pixels, result, self.metadata.classes, self._colours)
        Image.fromarray(drawn).save(buffer, format='JPEG', quality=90)
        return buffer.getvalue()


def _measures() -> Measures:
    registry = CollectorRegistry()
    return Measures(
        registry,
        Counter('emo_mm_requests', 'Requests answered', ['path', 'code'], registry=registry),
        Histogram('emo_mm_request_seconds', 'Seconds from request to answer', ['path'], registry=registry),
        Histogram('emo_mm_batch_size', 'Images in a batch', registry=registry, buckets=(1, 2, 4, 8, 16, 32, 64)),
        Gauge('emo_mm_waiting', 'Images that wait or are predicted', registry=registry, multiprocess_mode='livesum'),
    )


def _add_guards(app: FastAPI, options: ServeOptions, measures: Measures) -> None:
    """Ask for the token, count requests, and let no answer tell of what went wrong inside."""
    token = None if options.token is None else options.token.encode()

    @app.middleware('http')
    async def guarded(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        start = perf_counter()
        kind, _, given = request.headers.get('authorization', '').partition(' ')
        right = token is None or (kind.lower() == 'bearer' and hmac.compare_digest(given.strip().encode(), token))
        if not right and request.url.path not in _OPEN:
            refusal = {'error': 'a valid token is required'}
            response_: Response = JSONResponse(refusal, 401, {'WWW-Authenticate': 'Bearer'})
        else:
            try:
                response_ = await answer(request)
            except Exception:  # whatever it is, the log has it and the answer does not
                _log.exception('%s %s failed', request.method, request.url.path)
                response_ = JSONResponse({'error': 'the prediction failed'}, 500)
        route = request.scope.get('route')
        path = getattr(route, 'path', 'other')
        measures.requests.labels(path, response_.status_code).inc()
        measures.seconds.labels(path).observe(perf_counter() - start)
        return response_

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({'error': f'{".".join(map(str, first["loc"]))}: {first["msg"]}'}, 422)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({'error': error.detail}, error.status_code, error.headers)


def _add_prediction(app: FastAPI, service: Service) -> None:
    files = {
        'image/*': {'schema': {'type': 'string', 'format': 'binary'}},
        'multipart/form-data': {
            'schema': {'type': 'object', 'properties': {'file': {'type': 'string', 'format': 'binary'}}}
        },
    }
    answers: dict[int | str, dict[str, Any]] = {
        200: {'content': {'application/json': {}, 'image/jpeg': {}}},
        411: {'description': 'A form that does not tell its length'},
        413: {'description': 'A request that is too large'},
        422: {'description': 'No image that can be read'},
        503: {'description': 'Too many requests wait'},
    }

    @app.post(
        '/predict',
        summary='Predict one photograph, sent as the body or as the file of a form',
        openapi_extra={'requestBody': {'required': True, 'content': files}},
        responses=answers,
    )
    async def predict(request: Request, format: Literal['json', 'image'] = 'json') -> Response:
        data = await service.image_of(request)
        pixels = await service.decoded(lambda: decode_image(data, 'the image'))
        result = await service.predict(pixels)
        if format == 'image':
            return Response(await service.decoded(lambda: service.picture(pixels, result)), media_type='image/jpeg')
        return JSONResponse(as_json(result, service.metadata.classes))


def _add_health(app: FastAPI) -> None:
    @app.get('/v2')
    def server() -> dict[str, Any]:
        return {'name': 'emo_mm', 'version': __version__, 'extensions': ['binary_tensor_data']}

    @app.get('/v2/health/live')
    def live() -> dict[str, bool]:
        return {'live': True}

    @app.get('/v2/health/ready')
    def ready() -> dict[str, bool]:
        return {'ready': True}


def _tensors_of(metadata: Metadata) -> dict[str, tuple[str, list[int]]]:
    """Return the outputs of a model by name: datatype and shape, -1 for what varies."""
    task, classes = TASKS[metadata.task], len(metadata.classes)
    if task.finds_boxes:
        return {'boxes': ('FP32', [-1, 4]), 'scores': ('FP32', [-1]), 'labels': ('INT64', [-1])}
    if task.gives_masks:
        return {'labels': ('UINT8' if classes <= 256 else 'UINT16', [-1, -1])}
    return {'probabilities': ('FP32', [classes])}


def _add_open_inference(app: FastAPI, service: Service) -> None:
    outputs = _tensors_of(service.metadata)
    named = PathParameter(json_schema_extra={'enum': [service.name]})

    def known(model: str) -> None:
        if model != service.name:
            raise HTTPException(404, f'the model is called {service.name}')

    @app.get('/v2/models/{model}', responses={404: {}})
    def described(model: str = named) -> dict[str, Any]:
        known(model)
        tensors = {'inputs': INPUTS, 'outputs': outputs_of(outputs)}
        return {'name': model, 'platform': 'emo_mm', 'versions': [], **tensors, 'classes': service.metadata.classes}

    @app.get('/v2/models/{model}/ready', responses={404: {}})
    def model_ready(model: str = named) -> dict[str, Any]:
        known(model)
        return {'name': model, 'ready': True}

    @app.post(
        '/v2/models/{model}/infer',
        openapi_extra={'requestBody': {'required': True, 'content': {'application/json': {'schema': REQUEST_SCHEMA}}}},
        responses={404: {}, 413: {}, 422: {}, 503: {}},
    )
    async def infer(request: Request, model: str = named) -> Response:
        known(model)
        body = await service.body_of(request)
        length = request.headers.get(HEADER)
        asked, pixels = await service.decoded(lambda: read_request(body, length, tuple(outputs)))
        header, binary = response(service.name, asked, await service.predict(pixels))
        if not binary:
            return JSONResponse(header)
        text = json.dumps(header).encode()
        return Response(text + binary, headers={HEADER: str(len(text))}, media_type='application/octet-stream')
