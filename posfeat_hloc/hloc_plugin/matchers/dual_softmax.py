"""hloc's model ``dual_softmax``: :mod:`posfeat_hloc.matchers.dual_softmax`."""

from typing import ClassVar

from posfeat_hloc.hloc_plugin.models import MatcherModel


class DualSoftmax(MatcherModel):
    """See :class:`posfeat_hloc.matchers.dual_softmax.Options` for the conf."""

    default_conf: ClassVar = {"name": "dual_softmax"}
