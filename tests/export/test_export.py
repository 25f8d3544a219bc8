"""Exported files: written, run in their runtime, and compared with PyTorch."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from descriptions import detector
from PIL import Image
from shallow_models import CLASSES, options, shallow

from emo_mm.errors import UserError
from emo_mm.export.check import Found, _tied, compare, images_in, input_of, match
from emo_mm.export.formats import FORMATS
from emo_mm.export.formats.executorch import PoolingByProducts
from emo_mm.export.formats.onnx import _drop_twins
from emo_mm.export.job import program_of
from emo_mm.export.run import TOLERANCES, describe, export_loaded, prepare
from emo_mm.export.traceable import deploy_form
from emo_mm.runtime import Predictor
from emo_mm.runtime.results import Detections
from emo_mm.runtime.seal import read_sidecar
from emo_mm.runtime.sessions import open_session

pytestmark = pytest.mark.toolbox
for module in ('onnx', 'onnxscript', 'onnxruntime'):
    pytest.importorskip(module)


@pytest.mark.parametrize(
    ('task', 'size', 'kind'),
    [
        ('det', '100', 'boxes'),
        ('seg', '96x120', 'labels'),
        ('cls', None, 'probabilities'),
        ('det of EMOv2', '100', 'boxes'),
    ],
)
def test_an_onnx_file_answers_as_pytorch_and_describes_itself(tmp_path, capsys, task, size, kind):
    exported = export_loaded(shallow(task), options(tmp_path / 'model.onnx', input=size))
    assert exported.found.images == 8
    assert exported.found.total >= 8
    assert exported.found.agreement > 0.999
    session = open_session(tmp_path / 'model.onnx')
    assert session.metadata == exported.metadata
    assert session.metadata.output.kind == kind
    assert session.metadata.weights_sha256 == 'abc'
    assert [path.name for path in tmp_path.iterdir()] == ['model.onnx']  # the weights are inside
    assert 'largest error' in capsys.readouterr().out


def test_a_graph_with_open_axes_is_checked_at_other_sizes_and_batches(tmp_path, capsys):
    exported = export_loaded(shallow('cls'), options(tmp_path / 'model.onnx', dynamic='batch,height,width'))
    assert (exported.metadata.input.batch, exported.metadata.input.height) == (None, None)
    lines = capsys.readouterr().out
    assert '1 x 96x96' in lines
    assert '3 x 133x72' in lines
    # a single window, and one image
    (out,) = open_session(tmp_path / 'model.onnx').run(np.zeros((1, 3, 40, 70), np.float32))
    assert out.sum() == pytest.approx(1, abs=1e-5)


def test_boxes_are_selected_in_the_graph_of_openvino_from_pixels(tmp_path):
    pytest.importorskip('openvino')
    exported = export_loaded(
        shallow('det'), options(tmp_path / 'model.xml', format='openvino', batch=2, nms='graph', uint8=True, input='96')
    )
    spec = exported.metadata.input
    assert (spec.dtype, spec.layout, exported.metadata.output.kind) == ('uint8', 'NHWC', 'detections')
    assert exported.found.total > 0
    assert open_session(tmp_path / 'model.xml').metadata == exported.metadata


def test_selection_in_the_graph_is_that_of_prediction():
    outside = prepare(shallow('det'), options('x.onnx', input='96'))[1]
    inside = prepare(shallow('det'), options('x.onnx', input='96', nms='graph'))[1]

    def run(batch):
        with torch.no_grad():
            return [output.numpy() for output in outside(torch.from_numpy(batch))]

    from emo_mm.runtime.postprocess import results_of
    from emo_mm.runtime.preprocess import Prepared

    images = [np.asarray(Image.fromarray(image).resize((96, 96))) for image in images_in(None, 2)]
    batch = input_of(images, (96, 96), outside.metadata)
    prepared = [Prepared(image, (96, 96)) for image in images]
    expected = results_of(run(batch), prepared, (96, 96), outside.metadata)
    with torch.no_grad():
        selected = [output.numpy() for output in inside(torch.from_numpy(batch))]
    for one, other in zip(results_of(selected, prepared, (96, 96), inside.metadata), expected, strict=True):
        assert len(other.labels) > 0
        assert len(one.labels) == len(other.labels)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)


@pytest.mark.parametrize('head', ['RetinaNet', 'RTMDet', 'GFL'])
@pytest.mark.parametrize('kind', ['boxes', 'detections'])
def test_other_detectors_are_exported_with_and_without_the_selection(tmp_path, kind, head):
    nms = {'boxes': 'none', 'detections': 'graph'}[kind]
    exported = export_loaded(shallow(head), options(tmp_path / 'model.onnx', input='64', nms=nms))
    assert exported.metadata.output.kind == kind
    assert exported.found.total > 0


def test_a_pooling_that_depends_on_the_size_is_refused_where_the_size_is_open(tmp_path):
    """PSPNet pools to 1, 2, 3 and 6 cells a side."""
    assert export_loaded(shallow('PSPNet'), options(tmp_path / 'fixed.onnx', input='96x128')).found.agreement > 0.99
    with pytest.raises(UserError, match='fails in its runtime with --dynamic height,width, which is refused'):
        export_loaded(shallow('PSPNet'), options(tmp_path / 'open.onnx', dynamic='height,width'))


def test_a_format_without_arg_max_asks_for_logits(tmp_path, monkeypatch):
    monkeypatch.setattr('emo_mm.export.formats.Format.check_available', lambda kind: None)
    with pytest.raises(UserError, match='--format ncnn: cannot tell the best class of a pixel; add --logits'):
        export_loaded(shallow('seg'), options(tmp_path / 'model.param', format='ncnn', input='96'))


@pytest.mark.parametrize(
    ('nms', 'kind'), [pytest.param('none', 'instances', marks=pytest.mark.slow), ('graph', 'masks')]
)
def test_instance_segmenters_are_exported_with_and_without_the_selection(tmp_path, nms, kind):
    path = tmp_path / 'model.onnx'
    exported = export_loaded(shallow('RTMDet-Ins'), options(path, input='96', nms=nms, dynamic='batch'))
    assert exported.metadata.output.kind == kind
    assert exported.found.total > 0
    (image,) = images_in(None, 1)
    found = Predictor(path)(image)
    assert found.masks is not None
    assert len(found.masks) == len(found.labels) > 0


@pytest.mark.slow
@pytest.mark.parametrize('name', ['onnx', 'torch'])
def test_mask_r_cnn_is_exported_with_its_selection(tmp_path, name):
    path = tmp_path / f'model{FORMATS[name].suffix}'
    exported = export_loaded(shallow('Mask R-CNN'), options(path, format=name, input='96x128'))
    assert exported.metadata.output.kind == 'roi_masks'
    assert exported.found.total > 0
    (image,) = images_in(None, 1)
    assert len(Predictor(path)(image).masks) > 0


def test_mask_r_cnn_is_refused_where_boxes_cannot_be_selected_in_the_graph(tmp_path, monkeypatch):
    monkeypatch.setattr('emo_mm.export.formats.Format.check_available', lambda kind: None)
    with pytest.raises(UserError, match='selects boxes between its stages, which onnx, openvino, torch files can do'):
        export_loaded(shallow('Mask R-CNN'), options(tmp_path / 'm.tflite', format='litert', input='96'))
    with pytest.raises(UserError, match=r'--dynamic height: .* selects boxes in the graph, at a fixed size'):
        export_loaded(shallow('Mask R-CNN'), options(tmp_path / 'm.onnx', dynamic='height'))


def test_a_node_that_a_converter_writes_twice_is_kept_once():
    """As the cast to half precision of a size that two resizings read."""
    from onnx import helper

    cast = helper.make_node('Cast', ['a'], ['b'], name='cast', to=1)
    nodes = [cast, helper.make_node('Relu', ['b'], ['c']), cast, helper.make_node('Relu', ['b'], ['d'])]
    model = helper.make_model(helper.make_graph(nodes, 'graph', [], []))
    _drop_twins(model)
    assert [(node.op_type, *node.output) for node in model.graph.node] == [('Cast', 'b'), ('Relu', 'c'), ('Relu', 'd')]


def test_a_quantized_file_that_answers_otherwise_is_noticed(tmp_path, monkeypatch, capsys):
    """As ONNX Runtime's own quantization of matrix products does: it loads, runs, and is wrong."""
    from onnx import numpy_helper

    def wrong(model, job):
        (last,) = (tensor for tensor in model.graph.initializer if len(tensor.dims) == 4 and tensor.dims[0] == CLASSES)
        last.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(last), last.name))
        return model

    monkeypatch.setattr('emo_mm.export.run.find_spec', lambda name: object())
    monkeypatch.setattr('emo_mm.export.formats.onnx.quantized', wrong)
    with pytest.raises(UserError, match='answers differ from PyTorch'):
        export_loaded(shallow('seg'), options(tmp_path / 'model.onnx', input='96', int8=True))
    assert (
        'WARNING: --int8 without --calibration DIR is calibrated and checked on random images'
        in capsys.readouterr().out
    )


