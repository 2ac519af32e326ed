"""COLMAP databases of points seen by known cameras: matches are exact up to noise, or wrong on purpose."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pycolmap

from posfeat_hloc.sfm.database import verify

SIZE, FOCAL = (640, 480), 600.0


@dataclass
class World:
    """Writes a database; an image's keypoint i shows point ``shows[name][i]``."""

    path: Path
    seed: int = 0
    noise: float = 0.3
    keypoints: dict[str, np.ndarray] = field(default_factory=dict)
    shows: dict[str, np.ndarray] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)
        self.db = pycolmap.Database.open(self.path)

    def points(self, count=400, depth=(4.0, 9.0)):
        return self.rng.uniform((-3, -2, depth[0]), (3, 2, depth[1]), size=(count, 3))

    def image(self, name, points, rotation=None, centre=(0, 0, 0), focal=FOCAL, claimed=FOCAL, prior=True, size=SIZE):
        """Take an image with ``focal``; the database is told ``claimed`` and that it has ``size``."""
        rotation = np.eye(3) if rotation is None else rotation
        local = (points - np.asarray(centre)) @ rotation.T
        pixels = local[:, :2] / local[:, 2:] * focal + np.array(SIZE) / 2
        pixels += self.rng.normal(scale=self.noise, size=pixels.shape)
        seen = (local[:, 2] > 0) & (pixels > 0).all(1) & (pixels < SIZE).all(1)
        self.add(name, pixels[seen], np.flatnonzero(seen), claimed, prior, size)

    def add(self, name, pixels, shows, claimed=FOCAL, prior=True, size=SIZE):
        camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", claimed, *size)
        camera.has_prior_focal_length = prior
        camera.camera_id = self.db.write_camera(camera)
        rig = pycolmap.Rig()
        rig.add_ref_sensor(camera.sensor_id)
        rig_id = self.db.write_rig(rig)
        image = pycolmap.Image(name=name, camera_id=camera.camera_id)
        image.image_id = self.ids[name] = self.db.write_image(image)
        frame = pycolmap.Frame()
        frame.rig_id = rig_id
        frame.add_data_id(image.data_id)
        self.db.write_frame(frame)
        self.keypoints[name], self.shows[name] = np.asarray(pixels, np.float32), np.asarray(shows)
        if len(pixels):
            self.db.write_keypoints(image.image_id, self.keypoints[name])

    def match(self, name0, name1, shift=0):
        """Join keypoints that show the same point, or point p with p + ``shift``."""
        where = {point: i for i, point in enumerate(self.shows[name1].tolist())}
        pairs = [(i, where[p + shift]) for i, p in enumerate(self.shows[name0].tolist()) if p + shift in where]
        if pairs:
            self.db.write_matches(self.ids[name0], self.ids[name1], np.array(pairs, np.uint32))

    def match_all(self, *names):
        names = names or tuple(self.ids)
        for i, name in enumerate(names):
            for other in names[i + 1 :]:
                self.match(name, other)

    def verified(self):
        """Close and verify; returns the path."""
        self.db.close()
        verify(self.path)
        return self.path


def turned(degrees):
    """Rotation about the vertical axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
