import numpy as np
import pytest
import torch
from torch.nn import functional as F

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.retrieval.vlad import Extractor, Options, k_means, vlad


def test_vlad_agrees_with_a_loop_over_descriptors():
    generator = torch.Generator().manual_seed(0)
    local = F.normalize(torch.randn(40, 5, generator=generator), dim=1)
    words = F.normalize(torch.randn(4, 5, generator=generator), dim=1)
    words[3] = 9.0  # far from everything
    expected = np.zeros((4, 5))
    for descriptor in local.numpy().astype(np.float64):
        distances = [np.linalg.norm(descriptor - word) for word in words.numpy()]
        nearest = int(np.argmin(distances))
        expected[nearest] += (descriptor - words[nearest].numpy()) / distances[nearest]
    for row in expected[:3]:
        row /= np.linalg.norm(row)
    found = vlad(local, words)
    np.testing.assert_allclose(found, (expected / 3**0.5).ravel(), atol=1e-5)
    assert found.norm() == pytest.approx(1)
    assert not found[15:].any()


def test_vlad_of_two_descriptors_by_hand():
    words = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    local = torch.tensor([[3.0, 4.0], [10.0, -2.0]])
    np.testing.assert_allclose(vlad(local, words), np.array([0.6, 0.8, 0, -1]) / 2**0.5, atol=1e-6)


def test_k_means_finds_separate_clusters():
    generator = torch.Generator().manual_seed(1)
    truth = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    samples = torch.cat([centre + 0.1 * torch.randn(50, 2, generator=generator) for centre in truth])
    means = torch.stack([part.mean(dim=0) for part in samples.split(50)])
    results = [k_means(samples, 3, seed) for seed in range(10)]
    spread = [(torch.cdist(samples, centres).min(dim=1).values ** 2).sum().item() for centres in results]
    best = results[int(np.argmin(spread))]
    np.testing.assert_allclose(best[best.sum(dim=1).argsort()][0], means[0], atol=1e-4)
    assert min(spread) < 150 * 2 * 0.1**2 * 1.3
    for centres in results:  # a fixed point: each centre is the mean of its samples
        nearest = torch.cdist(samples, centres).argmin(dim=1)
        for row in nearest.unique():
            np.testing.assert_allclose(centres[row], samples[nearest == row].mean(dim=0), atol=1e-4)
    np.testing.assert_array_equal(k_means(samples, 3, 4), k_means(samples, 3, 4))


def test_equal_samples_do_not_break_k_means():
    centres = k_means(torch.ones(8, 3), 4)
    assert torch.equal(centres, torch.ones(4, 3))


def test_an_image_is_nearest_to_its_own_changed_picture(texture):
    extractor = Extractor(Options(clusters=8), torch.device("cpu"))
    pictures = [torch.from_numpy(texture(seed))[None].float() / 255 for seed in range(4)]
    extractor.vocabulary = extractor.learn(pictures)
    assert extractor.vocabulary.shape == (8, 128)
    described = torch.stack([extractor(picture) for picture in pictures])
    darker = torch.stack([extractor(picture[..., 4:, 8:] * 0.5 + 0.1) for picture in pictures])
    np.testing.assert_allclose(described.norm(dim=1), 1, atol=1e-5)
    assert (darker @ described.T).argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_small_images_and_bad_options():
    extractor = Extractor(Options(clusters=8), torch.device("cpu"))
    extractor.vocabulary = torch.eye(128)[:8]
    assert extractor(torch.rand(1, 28, 200)) is None
    assert extractor(torch.rand(1, 29, 29)).shape == (8 * 128,)
    with pytest.raises(ConfigurationError, match="1 local descriptors, too few for a vocabulary of 8 words"):
        extractor.learn([torch.rand(1, 29, 29), torch.rand(1, 5, 5)])
    with pytest.raises(ConfigurationError, match="clusters must be 1 to 120"):
        Extractor(Options(clusters=121), torch.device("cpu"))