def test_eight_bits_are_near_and_smaller(tmp_path):
    pytest.importorskip('nncf', reason='needs the extra int8')
    sizes = {}
    for int8 in (False, True):
        sizes[int8] = export_loaded(shallow('seg'), options(tmp_path / 'model.onnx', input='96', int8=int8)).bytes
    assert sizes[True] < 0.6 * sizes[False]


@pytest.mark.parametrize('task', ['det', 'seg', 'cls', 'det of EMOv2'])
def test_the_deploy_form_has_rank_4_at_most_and_changes_nothing(task):
    model, size = shallow(task).model, (100, 132)  # padded on both sides
    form = deploy_form(model, size)
    backbone = form.backbone
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for ours, theirs in zip(backbone(x), model.backbone(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        program = torch.export.export(backbone, (x,))
    values = [node.meta['val'] for node in program.graph.nodes if isinstance(node.meta.get('val'), torch.Tensor)]
    assert max(value.dim() for value in values) == 4
    assert not any(getattr(module, 'inplace', False) for module in form.modules())


def test_a_program_of_torch_comes_back_with_its_description(tmp_path):
    exported = export_loaded(shallow('cls'), options(tmp_path / 'model.pt2', format='torch'))
    assert exported.found.relative < 1e-4


def test_boxes_are_selected_in_a_program_of_torch_whose_batch_is_open(tmp_path):
    path = tmp_path / 'model.pt2'
    exported = export_loaded(shallow('det'), options(path, format='torch', nms='graph', dynamic='batch', input='96'))
    assert exported.metadata.output.kind == 'detections'
    assert exported.found.total > 0


def test_beyond_the_tolerance_the_command_fails_and_keeps_the_file(tmp_path, monkeypatch, run_cli):
    monkeypatch.setattr('emo_mm.predict.loading.load_for_prediction', lambda model, weights: shallow('cls'))
    path = tmp_path / 'model.onnx'
    done = run_cli('export', 'emo_1m_demo', '--input', '64', '--out', path, '--tolerance', '0')
    assert done.code == 1
    assert 'answers differ from PyTorch at 1 x 64x64' in done.err
    assert path.is_file()


def test_a_wrong_answer_is_no_number_to_overlook():
    reference = prepare(shallow('cls'), options('x.onnx'))[1]
    images = images_in(None, 2)[:1]

    def run(batch, wrong):
        with torch.no_grad():
            return [reference(torch.from_numpy(batch))[0].numpy() + np.float32(wrong)]

    assert compare(lambda batch: run(batch, 0), reference, images, (96, 96)).within(TOLERANCES['float32'])
    for wrong in (0.01, float('nan')):
        found = Found()
        found.add(compare(lambda batch, wrong=wrong: run(batch, wrong), reference, images, (96, 96)))
        assert not found.within(TOLERANCES['float32'])


def test_boxes_match_by_class_and_place():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32)
    one = Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([0, 1]))
    other = Detections(boxes + np.float32(0.1), np.array([0.85, 0.8], np.float32), np.array([0, 0]))
    alike, error = match(one, other)
    assert alike == 2  # the first box of each
    assert error == pytest.approx(0.05)
    assert match(one, Detections(boxes[:0], one.scores[:0], one.labels[:0])) == (0, 0.0)


