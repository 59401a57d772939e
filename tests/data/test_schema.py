"""The record schema: what it refuses, and that a record comes back as it went in."""

import numpy as np
import pytest

from clapjax.data.schema import features
from tests.data.building import assert_same, example_from_tfds, make_example


@pytest.mark.parametrize("index", [0, 1])
def test_a_good_example_has_no_problems(index):
    assert make_example(index).problems() == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"audio": np.ones(3, np.float32)}, "audio is float32 (3,), not int16 (T,)"),
        ({"audio": np.ones((3, 2), np.int16)}, "audio is int16 (3, 2), not int16 (T,)"),
        ({"audio": np.zeros(0, np.int16)}, "audio is empty or silent"),
        ({"audio": np.zeros(9, np.int16)}, "audio is empty or silent"),
        ({"negative_audio": np.ones(3)}, "negative_audio is float64 (3,), not int16 (T,)"),
        ({"id": ""}, "id is empty"),
        ({"sample_rate": 0}, "sample_rate is 0"),
        ({"captions": ()}, "a caption is empty or there is none"),
        ({"captions": ("a", " ")}, "a caption is empty or there is none"),
        ({"captions": ("a", "b"), "negative_captions": ("b",)}, "a negative caption equals"),
        ({"provenance": "hearsay"}, "provenance 'hearsay' is not one of"),
    ],
)
def test_each_defect_is_named(changes, problem):
    found = make_example(0, **changes).problems()
    assert len(found) == 1
    assert problem in found[0]


@pytest.mark.parametrize("provenance", ["template", "keyword", "llm:gpt", "captioner:blat"])
def test_known_provenances(provenance):
    assert make_example(0, provenance=provenance).problems() == []


@pytest.mark.parametrize("index", [0, 1])
def test_serialised_and_back(index):
    serializer, example = features(), make_example(index)
    data = serializer.serialize_example(example.to_record())
    assert_same(example, example_from_tfds(serializer.deserialize_example_np(data)))
