"""The most similar images: exact search for the largest products of global descriptors.

An index library would compute the same product: approximate search pays only from about a million images on, and one
product of 10 000 x 10 000 descriptors takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from posfeat_hloc.errors import ConfigurationError
from posfeat_hloc.stores import GlobalDescriptorStore
from posfeat_hloc.stores.pairs import Pair

_ROWS = 2048  # descriptors of each side in memory at a time


def retrieve(
    queries: Path,
    database: Path,
    count: int,
    query_names: Sequence[str] | None = None,
    database_names: Sequence[str] | None = None,
) -> list[Pair]:
    """Pair every query with the ``count`` database images whose descriptors have the largest product with its own.

    Best first, queries in the order of their names as given. Within one file an image is never paired with itself; in
    two files equal names are different images. Memory holds 2048 descriptors of each side, whatever the size of the
    collection.

    Args:
        queries: HDF5 file with ``<image name>/global_descriptor``, of ours or hloc's.
        database: likewise; may be the same file.
        count: database images for a query.
        query_names: all images of the file when None.
        database_names: likewise.

    Raises:
        StoreError: a file is missing or damaged, or an image has no descriptor.
        ConfigurationError: nothing to search for or in, or descriptors that cannot be compared.
    """
    if count < 1:
        raise ConfigurationError(f"retrieval needs at least one image for a query, not {count}")
    with GlobalDescriptorStore(queries) as query_store, GlobalDescriptorStore(database) as database_store:
        query_names = query_store.names() if query_names is None else list(dict.fromkeys(query_names))
        database_names = database_store.names() if database_names is None else list(dict.fromkeys(database_names))
        for path, names in ((queries, query_names), (database, database_names)):
            if not names:
                raise ConfigurationError(f"{path}: no images with a global descriptor to search; describe them first")
        if not query_store.is_comparable(database_store):
            raise ConfigurationError(
                f"{queries}: was made with another configuration or vocabulary than {database}; describe the queries "
                "with the database's"
            )
        pairs: list[Pair] = []
        for start in range(0, len(query_names), _ROWS):
            names = query_names[start : start + _ROWS]
            best = _nearest(query_store, names, database_store, database_names, count)
            pairs += [(name, database_names[row]) for name, rows in zip(names, best, strict=True) for row in rows]
    return pairs


def _nearest(
    query_store: GlobalDescriptorStore,
    query_names: Sequence[str],
    database_store: GlobalDescriptorStore,
    database_names: Sequence[str],
    count: int,
) -> list[list[int]]:
    """Rows of the ``count`` best database images for each query, best first; equally good ones in order."""
    wanted = torch.from_numpy(query_store.read(query_names))
    one_file = query_store.path.resolve() == database_store.path.resolve()  # in two, equal names are different images
    rows_of = {name: row for row, name in enumerate(query_names)}
    similarities = torch.empty(len(query_names), 0)
    indices = torch.empty(len(query_names), 0, dtype=torch.long)
    for start in range(0, len(database_names), _ROWS):
        names = database_names[start : start + _ROWS]
        offered = torch.from_numpy(database_store.read(names))
        if offered.shape[1] != wanted.shape[1]:
            raise ConfigurationError(
                f"descriptors have {wanted.shape[1]} dimensions in {query_store.path}, but {offered.shape[1]} in "
                f"{database_store.path}; describe both with one configuration"
            )
        products = wanted @ offered.T
        for column, name in enumerate(names if one_file else []):
            if name in rows_of:
                products[rows_of[name], column] = -torch.inf
        similarities, indices = _best(
            torch.cat([similarities, products], dim=1),
            torch.cat([indices, torch.arange(start, start + len(names)).expand(len(query_names), -1)], dim=1),
            count,
        )
    return [row[values > -torch.inf].tolist() for row, values in zip(indices, similarities, strict=True)]


def _best(similarities: Tensor, indices: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest ``count`` values of each row, sorted; a stable sort, so that copies of an image keep their order."""
    values, order = similarities.sort(dim=1, descending=True, stable=True)
    return values[:, :count], indices.gather(1, order[:, :count])
