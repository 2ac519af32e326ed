"""Textures of a town, made on the spot: masonry with windows, doors and signs, cobblestones, crates with posters.

Every stone has its own shade and every window its own content, so that no two places look alike.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Photograph = NDArray[np.uint8]
Color = tuple[float, float, float]

_SIGNS = ("CAFE", "BOOKS", "HOTEL", "BAKERY", "MUSIC", "POST", "FLOWERS", "CINEMA", "WINE", "TOYS")
_WALLS: tuple[tuple[Color, Color, tuple[float, float]], ...] = (
    ((156, 84, 66), (196, 186, 172), (0.24, 0.08)),  # red brick
    ((190, 172, 138), (140, 128, 110), (0.5, 0.26)),  # sandstone
    ((128, 120, 116), (176, 172, 166), (0.3, 0.1)),  # grey brick
    ((176, 128, 84), (208, 196, 176), (0.26, 0.085)),  # yellow brick
)
"""Mean color of the stones, color of the joints, size of a stone in metres."""


_FRAMES: tuple[Color, ...] = ((236, 232, 222), (226, 214, 190), (70, 96, 78), (86, 66, 52), (92, 108, 128))
"""Colors of window frames and ledges."""


def texture(rng: np.random.Generator, size: tuple[int, int], texels: float, part: str) -> Photograph:
    """A texture ``(h, w, 3)`` uint8.

    Args:
        rng: of everything random.
        size: ``(w, h)``.
        texels: pixels for a metre.
        part: ``house``; ``side``, a house without letters, because it may be seen mirrored; ``ground``; ``block``.
    """
    if part == "ground":
        return _ground(rng, size, texels)
    if part == "block":
        return _crate(rng, size, texels)
    return _house(rng, size, texels, letters=part == "house")


def _house(rng: np.random.Generator, size: tuple[int, int], texels: float, letters: bool) -> Photograph:
    """Masonry with rows of windows; on the ground floor a door, a shop window and a sign."""
    stone, joint, brick = _WALLS[int(rng.integers(len(_WALLS)))]
    wall = _weathered(rng, _masonry(rng, size, stone, joint, brick, texels))
    columns, floors = max(1, round(size[0] / texels / 2.3)), max(2, round(size[1] / texels / 2.9))
    width, height = size[0] / columns, size[1] / floors
    frame = tuple((np.array(_FRAMES[int(rng.integers(len(_FRAMES)))]) + rng.uniform(-18, 10, 3)).tolist())
    for floor in range(floors):
        for column in range(columns):
            x, y = (column + 0.26) * width, (floor + 0.2) * height
            if floor < floors - 1:
                _window(rng, wall, (x, y, 0.48 * width, 0.58 * height), frame, texels)
            elif column == columns // 2:
                _door(rng, wall, (x, y, 0.48 * width, 0.8 * height), texels)
            else:
                _window(rng, wall, (x - 0.14 * width, y + 0.1 * height, 0.76 * width, 0.5 * height), frame, texels)
    for floor in range(1, floors):
        y = round(floor * height)
        cv2.rectangle(wall, (0, y - round(0.09 * texels)), (size[0], y), tuple(0.8 * c for c in frame), -1)
        cv2.line(wall, (0, y), (size[0], y), (50, 46, 42), 2)
    if letters:
        place = (0.08 * size[0], (floors - 1) * height - 0.42 * texels, 0.84 * size[0], 0.62 * texels)
        _sign(rng, wall, place, _SIGNS[int(rng.integers(len(_SIGNS)))])
    return wall


def _masonry(
    rng: np.random.Generator, size: tuple[int, int], stone: Color, joint: Color, brick: tuple[float, float],
    texels: float,
) -> Photograph:  # fmt: skip
    """Rows of stones, every second one shifted by half a stone; each stone has its own shade."""
    width, height = size
    w, h = (max(4.0, part * texels) for part in brick)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    row = (y / h).astype(np.int32)
    column = ((x + (row % 2) * np.float32(w / 2)) / w).astype(np.int32)
    shades = rng.normal(0, 1, (row.max() + 1, column.max() + 1, 1)) * 17 + rng.normal(0, 6, (1, 1, 3))
    color = np.array(stone) + shades + rng.normal(0, 5, (*shades.shape[:2], 3))
    wall = color[row, column]
    gap = max(1.0, 0.012 * texels)
    between = (y % h < gap) | ((x + (row % 2) * np.float32(w / 2)) % w < gap)
    wall[between] = joint
    return np.clip(wall + rng.normal(0, 5, (height, width, 1)), 0, 255).astype(np.uint8)


def _weathered(rng: np.random.Generator, wall: Photograph) -> Photograph:
    """Stains and faded places at several scales, and streaks that run down."""
    height, width = wall.shape[:2]
    light = np.ones((height, width), np.float32)
    for cell, strength in ((150, 0.12), (40, 0.09), (12, 0.06)):
        noise = rng.standard_normal((height // cell + 2, width // cell + 2), np.float32)
        light += np.float32(strength) * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    streaks = cv2.resize(rng.random((4, width // 5 + 2), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    light -= np.float32(0.3) * np.clip(streaks - np.float32(0.75), 0, 1)
    return np.clip(wall * light[..., None], 0, 255).astype(np.uint8)


def _window(rng: np.random.Generator, wall: Photograph, box: tuple[float, ...], frame: Color, texels: float) -> None:
    """Frame, sill and panes; behind them a reflection, curtains or a lamp."""
    x, y, w, h = (round(value) for value in box)
    glass = np.zeros((h, w, 3), np.float32)
    sky = np.linspace(45, 0, h)[:, None, None] * rng.uniform(0.2, 1)
    glass[:] = rng.uniform(24, 90) * np.array([0.75, 0.95, 1.15]) + sky
    if rng.random() < 0.6:  # curtains
        cloth = rng.uniform(130, 225) + rng.uniform(-25, 25, 3)
        folds = 18 * np.sin(np.arange(w) * rng.uniform(0.4, 1.1) + rng.uniform(0, 6))[None, :, None]
        left, right = int(w * rng.uniform(0.1, 0.38)), int(w * rng.uniform(0.62, 0.9))
        bottom = int(h * rng.uniform(0.5, 1))
        glass[:bottom, :left] = cloth + folds[:, :left]
        glass[:bottom, right:] = cloth + folds[:, right:]
    if rng.random() < 0.5:  # things on the sill and the sky mirrored
        for _ in range(int(rng.integers(2, 6))):
            centre = int(rng.integers(w)), int(h - rng.integers(1, max(2, h // 4)))
            cv2.circle(glass, centre, int(rng.integers(2, max(3, w // 7))), rng.uniform(30, 230, 3).tolist(), -1)
        corners = np.array([[0, 0], [int(w * rng.uniform(0.3, 1)), 0], [0, int(h * rng.uniform(0.3, 1))]], np.int32)
        cv2.fillConvexPoly(glass, corners, rng.uniform((140, 160, 180), (200, 215, 235)).tolist())
    edge = max(2, round(0.06 * texels))
    inside = np.clip(glass, 0, 255).astype(np.uint8)
    for line in range(1, 1 + int(rng.integers(1, 3))):  # glazing bars
        cv2.line(inside, (line * w // 3, 0), (line * w // 3, h), frame, max(1, edge // 2))
    cv2.line(inside, (0, int(h * 0.38)), (w, int(h * 0.38)), frame, max(1, edge // 2))
    cv2.rectangle(inside, (0, 0), (w - 1, h - 1), frame, edge)
    part = wall[y : y + h, x : x + w]
    part[:] = inside[: part.shape[0], : part.shape[1]]
    cv2.rectangle(wall, (x - edge, y - 3 * edge), (x + w + edge, y - 1), tuple(0.9 * c for c in frame), -1)
    cv2.rectangle(wall, (x - 2 * edge, y + h), (x + w + 2 * edge, y + h + edge), (150, 146, 140), -1)
    cv2.rectangle(wall, (x - 2 * edge, y + h + edge), (x + w + 2 * edge, y + h + 2 * edge), (60, 56, 52), -1)
    if rng.random() < 0.35:  # flowers
        for _ in range(w // 3):
            spot = int(x + rng.integers(w)), int(y + h - rng.integers(0, 2 * edge))
            cv2.circle(wall, spot, int(rng.integers(2, 5)), rng.uniform((20, 40, 20), (240, 130, 120)).tolist(), -1)


def _door(rng: np.random.Generator, wall: Photograph, box: tuple[float, ...], texels: float) -> None:
    """Steps, panels, a number and a handle."""
    x, y, w, h = (round(value) for value in box)
    color = rng.uniform((20, 30, 20), (150, 90, 90))
    cv2.rectangle(wall, (x - 6, y - 6), (x + w + 6, y + h), (198, 190, 178), -1)
    cv2.rectangle(wall, (x, y), (x + w, y + h), color.tolist(), -1)
    for row in range(3):
        for column in range(2):
            corner = x + w * (column * 8 + 1) // 17, y + h * (row * 10 + 1) // 31
            opposite = corner[0] + w * 7 // 17, corner[1] + h * 8 // 31
            cv2.rectangle(wall, corner, opposite, (color * rng.uniform(0.6, 1.5)).clip(0, 255).tolist(), -1)
            cv2.rectangle(wall, corner, opposite, (color * 0.4).tolist(), 2)
    cv2.circle(wall, (x + w * 8 // 9, y + h * 5 // 9), max(2, round(0.04 * texels)), (220, 190, 90), -1)
    number = str(int(rng.integers(1, 99)))
    cv2.putText(wall, number, (x + w + 10, y + h // 3), cv2.FONT_HERSHEY_DUPLEX, 0.008 * texels, (245, 245, 245), 2)


def _sign(rng: np.random.Generator, wall: Photograph, box: tuple[float, ...], word: str) -> None:
    """A board with a word, as wide as the board."""
    x, y, w, h = (round(value) for value in box)
    board, ink = rng.uniform(10, 90, 3), rng.uniform(190, 255, 3)
    if rng.random() < 0.5:
        board, ink = ink, board
    cv2.rectangle(wall, (x, y), (x + w, y + h), board.tolist(), -1)
    cv2.rectangle(wall, (x + 3, y + 3), (x + w - 3, y + h - 3), ink.tolist(), 2)
    (length, tall), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_TRIPLEX, 1, 2)
    scale = min(0.85 * w / length, 0.6 * h / tall)
    start = round(x + (w - scale * length) / 2), round(y + (h + scale * tall) / 2)
    cv2.putText(wall, word, start, cv2.FONT_HERSHEY_TRIPLEX, scale, ink.tolist(), max(1, round(2 * scale)), cv2.LINE_AA)


def _ground(rng: np.random.Generator, size: tuple[int, int], texels: float) -> Photograph:
    """Cobblestones with drain covers, patches of other stones, and leaves."""
    ground = _masonry(rng, size, (134, 130, 124), (84, 80, 74), (0.3, 0.22), texels)
    for _ in range(size[0] * size[1] // 250_000 + 1):
        w, h = (int(rng.uniform(1, 3) * texels) for _ in range(2))
        x, y = int(rng.integers(max(1, size[0] - w))), int(rng.integers(max(1, size[1] - h)))
        stone = tuple(rng.uniform((110, 100, 90), (190, 176, 160)).tolist())
        patch = _masonry(rng, (w, h), stone, (70, 66, 60), (0.16, 0.16), texels)
        area = ground[y : y + h, x : x + w]
        area[:] = patch[: area.shape[0], : area.shape[1]]
    for _ in range(size[0] * size[1] // 200_000 + 1):
        centre = int(rng.integers(size[0])), int(rng.integers(size[1]))
        for radius, shade in ((0.34, 40), (0.3, 96), (0.2, 60), (0.1, 110)):
            cv2.circle(ground, centre, round(radius * texels), (shade, shade, shade + 4), -1, cv2.LINE_AA)
    for _ in range(size[0] * size[1] // 1500):
        spot = int(rng.integers(size[0])), int(rng.integers(size[1]))
        axes = int(rng.integers(2, 7)), int(rng.integers(1, 4))
        leaf = rng.uniform((90, 50, 10), (230, 190, 90)).tolist()
        cv2.ellipse(ground, spot, axes, float(rng.uniform(0, 180)), 0, 360, leaf, -1, cv2.LINE_AA)
    return _weathered(rng, ground)


def _crate(rng: np.random.Generator, size: tuple[int, int], texels: float) -> Photograph:
    """Boards of wood with nails, and posters on them."""
    wood = _masonry(rng, size, (150, 108, 66), (58, 40, 24), (3.0, 0.16), texels)
    grain = rng.standard_normal((size[1], size[0] // 30 + 2), np.float32) * 9
    wood = np.clip(wood + cv2.resize(grain, size, interpolation=cv2.INTER_LINEAR)[..., None], 0, 255).astype(np.uint8)
    for y in range(round(0.08 * texels), size[1], max(4, round(0.16 * texels))):
        for x in (4, size[0] - 5):
            cv2.circle(wood, (x, y), 2, (40, 36, 34), -1)
    for _ in range(3):
        w, h = round(rng.uniform(0.4, 0.7) * texels), round(rng.uniform(0.5, 0.9) * texels)
        x, y = int(rng.integers(max(1, size[0] - w))), int(rng.integers(max(1, size[1] - h)))
        cv2.rectangle(wood, (x, y), (x + w, y + h), rng.uniform(150, 250, 3).tolist(), -1)
        cv2.circle(wood, (x + w // 2, y + h // 2), w // 3, rng.uniform(10, 220, 3).tolist(), -1, cv2.LINE_AA)
        for line in range(4):
            start = x + w // 8, y + h * (line + 1) // 10
            cv2.line(wood, start, (int(x + w * rng.uniform(0.4, 0.9)), start[1]), rng.uniform(0, 120, 3).tolist(), 2)
    return _weathered(rng, wood)
