"""``hf://`` addresses, against a stand-in of the Hub on this machine."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from emo_mm.errors import UserError
from emo_mm.weights.hub import resolve_hub

pytest.importorskip('huggingface_hub')

REPOSITORIES = {
    'me/one': {'model.safetensors': b'tensors', 'README.md': b'card'},
    'me/two': {'a.pth': b'first', 'sub/b.pth': b'second'},
    'me/none': {'README.md': b'card'},
}
COMMIT = 'c' * 40


class Hub(BaseHTTPRequestHandler):
    """The two calls of the Hub that a download makes: the list of files, and a file."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.split('?')[0].strip('/').split('/')
        if parts[:2] == ['api', 'models']:
            files = REPOSITORIES.get('/'.join(parts[2:4]))
            if files is None:
                self.answer(404, b'', **{'X-Error-Code': 'RepoNotFound'})
                return
            listed: object = {
                'id': '/'.join(parts[2:4]),
                'sha': COMMIT,
                'siblings': [{'rfilename': name} for name in files],
            }
            if parts[4:5] == ['tree']:  # how newer clients ask
                listed = [{'type': 'file', 'path': name, 'size': len(files[name]), 'oid': 'a' * 40} for name in files]
            self.answer(200, json.dumps(listed).encode(), **{'Content-Type': 'application/json'})
            return
        content = REPOSITORIES.get('/'.join(parts[:2]), {}).get('/'.join(parts[4:]))
        if content is None:
            self.answer(404, b'', **{'X-Error-Code': 'EntryNotFound', 'X-Repo-Commit': COMMIT})
            return
        self.answer(200, content, **{'X-Repo-Commit': COMMIT, 'ETag': f'"{hashlib.sha1(content).hexdigest()}"'})

    def answer(self, code: int, content: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        if self.command == 'GET':
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch) -> Iterator[None]:
    import huggingface_hub
    from huggingface_hub import constants, hf_api

    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f'http://127.0.0.1:{server.server_port}'
    # the client reads its environment once, at import
    monkeypatch.setattr(constants, 'ENDPOINT', address)
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', address + '/{repo_id}/resolve/{revision}/{filename}')
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(hf_api.api, 'endpoint', address)
    monkeypatch.setattr(huggingface_hub, 'list_repo_files', hf_api.api.list_repo_files)
    yield
    server.shutdown()


def test_a_named_file_is_downloaded(tmp_path):
    path = resolve_hub('hf://me/two@v1/sub/b.pth')
    assert path.name == 'b.pth'
    assert path.read_bytes() == b'second'


def test_without_a_file_the_only_weights_are_taken():
    assert resolve_hub('hf://me/one').read_bytes() == b'tensors'


@pytest.mark.parametrize(
    ('address', 'said'),
    [
        ('hf://me/two', 'a.pth, sub/b.pth'),
        ('hf://me/none', 'holds no .safetensors'),
        ('hf://me/one/absent.pth', 'cannot be downloaded'),
        ('hf://me/unknown/a.pth', 'cannot be downloaded'),
        ('hf://me', 'hf://owner/name'),
        ('hf://me/one/../two/a.pth', 'hf://owner/name'),
    ],
)
def test_what_cannot_be_downloaded_is_one_line(address, said):
    with pytest.raises(UserError) as error:
        resolve_hub(address)
    assert said in str(error.value)
    assert address in str(error.value)
    assert '\n' not in str(error.value)


def test_without_a_network_it_is_one_line(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', 'http://127.0.0.1:9/{repo_id}/{revision}/{filename}')
    with pytest.raises(UserError) as error:
        resolve_hub('hf://me/one/model.safetensors')
    assert '\n' not in str(error.value)


def test_the_missing_client_is_named(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'huggingface_hub', None)
    with pytest.raises(UserError, match=r'pip install'):
        resolve_hub('hf://me/one')
