"""hloc's model ``nearest``: :mod:`posfeat_hloc.matchers.nearest`."""

from typing import ClassVar

from posfeat_hloc.hloc_plugin.models import MatcherModel


class Nearest(MatcherModel):
    """See :class:`posfeat_hloc.matchers.nearest.Options` for the conf."""

    default_conf: ClassVar = {"name": "nearest"}
