"""hloc's model ``posfeat_hloc_disk``: :mod:`posfeat_hloc.extractors.disk`; hloc has its own."""

from typing import ClassVar

from posfeat_hloc.hloc_plugin.models import ExtractorModel


class Disk(ExtractorModel):
    """See :class:`posfeat_hloc.extractors.disk.Options` for the conf."""

    default_conf: ClassVar = {"name": "posfeat_hloc_disk"}
