"""``emo-mm serve``: what is answered to whom, and what becomes of bad requests."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_files import write_onnx
from descriptions import classifier, detector, instance_segmenter, segmenter
from PIL import Image

from emo_mm.errors import UserError
from emo_mm.runtime.predictor import Predictor
from emo_mm.serve.options import ServeOptions

pytest.importorskip('onnxruntime')
testclient = pytest.importorskip('fastapi.testclient')
pytest.importorskip('prometheus_client')
pytest.importorskip('multipart')

TASKS = {'det': detector, 'ins': instance_segmenter, 'seg': segmenter, 'cls': classifier}


def photograph(green: int = 100) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((48, 64, 3), (200, green, 0), np.uint8)).save(buffer, format='PNG')
    return buffer.getvalue()


@pytest.fixture(scope='module')
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('models')
    return {task: write_onnx(folder / f'{task}.onnx', describe()) for task, describe in TASKS.items()}


@pytest.fixture(scope='module')
def client_of(models: dict[str, Path]) -> Callable[..., Any]:
    from emo_mm.serve.app import application

    def made(task: str = 'det', predictor: Predictor | None = None, **options: Any) -> Any:
        return testclient.TestClient(application(ServeOptions(str(models[task]), **options), predictor))

    return made


@pytest.fixture(scope='module')
def clients(client_of: Callable[..., Any]) -> dict[str, Any]:
    return {task: client_of(task) for task in TASKS}


class Slow(Predictor):
    """A predictor that waits for leave."""

    def __init__(self, model: Path) -> None:
        super().__init__(model)
        self.leave = threading.Event()

    def stream(self, *args: Any, **kwargs: Any) -> Any:
        assert self.leave.wait(20)
        return super().stream(*args, **kwargs)


# --- /predict
@pytest.mark.parametrize('task', TASKS)
def test_a_photograph_as_body_or_in_a_form_gives_what_the_predictor_gives(task, clients, models):
    client = clients[task]
    body = client.post('/predict', content=photograph(), headers={'content-type': 'image/png'})
    form = client.post('/predict', files={'file': ('a.png', photograph())})
    assert body.status_code == form.status_code == 200
    assert body.json() == form.json()
    expected: Any = Predictor(models[task])(np.full((48, 64, 3), (200, 100, 0), np.uint8))
    found = body.json()
    if task in ('det', 'ins'):
        shown = expected.scores > 0.3
        assert [one['box'] for one in found['boxes']] == expected.boxes[shown].round(3).tolist()
        assert [one['label'] for one in found['boxes']] == expected.labels[shown].tolist()
    if task == 'ins':
        assert found['boxes'][0]['mask'] == expected.masks.rle(0)
    if task == 'seg':
        assert found == {'size': [48, 64], 'pixels': {'cat': 48 * 64}}
    if task == 'cls':
        assert found['class'] == 'cat'
        assert found['probabilities'] == pytest.approx(expected.probabilities.tolist(), abs=1e-6)


def test_a_picture_is_given_where_it_is_asked_for(clients):
    answer = clients['det'].post('/predict?format=image', content=photograph())
    assert answer.headers['content-type'] == 'image/jpeg'
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (64, 48)
    assert clients['det'].post('/predict?format=pdf', content=photograph()).status_code == 422


@pytest.mark.parametrize('body', [b'', b'no image', photograph()[:60]])
def test_what_is_no_image_is_refused_in_a_line_without_a_path(body, clients):
    answer = clients['det'].post('/predict', content=body)
    assert answer.status_code == 422
    assert answer.json()['error'].startswith('the image: ')
    assert not re.search(r'/\w|Traceback', answer.json()['error'])


def test_a_form_without_a_file_is_refused(clients):
    assert clients['det'].post('/predict', files={'a': (None, 'text')}).status_code == 422


def test_of_eight_requests_at_once_the_bad_one_alone_fails(client_of):
    client = client_of(batch=8)
    bodies = [photograph(20 * number) for number in range(8)]
    expected = [client.post('/predict', content=body).json() for body in bodies]
    bodies[3] = b'no image'
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: client.post('/predict', content=body), bodies))
    assert [answer.status_code for answer in answers] == [200, 200, 200, 422, 200, 200, 200, 200]
    assert [answer.json() for answer in answers if answer.status_code == 200] == expected[:3] + expected[4:]


def test_a_request_that_is_too_large_is_refused_before_it_is_read_whole(client_of):
    client = client_of(max_mb=0.01)
    assert client.post('/predict', content=photograph()).status_code == 200
    assert client.post('/predict', content=bytes(20_000)).status_code == 413
    assert client.post('/predict', files={'file': ('a.png', bytes(20_000))}).status_code == 413
    chunks = client.post('/predict', content=iter([bytes(6_000)] * 4))
    assert chunks.status_code == 413
    assert 'larger than 0.01 MB' in chunks.json()['error']


def test_requests_beyond_the_queue_are_told_to_come_again_and_the_others_are_answered(client_of, models):
    slow = Slow(models['det'])
    client = client_of(predictor=slow, max_queue=2)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(client.post, '/predict', content=photograph()) for _ in range(8)]
        deadline = time.monotonic() + 20
        while sum(answer.done() for answer in answers) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        slow.leave.set()
        codes = sorted(answer.result().status_code for answer in answers)
    # one is predicted and two wait
    assert codes == [200] * 3 + [503] * 5
    refused = next(answer.result() for answer in answers if answer.result().status_code == 503)
    assert refused.headers['retry-after'] == '1'


def test_a_fault_inside_is_not_told_outside_and_the_next_request_is_answered(client_of, models, monkeypatch):
    predictor = Predictor(models['det'])
    client = client_of(predictor=predictor)
    with monkeypatch.context() as context:
        context.setattr(predictor, 'stream', lambda *args: (_ for _ in ()).throw(RuntimeError('/secret/path')))
        answer = client.post('/predict', content=photograph())
    assert (answer.status_code, answer.json()) == (500, {'error': 'the prediction failed'})
    assert client.post('/predict', content=photograph()).status_code == 200


def test_a_token_is_asked_for_but_not_by_health_checks(client_of, tmp_path):
    (tmp_path / 'token').write_text('s3cret\n')
    client = client_of(token_file=str(tmp_path / 'token'))
    assert client.get('/v2/health/ready').status_code == 200
    for headers in ({}, {'authorization': 'Bearer wrong'}, {'authorization': 's3cret'}):
        assert client.post('/predict', content=photograph(), headers=headers).status_code == 401
        assert client.get('/metrics', headers=headers).status_code == 401
    for right in ('Bearer s3cret', 'bearer s3cret'):
        assert client.post('/predict', content=photograph(), headers={'authorization': right}).status_code == 200


def test_metrics_count_requests_by_path_and_code(client_of):
    client = client_of()
    client.post('/predict', content=photograph())
    client.post('/predict', content=b'')
    client.get('/no/such/path')
    text = client.get('/metrics').text
    assert 'emo_mm_requests_total{code="200",path="/predict"} 1.0' in text
    assert 'emo_mm_requests_total{code="422",path="/predict"} 1.0' in text
    assert 'emo_mm_requests_total{code="404",path="other"} 1.0' in text
    assert 'emo_mm_batch_size_count 1.0' in text


def test_the_openapi_page_describes_the_paths(clients):
    paths = clients['det'].get('/openapi.json').json()['paths']
    assert {'/predict', '/metrics', '/v2/health/live', '/v2/models/{model}/infer'} <= set(paths)
    assert clients['det'].get('/docs').status_code == 200


# --- Open Inference Protocol
def binary_request(data: bytes, datatype: str, shape: list[int]) -> dict[str, Any]:
    """Return a request with binary data, as Triton's clients send it."""
    tensor = {'name': 'image', 'datatype': datatype, 'shape': shape, 'parameters': {'binary_data_size': len(data)}}
    header = json.dumps({'id': '7', 'inputs': [tensor]}).encode()
    return {'content': header + data, 'headers': {'Inference-Header-Content-Length': str(len(header))}}


