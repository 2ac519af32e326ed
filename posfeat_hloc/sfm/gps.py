"""Where photographs were taken: GPS positions from EXIF, as metres around an origin, as pairs, as COLMAP's priors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.images.formats import open_image
from posfeat_hloc.stores.pairs import Pair, unique_pairs

ERROR = 5.0
"""Metres, one standard deviation of a position whose file does not say; a phone under the open sky."""

_GPS = 0x8825  # where EXIF keeps GPS tags, by the numbers that follow
_DJI = ("(?:Gps)?Latitude", "(?:Gps)?Long(?:t)?itude")  # the typing error is theirs
_TRUNCATED = 0.02  # degrees
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE, _ALTITUDE_REF, _ALTITUDE, _ERROR = 1, 2, 3, 4, 5, 6, 31


@dataclass(frozen=True)
class Position:
    """A place on WGS 84.

    Attributes:
        latitude, longitude: degrees, north and east positive.
        altitude: metres; None where the file does not say.
        error: metres, one standard deviation in the plane, as the file says or :data:`ERROR`.
        assumed: the file does not say whether north or south, east or west, and north and east are taken.
    """

    latitude: float
    longitude: float
    altitude: float | None = None
    error: float = ERROR
    assumed: bool = False


@dataclass(frozen=True)
class LocalPositions:
    """Positions as metres east, north and up of an origin.

    Attributes:
        origin: latitude, longitude and altitude of ``(0, 0, 0)``.
        metres: image name -> ``(3,)``. Images without an altitude have that of the origin.
        error: median standard deviation in metres.
    """

    origin: tuple[float, float, float]
    metres: dict[str, NDArray[np.float64]]
    error: float


def read_positions(images: Path, names: Iterable[str]) -> dict[str, Position]:
    """Positions of the images that have one; image name -> position."""
    found = ((name, read_position(images / name)) for name in names)
    return {name: position for name, position in found if position is not None}


def read_position(path: Path) -> Position | None:
    """The GPS position in a photograph's EXIF tags, or the same with more digits where a drone wrote it into XMP, too.

    None where there is none, where it is damaged or impossible, and for latitude and longitude 0, which cameras
    without reception write.
    """
    try:
        with open_image(path) as file:
            tags, xmp = file.getexif().get_ifd(_GPS), file.info.get("xmp", b"")
        latitude = _degrees(tags[_LATITUDE], tags.get(_LATITUDE_REF), "S")
        longitude = _degrees(tags[_LONGITUDE], tags.get(_LONGITUDE_REF), "W")
    except Exception:  # damaged tags raise anything
        return None
    latitude, longitude = _more_exact(latitude, longitude, xmp)
    if not (abs(latitude) <= 90 and abs(longitude) <= 180) or (latitude, longitude) == (0, 0):
        return None
    altitude, error = _number(tags.get(_ALTITUDE)), _number(tags.get(_ERROR))
    if altitude is not None and tags.get(_ALTITUDE_REF) in (1, b"\1"):
        altitude = -altitude  # below the sea
    assumed = not (tags.get(_LATITUDE_REF) and tags.get(_LONGITUDE_REF))
    return Position(latitude, longitude, altitude, ERROR if error is None or error <= 0 else error, assumed)


def _more_exact(latitude: float, longitude: float, xmp: Any) -> tuple[float, float]:
    """What DJI's drones write as text beside EXIF tags that some of them truncate, if it is the same place."""
    text = xmp.decode("utf-8", "replace") if isinstance(xmp, bytes) else str(xmp)
    found = [re.search(rf"drone-dji:{name}[=>\s\"']+([+-]?\d+\.\d+)", text) for name in _DJI]
    if found[0] is None or found[1] is None:
        return latitude, longitude
    exact = float(found[0][1]), float(found[1][1])
    near = abs(exact[0] - latitude) < _TRUNCATED and abs(exact[1] - longitude) < _TRUNCATED
    return exact if near and exact != (0, 0) else (latitude, longitude)


def _degrees(values: Any, reference: Any, negative: str) -> float:
    """Degrees, minutes and seconds as one number; NaN for anything that is none."""
    degrees, minutes, seconds = (float(value) for value in values)
    sign = -1 if str(reference).strip("\0 ").upper() == negative else 1
    return sign * (degrees + minutes / 60 + seconds / 3600)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None


def local_positions(positions: Mapping[str, Position]) -> LocalPositions:
    """Metres east, north and up of the median position.

    Raises:
        ConfigurationError: no positions.
    """
    if not positions:
        raise ConfigurationError(
            "none of the images has a GPS position in its EXIF tags (many programs remove them); leave out GPS"
        )
    altitudes = [p.altitude for p in positions.values() if p.altitude is not None]
    middle = float(np.median(altitudes)) if altitudes else 0.0
    places = np.array(
        [(p.latitude, p.longitude, middle if p.altitude is None else p.altitude) for p in positions.values()]
    )
    latitude, longitude = (float(value) for value in np.median(places[:, :2], axis=0))
    transform = pycolmap.GPSTransform(pycolmap.GPSTransformEllipsoid.WGS84)
    metres = transform.ellipsoid_to_enu(places, latitude, longitude, middle)
    error = float(np.median([p.error for p in positions.values()]))
    return LocalPositions((latitude, longitude, middle), dict(zip(positions, metres, strict=True)), error)


def position_pairs(names: Sequence[str], positions: LocalPositions, count: int) -> list[Pair]:
    """Every image with the ``count`` nearest ones, nearest first, each pair once; one without a position with all.

    Args:
        names: of all images.
        positions: of those that have one.
        count: neighbours of an image.
    """
    placed = [name for name in sorted(set(names)) if name in positions.metres]
    places = np.array([positions.metres[name] for name in placed]).reshape(-1, 3)
    pairs: list[Pair] = []
    for row, name in enumerate(placed):
        distances = np.linalg.norm(places - places[row], axis=1)
        nearest = [other for other in np.argsort(distances, kind="stable") if other != row]
        pairs += [(name, placed[other]) for other in nearest[:count]]
    pairs += [(name, other) for name in sorted(set(names) - set(placed)) for other in sorted(set(names))]
    return unique_pairs(pairs)


def write_priors(database: Path, positions: Mapping[str, Position]) -> None:
    """Write positions into a COLMAP database, in place of those that it has; COLMAP's own mappers find them there.

    Heights are taken to be three times as uncertain as places; without an altitude a position is of no use there.
    """
    with pycolmap.Database.open(database) as db, pycolmap.DatabaseTransaction(db):
        db.clear_pose_priors()
        for image in db.read_all_images():
            position = positions.get(image.name)
            if position is None or position.altitude is None:
                continue
            prior = pycolmap.PosePrior(
                corr_data_id=image.data_id,
                position=np.array([position.latitude, position.longitude, position.altitude]),
                position_covariance=np.diag(np.array([1.0, 1.0, 9.0]) * position.error**2),
                coordinate_system=pycolmap.PosePriorCoordinateSystem.WGS84,
            )
            db.write_pose_prior(prior)
