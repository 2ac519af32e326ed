"""Batches depend on the seed and their number alone, whoever draws them."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from posfeat_hloc.errors import ConfigurationError, DataError, ImageError, PosfeatError
from posfeat_hloc.geometry.two_view import fundamental_matrix
from posfeat_hloc.training.megadepth import MegaDepthSource
from posfeat_hloc.training.posed_batches import Batch, PosedDataset, as_batch, batches, find_colmap, open_source
from posfeat_hloc.training.posed_colmap import ColmapPairSource
from posfeat_hloc.training.posed_pairs import PairSource, PosedPair
from posfeat_hloc.training.synthetic_planes import PlanesSource
from posfeat_hloc.training.views import RandomMix
from tests.training.scenes import SIZE, mix, photographs
from tests.training.test_megadepth import PAIRS, write_folder
from tests.training.test_posed_colmap import write_scene


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


def make_model(folder: Path, ending: str = "bin") -> Path:
    folder.mkdir(parents=True)
    (folder / f"cameras.{ending}").touch()
    return folder


@pytest.mark.parametrize("place", ["sparse/0", "sparse", "."])
def test_a_folder_with_model_and_images(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "a,b: c"
    (folder / "images").mkdir(parents=True)
    model = folder / place
    model.mkdir(parents=True, exist_ok=True)
    (model / "cameras.txt").touch()
    assert find_colmap(str(folder)) == (model, folder / "images")


def test_a_model_and_images_elsewhere_and_commas_in_names(tmp_path: Path) -> None:
    model, images = make_model(tmp_path / "run, 1" / "sparse"), tmp_path / "my,photos"
    images.mkdir()
    assert find_colmap(f"{model},{images}") == (model, images)


def test_what_colmap_folders_lack(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(ConfigurationError, match="no COLMAP model in it, in sparse/0 or in sparse"):
        find_colmap(str(tmp_path))
    model = make_model(tmp_path / "other" / "sparse")
    with pytest.raises(ConfigurationError, match="has no folder images; write colmap:MODEL,IMAGES"):
        find_colmap(str(model.parent))
    with pytest.raises(ConfigurationError, match="nowhere is not a folder"):
        find_colmap(f"{model},{tmp_path / 'nowhere'}")
    with pytest.raises(ConfigurationError, match="images holds no COLMAP model"):
        find_colmap(f"{tmp_path / 'images'},{tmp_path / 'images'}")
    with pytest.raises(ConfigurationError, match="no such folder; write colmap:DIR"):
        find_colmap(f"{model}:{tmp_path / 'images'}")


@pytest.mark.parametrize("text", ["", "photos", "colmap:", "video:a", "Colmap:a", ":a"])
def test_what_is_no_specification(text: str) -> None:
    with pytest.raises(ConfigurationError, match="names no training data; write one of colmap:DIR"):
        open_source(text)


@pytest.mark.parametrize("kind", ["megadepth", "synthetic"])
def test_a_folder_that_is_not_there(kind: str, tmp_path: Path) -> None:
    with pytest.raises(PosfeatError, match="is not a folder"):
        open_source(f"{kind}:{tmp_path / 'none'}")


def shape(source: PairSource) -> tuple[int, ...]:
    rng = np.random.default_rng(0)
    return next(pair for _ in range(40) if (pair := source.sample(rng)) is not None).image0.shape


def test_a_colmap_model(tmp_path: Path) -> None:
    reconstruction = write_scene(tmp_path, "radial")
    specification = f"colmap:{tmp_path / 'model'},{tmp_path / 'images'}"
    source = open_source(specification, size=(64, 48), max_rotation=180)
    assert isinstance(source, ColmapPairSource)
    assert shape(source) == (48, 64, 3)
    first = min(image.name for image in reconstruction.images.values())
    part = open_source(specification, (64, 48), 180, keep=lambda name: name != first)
    assert isinstance(part, ColmapPairSource)
    assert first in source.names
    assert set(part.names) == set(source.names) - {first}
    (tmp_path / "images" / part.names[0]).unlink()
    with pytest.raises(ImageError, match=f"{part.names[0]}: no such file; the model"):
        open_source(specification, (64, 48), 180, keep=lambda name: name != first)


@pytest.mark.parametrize("kind", ["colmap", "megadepth", "synthetic"])
def test_sources_travel_to_other_processes(kind: str, tmp_path: Path) -> None:
    """As they do where processes are spawned, on macOS and Windows."""
    if kind == "colmap":
        write_scene(tmp_path, "radial")
        rest = f"{tmp_path / 'model'},{tmp_path / 'images'}"
    else:
        write_folder(tmp_path / "0001" / "dense0" / "aligned", PAIRS[:1])
        rest = str(tmp_path if kind == "megadepth" else tmp_path / "0001" / "dense0" / "aligned" / "images")
    source = open_source(f"{kind}:{rest}", (64, 48), 180)
    copy = pickle.loads(pickle.dumps(source))
    pairs = [
        next(p for s in range(40) if (p := x.sample(np.random.default_rng(s))) is not None) for x in (source, copy)
    ]
    np.testing.assert_array_equal(pairs[0].image0, pairs[1].image0)
    np.testing.assert_array_equal(pairs[0].t, pairs[1].t)


def test_megadepth(tmp_path: Path) -> None:
    for scene in ("0001", "0002", "0008"):
        write_folder(tmp_path / scene / "dense0" / "aligned", PAIRS[:1])
    (tmp_path / ".cache").mkdir()
    source = open_source(f"megadepth:{tmp_path}", size=(64, 48))
    assert isinstance(source, MegaDepthSource)
    assert len(source) == 2
    assert shape(source) == (48, 64, 3)
    assert len(open_source(f"megadepth:{tmp_path}", keep=lambda scene: scene == "0002")) == 1
    listed = tmp_path / "scenes, mine.txt"
    listed.write_text("0001\n\n0002\n")
    chosen = open_source(f"megadepth:{tmp_path},{listed}", size=(64, 48))
    assert isinstance(chosen, MegaDepthSource)
    assert {dense.folder.parts[-3] for dense in chosen.folders} == {"0001", "0002"}
    listed.write_text("0002\n")
    assert len(open_source(f"megadepth:{tmp_path},{listed}")) == 1
    with pytest.raises(DataError, match="no scene is left"):
        open_source(f"megadepth:{tmp_path},{listed}", keep=lambda scene: scene == "0001")
    listed.write_text("0007\n")
    with pytest.raises(DataError, match="no scenes 0007"):
        open_source(f"megadepth:{tmp_path},{listed}")
    listed.write_text("\n")
    with pytest.raises(ConfigurationError, match="names no scene"):
        open_source(f"megadepth:{tmp_path},{listed}")
    with pytest.raises(DataError, match="no scene is left"):
        open_source(f"megadepth:{tmp_path}", keep=lambda scene: False)


def test_photographs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    source = open_source(f"synthetic:{tmp_path}", size=(64, 48))
    assert isinstance(source, PlanesSource)
    assert len(source) == 3
    assert shape(source) == (48, 64, 3)
    assert len(open_source(f"synthetic:{tmp_path}", keep=lambda name: name < "2")) == 2
