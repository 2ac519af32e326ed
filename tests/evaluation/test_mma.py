import numpy as np
import pytest

from posfeat_hloc.evaluation.mma import evaluate_mma
from posfeat_hloc.evaluation.sequences import ImageSequence
from posfeat_hloc.features import Features
from posfeat_hloc.stores import FeatureStore

COUNTS = {"v_a": [12, 9, 15, 11, 8, 10], "i_b": [7, 12, 9, 0, 13, 5]}  # the fourth image of i_b has no keypoints


def sequence(name, change, rng):
    homographies = tuple(
        np.eye(3) + rng.normal(scale=[[0.02, 0.02, 2], [0.02, 0.02, 2], [1e-4, 1e-4, 0]]) for _ in range(5)
    )
    return ImageSequence(name, change, tuple(f"{name}/{i}.ppm" for i in range(1, 7)), homographies)


def slow_mutual_matches(d0, d1):
    """By three loops, in float64."""
    if len(d0) == 0 or len(d1) == 0:
        return []
    similarity = [[sum(x * y for x, y in zip(a, b, strict=True)) for b in d1.tolist()] for a in d0.tolist()]
    best1 = [max(range(len(d1)), key=lambda j: row[j]) for row in similarity]
    best0 = [max(range(len(d0)), key=lambda i: similarity[i][j]) for j in range(len(d1))]
    return [(i, j) for i, j in enumerate(best1) if best0[j] == i]


@pytest.fixture
def measured(tmp_path):
    rng = np.random.default_rng(4)
    sequences = [sequence("i_b", "illumination", rng), sequence("v_a", "viewpoint", rng)]
    features = {}
    with FeatureStore(tmp_path / "f.h5", {}) as store:
        for s in sequences:
            points = rng.uniform(20, 80, (15, 2))
            looks = rng.normal(size=(15, 6))
            for k, name in enumerate(s.images):
                count = COUNTS[s.name][k]
                moved = np.c_[points, np.ones(15)] @ (np.eye(3) if k == 0 else s.homographies[k - 1]).T
                keypoints = (moved[:, :2] / moved[:, 2:] + rng.normal(scale=3, size=(15, 2)))[:count]
                descriptors = (looks + rng.normal(scale=0.3, size=(15, 6)))[:count]
                descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
                features[name] = Features(
                    keypoints.astype(np.float32), rng.uniform(size=count).astype(np.float32),
                    descriptors.astype(np.float16).astype(np.float32),
                )  # fmt: skip
                store.write(name, features[name], (100, 100))
        store.commit()
    return sequences, features, tmp_path / "f.h5"


def test_curves_agree_with_slow_loops(measured, tmp_path):
    sequences, features, path = measured
    result = evaluate_mma(path, sequences, {"name": "nearest"}, tmp_path / "r.jsonl", progress=False)
    accuracy, counts, empty = {}, [], 0
    for s in sequences:
        accuracy[s.name] = []
        for k in range(1, 6):
            f0, f1 = features[s.images[0]], features[s.images[k]]
            matches = slow_mutual_matches(f0.descriptors, f1.descriptors)
            counts.append(len(matches))
            empty += not matches
            right = [0] * 10
            for i, j in matches:
                x, y, w = s.homographies[k - 1] @ [*f0.keypoints[i].astype(float), 1.0]
                distance = np.hypot(x / w - f1.keypoints[j][0], y / w - f1.keypoints[j][1])
                for t in range(10):
                    right[t] += distance <= t + 1
            accuracy[s.name].append([r / len(matches) if matches else 0.0 for r in right])
    pairs = accuracy["i_b"] + accuracy["v_a"]
    np.testing.assert_allclose(result.curves["overall"], np.mean(pairs, axis=0), atol=1e-12)
    np.testing.assert_allclose(result.curves["illumination"], np.mean(accuracy["i_b"], axis=0), atol=1e-12)
    np.testing.assert_allclose(result.curves["viewpoint"], np.mean(accuracy["v_a"], axis=0), atol=1e-12)
    np.testing.assert_allclose(result.sequences["v_a"], result.curves["viewpoint"])
    assert result.without_matches == empty == 1
    assert result.matches == pytest.approx(np.mean(counts))
    assert result.keypoints == pytest.approx(np.mean(COUNTS["v_a"] + COUNTS["i_b"]))
    assert result.ratio == pytest.approx(result.matches / result.keypoints)
    curve = result.curves["overall"]
    weights = [1.9, 1.8, 1.7, 1.6, 1.5, 1.4, 1.3, 1.2, 1.1, 1.0]
    assert result.score("overall") == pytest.approx(sum(w * a for w, a in zip(weights, curve, strict=True)) / 14.5)


def test_groups_without_sequences_have_no_curve(measured, tmp_path):
    sequences, _, path = measured
    result = evaluate_mma(path, sequences[1:], {"name": "nearest"}, tmp_path / "r.jsonl", progress=False)
    assert set(result.curves) == {"overall", "viewpoint"}
    assert result.score("illumination") is None
