"""The doctor: it calls sound things sound, finds each fault, and names a command for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image

from emo_mm import doctor
from emo_mm import stack as stack_room
from emo_mm.doctor import Check, check_data, format_check
from emo_mm.errors import UserError
from emo_mm.ops import install


def write_image(path: Path, mode: str = 'RGB') -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new(mode, (8, 6))
    image.putpixel((0, 0), 1 if mode == 'L' else (255, 0, 0))
    image.save(path)


def write_annotations(path: Path, file_names: list[str]) -> None:
    images = [{'id': i, 'file_name': name, 'width': 8, 'height': 6} for i, name in enumerate(file_names)]
    boxes = [
        {'id': i, 'image_id': i, 'category_id': 7, 'bbox': [1, 1, 4, 4], 'area': 16, 'iscrowd': 0}
        for i in range(len(file_names))
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {'images': images, 'annotations': boxes, 'categories': [{'id': 7, 'name': 'cell'}]}
    path.write_text(json.dumps(content))


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """The COCO 2017 tree with three training images and one to validate on."""
    root = tmp_path / 'coco'
    for split, names in (('train', ['a.png', 'b.png', 'c.png']), ('val', ['d.png'])):
        for name in names:
            write_image(root / f'{split}2017' / name)
        write_annotations(root / 'annotations' / f'instances_{split}2017.json', names)
    return root


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """The ADE20K tree with two pairs to train and one to validate on."""
    root = tmp_path / 'ade'
    for split, names in (('training', 'ab'), ('validation', 'c')):
        for name in names:
            write_image(root / 'images' / split / f'{name}.jpg')
            write_image(root / 'annotations' / split / f'{name}.png', mode='L')
    return root


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Class folders: three training images of two classes, two validation images."""
    root = tmp_path / 'classes'
    for name in ('train/cat/a.png', 'train/cat/b.png', 'train/dog/c.png', 'val/cat/d.png', 'val/dog/e.png'):
        write_image(root / name)
    return root


def only_fault(checks: list[Check]) -> Check:
    (fault,) = [check for check in checks if not check.ok]
    assert fault.fix
    return fault


def test_counts_a_sound_coco_tree(coco: Path) -> None:
    train, val = check_data(coco)
    assert train.ok
    assert val.ok
    assert train.name == 'annotations/instances_train2017.json'
    assert '3 of 3 images' in train.detail
    assert '3 boxes' in train.detail
    assert '1 class: cell' in train.detail
    assert '1 of 1 images' in val.detail


def test_lists_the_missing_images(coco: Path) -> None:
    (coco / 'train2017' / 'b.png').unlink()
    fault = only_fault(check_data(coco))
    assert fault.name == 'annotations/instances_train2017.json'
    assert '1 of 3 images are missing' in fault.detail
    assert fault.detail.endswith(': b.png')
    assert str(coco / 'train2017') in fault.fix


def test_tells_when_no_image_is_there(coco: Path) -> None:
    (coco / 'val2017' / 'd.png').unlink()
    fault = only_fault(check_data(coco))
    assert 'matches no image' in fault.detail
    assert '-name d.png' in fault.fix


def test_tells_which_annotation_file_is_cut_off(coco: Path) -> None:
    path = coco / 'annotations' / 'instances_val2017.json'
    path.write_bytes(path.read_bytes()[:-10])
    fault = only_fault(check_data(coco))
    assert 'not valid JSON' in fault.detail
    assert str(path) in fault.fix


def test_every_coco_file_is_checked_but_those_of_other_tasks(coco: Path) -> None:
    (coco / 'annotations' / 'captions_val2017.json').write_text('not JSON')
    (coco / 'annotations' / 'extra.json').write_text('not JSON')
    assert only_fault(check_data(coco)).name == 'annotations/extra.json'


def test_finds_the_annotation_files_of_other_layouts(tmp_path: Path) -> None:
    for split in ('train', 'valid'):
        write_image(tmp_path / split / 'a.png')
        write_annotations(tmp_path / split / '_annotations.coco.json', ['a.png'])
    checks = check_data(tmp_path)
    assert [check.name for check in checks] == ['train/_annotations.coco.json', 'valid/_annotations.coco.json']
    assert all(check.ok for check in checks)


def test_counts_the_pairs_of_a_mask_tree(masks: Path) -> None:
    train, val = check_data(masks)
    assert train.ok
    assert val.ok
    assert (train.name, train.detail.split(' in ')[0]) == ('train', '2 pairs')
    assert '1 masks read' in val.detail


def test_names_the_image_without_a_mask(masks: Path) -> None:
    (masks / 'annotations' / 'training' / 'b.png').unlink()
    fault = only_fault(check_data(masks))
    assert fault.name == 'train'
    assert 'b.jpg' in fault.detail


