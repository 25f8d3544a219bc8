"""What a test changes: decoding, pictures, files for test servers, and no parts of a training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emo_mm.config.edits import Change, Edit
from emo_mm.config.view import ConfigView
from emo_mm.data.speed.fast_loading import use_reduced_decoding
from emo_mm.engine.options import EvaluateOptions
from emo_mm.errors import UserError
from emo_mm.runtime.runtimes import is_deployed

# A test needs none of the parts of a training, whose data may not be here; some hooks would have them built.
_OF_TRAINING = ('train_cfg', 'train_dataloader', 'optim_wrapper', 'param_scheduler')


def reduced_decoding(view: ConfigView, options: EvaluateOptions) -> Change:
    """Decode JPEG files far larger than needed at a fraction of their size, if asked for.

    Raises:
        UserError: If images are kept decoded, or a deployed file reads them itself.
    """
    if not options.reduced_decoding:
        return Change()
    if options.cache is not None:
        raise UserError('--reduced-decoding and --cache exclude each other: an image is decoded whole to be kept')
    if is_deployed(options.checkpoint):
        raise UserError(f'--reduced-decoding: {options.checkpoint} reads the images itself, and whole')
    return use_reduced_decoding(view)


def pictures(view: ConfigView, options: EvaluateOptions) -> Change:
    """Let the toolbox draw the predictions of a test into a folder; each one has settings of its own for it.

    Raises:
        UserError: If the config has no hook that draws.
    """
    if options.show_dir is None:
        return Change()
    hook, settings = view.hooks.get('visualization'), view.task.test_pictures
    if hook is None:
        raise UserError(
            f'--show-dir: {view.name} has no default_hooks.visualization, which draws; add '
            f"dict(type='{settings.hook_type}')"
        )
    folder = str(Path(options.show_dir).resolve())
    edits = hook.edit(**_filled(settings.hook, folder))
    if settings.visualizer:
        edits = (*edits, *view.part('visualizer').edit(**_filled(settings.visualizer, folder)))
    return Change(edits)


def submission(view: ConfigView, options: EvaluateOptions) -> Change:
    """Let the evaluator of a test write what a test server takes, and compute nothing.

    Raises:
        UserError: If there is no such server for the task, or several evaluators.
    """
    if not options.format_only:
        return Change()
    settings = view.task.submission
    if settings is None:
        raise UserError('--format-only is for detection (COCO) and segmentation (ADE20K)')
    writers = [part for part in view.splits['test'].evaluators if _writes_files(view, part.node)]
    if len(writers) != 1:
        found = ', '.join(str(part.node.get('type')) for part in view.splits['test'].evaluators) or 'none'
        raise UserError(
            f'--format-only: one evaluator of the test must write files, and of test_evaluator ({found}) '
            f'{len(writers)} can; leave one with --cfg-options'
        )
    folder = Path(view.cfg.work_dir) / 'submission'
    if not options.dry_run:
        folder.mkdir(parents=True, exist_ok=True)
    # only the one that writes stays: others would compute metrics, for which there is no truth
    only = {**writers[0].node, 'format_only': True, **_filled(settings, str(folder))}
    return Change((Edit('test_evaluator', only),))


def deployed_model(view: ConfigView, options: EvaluateOptions) -> Change:
    """Let a deployed file take the place of the model, where one is tested.

    Raises:
        UserError: If the file cannot be used, or is for another task.
    """
    if not is_deployed(options.checkpoint):
        return Change()
    from emo_mm.engine.deployed import description_of

    task = description_of(options.checkpoint).task
    if task != view.task.name:
        raise UserError(f'{options.checkpoint} is a model for {task}, and the config is for {view.task.name}')
    loader = view.splits['test'].loader
    batch_size = 1 if loader is None else loader.node.get('batch_size', 1)
    model = dict(type='emo_mm.DeployedModel', path=options.checkpoint, batch_size=batch_size)
    if view.task.finds_outlines:
        model['finds_outlines'] = True  # a mark of the task, which the model's own parts had before
    # Hooks of training, such as moving averages, find no weights there.
    return Change((Edit('model', model), Edit('custom_hooks', [])))


def nothing_of_training(view: ConfigView, options: EvaluateOptions) -> Change:
    """Leave out the parts of a training, and what it started from: MMEngine would test that checkpoint instead."""
    return Change((*(Edit(key, None) for key in _OF_TRAINING), Edit('load_from', None), Edit('resume', False)))


def _filled(settings: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Return settings with the folder in the place of ``{folder}``."""
    return {key: value.format(folder=folder) if isinstance(value, str) else value for key, value in settings.items()}


def _writes_files(view: ConfigView, evaluator: Mapping[str, Any]) -> bool:
    """Tell whether an evaluator can write files instead of computing metrics."""
    import inspect

    from mmengine.registry import METRICS

    kind = evaluator.get('type')
    if isinstance(kind, str):
        kind = METRICS.get(kind if '.' in kind else f'{view.task.scope}.{kind}')
    bases = inspect.getmro(kind) if inspect.isclass(kind) else ()
    return any('format_only' in inspect.signature(base).parameters for base in bases if base is not object)
