"""Values of other types than COCO format has are refused by name before a training, not after its first epoch."""

from __future__ import annotations

import json

import pytest
from data_trees import annotations

from emo_mm.data.layouts.coco.file import read_annotations
from emo_mm.errors import UserError


@pytest.mark.parametrize(
    ('place', 'key', 'value', 'said'),
    [
        ('images', 'id', None, r'images\[0\] has id None; it must be a whole number'),
        ('images', 'id', 1.5, 'whole number'),
        ('images', 'id', True, 'whole number'),
        ('images', 'id', 2**53, 'whole number'),
        ('images', 'id', [1], 'whole number'),
        ('images', 'id', 10**400, 'whole number'),  # no float is as large
        ('annotations', 'area', 10**400, 'annotation 1 has bbox .* and area 1000'),
        ('images', 'file_name', '', 'a text that is not empty'),
        ('images', 'file_name', '\ud800.jpg', 'a text'),
        ('images', 'file_name', '0.jpg\0', 'a text'),
        ('images', 'file_name', ['0.jpg'], 'a text that is not empty'),
        ('categories', 'name', None, r'categories\[0\] has name None'),
        ('annotations', 'image_id', [1], r'annotations\[0\] has image_id'),
        ('annotations', 'category_id', float('nan'), r'annotations\[0\] has category_id nan'),
        ('annotations', 'iscrowd', 'no', '0 or 1'),
        ('annotations', 'iscrowd', 2, '0 or 1'),
        ('annotations', 'ignore', 2, '0 or 1'),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(place, key, value, said, tmp_path):
    content = annotations()
    content[place][0][key] = value
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=said):
        read_annotations(path)


def test_annotation_ids_that_are_too_large_are_given_anew(tmp_path):
    content = annotations()
    content['annotations'][0]['id'] = 10**400
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(content))
    assert read_annotations(path).boxes == {'cat': 2, 'dog': 1}


def test_numbers_that_are_written_with_a_point_are_numbers(tmp_path):
    content = annotations()
    content['images'][0]['id'] = content['annotations'][0]['image_id'] = 1.0
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(content))
    assert read_annotations(path).boxes == {'cat': 2, 'dog': 1}


def test_an_id_with_and_without_a_point_is_the_same_id(tmp_path):
    content = annotations()
    content['categories'][1]['id'] = float(content['categories'][0]['id'])
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match='id must be used once'):
        read_annotations(path)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('[' * 100_000, 'nested too deep'),
        ('{"images": ' + '9' * 5000 + '}', 'is not valid JSON'),
    ],
)
def test_texts_that_no_one_can_read_are_refused(text, said, tmp_path):
    path = tmp_path / 'train.json'
    path.write_text(text, encoding='utf-8')
    with pytest.raises(UserError, match=said):
        read_annotations(path)
