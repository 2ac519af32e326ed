"""``weights list|get|verify|convert|average``: which weights there are, their licences, and whether they are whole."""

from __future__ import annotations

import argparse
import os
import shutil
import textwrap
from pathlib import Path

import torch

from posfeat_hloc import weights
from posfeat_hloc.errors import ConfigurationError, WeightsError
from posfeat_hloc.weights.identification import LOADERS, Identity, architecture_of, identify, load_as

POSFEAT = (
    "PoSFeat                           none released by its authors\n"
    "  make your own (README, 'Train your own') or convert a checkpoint of the\n"
    "  authors' code: python -m posfeat_hloc weights convert FOLDER OUT.safetensors"
)


def add_weights(command: argparse.ArgumentParser) -> None:
    """The options of ``weights``."""
    actions = command.add_subparsers(required=True, metavar="list|get|verify|convert")

    action = actions.add_parser("list", help="bundled and public weights")
    action.set_defaults(run=list_weights)

    action = actions.add_parser("get", help="download public weights, or go on with a broken download")
    action.set_defaults(run=get)
    action.add_argument("name", metavar="NAME", help=", ".join([*weights.PUBLIC, *weights.BUNDLED]))
    action.add_argument("--output", metavar="FILE|DIR", help="put a copy here (a new folder ends in /)")

    action = actions.add_parser("verify", help="compare hashes, and load as the network they are for")
    action.set_defaults(run=verify)
    action.add_argument("what", nargs="*", metavar="NAME|FILE",
        help="names, files, or folders with backbone.pth and localheader.pth (default: all that are here)")  # fmt: skip

    action = actions.add_parser("convert", help="a checkpoint of the authors to one safetensors file")
    action.set_defaults(run=convert)
    action.add_argument(
        "source", metavar="IN", help="a file, or PoSFeat's folder with backbone.pth and localheader.pth"
    )
    action.add_argument("output", type=Path, metavar="OUT", help="a file that ends in .safetensors")

    action = actions.add_parser("average", help="the mean of two weights of one network, one fine-tuned from the other")
    action.set_defaults(run=average)
    action.add_argument("first", metavar="NAME|FILE")
    action.add_argument("second", metavar="NAME|FILE")
    action.add_argument("output", type=Path, metavar="OUT", help="a file that ends in .safetensors")
    action.add_argument("--share", type=float, default=0.5, help="of the second, 0 to 1 (default: %(default)s)")


def list_weights(_: argparse.Namespace) -> bool:
    """Print what is known of all weights, three lines each."""
    for name, bundled in weights.BUNDLED.items():
        path = weights.weights_folder() / bundled.file
        where = f"{path}{_size(path)}" if path.is_file() else f"{path} is missing: install posfeat-hloc again"
        origin = f"in the package as {weights.version_of(name)}, {weights.OUR_LICENCE}"
        _print_entry(name, origin, f"sha256 {bundled.sha256}", where)
    for name, public in weights.PUBLIC.items():
        path = weights.public_path(name)
        where = f"{path}{_size(path)}"
        if not path.is_file():
            where = f"not here yet: python -m posfeat_hloc weights get {name}"
        _print_entry(name, f"public, {public.licence}", f"{public.digest_kind} {public.digest}", where)
    print(POSFEAT)
    return True


def _print_entry(name: str, origin: str, digest: str, where: str) -> None:
    head = f"{name:<22}{LOADERS[architecture_of(name)][0]:<12}"
    print(f"{textwrap.fill(head + origin, 80, subsequent_indent=' ' * len(head))}\n  {digest}\n  {where}")


def get(args: argparse.Namespace) -> bool:
    """Download weights, or copy bundled ones."""
    args.name = weights.plain_name(args.name)
    if args.name in weights.BUNDLED:
        path, licence = weights.weights_folder() / weights.BUNDLED[args.name].file, weights.OUR_LICENCE
        weights.load(args.name)
    elif args.name in weights.PUBLIC:
        path, licence = weights.download(args.name), weights.PUBLIC[args.name].licence
    else:
        known = ", ".join([*weights.BUNDLED, *weights.PUBLIC])
        raise ConfigurationError(f"{args.name!r} is the name of no weights; there are {known}")
    if args.output is not None:
        target = Path(args.output)
        path = _copy(path, target / path.name if args.output.endswith(os.sep) or target.is_dir() else target)
    print(f"{path}\n  {args.name}{_size(path)}, {licence}")
    return True


