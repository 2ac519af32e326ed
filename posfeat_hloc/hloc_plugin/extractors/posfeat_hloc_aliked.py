"""hloc's model ``posfeat_hloc_aliked``: :mod:`posfeat_hloc.extractors.aliked`; some forms of hloc have their own."""

from typing import ClassVar

from posfeat_hloc.hloc_plugin.models import ExtractorModel


class Aliked(ExtractorModel):
    """See :class:`posfeat_hloc.extractors.aliked.Options` for the conf."""

    default_conf: ClassVar = {"name": "posfeat_hloc_aliked"}
