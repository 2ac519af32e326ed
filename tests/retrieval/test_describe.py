from copy import deepcopy

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from posfeat_hloc import confs
from posfeat_hloc.errors import ConfigurationError, StoreError
from posfeat_hloc.images.decoding import read_image
from posfeat_hloc.retrieval import describe, describe_images, retrieve
from posfeat_hloc.retrieval.vlad import Extractor, Options
from posfeat_hloc.stores import GlobalDescriptorStore

NAMES = ["a/1 x.png", "a/2.png", "b.png"]


@pytest.fixture
def conf():
    conf = deepcopy(confs.retrieval["vlad-hardnet"])
    conf["model"]["clusters"] = 6
    return conf


@pytest.fixture
def photos(tmp_path, texture):
    folder = tmp_path / "photos"
    (folder / "a").mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        Image.fromarray(texture(seed, 96, 72)).save(folder / name)
    return folder


def stored(path, names=NAMES):
    with GlobalDescriptorStore(path) as store:
        return store.read(names)


def test_descriptors_are_those_of_the_method_on_the_pictures(photos, conf, tmp_path):
    report = describe_images(conf, photos, tmp_path / "g.h5", progress=False)
    assert report.extracted == NAMES
    extractor = Extractor(Options(clusters=6), torch.device("cpu"))
    pictures = [torch.tensor(read_image(photos / name, grayscale=True).pixels)[None] / 255 for name in NAMES]
    extractor.vocabulary = extractor.learn(pictures)
    expected = torch.stack([extractor(picture) for picture in pictures])
    np.testing.assert_allclose(stored(tmp_path / "g.h5"), expected, atol=1e-3)
    with GlobalDescriptorStore(tmp_path / "g.h5") as store:
        np.testing.assert_array_equal(store.vocabulary, extractor.vocabulary)
    with h5py.File(tmp_path / "g.h5") as file:  # hloc takes the folder of every dataset for an image
        found = []
        file.visititems(lambda key, item: found.append(key) if isinstance(item, h5py.Dataset) else None)
    assert sorted(found) == [f"{name}/global_descriptor" for name in NAMES]


def test_running_again_describes_only_what_changed_or_came(photos, conf, tmp_path, texture):
    path = tmp_path / "g.h5"
    describe_images(conf, photos, path, NAMES[:2], progress=False)
    before = stored(path, NAMES[:2])
    report = describe_images(conf, photos, path, progress=False)
    assert (report.extracted, report.reused) == ([NAMES[2]], NAMES[:2])
    Image.fromarray(texture(7, 96, 72)).save(photos / NAMES[1])
    report = describe_images(conf, photos, path, progress=False)
    assert (report.extracted, report.reused) == ([NAMES[1]], [NAMES[0], NAMES[2]])
    after = stored(path, NAMES[:2])
    np.testing.assert_array_equal(after[0], before[0])
    assert after[1] @ before[1] < 0.9
    assert describe_images(conf, photos, path, overwrite=True, progress=False).extracted == NAMES


def test_a_killed_run_keeps_what_it_had(photos, conf, tmp_path, monkeypatch):
    path = tmp_path / "g.h5"
    create = describe.create

    def dying(model, device):
        made = create(model, device)
        count = iter(range(2))

        class Dying:
            grayscale, weights_sha256, learn = made.grayscale, made.weights_sha256, made.learn

            def __call__(self, image):
                if next(count):
                    raise KeyboardInterrupt
                made.vocabulary = self.vocabulary
                return made(image)

        return Dying()

    monkeypatch.setattr(describe, "create", dying)
    with pytest.raises(KeyboardInterrupt):
        describe_images(conf, photos, path, progress=False)
    monkeypatch.setattr(describe, "create", create)
    assert describe_images(conf, photos, path, progress=False).reused == NAMES[:1]
    describe_images(conf, photos, tmp_path / "whole.h5", progress=False)
    np.testing.assert_array_equal(stored(path), stored(tmp_path / "whole.h5"))


def test_queries_take_the_vocabulary_of_the_database(photos, conf, tmp_path):
    database, queries, alone = (tmp_path / name for name in ("db.h5", "q.h5", "alone.h5"))
    describe_images(conf, photos, database, NAMES[1:], progress=False)
    describe_images(conf, photos, queries, NAMES[:1], vocabulary=database, progress=False)
    describe_images(conf, photos, database, progress=False)  # the query described into the database's own file
    np.testing.assert_array_equal(stored(queries, NAMES[:1]), stored(database, NAMES[:1]))
    assert len(retrieve(queries, database, 5)) == 3  # in another file, its name is another image's
    describe_images(conf, photos, alone, NAMES[:1], progress=False)
    with pytest.raises(ConfigurationError, match=r"alone\.h5: was made with another configuration or vocabulary"):
        retrieve(alone, database, 5)
    with pytest.raises(ConfigurationError, match=r"alone\.h5: its descriptors were made with another vocabulary"):
        describe_images(conf, photos, alone, NAMES[:1], vocabulary=database, progress=False)
    conf["model"]["clusters"] = 5
    with pytest.raises(StoreError, match=r"db\.h5: was made with another configuration"):
        describe_images(conf, photos, tmp_path / "other.h5", NAMES[:1], vocabulary=database, progress=False)
    with pytest.raises(StoreError, match=r"db\.h5: belongs to another configuration .*clusters: 6 there, 5 now"):
        describe_images(conf, photos, database, progress=False)


def test_unreadable_and_tiny_images_are_named(photos, conf, tmp_path):
    (photos / "0.png").write_text("no picture")
    Image.new("L", (20, 400)).save(photos / "c.png")
    report = describe_images(conf, photos, tmp_path / "g.h5", progress=False)
    assert report.extracted == NAMES
    assert "not an image" in report.skipped["0.png"]
    assert "too small" in report.skipped["c.png"]
    with pytest.raises(StoreError, match=r"no global descriptor of 'c\.png'"):
        retrieve(tmp_path / "g.h5", tmp_path / "g.h5", 2, ["c.png"])


def test_conf_names_can_be_built():
    assert "vlad-hardnet" in confs.retrieval
    for conf in confs.retrieval.values():
        assert conf.keys() == {"output", "model", "preprocessing"}
    with pytest.raises(ConfigurationError, match="netvlad"):
        describe.create({"name": "netvlad"})
    with pytest.raises(ConfigurationError, match="no option words"):
        describe.create({"name": "vlad", "words": 3})
