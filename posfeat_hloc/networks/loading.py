"""Networks with their weights."""

from __future__ import annotations

from posfeat_hloc import weights
from posfeat_hloc.errors import WeightsError
from posfeat_hloc.networks.l2net import L2Net


def load_l2net(
    architecture: str, name_or_path: str, window: int | None = None, eps: float | None = None
) -> tuple[L2Net, str]:
    """HardNet or SOSNet in evaluation mode, and the SHA-256 of its weights.

    Args:
        architecture: ``"hardnet"`` or ``"sosnet"``.
        name_or_path: bundled weights or a checkpoint, ours or the authors'.
        window, eps: of the local normalisation; None takes what the weights' metadata says, else 33 and 1e-7.

    Raises:
        WeightsError: the weights are missing, altered, or those of another network.
    """
    checkpoint = weights.load(name_or_path)
    trained = checkpoint.metadata
    if window is None:
        window = int(trained.get("window", 33))
    if eps is None:
        eps = float(trained.get("eps", 1e-7))
    network = L2Net(architecture, window, eps)
    try:
        network.load_published(checkpoint.tensors)
    except RuntimeError as error:
        raise WeightsError(f"{name_or_path}: these are not the weights of {architecture} ({error})") from error
    return network.eval(), checkpoint.sha256
