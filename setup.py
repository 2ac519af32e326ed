"""A stub: the metadata is in ``pyproject.toml``. The package ``posfeat_hloc._weights`` is the folder ``weights``."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["posfeat_hloc*", "pipelines"]), "posfeat_hloc._weights"])
