"""Image sequences with known homographies, as the folders of their data sets are laid out.

HPatches and Oxford affine (VGG); pairs of EVD (Mishkin et al., 2015) and of Homogr (Lebeda et al., 2012), whose true
homography comes with points that people marked; and folders of a fixed camera, where nothing moves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.images.formats import EXTENSIONS

IMAGES = 6
"""Of a sequence of HPatches and Oxford affine; the first is matched with each of the others."""

FIXED_STEPS = (1, 7, 13)
"""Image k of a fixed camera, in the order of names, is matched with images k + 1, k + 7 and k + 13, cyclically."""

LAYOUTS = (
    "HPatches: i_*/ and v_*/ with 1.ppm ... 6.ppm and H_1_2 ... H_1_6; "
    "Oxford affine: */ with img1.ppm ... img6.ppm and H1to2p ... H1to6p (other image formats will do); "
    "EVD: 1/NAME.png, 2/NAME.png and h/NAME.txt; Homogr: NAMEA.png, NAMEB.png and NAME_vpts.mat"
)

HIGH_RESOLUTION = frozenset(
    "i_contruction i_crownnight i_dc i_pencils i_whitebuilding v_artisans v_astronautis v_talent".split()  # noqa: SIM905
)
"""The 8 sequences of HPatches that D2-Net's protocol leaves out, and all who compare with it."""

HPATCHES = frozenset(
    """
    i_ajuntament i_autannes i_bologna i_books i_boutique i_bridger i_brooklyn i_castle i_chestnuts i_contruction
    i_crownday i_crownnight i_dc i_dome i_duda i_fenis i_fog i_fruits i_gonnenberg i_greenhouse i_greentea i_indiana
    i_kions i_ktirio i_kurhaus i_leuven i_lionday i_lionnight i_londonbridge i_melon i_miniature i_nescafe i_nijmegen
    i_nuts i_objects i_parking i_partyfood i_pencils i_pinard i_pool i_porta i_resort i_salon i_santuario i_school i_ski
    i_smurf i_steps i_table i_tools i_toy i_troulos i_veggies i_village i_whitebuilding i_yellowtent i_zion
    v_abstract v_adam v_apprentices v_artisans v_astronautis v_azzola v_bark v_bees v_beyus v_bip v_bird v_birdwoman
    v_blueprint v_boat v_bricks v_busstop v_calder v_cartooncity v_charing v_churchill v_circus v_coffeehouse v_colors
    v_courses v_dirtywall v_dogman v_eastsouth v_feast v_fest v_gardens v_grace v_graffiti v_home v_laptop v_london
    v_machines v_man v_maskedman v_pomegranate v_posters v_samples v_soldiers v_strand v_sunseason v_tabletop v_talent
    v_tempera v_there v_underground v_vitro v_wall v_wapping v_war v_weapons v_woman v_wormhole v_wounded v_yard
    v_yuri
    """.split()  # noqa: SIM905
)
"""All 116 sequences of the release."""

_OXFORD_CHANGES = {"graf": "viewpoint", "wall": "viewpoint", "bark": "viewpoint", "boat": "viewpoint",
                   "leuven": "illumination"}  # fmt: skip  # bikes and trees are blurred, ubc is compressed


@dataclass(frozen=True)
class ImageSequence:
    """Images of one plane, or of one fixed camera.

    Attributes:
        name: of the folder, or of the pair.
        change: ``illumination``, ``viewpoint`` or ``other``.
        images: names relative to the data set, the reference first.
        homographies: 3x3 of each pair, in pixels.
        pairs: indices of the images that are matched; the reference with each of the others unless told otherwise.
        marked: ``(N, 4)`` corresponding pixels (x0, y0, x1, y1) that a person marked in the only pair, if any.
    """

    name: str
    change: str
    images: tuple[str, ...]
    homographies: tuple[NDArray[np.float64], ...]
    pairs: tuple[tuple[int, int], ...] = ()
    marked: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """The usual pairs."""
        if not self.pairs:
            object.__setattr__(self, "pairs", tuple((0, i) for i in range(1, len(self.images))))


