"""hloc's model ``vlad``: :mod:`posfeat_hloc.retrieval.vlad`."""

from typing import ClassVar

from posfeat_hloc import confs
from posfeat_hloc.hloc_plugin.models import DescriberModel


class Vlad(DescriberModel):
    """See :class:`posfeat_hloc.retrieval.vlad.Options` for the conf.

    ``vocabulary`` says what the visual words come from: the folder of the database's images, which they are learnt
    from (the same ones each time), or a file of global descriptors that :func:`posfeat_hloc.retrieval.describe_images`
    wrote.
    """

    default_conf: ClassVar = {"name": "vlad"}
    preprocessing: ClassVar = confs.retrieval["vlad-hardnet"]["preprocessing"]
