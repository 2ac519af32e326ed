import numpy as np
import pytest
import torch

from posfeat_hloc.errors import DataError
from posfeat_hloc.training.options import ViewOptions
from posfeat_hloc.training.view_pack import Pack, PackedPair
from posfeat_hloc.training.warped_views import Shelf, curved_points, random_view

OPTIONS = ViewOptions(size=96, points=60, margin=6)


def _photograph(seed: int, height: int = 160, width: int = 200) -> np.ndarray:
    """A smooth field whose three channels tell x, y and both apart."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(float)
    phase = rng.uniform(0, 6, 3)
    waves = [np.sin(x / 9 + phase[0]), np.sin(y / 7 + phase[1]), np.sin((x + y) / 11 + phase[2])]
    return np.clip(127 + 100 * np.stack(waves, axis=-1), 0, 255).astype(np.uint8)


def _read(images: torch.Tensor, xy: torch.Tensor) -> torch.Tensor:
    grid = (xy + 0.5) * (2 / images.shape[2]) - 1
    return torch.nn.functional.grid_sample(images, grid[:, :, None], align_corners=False)[..., 0].transpose(1, 2)


def test_points_of_two_views_of_a_photograph_show_the_same_colors():
    shelf = Shelf(Pack([_photograph(1)], ["a"], ["g"], []), torch.device("cpu"))
    plan = shelf.plan(np.random.default_rng(0), (6, 0, 0), OPTIONS)
    batch = shelf.render(plan, torch.Generator().manual_seed(0), OPTIONS)
    first, second = batch.images.chunk(2)
    difference = (_read(first, batch.points[0]) - _read(second, batch.points[1])).abs().mean(dim=2)
    assert batch.valid.sum() > 60
    assert difference[batch.valid].median() < 0.03
    moved = (_read(first, batch.points[0]) - _read(second, batch.points[1] + 5)).abs().mean(dim=2)
    assert moved[batch.valid].median() > 0.06  # the test can tell a shift


def test_points_of_a_fixed_camera_follow_its_homography():
    shift = np.array([[1, 0, 7], [0, 1, -4], [0, 0, 1.0]])
    pack = Pack([_photograph(1), _photograph(2)], ["a", "b"], ["g", "g"], [PackedPair(0, 1, np.zeros((0, 4)), shift)])
    shelf = Shelf(pack, torch.device("cpu"))
    batch = shelf.render(shelf.plan(np.random.default_rng(1), (0, 5, 0), OPTIONS), torch.Generator(), OPTIONS)
    difference = batch.sources[1] - batch.sources[0]
    for b in range(5):
        sign = 1 if batch.photographs[0, b] == 0 else -1
        expected = torch.tensor([7.0, -4.0]) * sign
        torch.testing.assert_close(difference[b][batch.valid[b]], expected.expand(int(batch.valid[b].sum()), 2))
        mapped = torch.cat([batch.points[0, b], torch.ones(60, 1)], dim=1) @ batch.homography[b].T
        mapped = mapped[:, :2] / mapped[:, 2:]
        assert (mapped - batch.points[1, b])[batch.valid[b]].abs().max() < 1e-2


def test_points_and_poses_of_a_model_agree_in_the_views():
    rng = np.random.default_rng(3)
    K = np.array([[150.0, 0, 100], [0, 150, 80], [0, 0, 1]])
    angle = 0.1
    R = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    t = np.array([0.4, 0.05, 0.1])
    world = np.c_[rng.uniform(-2, 2, (400, 2)), rng.uniform(4, 7, 400)]

    def project(points):
        homogeneous = points @ K.T
        return homogeneous[:, :2] / homogeneous[:, 2:]

    xy = np.c_[project(world), project(world @ R.T + t)].astype(np.float32)
    skew = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    fundamental = np.linalg.inv(K).T @ skew @ R @ np.linalg.inv(K)
    pack = Pack([_photograph(1), _photograph(2)], ["a", "b"], ["g", "g"], [PackedPair(0, 1, xy, None, fundamental)])
    shelf = Shelf(pack, torch.device("cpu"))
    batch = shelf.render(shelf.plan(np.random.default_rng(4), (0, 0, 8), OPTIONS), torch.Generator(), OPTIONS)
    assert batch.valid.sum() > 100
    assert batch.homography.isnan().all()
    homogeneous = torch.cat([batch.points, torch.ones(*batch.points.shape[:3], 1)], dim=3).double()
    lines = homogeneous[0] @ batch.fundamental.double().transpose(1, 2)
    distance = (homogeneous[1] * lines).sum(dim=2).abs() / lines[..., :2].norm(dim=2)
    assert distance[batch.valid].max() < 0.05


def test_the_same_plan_gives_the_same_batch():
    shelf = Shelf(Pack([_photograph(1)], ["a"], ["g"], []), torch.device("cpu"))
    batches = [
        shelf.render(
            shelf.plan(np.random.default_rng(5), (2, 0, 0), OPTIONS), torch.Generator().manual_seed(1), OPTIONS
        )
        for _ in range(2)
    ]
    assert torch.equal(batches[0].images, batches[1].images)
    assert torch.equal(batches[0].points, batches[1].points)


@pytest.mark.parametrize("upright", [True, False])
def test_rotation_and_zoom_stay_within_their_limits(upright):
    rng = np.random.default_rng(0)
    angles, zooms = [], []
    for _ in range(300):
        view = random_view(rng, np.array([100.0, 80]), (200, 160), OPTIONS, upright, strong=True)
        middle = np.array([[48, 48, 1], [49, 48, 1], [48, 49, 1]]) @ view.T
        middle = middle[:, :2] / middle[:, 2:]
        jacobian = np.stack([middle[1] - middle[0], middle[2] - middle[0]], axis=1)
        left, singular, right = np.linalg.svd(jacobian)
        turn = left @ right
        angles.append(np.degrees(np.arctan2(turn[1, 0], turn[0, 0])))
        zooms.append(np.sqrt(np.prod(singular)) / 1.4)
    widest = np.abs(angles).max()
    assert widest < (30 if upright else 60)
    assert widest > (15 if upright else 40)
    assert (np.max(zooms) / np.min(zooms) > 3) == (not upright)


@pytest.mark.parametrize("cell", [4, 8])
def test_points_lie_on_the_most_curved_pixels(cell):
    image = torch.full((1, 3, 64, 64), 0.5)
    spots = torch.tensor([[12, 20], [40, 44]])  # x, y
    for x, y in spots.tolist():
        image[..., y - 1 : y + 2, x - 1 : x + 2] = 1.0
    found = curved_points(image, 2, torch.Generator().manual_seed(0), cell)[0]
    nearest = torch.cdist(found, spots.float()).amin(dim=1)
    assert (nearest < cell).all()
    assert curved_points(image, 300, torch.Generator(), cell)[0, (64 // cell) ** 2 :].eq(-1).all()


def test_a_pack_without_photographs_of_the_groups_is_refused():
    with pytest.raises(DataError, match="no photograph"):
        Shelf(Pack([_photograph(1)], ["a"], ["g"], []), torch.device("cpu"), {"other"})


def test_other_groups_share_the_photographs() -> None:
    pack = Pack([_photograph(k) for k in range(3)], ["a", "b", "c"], ["g", "g", "h"], [])
    shelf = Shelf(pack, torch.device("cpu"), {"g"})
    other = shelf.of_groups({"h"})
    assert other.canvases.data_ptr() == shelf.canvases.data_ptr()
    rng = np.random.default_rng(0)
    drawn = [{int(i) for i in part.plan(rng, (20, 0, 0), OPTIONS).images.flatten()} for part in (shelf, other)]
    assert drawn == [{0, 1}, {2}]
    with pytest.raises(DataError, match="no photograph of the requested groups"):
        shelf.of_groups({"i"})
