import numpy as np
import pytest

from posfeat_hloc.errors import StoreError
from posfeat_hloc.evaluation.pairs import measure_pairs, strongest_features
from posfeat_hloc.features import Features
from posfeat_hloc.stores import FeatureStore

MATCHER = {"name": "nearest"}
PAIRS = [("a", "b"), ("a", "c"), ("b", "c")]


def random_features(seed, count=20):
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(count, 8)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    return Features(
        rng.uniform(0, 50, (count, 2)).astype(np.float32), rng.uniform(size=count).astype(np.float32), descriptors
    )


@pytest.fixture
def store(tmp_path):
    write(tmp_path / "f.h5", {"a": 1, "b": 2, "c": 3})
    return tmp_path / "f.h5"


def write(path, seeds):
    with FeatureStore(path, {"test": 1}) as store:
        for name, seed in seeds.items():
            store.write(name, random_features(seed), (50, 50))
        store.commit()


class Counter:
    def __init__(self, stop_at=None):
        self.calls = []
        self.stop_at = stop_at

    def __call__(self, number, features0, features1, matches):
        if number == self.stop_at:
            raise KeyboardInterrupt
        self.calls.append(number)
        return {"matches": len(matches.pairs()), "sizes": [len(features0), len(features1)]}


def measure(store, record, counter, settings=("x", "x", "x"), **options):
    return measure_pairs(store, PAIRS, counter, settings, MATCHER, record, progress=False, **options)


def test_a_stopped_run_goes_on_where_it_was(store, tmp_path):
    record = tmp_path / "r.jsonl"
    whole = measure(store, tmp_path / "other.jsonl", Counter())
    with pytest.raises(KeyboardInterrupt):
        measure(store, record, Counter(stop_at=2))
    with record.open("a") as file:
        file.write('{"key": "torn')
    rest = Counter()
    assert measure(store, record, rest) == whole
    assert rest.calls == [2]
    kept = Counter()
    assert measure(store, record, kept) == whole
    assert kept.calls == []


def test_what_a_result_depends_on_makes_it_anew(store, tmp_path):
    record = tmp_path / "r.jsonl"
    measure(store, record, Counter())
    changed = Counter()
    measure(store, record, changed, settings=("x", "y", "x"))
    assert changed.calls == [1]
    fewer = Counter()
    results = measure(store, record, fewer, top_k=5)
    assert fewer.calls == [0, 1, 2]
    assert all(result["sizes"] == [5, 5] for result in results)
    write(store, {"b": 7})
    of_b = Counter()
    measure(store, record, of_b)
    assert of_b.calls == [0, 2]


def test_images_without_features_are_named(store, tmp_path):
    with pytest.raises(StoreError, match=r"f\.h5: holds no features of 'd' \(1 of 4 images"):
        measure_pairs(store, [*PAIRS, ("a", "d")], Counter(), ["x"] * 4, MATCHER, tmp_path / "r.jsonl", progress=False)


def test_the_strongest_keypoints_keep_their_order():
    features = random_features(0)
    kept = strongest_features(features, 6)
    expected = [i for i in range(20) if (features.scores > features.scores[i]).sum() < 6]
    np.testing.assert_array_equal(kept.keypoints, features.keypoints[expected])
    np.testing.assert_array_equal(kept.descriptors, features.descriptors[expected])
    assert strongest_features(features, None) is features
    assert strongest_features(features, 20) is features
