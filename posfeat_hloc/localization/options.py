"""How queries are localized."""

from __future__ import annotations

from dataclasses import dataclass

from posfeat_hloc.errors import ConfigurationError

FALLBACKS = (None, "closest")


@dataclass(frozen=True)
class LocalizationOptions:
    """How poses are found. Raises ConfigurationError for a fallback that does not exist or a limit below zero."""

    max_error: float = 12.0
    """Of an inlier, in pixels."""
    min_inliers: int = 12
    """Different 3D points among the inliers; more are asked for where chance would give as many."""
    seed: int = 0
    """Of the RANSAC of each query, which makes the result independent of the number of threads."""
    covisibility_clustering: bool = False
    """Whether map images without common 3D points are tried apart, cluster by cluster; most inliers win."""
    fallback: str | None = None
    """``closest``: a query that is not localized gets the pose of its first map image (a habit of benchmarks, where a
    wrong pose costs nothing); it still counts as not localized."""
    threads: int = -1
    """-1 for all cores."""

    def __post_init__(self) -> None:
        if self.fallback not in FALLBACKS:
            raise ConfigurationError(f"fallback {self.fallback!r} does not exist; choose 'closest' or None")
        if self.max_error <= 0 or self.min_inliers < 0:
            raise ConfigurationError("max_error must be positive and min_inliers not negative")
        if not 0 <= self.seed < 2**31:
            raise ConfigurationError(f"seed must be from 0 to 2147483647, not {self.seed}")
