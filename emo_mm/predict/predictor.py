"""One function that opens whatever can predict: exported files, checkpoints and configs."""

from __future__ import annotations

from pathlib import Path

from emo_mm.errors import UserError
from emo_mm.runtime.predictor import Predictor
from emo_mm.runtime.runtimes import is_deployed, runnable_suffixes
from emo_mm.weights import CHECKPOINT_SUFFIXES
from emo_mm.weights.hub import local_model


def load_predictor(
    model: str | Path,
    weights: str | Path | None = None,
    batch_size: int = 1,
    score_threshold: float | None = None,
    device: str | None = None,
    compiled: bool = False,
) -> Predictor:
    """Return a predictor of a model, as ``emo-mm predict --model`` opens it.

    Args:
        model: An exported file, which runs in its own runtime; a checkpoint written by ``emo-mm train``, the name or
            path of a config, which run in PyTorch; or ``hf://owner/name/file`` for one of them.
        weights: A checkpoint of the whole model, for a config. Classifiers with published weights need none.
        batch_size: Images that the network gets at once.
        score_threshold: Boxes must score higher; None for the threshold of the model.
        device: Where a model in PyTorch runs; the GPU if there is one, else the CPU, if None.
        compiled: Whether to compile a model in PyTorch, which takes a minute and pays after some hundreds of images.

    Raises:
        UserError: If the model cannot be loaded, or an option does not apply to it.
        ValueError: If ``batch_size`` is below 1.
    """
    model = local_model(model)
    if not is_deployed(model):
        return _in_torch(model, weights, batch_size, score_threshold, device, compiled)
    for name, value in (('--weights', weights), ('--compile', compiled), ('device', device)):
        if value:
            raise UserError(f'{name}: {model} is a deployed file, to which it does not apply')
    return Predictor(model, batch_size, score_threshold)


def _in_torch(
    model: str,
    weights: str | Path | None,
    batch_size: int,
    score_threshold: float | None,
    device: str | None,
    compiled: bool,
) -> Predictor:
    try:
        from emo_mm.predict.session import torch_predictor
    except ImportError as error:
        raise UserError(
            f'--model {model}: a model in PyTorch needs what is missing here ({error.name}); without it only '
            f'deployed files ({", ".join(runnable_suffixes())}) can be used'
        ) from None
    try:
        return torch_predictor(model, weights, batch_size, score_threshold, device, compiled)
    except UserError as error:
        path = Path(model)
        if not path.exists() or path.suffix in ('.py', *CHECKPOINT_SUFFIXES):
            raise
        run_here = ', '.join((*runnable_suffixes(), *CHECKPOINT_SUFFIXES))
        raise UserError(
            f'{error}; of files, {run_here} are run here: export the model to one of these formats too, with emo-mm '
            'export --format onnx'
        ) from None