def plain_request(data: Any, datatype: str, shape: list[int]) -> dict[str, Any]:
    tensor = {'name': 'image', 'datatype': datatype, 'shape': shape, 'data': data}
    return {'content': json.dumps({'inputs': [tensor]}).encode()}


PIXELS = np.full((48, 64, 3), (200, 100, 0), np.uint8)
REQUESTS = {
    'binary pixels': binary_request(PIXELS.tobytes(), 'UINT8', [1, 48, 64, 3]),
    'pixels': plain_request(PIXELS.tolist(), 'UINT8', [48, 64, 3]),
    'flat pixels': plain_request(PIXELS.reshape(-1).tolist(), 'UINT8', [48, 64, 3]),
    'binary file': binary_request(len(photograph()).to_bytes(4, 'little') + photograph(), 'BYTES', [1]),
    'file': plain_request([base64.b64encode(photograph()).decode()], 'BYTES', [1]),
}


@pytest.mark.parametrize('form', REQUESTS)
def test_the_open_inference_protocol_takes_pixels_and_files(form, clients, models):
    answer = clients['det'].post('/v2/models/det/infer', **REQUESTS[form])
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert (content['model_name'], content.get('id')) == ('det', '7' if 'binary' in form else None)
    tensors = {one['name']: np.array(one['data']).reshape(one['shape']) for one in content['outputs']}
    expected = Predictor(models['det'], score_threshold=0.3)(PIXELS)
    for name in ('boxes', 'scores', 'labels'):
        np.testing.assert_allclose(tensors[name], getattr(expected, name), rtol=1e-6)


