"""Batches depend on the seed and their number alone, whoever draws them."""

import numpy as np
import pytest
import torch

from posfeat_hloc.errors import ImageError
from posfeat_hloc.geometry.two_view import fundamental_matrix
from posfeat_hloc.training.posed_batches import Batch, PosedDataset, as_batch, batches
from posfeat_hloc.training.posed_pairs import PosedPair
from posfeat_hloc.training.views import RandomMix
from tests.training.scenes import SIZE, mix, photographs


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> RandomMix[PosedPair]:
    return mix(photographs(tmp_path_factory.mktemp("photographs")))


def same(a: Batch, b: Batch) -> bool:
    return (
        torch.equal(a.images0, b.images0)
        and torch.equal(a.images1, b.images1)
        and torch.equal(a.fundamental, b.fundamental)
        and all(torch.equal(p, q) for p, q in zip(a.points0 + a.points1, b.points0 + b.points1, strict=True))
    )


def test_a_batch_depends_on_its_number_alone(source: RandomMix[PosedPair]) -> None:
    dataset = PosedDataset(source, seed=3, points=20)
    whole = list(batches(dataset, 0, 3, 2))
    later = list(batches(PosedDataset(source, seed=3, points=20), 1, 3, 2))
    assert [len(b.images0) for b in whole] == [2, 2, 2]
    assert same(whole[1], later[0])
    assert same(whole[2], later[1])
    assert not same(whole[0], whole[1])
    assert not same(whole[0], next(batches(PosedDataset(source, seed=4, points=20), 0, 1, 2)))


def test_workers_draw_what_one_process_draws(source: RandomMix[PosedPair]) -> None:
    dataset = PosedDataset(source, seed=0)
    alone, together = list(batches(dataset, 0, 3, 1)), list(batches(dataset, 0, 3, 1, workers=2))
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))


def test_two_processes_share_the_pairs_of_one(source: RandomMix[PosedPair]) -> None:
    dataset = PosedDataset(source, seed=0, color=0)
    one = next(batches(dataset, 0, 1, 4))
    halves = [next(batches(dataset, 0, 1, 2, rank=rank, ranks=2)) for rank in (0, 1)]
    assert torch.equal(one.images0, torch.cat([half.images0 for half in halves]))


def test_images_geometry_and_points_belong_together(source: RandomMix[PosedPair]) -> None:
    pair = source.sample(np.random.default_rng([0, 5]))
    batch = PosedDataset(source, seed=0, color=0, points=200).draw(5)
    assert batch.images0.shape == (1, 3, SIZE[1], SIZE[0])
    assert batch.images0[0, 1, 7, 30] == pair.image0[7, 30, 1]
    np.testing.assert_allclose(batch.fundamental[0], fundamental_matrix(pair.K0, pair.K1, pair.R, pair.t), rtol=1e-5)
    points0, points1 = (np.c_[p[0].numpy(), np.ones(len(p[0]))] for p in (batch.points0, batch.points1))
    assert len(points0) > 30
    lines = points0 @ batch.fundamental[0].double().numpy().T
    distances = np.abs((lines * points1).sum(axis=1)) / np.linalg.norm(lines[:, :2], axis=1)
    assert distances.max() < 0.01


def test_colors_change_each_image_by_itself(source: RandomMix[PosedPair]) -> None:
    plain, jittered = (PosedDataset(source, seed=0, color=color).draw(2) for color in (0.0, 1.0))
    assert torch.equal(plain.fundamental, jittered.fundamental)
    assert not torch.equal(plain.images0, jittered.images0)
    assert not torch.equal(plain.images1, jittered.images1)


def test_light_changes_each_image_and_nothing_else(source: RandomMix[PosedPair]) -> None:
    plain, changed = (PosedDataset(source, seed=0, color=0.0, light=light).draw(2) for light in (0.0, 1.0))
    again = PosedDataset(source, seed=0, color=0.0, light=1.0).draw(2)
    assert torch.equal(plain.fundamental, changed.fundamental)
    assert torch.equal(changed.images0, again.images0)
    assert not torch.equal(plain.images0, changed.images0)
    assert not torch.equal(plain.images1, changed.images1)


def test_on_a_device_images_are_fractions(source: RandomMix[PosedPair]) -> None:
    batch = as_batch(source.sample(np.random.default_rng(0)))
    ready = batch.to(torch.device("cpu"))
    torch.testing.assert_close(ready.images1, batch.images1 / 255)
    assert len(ready.points0[0]) == 0


class Damaged:
    """A source whose images cannot be read."""

    def sample(self, rng: np.random.Generator) -> PosedPair:
        raise ImageError("a.jpg: cannot be decoded")


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_keep_their_one_line(workers: int) -> None:
    dataset = PosedDataset(RandomMix([(1.0, Damaged())]))
    with pytest.raises(ImageError, match=r"^a\.jpg: cannot be decoded$"):
        next(batches(dataset, 0, 1, 2, workers=workers))
