"""Dual softmax: the product of the matching probabilities in both directions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posfeat_hloc.matchers.nearest import keep_mutual, similarity_blocks


@dataclass(frozen=True)
class Options:
    """Options of dual-softmax matching."""

    inverse_temperature: float = 60.0
    """Cosines are multiplied by this before the softmax (PoSFeat trains with 60)."""
    threshold: float = 0.1
    """Keep a match only when its probability is at least this."""


class Matcher:
    """P(i, j) = softmax over j of t cos(i, j) times softmax over i; mutual maxima of P are matches (DISK; PoSFeat 3.3).

    Scores are P. Two passes over the similarity matrix: one for the two sums, one for the maxima.
    """

    def __init__(self, options: Options) -> None:
        self.options = options

    def __call__(self, descriptors0: Tensor, descriptors1: Tensor) -> tuple[Tensor, Tensor]:
        """Match ``(B, N, D)`` to ``(B, M, D)``; see :class:`posfeat_hloc.matchers.Matcher`."""
        t = self.options.inverse_temperature
        batch, n, m = len(descriptors0), descriptors0.shape[1], descriptors1.shape[1]
        # logarithms of the softmax denominators: exp(t cos) itself leaves float32 for unlike descriptors
        row_log = descriptors0.new_empty((batch, n))
        column_log = descriptors0.new_full((batch, m), -torch.inf)
        for start, block in similarity_blocks(descriptors0, descriptors1):
            logits = block.mul_(t)
            row_log[:, start : start + block.shape[1]] = logits.logsumexp(dim=2)
            column_log = torch.logaddexp(column_log, logits.logsumexp(dim=1))
        best = descriptors0.new_empty((batch, n))
        index = torch.zeros((batch, n), dtype=torch.int64, device=best.device)
        column_best = descriptors0.new_full((batch, m), -torch.inf)
        column_index = torch.zeros((batch, m), dtype=torch.int64, device=best.device)
        for start, block in similarity_blocks(descriptors0, descriptors1):
            here = slice(start, start + block.shape[1])
            log_probability = block.mul_(2 * t).sub_(row_log[:, here, None]).sub_(column_log[:, None])
            best[:, here], index[:, here] = log_probability.max(dim=2)
            block_best, block_index = log_probability.max(dim=1)
            column_index = torch.where(block_best > column_best, block_index + start, column_index)
            column_best = torch.maximum(column_best, block_best)
        best = best.exp()
        index = torch.where(best >= self.options.threshold, index, -1)
        index = keep_mutual(index, column_index)
        return index, torch.where(index >= 0, best, 0)