def test_a_missing_package_is_named_with_its_extra(monkeypatch, run_cli):
    find = importlib.util.find_spec
    monkeypatch.setattr('emo_mm.export.formats.find_spec', lambda name: None if name == 'MNN' else find(name))
    done = run_cli('export', 'emo_1m_demo', '--format', 'mnn')
    assert (done.code, done.err) == (1, "error: --format mnn needs MNN: pip install 'emo-mm[export-mnn]'\n")
    assert set(FORMATS) == {'onnx', 'openvino', 'torch', 'litert', 'executorch', 'ncnn', 'mnn', 'coreml'}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--format', 'tensorrt'], '--format tensorrt: it must be one of onnx'),
        (['--format', 'tflite'], 'did you mean litert?'),
        (['--format', 'OpenVino'], 'did you mean openvino?'),
        (['--input', '0'], '--input 0: it must be'),
        (['--input', '320x'], '--input 320x: it must be'),
        (['--input', '99999'], '--input 99999: it must be'),
        (['--dynamic', 'depth'], "'depth' is none of batch, height, width"),
        (['--dynamic', 'batch', '--format', 'ncnn'], 'fixed size'),
        (['--dynamic', 'height', '--nms', 'graph'], 'needs a fixed height'),
        (['--half', '--int8'], 'choose one'),
        (['--half', '--format', 'torch'], '--half: not with --format torch'),
        (['--nms', 'graph', '--format', 'ncnn'], '--nms graph: not with'),
        (['--batch', '0'], '--batch 0'),
        (['--tolerance', 'nan'], '--tolerance nan'),
        (['--threads', '0'], '--threads 0'),
        (['--data-root', 'x', '--format', 'coreml'], '--data-root: not with'),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_loaded(run_cli, monkeypatch, arguments, message):
    monkeypatch.setattr('emo_mm.predict.loading.load_for_prediction', None)
    done = run_cli('export', 'emo_1m_demo', *arguments)
    assert done.code == 1
    assert message in done.err
    assert done.err.count('\n') == 1


