"""hloc's model ``mixed``: :mod:`posfeat_hloc.extractors.mixed`."""

from typing import ClassVar

from posfeat_hloc.hloc_plugin.models import ExtractorModel


class Mixed(ExtractorModel):
    """See :class:`posfeat_hloc.extractors.mixed.Options` for the conf."""

    default_conf: ClassVar = {"name": "mixed"}
