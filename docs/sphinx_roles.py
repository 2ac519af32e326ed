"""An extension of Griffe: roles in docstrings, such as ``:class:`~a.B```, become code that mkdocstrings can show."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`~?\.?([^`]+)`")


class SphinxRoles(griffe.Extension):
    """Rewrites each docstring once it is read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Replace roles by code."""
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)
