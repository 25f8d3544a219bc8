from __future__ import annotations

import dataclasses
import hashlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from emo_mm import web
from emo_mm.errors import UserError
from emo_mm.weights import cache as cache_module
from emo_mm.weights import download, registry
from emo_mm.weights.cache import git_blob_sha1
from emo_mm.weights.download import resolve_weights

CONTENT = bytes(range(256)) * 2048  # 512 KiB: several chunks
PAGE = b'<!DOCTYPE html><html><body>sign in</body></html>'


class Server(ThreadingHTTPServer):
    """Answers every path as ``mode`` says, and counts the requests."""

    mode = 'right'

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.requests = 0
        self.released = threading.Event()
        self.url = f'http://127.0.0.1:{self.server_port}'


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        mode = self.server.mode
        if self.path.partition('?')[0] == '/page':
            self._send(PAGE, 'text/html')
            return
        self.server.requests += 1
        if mode == 'missing':
            self.send_error(404)
        elif mode == 'loop':
            self._redirect(self.path)
        elif mode == 'to page':
            self._redirect('/page')
        elif mode == 'to file':
            self._redirect('file:///etc/hostname')
        elif mode == 'page as data':
            self._send(PAGE)
        elif mode == 'wrong':
            self._send(CONTENT[::-1])
        elif mode == 'empty':
            self._send(b'')
        elif mode == 'truncated':
            self._send(CONTENT, sent=CONTENT[: len(CONTENT) // 2])
        elif mode == 'stalled':
            self._send(CONTENT, sent=CONTENT[:1000])
            self.wfile.flush()
            self.server.released.wait(30)
        elif mode == 'silent':
            self.server.released.wait(30)
        elif mode == 'endless':
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(CONTENT)
        else:
            self._send(CONTENT)

    def _redirect(self, location):
        self.send_response(302)
        self.send_header('Location', location)
        self.end_headers()

    def _send(self, content, kind='application/octet-stream', sent=None):
        self.send_response(200)
        self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content if sent is None else sent)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Server, 'handle_error', lambda *args: None)  # a client that gives up is what some tests want
    server = Server()
    monkeypatch.setattr(registry, 'RAW_CONTENT', server.url)
    blob = hashlib.sha1(b'blob %d\0' % len(CONTENT) + CONTENT).hexdigest()
    row = dataclasses.replace(registry.PUBLISHED['emo_2m'], git_blob_sha1=blob)
    monkeypatch.setitem(registry.PUBLISHED, 'emo_2m', row)
    assert download.PUBLISHED is registry.PUBLISHED is cache_module.PUBLISHED
    threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01}, daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.suffix != '.lock']


def test_git_blob_id_is_the_one_of_git(tmp_path):
    (tmp_path / 'file').write_bytes(b'what is up, doc?')  # the example of the Git book
    assert git_blob_sha1(tmp_path / 'file') == 'bd9dbf5aae1a3862dd1526723246b20206e5fc37'


def test_right_file_is_downloaded_once_and_found_again(server, cache):
    path = resolve_weights('emo_2m')
    assert path.parent == cache
    assert path.read_bytes() == CONTENT
    assert leftovers(cache) == [path.name]
    assert resolve_weights('emo_2m') == path
    assert server.requests == 1


def test_file_put_by_hand_needs_no_server(server, cache):
    cache.mkdir(parents=True)
    (cache / registry.PUBLISHED['emo_2m'].filename).write_bytes(CONTENT)
    assert resolve_weights('emo_2m').read_bytes() == CONTENT
    assert server.requests == 0


def test_damaged_file_in_the_cache_is_replaced(server):
    path = resolve_weights('emo_2m')
    path.write_bytes(CONTENT[:-1])
    assert resolve_weights('emo_2m').read_bytes() == CONTENT
    assert server.requests == 2


def test_processes_that_start_together_download_once(server):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(resolve_weights, ['emo_2m'] * 4))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert server.requests == 1


