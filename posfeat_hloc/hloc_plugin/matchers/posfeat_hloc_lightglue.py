"""hloc's model ``posfeat_hloc_lightglue``: :mod:`posfeat_hloc.matchers.lightglue`; hloc has its own."""

from typing import ClassVar

from posfeat_hloc.hloc_plugin.models import MatcherModel


class LightGlue(MatcherModel):
    """See :class:`posfeat_hloc.matchers.lightglue.Options` for the conf."""

    default_conf: ClassVar = {"name": "posfeat_hloc_lightglue"}
