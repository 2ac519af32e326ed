"""hloc's model ``efficientnet``: :mod:`posfeat_hloc.retrieval.efficientnet`."""

from typing import ClassVar

from posfeat_hloc.hloc_plugin.models import DescriberModel


class EfficientNet(DescriberModel):
    """See :class:`posfeat_hloc.retrieval.efficientnet.Options` for the conf."""

    default_conf: ClassVar = {"name": "efficientnet"}