@dataclass
class SequenceSet:
    """What a folder of sequences holds.

    Attributes:
        sequences: the complete ones, sorted by name.
        left_out: names of HPatches' high-resolution sequences in the folder.
        absent: names of the protocol's 108 sequences that are not in a folder of HPatches.
        unusable: folder -> why it is no sequence.
    """

    sequences: list[ImageSequence] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)

    @property
    def is_hpatches(self) -> bool:
        """Whether every sequence is one of HPatches."""
        return bool(self.sequences) and all(sequence.name in HPATCHES for sequence in self.sequences)


def find_sequences(dataset: Path, fixed_camera: bool = False) -> SequenceSet:
    """Read the sequences of a data set; HPatches and Oxford affine may be mixed.

    Args:
        dataset: the folder.
        fixed_camera: each of its folders holds the images of a camera that did not move.

    Raises:
        ConfigurationError: no such folder, or no complete sequence in it; the message shows the layout that is expected
            and what was found.
    """
    if not dataset.is_dir():
        raise ConfigurationError(
            f"{dataset}: no such folder; ", Option("dataset"), f" takes a folder of sequences ({LAYOUTS})"
        )
    folders = sorted(entry for entry in dataset.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    found = SequenceSet()
    if not fixed_camera and (pairs := _marked_pairs(dataset) or _evd_pairs(dataset)):
        for name, images, truth in pairs:
            try:
                found.sequences.append(_read_pair(dataset, name, images, truth))
            except ConfigurationError as error:
                found.unusable[name] = str(error)
        folders = []
    for folder in folders:
        if folder.name in HIGH_RESOLUTION:
            found.left_out.append(folder.name)
            continue
        try:
            found.sequences.append(_read_fixed(folder) if fixed_camera else _read(folder))
        except ConfigurationError as error:
            found.unusable[folder.name] = str(error)
    if not found.sequences:
        raise ConfigurationError(f"{dataset}: holds no sequence; expected {LAYOUTS}; found {_contents(dataset, found)}")
    if any(folder.name in HPATCHES for folder in folders):
        found.absent = sorted(HPATCHES - HIGH_RESOLUTION - {folder.name for folder in folders})
    return found


def read_homography(path: Path) -> NDArray[np.float64]:
    """Read nine numbers, three a line; ConfigurationError where there is no invertible 3x3 matrix."""
    try:
        matrix = np.array([[float(v) for v in line.split()] for line in path.read_text().splitlines() if line.strip()])
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: cannot be read as a homography ({error}); get the file again") from error
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix) < 3:
        raise ConfigurationError(f"{path}: is not an invertible 3x3 matrix; get the file again")
    return matrix


def _read(folder: Path) -> ImageSequence:
    names = sorted(entry.name for entry in folder.iterdir())
    oxford = any(re.fullmatch(r"H1to\dp|img\d\..*", name) for name in names)
    image, homography = ("img{}", "H1to{}p") if oxford else ("{}", "H_1_{}")
    images = [_image(folder, image.format(i), names) for i in range(1, IMAGES + 1)]
    homographies = [read_homography(folder / homography.format(i)) for i in range(2, IMAGES + 1)]
    change = _OXFORD_CHANGES.get(folder.name, "other")
    if not oxford:
        change = {"i_": "illumination", "v_": "viewpoint"}.get(folder.name[:2], "other")
    return ImageSequence(folder.name, change, tuple(f"{folder.name}/{name}" for name in images), tuple(homographies))


def _read_fixed(folder: Path) -> ImageSequence:
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in EXTENSIONS)
    if len(names) < 2:
        raise ConfigurationError(f"{folder}: holds {len(names)} images; a fixed camera needs two")
    steps = sorted({step % len(names) for step in FIXED_STEPS} - {0})
    pairs = tuple((i, (i + step) % len(names)) for i in range(len(names)) for step in steps)
    images = tuple(f"{folder.name}/{name}" for name in names)
    return ImageSequence(folder.name, "illumination", images, (np.eye(3),) * len(pairs), pairs)


