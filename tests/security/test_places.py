"""Nothing is written outside the cache and the folder of the output, and addresses bring what they promise."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from deployed_files import write_onnx
from descriptions import classifier
from PIL import Image

from emo_mm import web
from emo_mm.errors import UserError
from emo_mm.runtime import sources
from emo_mm.runtime.sources import find_sources
from emo_mm.weights import download
from emo_mm.weights.download import resolve_weights

CONTENT = b'\x80weights' * 1000


class Handler(BaseHTTPRequestHandler):
    """Sends weights, under a name that leads elsewhere, or what the path says."""

    def do_GET(self):
        if self.path.startswith('/to/'):
            self.send_response(302)
            self.send_header('Location', self.path.removeprefix('/to/'))
            self.end_headers()
            return
        self.send_response(200)
        self.send_header('Content-Disposition', 'attachment; filename="../../outside.pth"')
        if self.path == '/huge':
            self.send_header('Content-Length', str(10**13))
        self.end_headers()
        if self.path == '/slow':
            self.server.stop.wait(0)
            for _ in range(200):
                self.wfile.write(b'x')
                self.wfile.flush()
                if self.server.stop.wait(0.05):
                    break
        elif self.path == '/endless':
            while True:
                self.wfile.write(b'x' * 65536)
        elif self.path != '/huge':
            self.wfile.write(CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ThreadingHTTPServer, 'handle_error', lambda *args: None)
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.stop = threading.Event()
    threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01}, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.stop.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('EMO_MM_CACHE', str(tmp_path / 'home' / 'cache'))
    return tmp_path / 'home' / 'cache' / 'weights'


def files_outside(tmp_path: Path, *inside: Path) -> list[str]:
    return [str(p) for p in tmp_path.rglob('*') if p.is_file() and not any(p.is_relative_to(f) for f in inside)]


@pytest.mark.parametrize(
    'path',
    ['/%2e%2e/%2e%2e/x.pth', '/..%2f..%2fx', '/a/../../x.pth', '/..', '/%00x', '/C:\\x', '/~/x', '/' + 'x' * 500],
)
def test_no_address_leads_out_of_the_cache(tmp_path, server, cache, path):
    found = resolve_weights(server + path)
    assert found.read_bytes() == CONTENT
    assert found.parent == cache
    assert files_outside(tmp_path, cache) == []


@pytest.mark.parametrize('target', ['file:///etc/hostname', 'ftp://127.0.0.1/x', 'data:,x', '//', 'gopher://x/'])
def test_no_redirect_leads_out_of_the_web(tmp_path, server, cache, target):
    with pytest.raises(UserError) as caught:
        resolve_weights(f'{server}/to/{target}')
    assert '\n' not in str(caught.value)
    with pytest.raises(UserError):
        find_sources([f'{server}/to/{target}'])[0].items().__next__().read()
    assert [path for path in cache.iterdir() if path.suffix != '.lock'] == []


def test_files_and_texts_in_addresses_are_not_opened(cache):
    for url in ('file:///etc/hostname', 'data:,x', 'ftp://host/x'):
        with pytest.raises(UserError), web.answer(url, 1, 1, 1):
            pass
        with pytest.raises(UserError):
            resolve_weights(url)
        with pytest.raises(UserError):
            find_sources([url])


def test_a_hash_in_the_address_is_checked_on_every_use(server, cache):
    right = hashlib.sha256(CONTENT).hexdigest()
    found = resolve_weights(f'{server}/net.pth#sha256={right}')
    found.write_bytes(b'another')
    assert resolve_weights(f'{server}/net.pth#sha256={right}').read_bytes() == CONTENT
    with pytest.raises(UserError, match='not the expected file'):
        resolve_weights(f'{server}/net.pth#sha256={"0" * 64}')
    with pytest.raises(UserError, match='64 hexadecimal'):
        resolve_weights(f'{server}/net.pth#sha256=123')


def test_plain_http_from_elsewhere_needs_a_hash(cache):
    with pytest.raises(UserError, match='use https, or add #sha256='):
        resolve_weights('http://user:secret@192.0.2.1/net.pth')


@pytest.mark.parametrize('path', ['/huge', '/endless', '/slow'])
def test_downloads_are_bounded_in_size_and_time(server, cache, monkeypatch, path):
    for module in (download, sources):
        monkeypatch.setattr(module, 'MAX_SECONDS', 0.3)
    monkeypatch.setattr(download, 'MAX_BYTES', 10**6)
    monkeypatch.setattr(sources, 'MAX_DOWNLOAD', 10**6)
    with pytest.raises(UserError, match=r'limit|did not arrive within'):
        resolve_weights(server + path)
    with pytest.raises(UserError, match=r'limit|did not arrive within'):
        next(find_sources([server + path])[0].items()).read()
    assert [file for file in cache.iterdir() if file.suffix != '.lock'] == []


def test_links_in_the_cache_are_replaced_and_not_followed(tmp_path, server, cache):
    victim = tmp_path / 'victim'
    victim.write_text('mine')
    url = f'{server}/net.pth#sha256={hashlib.sha256(CONTENT).hexdigest()}'
    found = resolve_weights(url)
    found.unlink()
    found.symlink_to(victim)
    assert resolve_weights(url).read_bytes() == CONTENT
    assert not found.is_symlink()
    assert victim.read_text() == 'mine'


def test_the_cache_is_for_its_owner_alone(server, cache):
    resolve_weights(f'{server}/net.pth')
    assert cache.stat().st_mode & 0o077 == 0


# -- Predictions -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def model(tmp_path_factory) -> Path:
    pytest.importorskip('onnxruntime')
    return write_onnx(tmp_path_factory.mktemp('model') / 'cls.onnx', classifier())


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(path, format='PNG')
    return path


def test_inputs_of_one_name_do_not_overwrite_each_other(tmp_path, model, run_cli):
    inputs = [picture(tmp_path / folder / name) for folder in 'abc' for name in ('x.png', 'x_2.png')]
    done = run_cli('predict', *inputs, '--model', model, '--out', tmp_path / 'out', '--save-images')
    assert done.code == 0
    assert len(list((tmp_path / 'out' / 'images').iterdir())) == 6


@pytest.mark.parametrize('name', ['...mp4', '....avi', '..png.png', '.png'])
def test_no_name_leads_upwards(tmp_path, name):
    (tmp_path / name).write_bytes(b'\x00\x01')
    keys: set[str] = set()
    sources._file(tmp_path / name, Path(name).stem, keys)
    (key,) = keys
    assert '..' not in key.split('/')


def test_frames_of_a_video_do_not_overwrite_images(tmp_path):
    for order in (('v.png', 'v.mp4', 'v/000001'), ('v/000001', 'v.mp4', 'v.png')):
        keys: set[str] = set()
        found = [
            sources._unique(name.removesuffix('.png').removesuffix('.mp4'), keys, '.mp4' in name) for name in order
        ]
        frames = f'{found[1]}/000001'
        assert frames not in (found[0], found[2])


def test_links_below_the_output_are_not_followed(tmp_path, model, run_cli):
    victim = tmp_path / 'victim.jpg'
    victim.write_text('mine')
    out = tmp_path / 'out'
    (out / 'images').mkdir(parents=True)
    (out / 'images' / 'x.jpg').symlink_to(victim)
    (out / 'results.json').symlink_to(victim)
    args = ('predict', picture(tmp_path / 'x.png'), '--model', model, '--out', out, '--save-images', '--save-json')
    assert run_cli(*args).code == 0
    assert victim.read_text() == 'mine'
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    for path in (out / 'images').iterdir():
        path.unlink()
    (out / 'images').rmdir()
    (out / 'images').symlink_to(elsewhere)
    done = run_cli(*args)
    assert done.code == 1
    assert 'leads out of --out' in done.err
    assert list(elsewhere.iterdir()) == []


# -- Configs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'url', ['https://host.invalid/config.py', 'http://host.invalid/config', 'file:///tmp/config.py']
)
@pytest.mark.parametrize('command', [('train',), ('test',), ('export',), ('flops',), ('predict', 'x.png', '--model')])
def test_no_config_is_fetched(tmp_path, run_cli, monkeypatch, url, command):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / 'x.png')
    monkeypatch.setattr('socket.socket.connect', None)  # any attempt fails with another error
    done = run_cli(
        *command, url, *(['x.pth'] if command == ('test',) else []), *(['--weights', 'x.pth'] * ('predict' in command))
    )
    assert done.code == 1
    assert 'error: ' in done.err
    assert 'Traceback' not in done.err


def test_a_config_by_address_says_why():
    from emo_mm.config.names import find_config

    with pytest.raises(UserError, match='a config is code that is run, and none is fetched'):
        find_config('https://host.invalid/config.py')