@pytest.mark.parametrize(('task', 'outputs'), [('seg', {'labels': 'UINT8'}), ('cls', {'probabilities': 'FP32'})])
def test_the_open_inference_protocol_describes_the_outputs_that_it_gives(task, outputs, clients):
    described = clients[task].get(f'/v2/models/{task}').json()
    assert {one['name']: one['datatype'] for one in described['outputs']} == outputs
    given = clients[task].post(f'/v2/models/{task}/infer', **REQUESTS['pixels']).json()['outputs']
    assert {one['name']: one['datatype'] for one in given} == outputs
    assert clients[task].get('/v2/health/live').json() == {'live': True}
    assert clients[task].get(f'/v2/models/{task}/ready').json()['ready']
    assert clients[task].get('/v2/models/other').status_code == 404


@pytest.mark.parametrize(
    'request_',
    [
        {'content': b''},
        {'content': b'[]'},
        {'content': b'{"inputs": 3}'},
        {'content': b'{"inputs": [{"name": 3, "datatype": [], "shape": [1], "data": []}]}'},
        {'content': b'[' * 100_000},
        {**REQUESTS['binary pixels'], 'headers': {'Inference-Header-Content-Length': 'x'}},
        {**REQUESTS['binary pixels'], 'headers': {'Inference-Header-Content-Length': '-3'}},
        {**REQUESTS['binary pixels'], 'headers': {'Inference-Header-Content-Length': '999999'}},
        {'content': b'{"inputs": [], "outputs": [{"name": "nothing"}]}'},
        {'content': b'{"inputs": [], "outputs": [3]}'},
        plain_request([1, 2], 'UINT8', [48, 64, 3]),
        plain_request([300] * 12, 'UINT8', [2, 2, 3]),
        plain_request(['a'] * 12, 'UINT8', [2, 2, 3]),
        plain_request([1.5] * 12, 'UINT8', [2, 2, 3]),
        plain_request([1] * 12, 'FP32', [2, 2, 3]),
        plain_request([1] * 4, 'UINT8', [2, 2, 1]),
        plain_request([], 'UINT8', [10**9, 10**9, 3]),
        plain_request(['not base64!'], 'BYTES', [1]),
        plain_request([3], 'BYTES', [1]),
        binary_request(b'abc', 'BYTES', [1]),
    ],
)
def test_a_wrong_request_of_the_open_inference_protocol_is_refused(request_, clients):
    answer = clients['det'].post('/v2/models/det/infer', **request_)
    assert answer.status_code == 422, answer.text
    assert isinstance(answer.json()['error'], str)