def _evd_pairs(dataset: Path) -> list[tuple[str, tuple[str, str], Path]]:
    """Name, images and file of the homography of each pair of EVD; none elsewhere."""
    if not all((dataset / part).is_dir() for part in "12h"):
        return []
    sides = [sorted(entry.name for entry in (dataset / part).iterdir()) for part in "12"]
    return [
        (truth.stem, (_of_stem("1", truth.stem, sides[0]), _of_stem("2", truth.stem, sides[1])), truth)
        for truth in sorted((dataset / "h").glob("*.txt"))
    ]


def _marked_pairs(dataset: Path) -> list[tuple[str, tuple[str, str], Path]]:
    """Name, images and file of the marked points of each pair of Homogr; none elsewhere."""
    names = sorted(entry.name for entry in dataset.iterdir())
    return [
        (stem, (_of_stem("", f"{stem}A", names), _of_stem("", f"{stem}B", names)), dataset / name)
        for name in names
        if (stem := name.removesuffix("_vpts.mat")) != name
    ]


def _of_stem(folder: str, stem: str, names: list[str]) -> str:
    """The image of that name, relative to the data set; empty where there is none."""
    found = [name for name in names if Path(name).stem == stem and Path(name).suffix.lower() in EXTENSIONS]
    return str(PurePosixPath(folder, found[0])) if found else ""


def _read_pair(dataset: Path, name: str, images: tuple[str, str], truth: Path) -> ImageSequence:
    if not all(images):
        raise ConfigurationError(f"{truth}: the two images of {name} are not there; get the data set again")
    if truth.suffix != ".mat":
        return ImageSequence(name, "viewpoint", images, (read_homography(truth),))
    marked, homography = read_marked_points(truth)
    return ImageSequence(name, "viewpoint", images, (homography,), marked=marked)


def read_marked_points(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points that a person marked in two images, and the homography that fits them, as Homogr stores both.

    Args:
        path: MATLAB file with the structure ``validation``: ``pts`` (6 x N, homogeneous pixels of the first image, then
            of the second) and ``model`` (3x3, first to second image).

    Returns:
        ``(N, 4)`` pixels, with the centre of the first pixel at zero where MATLAB has it at one, and 3x3.

    Raises:
        ConfigurationError: SciPy is not installed, or the file holds something else.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ConfigurationError(f'{path}: MATLAB files need SciPy: pip install "posfeat-hloc[matlab]"') from error
    try:
        validation = loadmat(path)["validation"][0, 0]
        points = np.asarray(validation["pts"], np.float64)
        model = np.asarray(validation["model"], np.float64)
        if points.shape[0] != 6 or points.shape[1] < 4 or model.shape != (3, 3) or np.linalg.matrix_rank(model) < 3:
            raise ValueError(f"pts is {points.shape}, model is {model.shape}")
    except Exception as error:  # of a damaged file the reader raises anything
        raise ConfigurationError(f"{path}: cannot be read as marked points ({error}); get the file again") from error
    to_zero = np.array([[1.0, 0, -1], [0, 1, -1], [0, 0, 1]])
    xy = [points[k : k + 2] / points[k + 2] - 1 for k in (0, 3)]
    return np.concatenate(xy).T, np.asarray(to_zero @ model @ np.linalg.inv(to_zero), np.float64)


def _image(folder: Path, stem: str, names: list[str]) -> str:
    """The file of one image; the original format where a converted copy lies beside it."""
    files = [name for name in names if Path(name).stem == stem and Path(name).suffix.lower() in EXTENSIONS]
    if not files:
        raise ConfigurationError(f"{folder}: holds no image {stem}.ppm (or .png, .jpg, ...)")
    return min(files, key=lambda name: (not name.endswith(".ppm"), name))


def _contents(dataset: Path, found: SequenceSet, limit: int = 5) -> str:
    """What lies in a folder in which no sequence was found."""
    if found.unusable:
        reasons = list(found.unusable.values())
        return "; ".join(reasons[:limit]) + (f"; and {len(reasons) - limit} more" if len(reasons) > limit else "")
    if found.left_out:
        return f"only sequences that the protocol leaves out ({', '.join(found.left_out)})"
    names = sorted(entry.name for entry in dataset.iterdir() if not entry.name.startswith("."))
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "") or "nothing"
