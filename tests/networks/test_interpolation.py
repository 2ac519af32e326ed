"""Reading a map between its cells, against the four corners weighted by hand."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.networks.interpolation import interpolate_cells


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 7))
def test_bilinear_by_hand(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(3, height, width)).astype(np.float32)
    cells = rng.uniform(-1.5, [width + 0.5, height + 0.5], size=(8, 2)).astype(np.float32)
    read = interpolate_cells(torch.from_numpy(dense), torch.from_numpy(cells)).numpy()
    for (x, y), values in zip(cells, read, strict=True):
        x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
        left, top = int(x), int(y)
        right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
        upper = (1 - (x - left)) * dense[:, top, left] + (x - left) * dense[:, top, right]
        lower = (1 - (x - left)) * dense[:, bottom, left] + (x - left) * dense[:, bottom, right]
        np.testing.assert_allclose(values, (1 - (y - top)) * upper + (y - top) * lower, atol=1e-5)
