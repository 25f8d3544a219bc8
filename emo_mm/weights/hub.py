"""Files of the Hugging Face Hub, by ``hf://owner/name`` or ``hf://owner/name/file``, through ``huggingface_hub``."""

from __future__ import annotations

import re
from pathlib import Path

from emo_mm.errors import UserError, first_line

SCHEME = 'hf://'
# What a repository without a named file is searched for, the safest first.
_SUFFIXES = ('.safetensors', '.onnx', '.pth')
_ADDRESS = re.compile(r'hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<file>[^?#]+))?')


def resolve_hub(address: str) -> Path:
    """Return the local file for an address on the Hub; the Hub's own client downloads it once and keeps it.

    Args:
        address: ``hf://owner/name/file``; or ``hf://owner/name``, where the repository must hold one file of weights.
            ``hf://owner/name@revision`` names a branch, tag or commit.

    Raises:
        UserError: If the client is not installed, or the file cannot be downloaded.
    """
    parts = _ADDRESS.fullmatch(address)
    if parts is None or '..' in address.split('/'):
        raise UserError(f'{address}: an address on the Hub looks like hf://owner/name or hf://owner/name/file')
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise UserError(f"{address}: needs huggingface_hub: pip install 'emo-mm[hub]'") from None
    repository, file, revision = parts['repo'], parts['file'], parts['revision']
    try:
        file = file or _only_weights(address, huggingface_hub.list_repo_files(repository, revision=revision))
        # what arrives is read as any file of strangers, and the user can name a commit
        return Path(huggingface_hub.hf_hub_download(repository, file, revision=revision))  # nosec B615
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f'{address}: cannot be downloaded: {first_line(error)}; check the address and the network, log in with '
            '`hf auth login` where the repository is private, or give the path of a file'
        ) from None
    except UserError:
        raise
    except Exception as error:  # the client passes on what its transport raises, which differs from version to version
        raise UserError(
            f'{address}: cannot be downloaded: {first_line(error, with_type=True)}; give the path of a file'
        ) from None


def local_model(model: str | Path) -> str:
    """Return the path of a model given by an address on the Hub, and anything else as it is."""
    return str(resolve_hub(str(model))) if str(model).startswith(SCHEME) else str(model)


def _only_weights(address: str, files: list[str]) -> str:
    """Return the one file of weights of a repository; the first suffix that any file has decides.

    Raises:
        UserError: If there is none, or more than one.
    """
    for suffix in _SUFFIXES:
        found = [file for file in files if file.endswith(suffix)]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f'{address}: holds several files of weights; add one of them: {", ".join(sorted(found))}')
    raise UserError(f'{address}: holds no {", ".join(_SUFFIXES)} file')
