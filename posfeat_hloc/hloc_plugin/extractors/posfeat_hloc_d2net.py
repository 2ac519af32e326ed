"""hloc's model ``posfeat_hloc_d2net``: :mod:`posfeat_hloc.extractors.d2net`; hloc has its own."""

from typing import ClassVar

from posfeat_hloc.hloc_plugin.models import ExtractorModel


class D2Net(ExtractorModel):
    """See :class:`posfeat_hloc.extractors.d2net.Options` for the conf."""

    default_conf: ClassVar = {"name": "posfeat_hloc_d2net"}
