from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.features import Matches
from posfeat_hloc.localization.pose_problem import covisibility_clusters, merge, most_voted, to_points


def test_only_matches_with_3d_points_count():
    matches = Matches(np.array([2, -1, 0, 1]), np.ones(4, np.float32))
    assert to_points(matches, np.array([7, -1, 9])).tolist() == [[0, 9], [2, 7]]
    assert to_points(matches, np.array([0, -1, 9])).tolist() == [[0, 9], [2, 0]]  # which other programs count from


def test_matches_of_several_images_are_merged():
    both, votes = merge([np.array([[3, 5], [1, 2]]), np.array([[1, 2], [1, 4]]), np.zeros((0, 2), np.int64)])
    assert both.tolist() == [[1, 2], [1, 4], [3, 5]]
    assert votes.tolist() == [2, 1, 1]
    assert [part.shape for part in merge([])] == [(0, 2), (0,)]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(1, 3)), max_size=20))
def test_the_likeliest_match_of_a_keypoint_is_the_one_that_most_images_have(given_matches):
    found = [np.array([[keypoint, point]]) for keypoint, point, count in given_matches for _ in range(count)]
    pairs, votes = merge(found)
    chosen = most_voted(pairs, votes)
    best = {}
    for (keypoint, point), count in zip(pairs.tolist(), votes.tolist(), strict=True):
        if keypoint not in best or count > best[keypoint][1]:
            best[keypoint] = point, count
    assert pairs[chosen].tolist() == [[keypoint, point] for keypoint, (point, _) in sorted(best.items())]


def slow_clusters(sets):
    """Grow each cluster from its first image, image by image."""
    clusters, left = [], list(range(len(sets)))
    while left:
        cluster, changed = {left[0]}, True
        while changed:
            more = {i for i in left if any(sets[i] & sets[j] for j in cluster)} - cluster
            cluster, changed = cluster | more, bool(more)
        clusters.append(sorted(cluster))
        left = [i for i in left if i not in cluster]
    return sorted(clusters, key=len, reverse=True)


@given(st.lists(st.lists(st.integers(-1, 12), max_size=5), max_size=8))
def test_clusters_are_connected_components(ids):
    sets = [{i for i in row if i >= 0} for row in ids]
    assert covisibility_clusters([np.array(row, np.int64) for row in ids]) == slow_clusters(sets)