def test_names_the_mask_that_is_no_image(masks: Path) -> None:
    broken = masks / 'annotations' / 'validation' / 'c.png'
    broken.write_bytes(b'no image')
    assert str(broken) in only_fault(check_data(masks)).detail


def test_counts_the_images_of_class_folders(folders: Path) -> None:
    train, val = check_data(folders)
    assert train.ok
    assert val.ok
    assert '3 images, 2 classes: cat 2, dog 1' in train.detail
    assert '2 images' in val.detail


def test_names_the_class_without_a_training_image(folders: Path) -> None:
    (folders / 'train' / 'dog' / 'c.png').unlink()
    fault = only_fault(check_data(folders))
    assert 'no image of dog' in fault.detail
    assert fault.fix == f'rmdir {folders / "train" / "dog"}'


def test_an_absent_or_unknown_folder_is_a_fault(tmp_path: Path) -> None:
    assert only_fault(check_data(tmp_path / 'absent')).detail == 'no such folder'
    assert 'no known layout' in only_fault(check_data(tmp_path)).detail


@pytest.mark.parametrize(
    ('name', 'count'), [('coco_tiny', 50), ('bccd', 205), ('ade_tiny', 3), ('camvid', 367), ('trashnet', 1768)]
)
def test_real_data_are_found_sound(shared_dir: Path, name: str, count: int) -> None:
    checks = check_data(shared_dir / 'data' / name)
    assert len(checks) >= 2
    assert all(check.ok for check in checks)
    assert any(f'{count} ' in check.detail for check in checks)


def pretend_installed(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
    def version(name: str) -> str:
        if name in versions:
            return versions[name]
        raise PackageNotFoundError(name)

    known = SimpleNamespace(version=version, PackageNotFoundError=PackageNotFoundError)
    for module in (stack_room, install):
        monkeypatch.setattr(module, 'metadata', known)
    monkeypatch.setattr(sys, 'prefix', '/usr')  # not the environment of a clone, so that pip commands are given


def test_tells_when_no_stack_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, {'torch': '2.11.0'})
    check = doctor.check_stack()
    assert not check.ok
    assert check.fix.startswith('pip install --no-cache-dir onedl-mmengine==')


def test_tells_when_the_stacks_are_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, {'mmcv': '2.1.0', 'onedl-mmdetection': '3.5.1'})
    check = doctor.check_stack()
    assert not check.ok
    assert 'mmcv, onedl-mmdetection' in check.detail
    assert check.fix.startswith('pip uninstall -y mmcv onedl-mmdetection && pip install ')


@pytest.mark.parametrize('stack', doctor.STACKS)
def test_recognises_a_stack(monkeypatch: pytest.MonkeyPatch, stack: str) -> None:
    pretend_installed(monkeypatch, {names[stack]: '1.0' for names in doctor.DISTRIBUTIONS.values()})
    assert doctor.stacks_present() == [stack]
    assert doctor.check_stack().ok
    assert doctor.check_toolboxes(stack).ok


def test_a_toolbox_may_be_absent_but_not_all_of_them_nor_mmcv(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, {'mmengine': '0.10.7', 'mmdet': '3.3.0'})
    assert doctor.check_module('mmseg', 'classic').ok
    assert doctor.check_toolboxes('classic').ok
    mmcv = doctor.check_module('mmcv', 'classic')
    assert not mmcv.ok
    assert mmcv.fix == 'pip install --no-cache-dir mmcv-lite==2.1.0'
    pretend_installed(monkeypatch, {'mmengine': '0.10.7'})
    assert not doctor.check_toolboxes('classic').ok


def test_in_a_clones_environment_the_fix_is_a_make_target(monkeypatch: pytest.MonkeyPatch, repo_root: Path) -> None:
    monkeypatch.setattr(sys, 'prefix', str(repo_root / '.venv-classic'))
    assert doctor.install_command('classic') == 'make env-classic FORCE=1'


def test_tells_the_tested_version_beside_another(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, {'mmengine': '9.9'})
    monkeypatch.setattr(doctor, 'import_module', lambda name: ModuleType(name))
    check = doctor.check_module('mmengine', 'classic')
    assert check.ok
    assert check.detail == '9.9 (tested with 0.10.7)'


@pytest.mark.parametrize(
    ('error', 'fix'),
    [
        (ImportError('libGL.so.1: cannot open shared object file'), 'opencv-python-headless==4.12'),
        (AssertionError('MMCV==9 is used but incompatible'), 'opencv-python-headless==4.12'),
    ],
)
def test_a_failing_import_is_a_fault(monkeypatch: pytest.MonkeyPatch, error: Exception, fix: str) -> None:
    def fail(name: str) -> ModuleType:
        raise error

    pretend_installed(monkeypatch, {'opencv-python-headless': '4.12.0.88'})
    monkeypatch.setattr(doctor, 'import_module', fail)
    check = doctor.check_import('cv2', 'cv2', 'opencv-python-headless', 'onedl')
    assert not check.ok
    assert str(error) in check.detail
    assert fix in check.fix
    assert '--force-reinstall' in check.fix  # the version is right, so pip would do nothing otherwise


