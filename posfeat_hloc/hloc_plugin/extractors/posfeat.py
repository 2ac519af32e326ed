"""hloc's model ``posfeat``: :mod:`posfeat_hloc.extractors.posfeat`."""

from typing import ClassVar

from posfeat_hloc.hloc_plugin.models import ExtractorModel


class PoSFeat(ExtractorModel):
    """See :class:`posfeat_hloc.extractors.posfeat.Options` for the conf."""

    default_conf: ClassVar = {"name": "posfeat"}
