"""COLMAP's brute-force matcher as an ONNX file, for its builds that cannot download it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from posfeat_hloc.export.onnx import write_graph

MATCHER_INPUTS = ("descs1", "descs2", "min_cossim", "max_ratio", "cross_check")
MATCHER_OUTPUTS = ("idx0", "idx1", "scores")
"""Names that COLMAP asks for, in this order."""


class MatcherGraph(nn.Module):
    """The brute-force matcher that COLMAP otherwise downloads (``src/colmap/feature/onnx_matchers.cc`` there)."""

    def forward(
        self, descs1: Tensor, descs2: Tensor, min_cossim: Tensor, max_ratio: Tensor, cross_check: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Match each descriptor to its nearest neighbor.

        Args:
            descs1: ``(N, D)``, L2-normalised; at least two.
            descs2: ``(M, D)``, L2-normalised; at least two.
            min_cossim: ``()`` float32, the smallest cosine.
            max_ratio: ``()`` float32, of the distances to the nearest and the second nearest; 0 for no such test.
            cross_check: ``()`` int64, 1 to keep mutual nearest neighbors only.

        Returns:
            idx0 ``(K,)`` and idx1 ``(K,)`` int64; their cosines ``(K,)``.
        """
        cosines = descs1 @ descs2.T
        best, index = torch.topk(cosines, 2, dim=1)
        distance = (2 - 2 * best).clamp_min(0).sqrt()
        distinct = (max_ratio <= 0) | (distance[:, 0] <= max_ratio * distance[:, 1])
        own: Any = torch._shape_as_tensor(descs1)[0]  # stays a tensor, and so part of the graph
        mutual = cosines.argmax(dim=0)[index[:, 0]] == torch.arange(own)
        kept = ((best[:, 0] >= min_cossim) & distinct & ((cross_check == 0) | mutual)).nonzero()[:, 0]
        return kept, index[kept, 0], best[kept, 0]


def write_onnx_matcher(path: Path) -> None:
    """Write a brute-force matcher of COLMAP, for its builds that cannot download it.

    Raises:
        ConfigurationError: the package onnx is missing.
    """
    random = torch.Generator().manual_seed(0)
    descriptors = [torch.rand((count, 128), generator=random) for count in (5, 7)]
    given = (*descriptors, torch.tensor(-1.0), torch.tensor(1.0), torch.tensor(1))
    of_any_size = {name: {0: f"{name}_count", 1: "dimension"} for name in MATCHER_INPUTS[:2]}
    of_any_size |= {name: {0: "match"} for name in MATCHER_OUTPUTS}
    inputs = dict(zip(MATCHER_INPUTS, given, strict=True))
    write_graph(path, MatcherGraph().eval(), inputs, MATCHER_OUTPUTS, of_any_size, {"matcher": "brute force"})
