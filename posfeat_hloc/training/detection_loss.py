"""PoSFeat's detection loss: a policy over heat-map cells, rewarded for matches near epipolar lines (eqs. 9-11)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from posfeat_hloc.geometry.epipolar import symmetric_distances


@dataclass(frozen=True)
class DetectionOptions:
    """The reward of a pair of keypoints and how rewards are summed."""

    inverse_temperature: float = 60.0
    """Cosines are multiplied by this before the softmaxes of the matching probability."""
    threshold: float = 2.0
    """Epipolar distance of a right match, in pixels (epsilon)."""
    sides: str = "both"
    """``both``, as in the authors' code: a match is right when its distances in both images are below the threshold.
    ``one``, eq. 9 as printed: when that of its point in image 1 is not above it."""
    right: float = 1.0
    """Reward of a right match (lambda_p)."""
    wrong: float = -0.25
    """Reward of a wrong match (lambda_n)."""
    regularizer: float = -0.001
    """Reward of a keypoint as such (lambda_reg)."""
    form: str = "paper"
    """``paper``: eq. 10, in which the keypoints of either image share the matching probability and the loss of a pair
    of images is divided by their number; mean over the batch. ``official-code``: the authors' code, in which all
    proposals, also rejected ones, share it, the constant log P_m joins the log-probabilities, and everything is
    summed."""


@dataclass(frozen=True)
class Selection:
    """One draw of the policy: at most one keypoint in a cell.

    Attributes:
        points: ``(B, N, 2)`` (x, y) whole pixels, the proposal of each cell, cells row by row.
        log_probability: ``(B, N)`` of the proposal and of its acceptance or rejection; carries the gradient.
        accepted: ``(B, N)`` bool, which proposals are keypoints.
    """

    points: Tensor
    log_probability: Tensor
    accepted: Tensor


@dataclass(frozen=True)
class DetectionLoss:
    """What a training step minimises and what its log shows.

    Attributes:
        total: scalar with gradient.
        reward: scalar, the expected reward of an image pair (sum of P_m R over keypoints), mean over the batch.
        keypoints: scalar, mean number of keypoints in an image.
    """

    total: Tensor
    reward: Tensor
    keypoints: Tensor


def select_keypoints(heat: Tensor, generator: torch.Generator, cell: int = 8) -> Selection:
    """Draw keypoints: a categorical over the pixels of each cell proposes, a Bernoulli accepts (DISK 3.1).

    Args:
        heat: ``(B, 1, H, W)``; both distributions take it as logits. PoSFeat's is never negative, so that at
            least every other proposal is accepted. What is left over at the right and bottom is not used.
        generator: of the random numbers, drawn on its device.
        cell: side of a cell in pixels (g_k).

    Raises:
        ValueError: the heat map has not one channel, or is smaller than a cell.
    """
    batch, channels, height, width = heat.shape
    rows, columns = height // cell, width // cell
    if channels != 1 or min(rows, columns) < 1:
        raise ValueError(f"a heat map is (B, 1, H, W) and at least {cell} x {cell}, not {tuple(heat.shape)}")
    used = heat[:, 0, : rows * cell, : columns * cell].to(torch.promote_types(heat.dtype, torch.float32))
    logits = used.unflatten(2, (columns, cell)).unflatten(1, (rows, cell)).transpose(2, 3).flatten(3).flatten(1, 2)

    u = torch.rand((2, batch, rows * columns), generator=generator, device=generator.device).to(logits)
    log_proposals = logits.log_softmax(dim=-1)
    cumulative = log_proposals.detach().exp().cumsum(dim=-1)
    # scaled by the last sum, which is 1 but for rounding: an index beyond the cell cannot come out
    chosen = (cumulative <= u[0, ..., None] * cumulative[..., -1:]).sum(dim=-1, keepdim=True)
    accept_logit = logits.gather(-1, chosen)[..., 0]
    accepted = u[1] < accept_logit.detach().sigmoid()
    log_accept = F.logsigmoid(torch.where(accepted, accept_logit, -accept_logit))

    index = torch.arange(rows * columns, device=heat.device)
    corner = torch.stack([index % columns, index // columns], dim=-1) * cell
    points = corner + torch.cat([chosen % cell, chosen // cell], dim=-1)
    return Selection(points.float(), log_proposals.gather(-1, chosen)[..., 0] + log_accept, accepted)


def matching_log_probability(
    descriptors0: Tensor, descriptors1: Tensor, inverse_temperature: float = 60.0, candidates: Tensor | None = None
) -> Tensor:
    """log P_m: the log-softmax over rows plus that over columns of t (cosine - 1), t the inverse temperature.

    Args:
        descriptors0, descriptors1: ``(N, D)`` and ``(M, D)`` unit vectors.
        inverse_temperature: t.
        candidates: ``(N, M)`` bool, the pairs that may match; all when None.

    Returns:
        ``(N, M)``, float32 at least; NaN or minus infinity where a pair may not match.
    """
    with torch.autocast(descriptors0.device.type, enabled=False):
        dtype = torch.promote_types(descriptors0.dtype, torch.float32)
        affinity = inverse_temperature * (descriptors0.to(dtype) @ descriptors1.to(dtype).T - 1)
    if candidates is not None:
        affinity = affinity.masked_fill(~candidates, -torch.inf)
    return affinity.log_softmax(dim=0) + affinity.log_softmax(dim=1)


def detection_loss(
    selection0: Selection,
    selection1: Selection,
    descriptors0: Tensor,
    descriptors1: Tensor,
    fundamental: Tensor,
    options: DetectionOptions,
) -> DetectionLoss:
    """The policy-gradient loss of image pairs (PoSFeat eqs. 9-11).

    Only log-probabilities of keypoints carry a gradient. With constant P_m and R, the double sum of eq. 10 is a
    sum over single keypoints, each weighted by its row or column of P_m R; so the N x M matrices exist for one image
    pair at a time and are not kept for the gradient: about 0.6 GB for 4800 cells in either image.

    Args:
        selection0, selection1: keypoints of N and M cells.
        descriptors0, descriptors1: ``(B, N, D)`` and ``(B, M, D)`` unit descriptors at their points.
        fundamental: ``(B, 3, 3)``, x1^T F x0 = 0 in pixels.
        options: rewards and form.

    Raises:
        ValueError: unknown ``form``.
    """
    if options.form not in ("paper", "official-code"):
        raise ValueError(f"form must be 'paper' or 'repository', not {options.form!r}")
    selections = (selection0, selection1)
    gains = tuple(torch.zeros_like(selection.log_probability) for selection in selections)
    information = gains[0].new_zeros(len(fundamental))
    with torch.no_grad():
        for pair in range(len(fundamental)):
            both = selection0.accepted[pair][:, None] & selection1.accepted[pair]
            log_match = matching_log_probability(
                descriptors0[pair],
                descriptors1[pair],
                options.inverse_temperature,
                both if options.form == "paper" else None,
            )
            here = slice(pair, pair + 1)
            reward = epipolar_reward(selection0.points[here], selection1.points[here], fundamental[here], options)
            expected = torch.where(both, log_match.exp() * reward[0], 0)
            gains[0][pair], gains[1][pair] = expected.sum(dim=1), expected.sum(dim=0)
            information[pair] = (expected * torch.where(both, log_match, 0)).sum()

    total = gains[0].new_zeros(len(fundamental))
    for selection, gain in zip(selections, gains, strict=True):
        weights = gain + options.regularizer * selection.accepted.to(gain)
        total = total - (weights * selection.log_probability).sum(dim=1)
    keypoints = selection0.accepted.sum(dim=1) + selection1.accepted.sum(dim=1)
    loss = (total / keypoints.clamp_min(1)).mean() if options.form == "paper" else (total - information).sum()
    return DetectionLoss(loss, gains[0].sum(dim=1).mean(), keypoints.float().mean() / 2)


def epipolar_reward(points0: Tensor, points1: Tensor, fundamental: Tensor, options: DetectionOptions) -> Tensor:
    """R of all pairs (PoSFeat eq. 9): ``(B, N, M)``.

    Raises:
        ValueError: unknown ``sides``.
    """
    if options.sides not in ("both", "one"):
        raise ValueError(f"sides must be 'both' or 'one', not {options.sides!r}")
    distances0, distances1 = symmetric_distances(points0, points1, fundamental)
    right = (
        torch.maximum(distances0, distances1) < options.threshold
        if options.sides == "both"
        else distances1 <= options.threshold
    )
    return torch.where(right, options.right, options.wrong)