def test_options_that_do_not_fit_the_model_or_the_files_are_refused(tmp_path):
    for task, changes, message in [
        ('cls', {'nms': 'graph'}, 'finds no boxes'),
        ('det', {'logits': True}, 'no segmenter'),
        ('cls', {'images': str(tmp_path / 'none')}, 'no such folder'),
        ('cls', {'images': str(tmp_path)}, 'has no images'),
    ]:
        with pytest.raises(UserError, match=message):
            export_loaded(shallow(task), options(tmp_path / 'x.onnx', **changes))
    with pytest.raises(UserError, match=r'end in \.onnx'):
        export_loaded(shallow('cls'), options(tmp_path / 'x.tflite'))


def test_an_axis_that_cannot_stay_open_is_refused_with_the_reason(monkeypatch):
    job, *_ = prepare(shallow('cls'), options('x.onnx', dynamic='batch'))
    monkeypatch.setattr(job.graph.network, 'forward', lambda images: images.reshape(2, -1))
    with pytest.raises(UserError, match='--dynamic batch: emo_1m_demo cannot be traced with it'):
        program_of(job.graph, job.example)


@pytest.mark.parametrize('model', ['cls', 'cls of EMOv2'])
@pytest.mark.parametrize('name', ['litert', 'executorch', 'ncnn', 'mnn'])
def test_formats_for_phones_answer_as_pytorch(tmp_path, name, model):
    kind = FORMATS[name]
    for module in kind.modules:
        pytest.importorskip(module, reason=f'needs the extra {kind.extra}')
    path = tmp_path / f'model{kind.suffix}'
    exported = export_loaded(shallow(model), options(path, format=name, input='96'))
    assert exported.found.relative < 1e-3
    text, checksum = read_sidecar(path)
    assert text == exported.metadata.to_json()
    assert checksum is not None


@pytest.mark.parametrize('want', [2, 3, 6, (3, None)])
@pytest.mark.parametrize('size', [(16, 16), (13, 17), (4, 5)])
def test_pooling_by_products_answers_as_adaptive_pooling(size, want):
    maps = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(PoolingByProducts(want)(maps), torch.nn.AdaptiveAvgPool2d(want)(maps))


def test_models_and_training_do_not_import_the_exporters(repo_root):
    sources = [path for part in ('models', 'engine') for path in (repo_root / 'emo_mm' / part).rglob('*.py')]
    assert len(sources) > 10
    assert not [path for path in sources if 'emo_mm.export' in path.read_text()]


def test_boxes_that_tie_with_the_last_that_is_kept_are_told():
    metadata = replace(detector(), nms=replace(detector().nms, max_per_image=2))
    here, there = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32), np.array([[0, 0, 10, 10], [40, 0, 50, 10]])
    labels = np.zeros(2, np.int64)
    one = Detections(here, np.array([0.9, 0.5], np.float32), labels)
    other = Detections(there.astype(np.float32), np.array([0.9, 0.50001], np.float32), labels)
    assert _tied(one, other, metadata) == 2
    assert _tied(one, replace(other, scores=np.array([0.9, 0.6], np.float32)), metadata) == 2
    assert _tied(one, one, metadata) == 0
    roomy = replace(metadata, nms=replace(metadata.nms, max_per_image=3))
    assert _tied(one, other, roomy) == 0
    assert '2 others tie with the last' in describe(Found(alike=2, total=4, ties=2), metadata)