def test_the_open_inference_protocol_gives_the_outputs_that_are_asked_for_as_they_are_asked_for(clients, models):
    wanted = [{'name': 'scores'}, {'name': 'boxes', 'parameters': {'binary_data': True}}]
    request = json.loads(REQUESTS['file']['content']) | {'outputs': wanted}
    answer = clients['det'].post('/v2/models/det/infer', content=json.dumps(request).encode())
    length = int(answer.headers['Inference-Header-Content-Length'])
    outputs = {one['name']: one for one in json.loads(answer.content[:length])['outputs']}
    expected = Predictor(models['det'], score_threshold=0.3)(PIXELS)
    assert set(outputs) == {'scores', 'boxes'}
    np.testing.assert_allclose(outputs['scores']['data'], expected.scores, rtol=1e-6)
    boxes = np.frombuffer(answer.content[length:], '<f4').reshape(outputs['boxes']['shape'])
    np.testing.assert_array_equal(boxes, expected.boxes)


def test_class_names_and_what_is_wrong_are_told_by_the_open_inference_protocol(clients):
    assert clients['det'].get('/v2/models/det').json()['classes'] == ['cat', 'dog']
    answer = clients['det'].post('/v2/models/det/infer', content=b'{"inputs": [{"name": "image"}]}')
    assert answer.json() == {'error': "the request lacks 'datatype'"}


# --- options and the process
@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ({'workers': 0}, '--workers is 0'),
        ({'max_queue': 0}, '--max-queue is 0'),
        ({'port': 70000}, '--port is 70000'),
        ({'max_mb': 0}, '--max-mb is 0'),
        ({'score_threshold': 2}, '--score-threshold is 2'),
        ({'token_file': 'no/such'}, 'cannot be read'),
    ],
)
def test_options_out_of_range_are_refused(given, words):
    with pytest.raises(UserError, match=words):
        ServeOptions('m.onnx', **given)


@pytest.mark.parametrize(
    ('host', 'beyond'), [('127.0.0.1', False), ('::1', False), ('localhost', False), ('0.0.0.0', True), ('gpu3', True)]
)
def test_it_is_known_whether_other_machines_reach_the_server(host, beyond):
    assert ServeOptions('m.onnx', host=host).listens_beyond_this_machine is beyond


@pytest.mark.parametrize('workers', [1, 2])
def test_a_model_that_is_not_there_and_a_port_that_is_taken_are_a_line(workers, models, run_cli, tmp_path):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_cli('serve', models['det'], '--port', port, '--workers', workers)
    assert (done.code, f'--port {port}: cannot be listened at: ' in done.err) == (1, True)
    done = run_cli('serve', tmp_path / 'none.onnx', '--port', '0', '--workers', workers)
    assert (done.code, 'none.onnx: there is no such file' in done.err) == (1, True), done.err


def large_photograph() -> bytes:
    """Return a photograph that takes a while to read."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (2400, 3200, 3), np.uint8)
    Image.fromarray(noise).save(buffer, format='JPEG', quality=90)
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize('workers', [1, 2])
def test_sigterm_lets_requests_under_way_be_answered(workers, models):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    command = [sys.executable, '-m', 'emo_mm.cli', 'serve', str(models['det']), '--port', str(port)]
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    server = subprocess.Popen([*command, '--workers', str(workers)], env=env, stderr=subprocess.PIPE, text=True)
    address = f'http://127.0.0.1:{port}'
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f'{address}/v2/health/ready', timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        body = large_photograph()
        head = f'POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n'
        connections = [socket.create_connection(('127.0.0.1', port), timeout=30) for _ in range(4)]
        for connection in connections:
            connection.sendall(head.encode() + body)
        server.send_signal(signal.SIGTERM)
        for connection in connections:
            with connection, connection.makefile('rb') as answer:
                assert answer.readline().split()[1] == b'200'
        assert server.wait(30) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    finally:
        server.kill()
        assert server.stderr is not None
        assert 'Traceback' not in server.stderr.read()
