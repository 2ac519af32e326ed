"""hloc's model ``sift``: :mod:`posfeat_hloc.extractors.sift`."""

from typing import ClassVar

from posfeat_hloc.hloc_plugin.models import ExtractorModel


class Sift(ExtractorModel):
    """See :class:`posfeat_hloc.extractors.sift.Options` for the conf."""

    default_conf: ClassVar = {"name": "sift"}