@pytest.mark.toolbox
def test_an_op_that_answers_wrongly_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    import mmcv.ops
    import torch

    assert doctor.check_mmcv_ops('onedl').ok
    monkeypatch.setattr(mmcv.ops, 'nms', lambda boxes, scores, iou_threshold: (boxes, torch.tensor([0, 1, 2])))
    check = doctor.check_mmcv_ops('onedl')
    assert not check.ok
    assert 'wrong answers: nms' in check.detail


@pytest.mark.toolbox
def test_an_op_that_fails_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    import mmcv.ops

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError('not compiled for this device')

    monkeypatch.setattr(mmcv.ops, 'roi_align', fail)
    check = doctor.check_mmcv_ops('onedl')
    assert not check.ok
    assert 'not compiled for this device' in check.detail


@pytest.mark.parametrize(
    ('chosen', 'fix'),
    [
        ('auto', 'pip install --no-cache-dir --force-reinstall --no-deps emo-mm=='),
        ('off', 'unset EMO_MM_OPS'),
        ('none', 'unset EMO_MM_OPS'),
    ],
)
def test_an_mmcv_without_ops_is_a_fault(monkeypatch: pytest.MonkeyPatch, chosen: str, fix: str) -> None:
    monkeypatch.setattr(sys, 'prefix', '/usr')
    monkeypatch.setattr(doctor, 'ops_in_use', lambda: 'none')
    monkeypatch.setenv('EMO_MM_OPS', chosen)
    check = doctor.check_mmcv_ops('onedl')
    assert not check.ok
    assert check.fix.startswith(fix)


@pytest.mark.toolbox
def test_this_environment_has_no_fault(run_cli: Callable[..., tuple[int, str, str]], coco: Path) -> None:
    code, out, _ = run_cli('doctor', '--data', coco)
    assert code == 0, out
    for found in ('nms, RoIAlign', 'EMO-1M builds', '3 of 3 images', 'no fault found'):
        assert found in out
    (coco / 'train2017' / 'a.png').unlink()
    code, out, _ = run_cli('doctor', '--data', coco)
    assert code == 1
    assert 'a.png' in out
    assert '1 fault found' in out


def test_require_tested_stack_names_the_versions_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    pins = doctor.stack_pins('onedl') | doctor.read_pins('dev')
    pretend_installed(monkeypatch, pins | {'numpy': '2.5.0', 'torch': '2.0.0'})
    sound = Check('any', True, '')
    monkeypatch.setattr(doctor, 'check_import', lambda *_: sound)
    monkeypatch.setattr(doctor, 'check_mmcv_ops', lambda *_: sound)
    monkeypatch.setattr(doctor, 'ops_in_use', lambda: 'torch')
    with pytest.raises(UserError, match=r'torch is 2\.0\.0 where 2\.11\.0 .*numpy is 2\.5\.0 where 2\.2\.6'):
        doctor.require_tested_stack('onedl', 'torch')
    pretend_installed(monkeypatch, pins)
    doctor.require_tested_stack('onedl', 'torch')


def test_a_fault_is_printed_with_its_command() -> None:
    assert format_check(Check('numpy', True, '2.2.6')) == 'ok     numpy          2.2.6'
    assert format_check(Check('mmcv', False, 'broken', 'make env')).splitlines()[1].split() == (
        ['fix', 'with:', 'make', 'env']
    )


def test_an_mmcv_that_is_missing_or_does_not_import_is_a_fault_of_its_ops_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise ImportError('libGL.so.1: cannot open shared object file')

    monkeypatch.setattr(sys, 'prefix', '/usr')
    monkeypatch.setattr(doctor, 'ops_in_use', fail)
    check = doctor.check_mmcv_ops('onedl')
    assert not check.ok
    assert 'opencv-python-headless' in check.fix
    monkeypatch.setattr(doctor, 'ops_in_use', lambda: 'no mmcv')
    check = doctor.check_mmcv_ops('classic')
    assert not check.ok
    assert check.fix.endswith('mmcv-lite==2.1.0')


def test_ops_other_than_those_asked_for_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, doctor.stack_pins('onedl') | doctor.read_pins('dev'))
    for name in ('check_import', 'check_mmcv_ops'):
        monkeypatch.setattr(doctor, name, lambda *_: Check('any', True, ''))
    monkeypatch.setattr(doctor, 'ops_in_use', lambda: 'compiled')
    with pytest.raises(UserError, match='FORCE=1'):
        doctor.require_tested_stack('onedl', 'torch')


def test_a_layout_without_data_is_refused(run_cli: Callable[..., tuple[int, str, str]]) -> None:
    code, _, errors = run_cli('doctor', '--layout', 'yolo')
    assert code == 1
    assert '--layout' in errors
    assert '--data DIR' in errors
