"""hloc's model ``d2d``: :mod:`posfeat_hloc.extractors.d2d`."""

from typing import ClassVar

from posfeat_hloc.hloc_plugin.models import ExtractorModel


class D2D(ExtractorModel):
    """See :class:`posfeat_hloc.extractors.d2d.Options` for the conf."""

    default_conf: ClassVar = {"name": "d2d"}
