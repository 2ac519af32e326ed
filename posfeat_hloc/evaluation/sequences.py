"""Image sequences with known homographies: HPatches and Oxford affine (VGG), as their folders are laid out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posfeat_hloc.errors import ConfigurationError, Option
from posfeat_hloc.images.formats import EXTENSIONS

IMAGES = 6
"""Of a sequence; the first is matched with each of the others."""

LAYOUTS = (
    "HPatches: i_*/ and v_*/ with 1.ppm ... 6.ppm and H_1_2 ... H_1_6; "
    "Oxford affine: */ with img1.ppm ... img6.ppm and H1to2p ... H1to6p (other image formats will do)"
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
    """Six images of one plane.

    Attributes:
        name: of the folder.
        change: ``illumination``, ``viewpoint`` or ``other``.
        images: names relative to the data set, the reference first.
        homographies: 3x3 each, from the reference to the second, third, ... image, in pixels.
    """

    name: str
    change: str
    images: tuple[str, ...]
    homographies: tuple[NDArray[np.float64], ...]


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


def find_sequences(dataset: Path) -> SequenceSet:
    """Read the sequences in the folders of a data set; HPatches and Oxford affine may stand side by side.

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
    for folder in folders:
        if folder.name in HIGH_RESOLUTION:
            found.left_out.append(folder.name)
            continue
        try:
            found.sequences.append(_read(folder))
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
