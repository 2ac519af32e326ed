import pytest
import torch

from posfeat_hloc.training.relight import relight


def _images(count: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    small = torch.rand((count, 3, 12, 12), generator=generator)
    return torch.nn.functional.interpolate(small, size=(48, 48), mode="bicubic").clamp(0, 1)


def test_no_strength_changes_nothing():
    images = _images()
    assert relight(images, torch.Generator(), 0.0) is images


def test_changed_images_stay_in_range_differ_and_repeat():
    images = _images()
    changed = relight(images, torch.Generator().manual_seed(1), 1.0)
    again = relight(images, torch.Generator().manual_seed(1), 1.0)
    assert torch.equal(changed, again)
    assert changed.isfinite().all()
    assert changed.min() >= 0
    assert changed.max() <= 1
    distance = (changed - images).abs().mean(dim=(1, 2, 3))
    assert (distance > 0.02).sum() >= 6
    equal_pairs = (changed[:, None] - changed[None]).abs().amax(dim=(2, 3, 4)) < 1e-6
    assert equal_pairs.sum() == len(images)  # each image gets changes of its own


def test_strength_is_how_far_images_change():
    images = _images(32)
    weak, strong = ((relight(images, torch.Generator().manual_seed(2), s) - images).abs().mean() for s in (0.2, 1.0))
    assert weak < strong / 1.5


@pytest.mark.parametrize("seed", range(3))
def test_geometry_is_kept(seed):
    """A dark spot stays the darkest or the brightest place of the blurred image around it."""
    images = torch.full((16, 3, 48, 48), 0.7)
    images[..., 20:28, 30:38] = 0.1
    changed = relight(images, torch.Generator().manual_seed(seed), 0.6).mean(dim=1, keepdim=True)
    smooth = torch.nn.functional.avg_pool2d(changed, 8, stride=2)
    window = smooth[:, 0, 6:15, 11:20]  # around (24, 34)
    deviation = (window - window.mean(dim=(1, 2), keepdim=True)).abs().flatten(1)
    best = deviation.argmax(dim=1)
    rows, columns = best // 9, best % 9
    near = ((rows - 4).abs() <= 1) & ((columns - 4).abs() <= 1)
    assert near.float().mean() > 0.7
