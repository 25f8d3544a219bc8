"""Testing, the same code for every task and for deployed files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emo_mm.engine.distributed import meet, number_process
from emo_mm.engine.options import EvaluateOptions
from emo_mm.engine.plan import Plan, plan_test
from emo_mm.errors import UserError
from emo_mm.files import write_json
from emo_mm.runtime.runtimes import is_deployed

if TYPE_CHECKING:
    from mmengine.runner import Runner

    from emo_mm.weights.checkpoint import Checkpoint


def evaluate(options: EvaluateOptions) -> dict[str, float]:
    """Evaluate a checkpoint or a deployed file on the test set of a config.

    Returns:
        The metrics; none where only files were written, and after a dry run.

    Raises:
        UserError: If the config, an option, the checkpoint or the data has a fault.
    """
    from emo_mm.weights.hub import local_model

    options = replace(options, checkpoint=local_model(options.checkpoint))
    plan = plan_test(options)
    if options.dry_run:
        plan.show()
        return {}
    number_process(options.launcher)
    return _run(plan, options)


def _run(plan: Plan, options: EvaluateOptions) -> dict[str, float]:
    """Test as a config says, and write the metrics."""
    from emo_mm.engine.guard.machine import explain_machine_errors
    from emo_mm.engine.reports.testing import recorder_for, report_test
    from emo_mm.engine.runner import build_runner, shutdown_distributed
    from emo_mm.weights import load_model
    from emo_mm.weights.checkpoint import threshold_in
    from emo_mm.weights.loading import unwrapped

    meta, weights = _model_of(plan, options)
    meet(plan.cfg)
    runner = build_runner(plan.cfg, plan.lines)
    _check_classes(runner, meta, options.checkpoint)
    if weights is not None:
        load_model(unwrapped(runner.model), weights)
    runner._test_loop = runner.build_test_loop(runner._test_loop)  # as the test itself would
    reported = not options.format_only and not options.no_report
    recorder = recorder_for(runner) if reported else None
    with explain_machine_errors(plan.cfg):
        metrics = {key: float(value) for key, value in runner.test().items()}
    if runner.rank == 0 and not options.format_only:
        path = Path(options.out) if options.out else Path(plan.cfg.work_dir) / 'test_metrics.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {'config': options.config, 'checkpoint': options.checkpoint, 'metrics': metrics})
    if recorder is not None:
        report_test(runner, recorder, metrics, options.checkpoint, threshold_in(meta), plan.lines)
    shutdown_distributed(runner)
    return metrics


def _model_of(plan: Plan, options: EvaluateOptions) -> tuple[dict[str, Any], Checkpoint | None]:
    """Return what a model says about itself, and its weights; a deployed file has none, and takes the model's place."""
    from emo_mm.config.carried import doubt_about
    from emo_mm.weights import read_checkpoint

    if is_deployed(options.checkpoint):
        from emo_mm.engine.deployed import description_of

        return {'dataset_meta': {'classes': description_of(options.checkpoint).classes}}, None
    weights = read_checkpoint(options.checkpoint)
    doubt = doubt_about(plan.cfg, weights.meta, options.checkpoint)
    if doubt:
        plan.lines.append(f'WARNING: {doubt}')
    return weights.meta, weights


def _check_classes(runner: Runner, meta: dict[str, Any], checkpoint: str) -> None:
    """Check that a checkpoint was trained for the classes of the test set, in their order.

    Raises:
        UserError: If not: every figure would be computed on swapped classes.
    """
    trained = (meta.get('dataset_meta') or {}).get('classes')
    tested = runner.test_dataloader.dataset.metainfo.get('classes')
    if trained and tested and tuple(trained) != tuple(tested):
        raise UserError(
            f'{checkpoint} was trained for the classes {", ".join(trained)}, and the test set has {", ".join(tested)}: '
            f'test it on its own data (--data-root), whose classes must come in the same order'
        )
