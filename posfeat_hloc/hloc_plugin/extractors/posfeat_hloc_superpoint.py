"""hloc's model ``posfeat_hloc_superpoint``: :mod:`posfeat_hloc.extractors.superpoint`; hloc has its own."""

from typing import ClassVar

from posfeat_hloc.hloc_plugin.models import ExtractorModel


class SuperPoint(ExtractorModel):
    """See :class:`posfeat_hloc.extractors.superpoint.Options` for the conf."""

    default_conf: ClassVar = {"name": "posfeat_hloc_superpoint"}