@pytest.mark.parametrize(
    ('mode', 'reason'),
    [
        ('missing', '404 Not Found'),
        ('loop', 'redirect'),
        ('to page', 'web page'),
        ('to file', "'file:///etc/hostname' is not allowed"),
        ('page as data', 'web page'),
        ('wrong', 'not the published file'),
        ('empty', 'empty file'),
        ('truncated', f'broke off after {len(CONTENT) // 2} of {len(CONTENT)} bytes'),
        ('stalled', 'nothing arrived for 0.3 s'),
        ('silent', 'nothing arrived for 0.3 s'),
        ('endless', 'limit of 1048576 bytes'),
    ],
)
def test_bad_answer_is_one_line_with_address_and_place_and_leaves_nothing(server, cache, monkeypatch, mode, reason):
    monkeypatch.setattr(download, 'STALL_SECONDS', 0.3)
    monkeypatch.setattr(download, 'MAX_BYTES', 2**20)
    server.mode = mode
    row = registry.PUBLISHED['emo_2m']
    with pytest.raises(UserError) as caught:
        resolve_weights('emo_2m')
    message = str(caught.value)
    assert reason in message
    assert '\n' not in message
    assert row.url in message
    assert str(cache / row.filename) in message
    assert leftovers(cache) == []


def test_announced_size_beyond_the_limit_is_refused_before_reading(server, monkeypatch):
    monkeypatch.setattr(download, 'MAX_BYTES', 1000)
    with pytest.raises(UserError, match='announces 524288 bytes'):
        resolve_weights('emo_2m')


def test_offline_says_where_to_put_the_file(cache, monkeypatch):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(registry, 'RAW_CONTENT', f'http://127.0.0.1:{port}')
    with pytest.raises(UserError, match='refused') as caught:
        resolve_weights('emo_1m')
    assert str(cache / registry.PUBLISHED['emo_1m'].filename) in str(caught.value)


def test_unwritable_cache_is_named(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('a file where a folder should be')
    monkeypatch.setenv('EMO_MM_CACHE', str(tmp_path / 'file'))
    with pytest.raises(UserError, match=r'not writable.*EMO_MM_CACHE'):
        resolve_weights('emo_1m')


def test_https_is_not_left_by_a_redirect():
    request = web.urllib.request.Request('https://host/file')
    with pytest.raises(web.urllib.error.URLError, match='not https'):
        web._Redirects().redirect_request(request, None, 302, 'Found', {}, 'http://host/file')


def test_address_is_cached_by_address_inside_the_cache(server, cache):
    first = resolve_weights(f'{server.url}/a/..%2F..%2Fnet.pth?token=secret')
    assert first.parent == cache
    assert first.read_bytes() == CONTENT
    assert 'secret' not in first.name
    assert resolve_weights(f'{server.url}/a/..%2F..%2Fnet.pth?token=secret') == first
    assert server.requests == 1
    assert resolve_weights(f'{server.url}/b/net.pth') != first
    assert server.requests == 2


def test_address_of_a_page_is_refused_without_its_secrets(server, cache):
    with pytest.raises(UserError, match='web page') as caught:
        resolve_weights(f'{server.url}/page?token=secret')
    assert 'secret' not in str(caught.value)
    assert leftovers(cache) == []


def test_path_comes_back_as_it_is(tmp_path):
    path = tmp_path / 'net.pth'
    path.write_bytes(b'x')
    assert resolve_weights(path) == path
    assert resolve_weights(str(path)) == path


def test_folder_with_the_name_of_weights_does_not_hide_them(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'emo_2m').mkdir()
    assert resolve_weights('emo_2m').read_bytes() == CONTENT


def test_weights_that_were_never_published_are_no_near_miss():
    with pytest.raises(UserError, match=r'emov2_20m: the authors published no such weights; give a file of your own'):
        resolve_weights('emov2_20m')


@pytest.mark.parametrize('name', ['emo_2n', 'EMO-2M', 'emo2m'])
def test_near_miss_suggests_the_name(name):
    with pytest.raises(UserError, match=r'did you mean emo_2m\?'):
        resolve_weights(name)


def test_unknown_name_lists_the_names():
    with pytest.raises(UserError, match=r'neither a file.*emo_1m, emo_2m, emo_5m, emo_6m'):
        resolve_weights('work_dirs/nothing/here.pth')


def test_folder_is_refused_as_one(tmp_path):
    with pytest.raises(UserError, match='is a folder'):
        resolve_weights(tmp_path)
