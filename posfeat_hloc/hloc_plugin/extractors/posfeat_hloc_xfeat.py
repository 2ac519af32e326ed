"""hloc's model ``posfeat_hloc_xfeat``: :mod:`posfeat_hloc.extractors.xfeat`; some forms of hloc have their own."""

from typing import ClassVar

from posfeat_hloc.hloc_plugin.models import ExtractorModel


class Xfeat(ExtractorModel):
    """See :class:`posfeat_hloc.extractors.xfeat.Options` for the conf."""

    default_conf: ClassVar = {"name": "posfeat_hloc_xfeat"}
