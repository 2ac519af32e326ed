from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.features import Matches
from posfeat_hloc.localization.correspondences import covisibility_clusters, merge, to_points


def test_only_matches_with_3d_points_count():
    matches = Matches(np.array([2, -1, 0, 1]), np.ones(4, np.float32))
    found = to_points(matches, np.array([7, -1, 9]))
    assert found.tolist() == [[0, 9], [2, 7]]


def test_matches_of_several_images_are_merged():
    both = merge([np.array([[3, 5], [1, 2]]), np.array([[1, 2], [1, 4]]), np.zeros((0, 2), np.int64)])
    assert both.tolist() == [[1, 2], [1, 4], [3, 5]]
    assert merge([]).shape == (0, 2)


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
