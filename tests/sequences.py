"""Folders of image sequences with exact homographies, rendered, in the layouts of HPatches and Oxford affine."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.rendering import texture

WIDTH, HEIGHT = 160, 120


def tilt(step: int) -> np.ndarray:
    """A homography that moves, turns and foreshortens a little more with each step."""
    angle = np.deg2rad(1.5 * step)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 2.0 * step], [np.sin(angle), np.cos(angle), -1.0 * step], [0, 0, 1]]
    )
    turn[2, 0] = 5e-5 * step
    return turn


def write_sequence(folder: Path, layout: str, moved: bool, seed: int = 0, suffix: str = ".ppm") -> list[np.ndarray]:
    """Six images and five homographies; without movement the images get darker instead."""
    folder.mkdir(parents=True)
    reference = cv2.GaussianBlur(texture(260, seed), (0, 0), 1.2)[40 : 40 + HEIGHT, 40 : 40 + WIDTH]
    image, homography = {"hpatches": ("{}", "H_1_{}"), "oxford": ("img{}", "H1to{}p")}[layout]
    truth = []
    for i in range(1, 7):
        matrix = tilt(i - 1) if moved else np.eye(3)
        picture = cv2.warpPerspective(reference, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
        if not moved:
            picture = (reference * (1 - 0.1 * (i - 1))).astype(np.uint8)
        Image.fromarray(picture).convert("RGB").save(folder / (image.format(i) + suffix))
        if i > 1:
            rows = "\n".join(" ".join(f"{value:.12g}" for value in row) for row in matrix)
            (folder / homography.format(i)).write_text(rows + "\n")
            truth.append(matrix)
    return truth