def _copy(source: Path, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    shutil.copyfile(source, partial)
    os.replace(partial, path)
    return path


def verify(args: argparse.Namespace) -> bool:
    """Check weights one by one; whether all are whole."""
    wanted = args.what or [*weights.BUNDLED, *(name for name in weights.PUBLIC if weights.public_path(name).is_file())]
    sound = True
    for what in wanted:
        try:
            identity, digest = check(what)
        except WeightsError as error:
            print(f"fail  {error}")
            sound = False
        else:
            print(f"ok    {what}: {describe(identity)}\n      {digest}")
    return sound


def check(what: str) -> tuple[Identity, str]:
    """What weights are, and what their hash says; nothing is downloaded.

    Raises:
        WeightsError: not here, altered, or not the weights of what they should be.
    """
    what = weights.plain_name(what)
    if what in weights.BUNDLED:
        return load_as(architecture_of(what), what), "SHA-256 as promised"
    if what in weights.PUBLIC:
        path = weights.public_path(what)
        if not path.is_file():
            raise WeightsError(f"{what}: not here yet; python -m posfeat_hloc weights get {what}")
        if not weights.is_published(path, what):
            raise WeightsError(
                f"{path}: not the published file of {what!r}; python -m posfeat_hloc weights get {what} replaces it"
            )
        return load_as(architecture_of(what), str(path)), "git's hash as in the authors' repository"
    identity, name = identify(what), published_name(Path(what))
    if name is not None:
        return identity, f"the published file of {name!r}"
    return identity, "no hash to compare with: neither bundled nor public"


def describe(identity: Identity) -> str:
    """One line for people."""
    return f"{identity.name}, {identity.parameters / 1e6:.2f} M parameters"


def published_name(path: Path) -> str | None:
    """The name under which this very file is bundled or public, None for others."""
    if not path.is_file():
        return None
    digest = weights.sha256(path)
    bundled = [name for name, entry in weights.BUNDLED.items() if entry.sha256 == digest]
    return next(iter([*bundled, *(name for name in weights.PUBLIC if weights.is_published(path, name))]), None)


def convert(args: argparse.Namespace) -> bool:
    """Write one safetensors file, read it again and compare every value."""
    if args.output.suffix != ".safetensors":
        raise ConfigurationError(f"{args.output}: the name must end in .safetensors")
    source = str(args.source)
    identity = identify(source)
    posfeat = identity.architecture == "posfeat"
    loaded = weights.load_parts(source, ("backbone", "localheader")) if posfeat else weights.load(source)
    names = {name.replace(".module.", ".") if posfeat else name: tensor for name, tensor in loaded.tensors.items()}
    # a copy each: safetensors refuses tensors that share memory
    tensors = {name: (t.float() if t.is_floating_point() else t).clone() for name, t in names.items()}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    origin = {"architecture": identity.architecture, "source": Path(source).name, "source_sha256": loaded.sha256}
    digest = weights.save(args.output, tensors, origin | loaded.metadata, half=False)
    again = weights.load(str(args.output)).tensors
    if again.keys() != tensors.keys() or not all(torch.equal(again[name], tensors[name]) for name in tensors):
        raise WeightsError(f"{args.output}: what is read is not what was written; do not use it")
    print(f"{args.output}\n  {describe(load_as(identity.architecture, str(args.output)))}{_size(args.output)}")
    print(f"  all {len(tensors)} tensors read again and equal\n  sha256 {digest}")
    return True


def _size(path: Path) -> str:
    return f", {path.stat().st_size / 1e6:.1f} MB" if path.is_file() else ""


def average(args: argparse.Namespace) -> bool:
    """Write (1 - share) first + share second of every tensor; keypoint head and metadata are those of the second.

    Between weights and what was fine-tuned from them such averages often keep the abilities of both (WiSE-FT,
    Wortsman et al., 2022).
    """
    if args.output.suffix != ".safetensors":
        raise ConfigurationError(f"{args.output}: the name must end in .safetensors")
    if not 0 <= args.share <= 1:
        raise ConfigurationError(f"--share {args.share}: must be 0 to 1")
    first, second = weights.load(args.first), weights.load(args.second)
    shapes = [{name: tensor.shape for name, tensor in found.tensors.items()} for found in (first, second)]
    if shapes[0] != shapes[1]:
        raise ConfigurationError(f"{args.first} and {args.second}: not weights of one network")
    tensors = {
        name: torch.lerp(first.tensors[name], tensor, args.share) if _averaged(name, tensor) else tensor
        for name, tensor in second.tensors.items()
    }
    origin = {"average_of": f"{first.sha256} {second.sha256}", "share": str(args.share)}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    digest = weights.save(args.output, tensors, second.metadata | origin)
    print(f"{args.output}{_size(args.output)}\n  sha256 {digest}")
    return True


def _averaged(name: str, tensor: torch.Tensor) -> bool:
    """A keypoint head reads the descriptors that it was trained on, so heads are not mixed."""
    return tensor.is_floating_point() and not name.startswith("localheader.")
