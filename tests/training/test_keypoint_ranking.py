from dataclasses import replace

import numpy as np
import torch

from posfeat_hloc.networks.posfeat import PoSFeat
from posfeat_hloc.networks.small import SmallHead, SmallUNet
from posfeat_hloc.training.dense_networks import PoSFeatMaps, load_initial
from posfeat_hloc.training.keypoint_ranking import (
    Judged,
    RankingOptions,
    RankingTrainer,
    curvature_scores,
    judge,
    ranking_loss,
)
from posfeat_hloc.training.options import ViewOptions
from posfeat_hloc.training.view_pack import Pack
from posfeat_hloc.training.warped_views import Shelf
from tests.training.test_warped_views import _photograph

OPTIONS = RankingOptions(steps=2, single=1, fixed=0, validate_every=1, views=ViewOptions(size=64, points=8, margin=4))


def _shelf() -> Shelf:
    return Shelf(Pack([_photograph(k) for k in range(2)], ["a", "b"], ["f", "f"], []), torch.device("cpu"))


def test_ranking_loss_by_hand():
    scores = torch.tensor([[2.0, 1.0, 0.5, 9.0], [1.0, 1.0, 1.0, 1.0]])
    right = torch.tensor([[True, False, True, False], [False, False, False, False]])
    seen = torch.tensor([[True, True, True, False], [True, True, True, True]])
    found = ranking_loss(Judged(scores, right, seen, seen))
    pairs = [
        np.log1p(np.exp(1.0 - 2.0)),
        np.log1p(np.exp(1.0 - 0.5)),
    ]  # the unseen one and the second image do not count
    np.testing.assert_allclose(float(found), np.mean(pairs), rtol=1e-6)


def test_candidates_of_an_unchanged_view_all_match():
    torch.manual_seed(0)
    network = PoSFeatMaps(PoSFeat("small").eval(), "consistent")
    shelf = _shelf()
    plan = shelf.plan(np.random.default_rng(0), (1, 0, 0), OPTIONS.views)
    plan.views[1] = plan.views[0]
    batch = shelf.render(plan, torch.Generator().manual_seed(0), OPTIONS.views)
    judged, scores = judge(network, batch, batch.images, OPTIONS)
    assert scores.shape == (2, 64, 64)
    assert judged.scores.shape == (1, 64)
    assert judged.seen.sum() > 20
    # descriptors of a random network may repeat where the image does, but most places find themselves
    assert (judged.right & judged.seen).sum() > 0.8 * judged.seen.sum()


def test_the_backbone_stays_and_the_head_moves(tmp_path):
    network = PoSFeatMaps(PoSFeat("small"), "consistent")
    network.network.load_state_dict(load_initial("posfeat-small").tensors)
    before = {name: tensor.clone() for name, tensor in network.network.state_dict().items()}
    shelf = _shelf()
    mild = replace(OPTIONS, single=4, relight=0.0, views=replace(OPTIONS.views, size=96, upright=1.0))
    RankingTrainer(mild, network, shelf, shelf, tmp_path).run(progress=False)
    after = network.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("backbone."))
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("localheader."))


def test_curvature_scores_are_those_of_an_untrained_small_head():
    image = torch.from_numpy(_photograph(3)[:64, :64].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        maps = SmallUNet().eval()(image)
        expected = SmallHead()(maps.local_map, maps.local_map_small, image)
    torch.testing.assert_close(curvature_scores(image), expected, rtol=1e-4, atol=1e-5)
