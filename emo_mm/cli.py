"""The command line: ``emo-mm COMMAND``. Each command calls one function of the package."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from emo_mm.errors import MismatchError, UserError, printable
from emo_mm.tasks import TASK_OF_SCOPE
from emo_mm.version import __version__

if TYPE_CHECKING:
    from emo_mm.benchmark.plan import BenchmarkOptions
    from emo_mm.data.splits import DataRequest


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments after the program's name; those of the process if None.

    Returns:
        The exit code: 0, or 1 where the user has something to mend. Wrong usage exits with 2.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')  # names of files need not be texts
    args = _parser().parse_args(argv)
    # OpenCV, imported later, refuses images of more pixels than Pillow does; its own limit would let 3 GB through.
    os.environ.setdefault('OPENCV_IO_MAX_IMAGE_PIXELS', str(2 * 89_478_485))
    try:
        return args.run(args) or 0
    except MismatchError as error:
        print(f'error: {error.without_advice}', file=sys.stderr)
        return 1
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        needed = (error.name or '').split('.')[0]
        if needed not in _WITH_A_STACK:
            raise
        print(
            f"error: emo-mm {args.command} needs {needed}, which is not installed: pip install 'emo-mm[onedl]'",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a folder that may not be written, a full disk
        print(f'error: {printable(str(error))}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130


# What the extras of the stacks bring and the bare package does without.
_WITH_A_STACK = {'torch', 'torchvision', 'mmengine', 'mmcv', *TASK_OF_SCOPE, 'cv2', 'matplotlib'}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='emo-mm', description='EMO backbones for OpenMMLab.')
    parser.add_argument('--version', action='version', version=f'emo-mm {__version__}')
    commands = parser.add_subparsers(metavar='COMMAND', dest='command', required=True)

    command = commands.add_parser('list', help='the configs by name, with what their authors published')
    command.add_argument('--task', choices=('det', 'seg', 'cls'))
    command.add_argument(
        '--paths', action='store_true', help='the paths of the config files, as the toolboxes take them'
    )
    command.set_defaults(run=_list)

    command = commands.add_parser('doctor', help='what is installed, whether it works, and how to fix it')
    command.add_argument('--data', nargs='+', default=[], metavar='DIR', help='data sets to check')
    command.set_defaults(run=_doctor)

    command = commands.add_parser('train', help='train a detector, segmenter or classifier')
    _add_run_arguments(command)
    command.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='FILE',
        help='go on from the newest checkpoint of the work directory, or from FILE',
    )
    command.add_argument('--amp', action='store_true', help='mixed precision (on a GPU)')
    command.add_argument('--auto-scale-lr', action='store_true', help='learning rate scaled with the total batch size')
    command.add_argument(
        '--weights',
        metavar='W',
        help="weights of the backbone to start from: a file, an address, a published name; 'none' is from scratch",
    )
    command.add_argument('--epochs', type=int, metavar='N', help='length; the schedule is stretched to it')
    command.add_argument('--iters', type=int, metavar='N', help='length, where the config counts iterations')
    command.add_argument('--lr', type=float, help='base learning rate')
    command.add_argument('--seed', type=int, metavar='N')
    command.add_argument(
        '--skip-non-finite',
        type=int,
        default=0,
        metavar='N',
        help='leave out up to N steps whose loss or gradients are not finite, instead of stopping at the first',
    )
    command.set_defaults(run=_train)

    command = commands.add_parser('test', help='evaluate a checkpoint or an exported file')
    _add_run_arguments(command)
    command.add_argument('checkpoint', help='a checkpoint of the whole model, or an exported file (.onnx, .xml)')
    command.add_argument('--out', metavar='FILE', help='JSON file for the metrics')
    command.add_argument('--show-dir', metavar='DIR', help='folder for pictures of the predictions')
    command.add_argument(
        '--format-only',
        action='store_true',
        help='write the files that the test servers of COCO and ADE20K take, to WORK_DIR/submission',
    )
    command.add_argument(
        '--reduced-decoding',
        action='store_true',
        help='decode JPEG files far larger than needed at a fraction of their size (figures may change slightly)',
    )
    command.set_defaults(run=_test)

    _add_export_command(commands)
    _add_predict_command(commands)
    _add_data_command(commands)
    _add_weights_command(commands)
    _add_benchmark_commands(commands)
    return parser


def _add_run_arguments(command: argparse.ArgumentParser) -> None:
    """Add what training and testing share."""
    command.add_argument('config', help='name (see `emo-mm list`) or path of a config')
    command.add_argument('--work-dir', metavar='DIR', help='for logs, checkpoints and pictures; work_dirs/<name>')
    command.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='settings of the config to override'
    )
    command.add_argument('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none')
    command.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    command.add_argument('--batch-size', type=int, metavar='N', help='training images per process')
    command.add_argument('--workers', type=int, metavar='N', help='loader processes per process')
    command.add_argument('--cache', choices=('ram', 'disk'), help='keep decoded images for this run, or on disk')
    command.add_argument('--cache-gb', type=float, metavar='GB', help='what they may take; half of what is free')
    data = command.add_argument_group('own data', 'another place of the data set, or a data set of your own')
    data.add_argument('--data-root', metavar='DIR')
    for split in ('train', 'val', 'test'):
        data.add_argument(f'--{split}-ann', metavar='PATH', help=f'{split}: COCO annotation file, or folder of masks')
        data.add_argument(f'--{split}-images', metavar='DIR', help=f'{split}: folder of images, or class-folder tree')
    data.add_argument('--classes', metavar='FILE', help='text file of class names (masks)')
    check = command.add_argument_group('faults in the data', 'all files are checked first; see docs/reliability.md')
    check.add_argument(
        '--check', choices=('quick', 'full'), default='quick', help='read headers and ends of images (quick), or decode'
    )
    check.add_argument('--skip-check', action='store_true', help='do not look into the files')
    check.add_argument(
        '--bad-data', choices=('error', 'skip'), default='error', help='stop, or leave faulty images and boxes out'
    )


def _add_export_command(commands: Any) -> None:
    from emo_mm.export.formats import format_names

    command = commands.add_parser('export', help='write a file for another runtime, and check it there')
    command.add_argument('model', help='name or path of a config, or a checkpoint of our training')
    command.add_argument('--weights', metavar='W', help='checkpoint of the whole model, for a config')
    command.add_argument(
        '--format',
        default='onnx',
        metavar='F',
        help=f'{format_names()} (onnx)',
    )
    command.add_argument('--input', metavar='SIZE', help="SIDE or HEIGHTxWIDTH in pixels; the config's own without")
    command.add_argument('--dynamic', metavar='AXES', help='axes to leave open, of batch,height,width')
    command.add_argument('--batch', type=int, default=1, metavar='N', help='images at once, where it is not open')
    command.add_argument('--nms', choices=('none', 'graph'), default='none', help='select boxes in the graph')
    command.add_argument('--half', action='store_true', help='weights in half precision')
    command.add_argument('--int8', action='store_true', help='8 bits, experimental; calibrated by --calibration')
    command.add_argument('--uint8', action='store_true', help='the input is RGB pixels, normalised in the graph')
    command.add_argument('--logits', action='store_true', help="a segmenter's logits instead of its label map")
    command.add_argument(
        '--calibration', '--images', dest='images', metavar='DIR', help='photographs to calibrate by and to check with'
    )
    command.add_argument('--data-root', metavar='DIR', help='data set to print the metric by, before and after')
    command.add_argument('--out', metavar='FILE', help='file to write; named after the model without')
    command.add_argument('--tolerance', type=float, metavar='T', help='largest error, relative to the largest value')
    command.add_argument('--threads', type=int, metavar='N', help='threads of the runtime in the check')
    command.set_defaults(run=_export)


def _add_predict_command(commands: Any) -> None:
    command = commands.add_parser('predict', help='boxes, masks or classes of images')
    command.add_argument(
        'sources', nargs='+', metavar='SOURCE', help='image, folder, glob, http address, video or number of a camera'
    )
    command.add_argument(
        '--model',
        required=True,
        metavar='M',
        help='checkpoint, exported file (.onnx, .xml), name of a config, or hf://owner/name',
    )
    command.add_argument('--weights', metavar='W', help='checkpoint of the whole model, for a config')
    command.add_argument('--out', default='predictions', metavar='DIR', help='for what is saved (predictions)')
    command.add_argument('--save-json', action='store_true', help="results.json; for boxes in COCO's format of results")
    command.add_argument('--save-images', action='store_true', help='pictures with the results drawn in')
    command.add_argument('--save-masks', action='store_true', help='label maps as PNG')
    command.add_argument(
        '--coco-ids', metavar='FILE', help='COCO annotations, for the numbers of images and classes in results.json'
    )
    command.add_argument('--batch', type=int, default=1, metavar='N', help='images that the network gets at once')
    command.add_argument(
        '--score-threshold',
        type=float,
        metavar='S',
        help="boxes must score higher (0.3; with --coco-ids the model's own)",
    )
    command.add_argument(
        '--compile', action='store_true', dest='compiled', help='compile a PyTorch model: a minute, then faster'
    )
    command.set_defaults(run=_predict)


def _add_data_command(commands: Any) -> None:
    command = commands.add_parser('data', help='make the demonstration data set')
    kinds = command.add_subparsers(metavar='KIND', required=True)
    shapes = kinds.add_parser('shapes', help='varied shapes with boxes, masks and class folders')
    shapes.add_argument('root', help='folder to make')
    shapes.add_argument('--num-train', type=int, default=400, metavar='N')
    shapes.add_argument('--num-val', type=int, default=100, metavar='N')
    shapes.add_argument('--seed', type=int, default=0, metavar='N')
    shapes.set_defaults(run=_data_shapes)


def _add_weights_command(commands: Any) -> None:
    command = commands.add_parser('weights', help='list the published weights, or convert weights')
    command.set_defaults(run=_weights_list)
    actions = command.add_subparsers(metavar='ACTION')
    convert = actions.add_parser('convert', help='write a clean, safe file for sharing')
    convert.add_argument('source', help='official or trained checkpoint: a file, an address or a published name')
    convert.add_argument('--out', default='.', metavar='DIR')
    convert.add_argument('--to', choices=('native', 'official'), default='native', help='names of the tensors')
    convert.add_argument('--format', choices=('safetensors', 'pth'), default='safetensors')
    convert.set_defaults(run=_weights_convert)


def _add_benchmark_commands(commands: Any) -> None:
    command = commands.add_parser('benchmark', help='measure time and memory of models, side by side')
    command.add_argument('models', nargs='*', metavar='NAME', help='backbones, configs, peers or paths of configs')
    command.add_argument('--suite', default='', metavar='S', help='backbones, detectors, segmenters or peers')
    command.add_argument(
        '--size', nargs='+', default=[], metavar='HxW', help='input sizes, 224 or 800x1344; as published if left out'
    )
    command.add_argument('--batch', nargs='+', type=int, default=[1], metavar='N', help='batch sizes')
    command.add_argument(
        '--runtime',
        nargs='+',
        default=[],
        metavar='R',
        help='reference, eager, fused, compiled, onnx, openvino, cudagraphs',
    )
    command.add_argument('--mode', nargs='+', default=[], metavar='M', help='forward, e2e, train, train-cp')
    command.add_argument('--dtype', nargs='+', default=['fp32'], metavar='T', help='fp32, bf16; on a GPU tf32, fp16')
    command.add_argument('--device', default='cpu', help='cpu, cuda or cuda:N')
    command.add_argument('--threads', type=int, metavar='N', help='threads of the CPU; all cores if left out')
    command.add_argument(
        '--baseline', default='', metavar='B', help='runtime or model that the others are compared with'
    )
    command.add_argument('--rounds', type=int, metavar='N', help='rounds of one turn each; 15')
    command.add_argument('--seconds', type=float, metavar='S', help='least length of a turn; 0.5')
    command.add_argument('--quick', action='store_true', help='3 rounds of the shortest turns: to try, not to publish')
    command.add_argument('--images', metavar='DIR', help='JPEG files for e2e; generated ones if left out')
    command.add_argument('--stages', action='store_true', help='measure the stages of EMO beside a roofline estimate')
    command.add_argument('--out', default='benchmarks', metavar='DIR', help='folder for CSV, JSON, tables and pictures')
    command.add_argument('--show', metavar='FILE', help='tables and pictures of a JSON file; measures nothing')
    command.set_defaults(run=_benchmark)

    command = commands.add_parser('flops', help='parameters and multiply-adds of each module of a model')
    command.add_argument('model', help='name or path of a config, a backbone or a peer')
    command.add_argument('--shape', nargs='+', type=int, metavar='N', help='height and width; as published if left out')
    command.add_argument('--depth', type=int, default=3, metavar='N', help='levels of modules to show')
    command.set_defaults(run=_flops)


def _list(args: argparse.Namespace) -> None:
    if args.paths:
        from emo_mm.config.names import find_config, list_models

        print('\n'.join(str(find_config(name)) for name in list_models(args.task)))
        return
    from emo_mm.config.catalog import format_models_table

    print(format_models_table(args.task))


def _doctor(args: argparse.Namespace) -> int:
    from emo_mm.doctor import run_doctor

    return run_doctor(args.data)


def _train(args: argparse.Namespace) -> None:
    from emo_mm.engine.launch import train
    from emo_mm.engine.options import TrainOptions

    names = ('resume', 'amp', 'auto_scale_lr', 'weights', 'epochs', 'iters', 'lr', 'seed', 'skip_non_finite')
    train(TrainOptions(**_run_options(args), **{name: getattr(args, name) for name in names}))


def _test(args: argparse.Namespace) -> None:
    from emo_mm.engine.launch import evaluate
    from emo_mm.engine.options import RunOptions

    evaluate(
        RunOptions(**_run_options(args)),
        args.checkpoint,
        args.out,
        args.show_dir,
        args.format_only,
        args.reduced_decoding,
    )


def _export(args: argparse.Namespace) -> None:
    from dataclasses import fields

    from emo_mm.export.options import ExportOptions
    from emo_mm.export.run import export

    export(ExportOptions(**{field.name: getattr(args, field.name) for field in fields(ExportOptions)}))


def _predict(args: argparse.Namespace) -> int:
    from dataclasses import fields

    from emo_mm.predict.command import PredictOptions, predict

    return predict(PredictOptions(**{field.name: getattr(args, field.name) for field in fields(PredictOptions)}))


def _data_shapes(args: argparse.Namespace) -> None:
    from emo_mm.data.shapes.generate import generate

    print(generate(args.root, num_train=args.num_train, num_val=args.num_val, seed=args.seed))


def _weights_list(args: argparse.Namespace) -> None:
    from emo_mm.weights import format_weights_table

    print(format_weights_table())


def _weights_convert(args: argparse.Namespace) -> None:
    from emo_mm.weights import convert

    print(convert(args.source, args.out, args.to, args.format))


def _benchmark(args: argparse.Namespace) -> None:
    from emo_mm.benchmark.run import run_benchmark, show_results
    from emo_mm.benchmark.stages import run_stages

    if args.show:
        show_results(args.show, args.out)
        return
    options = _benchmark_options(args)
    if args.stages:
        run_stages(options)
    else:
        run_benchmark(options)


def _benchmark_options(args: argparse.Namespace) -> BenchmarkOptions:
    from emo_mm.benchmark.plan import QUICK, BenchmarkOptions, parse_size

    settings = {'rounds': args.rounds, 'turn_seconds': args.seconds, 'threads': args.threads}
    given = {name: value for name, value in settings.items() if value is not None}
    return BenchmarkOptions(
        models=tuple(args.models),
        suite=args.suite,
        sizes=tuple(parse_size(text) for text in args.size),
        batches=tuple(args.batch),
        runtimes=tuple(args.runtime),
        modes=tuple(args.mode),
        dtypes=tuple(args.dtype),
        device=args.device,
        baseline=args.baseline,
        images=args.images,
        out=args.out,
        **(QUICK if args.quick else {}) | given,
    )


def _flops(args: argparse.Namespace) -> None:
    from emo_mm.benchmark.flops import print_flops

    shape = args.shape
    if shape is not None and (len(shape) > 2 or min(shape) < 1):
        raise UserError(f'--shape {" ".join(map(str, shape))}: it must be one side, or height and width')
    print_flops(args.model, (shape[0], shape[-1]) if shape else None, args.depth)


def _run_options(args: argparse.Namespace) -> dict[str, Any]:
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))  # as torch.distributed.launch gives it
    return {
        'config': args.config,
        'work_dir': args.work_dir,
        'cfg_options': _parse_cfg_options(args.cfg_options),
        'launcher': args.launcher,
        'data': _data_request(args),
        'batch_size': args.batch_size,
        'workers': args.workers,
        'cache': args.cache,
        'cache_gb': args.cache_gb,
        'check': None if args.skip_check else args.check,
        'bad_data': args.bad_data,
    }


def _data_request(args: argparse.Namespace) -> DataRequest:
    from dataclasses import fields

    from emo_mm.data.splits import DataRequest

    return DataRequest(**{field.name: getattr(args, field.name) for field in fields(DataRequest)})


def _parse_cfg_options(items: Sequence[str]) -> dict[str, Any]:
    """Return dotted keys to values, parsed as OpenMMLab's tools parse them."""
    if not items:
        return {}
    from mmengine.config import DictAction

    for item in items:
        if '=' not in item:
            raise UserError(f'--cfg-options {item}: it must be KEY=VALUE')
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args(['--cfg-options', *items]).cfg_options


if __name__ == '__main__':
    sys.exit(main())
