"""All steps on rendered images, top to bottom: a reconstruction, a localized image, exported points.

    python examples/colab.py            (a few minutes on two CPU cores)

In Colab, install the package in a first cell and paste this file into the second one. For your own photographs,
replace ``None`` by their folder and leave out ``demo=True``.
"""

from pathlib import Path

from posfeat_hloc import Localizer, SfmOptions, reconstruct
from posfeat_hloc.export import export

output = Path("outputs/colab")

# photographs to a COLMAP model; a second call keeps finished work
result = reconstruct(None, output, SfmOptions(demo=True, max_keypoints=1024))
model = result.models[0]
print(f"{model.registered} of {result.images} images, {model.points} points, {model.reprojection_error:.2f} px")
print(f"errors against ground truth: {result.against_truth}")

# the pose of an image in the model
image = next(iter(sorted((output / "images").iterdir())))
found = Localizer(output).localize(image).result
print(f"{image.name}: {found.inliers} inliers, camera from world {found.cam_from_world}")

# points for viewers
for path in export(Path(model.path), ["ply"], output / "export"):
    print(f"written: {path}")
