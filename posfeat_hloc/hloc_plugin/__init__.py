"""All of this package inside an installed hloc: names in its confs, models it can load, a fix for its triangulation.

Nothing here imports hloc before a function is called, and no file of hloc is touched.
"""

from posfeat_hloc.hloc_plugin.pipelines import features_in_pipelines
from posfeat_hloc.hloc_plugin.registration import Names, register, unregister
from posfeat_hloc.hloc_plugin.triangulation import cure_triangulation

__all__ = ["Names", "cure_triangulation", "features_in_pipelines", "register", "unregister"]
