import numpy as np
import pytest

from posfeat_hloc.evaluation import drawing


def grey(height: int, width: int, value: int = 100) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_colors_run_from_green_over_yellow_to_red():
    colors = drawing.error_colors(np.array([0, 2, 4, 9, np.nan, np.inf]), worst=4)
    assert colors.tolist() == [[0, 255, 40], [255, 255, 40], [255, 0, 40], *[[255, 0, 40]] * 3]
    assert drawing.error_colors(np.zeros(0), 3).shape == (0, 3)


def test_dots_lie_where_the_points_are():
    picture = grey(20, 30)
    drawn = drawing.draw_points(picture, np.array([[5.2, 7.0], [21.0, 12.4]]), np.array([[255, 0, 0], [0, 0, 255]]))
    assert (picture == 100).all()
    assert drawn[7, 5].tolist() == [255, 0, 0]
    assert drawn[12, 21].tolist() == [0, 0, 255]
    assert drawn[7, 12].tolist() == [100, 100, 100]


def test_matches_connect_both_pictures():
    points0, points1 = np.array([[4.0, 5.0]]), np.array([[10.0, 5.0]])
    color = np.array([[9, 250, 30]])
    with_line, dots = (
        drawing.draw_matches(grey(12, 20), grey(30, 16, 50), points0, points1, color, lines=lines)
        for lines in (True, False)
    )
    assert with_line.shape == (30, 36, 3)
    assert with_line[20, 5].tolist() == [255, 255, 255]  # below the lower image
    for canvas in (with_line, dots):
        assert canvas[5, 4].tolist() == canvas[5, 30].tolist() == [9, 250, 30]
    assert with_line[5, 17].tolist() == pytest.approx([9, 250, 30], abs=20)
    assert dots[5, 17].tolist() == [100, 100, 100]


def test_rows_and_bars():
    assert drawing.stacked([grey(4, 9), grey(5, 6)]).shape == (9, 9, 3)
    barred = drawing.with_error_bar(grey(100, 40), 8)
    assert (barred[:, :40] == 100).all()
    assert barred[8, 50].tolist() == [255, 0, 40]  # the worst at the top
    assert barred[91, 50].tolist() == [0, 255, 40]
    assert (drawing.titled(grey(10, 60), "x")[22:] == 100).all()


def test_heat_maps_are_viridis_and_white_where_nothing_is():
    heat = drawing.heat_map(np.array([[0.0, 1.0, 2.0, np.nan]]))
    assert heat[0, 1].tolist() == heat[0, 2].tolist()
    assert heat[0, 0].tolist() == pytest.approx([68, 1, 84], abs=2)
    assert heat[0, 1].tolist() == pytest.approx([253, 231, 37], abs=2)
    assert heat[0, 3].tolist() == [255, 255, 255]
