"""A small rendered world with known cameras, so that tests need no photographs."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

WIDTH, HEIGHT, FOCAL = 400, 300, 420.0


def texture(size: int = 900, seed: int = 0) -> np.ndarray:
    """Random blobs of all sizes, ``(size, size)`` uint8: rich in corners at every scale."""
    rng = np.random.default_rng(seed)
    result = np.zeros((size, size), np.float32)
    for cell in (3, 6, 14, 40):
        noise = rng.standard_normal((size // cell + 2, size // cell + 2)).astype(np.float32)
        result += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC) * cell**0.4
    low, high = np.percentile(result, [1, 99])
    return np.clip((result - low) / (high - low) * 255, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class View:
    """A pinhole camera: ``x = K (R X + t)``, pixel (0, 0) is the centre of the top-left pixel."""

    rotation: np.ndarray
    translation: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        return -self.rotation.T @ self.translation


def calibration() -> np.ndarray:
    return np.array([[FOCAL, 0, (WIDTH - 1) / 2], [0, FOCAL, (HEIGHT - 1) / 2], [0, 0, 1]])


def view_from(centre: np.ndarray, target: np.ndarray) -> View:
    """A camera at ``centre`` that looks at ``target``; y points down."""
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(np.array([0.0, 1.0, 0.0]), forward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return View(rotation, -rotation @ centre)


def arc(count: int) -> list[View]:
    """Cameras on an arc in front of the scene."""
    views = []
    for angle in np.linspace(-0.35, 0.35, count):
        centre = np.array([6 * np.sin(angle), -0.6 + 0.15 * np.cos(7 * angle), 6 - 6 * np.cos(angle)])
        views.append(view_from(centre, np.array([0.0, 0.0, 6.0])))
    return views


def render(view: View, seed: int = 0) -> np.ndarray:
    """A grey image ``(H, W)`` uint8 of three textured planes: a wall, a floor and a slanted board before the wall."""
    planes = [  # a point, two axes of the texture, half size of the plane, seed of its texture
        (np.array([0.0, 0.0, 7.5]), np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 6.0, 1),
        (np.array([0.0, 1.8, 6.0]), np.array([1.0, 0, 0]), np.array([0, 0, 1.0]), 6.0, 2),
        (np.array([0.5, 0.3, 6.0]), np.array([0.9, 0, 0.436]), np.array([0, 1.0, 0]), 1.0, 3),
    ]
    x, y = np.meshgrid(np.arange(WIDTH, dtype=np.float64), np.arange(HEIGHT, dtype=np.float64))
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(calibration()).T @ view.rotation
    picture = np.full((HEIGHT, WIDTH), 128, np.uint8)
    depth = np.full((HEIGHT, WIDTH), np.inf)
    for point, u, v, half, number in planes:
        normal = np.cross(u, v)
        distance = ((point - view.centre) @ normal) / (rays @ normal)
        hit = view.centre + rays * distance[..., None] - point
        a, b = hit @ u / np.dot(u, u), hit @ v / np.dot(v, v)
        pattern = texture(seed=seed * 10 + number)
        scale = 150.0 if half < 2 else 75.0  # texture pixels per unit of length
        middle = (len(pattern) - 1) / 2
        sampled = cv2.remap(
            pattern, (a * scale + middle).astype(np.float32), (b * scale + middle).astype(np.float32),
            cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101,
        )  # fmt: skip
        seen = (distance > 0) & (np.abs(a) < half) & (np.abs(b) < half) & (distance < depth)
        picture[seen], depth[seen] = sampled[seen], distance[seen]
    return picture


def write_scene(folder: Path, count: int = 6, seed: int = 0, suffix: str = ".png") -> dict[str, View]:
    """Render ``count`` views into ``folder`` as view_00.png, ...; returns their cameras by name."""
    folder.mkdir(parents=True, exist_ok=True)
    cameras = {}
    for i, view in enumerate(arc(count)):
        name = f"view_{i:02d}{suffix}"
        Image.fromarray(render(view, seed)).save(folder / name)
        cameras[name] = view
    return cameras
