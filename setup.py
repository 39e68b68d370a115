"""Installation of the packages dagnet, layers, dsiam_net and matlab_import."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION: dict[str, str] = {}
exec((ROOT / "dagnet" / "version.py").read_text(), VERSION)

DEV = [
    "got10k>=0.1.3",
    # An MPI of its own, with mpiexec; users of mpi4py bring their cluster's.
    "mpi4py>=4.0",
    "mpich>=4.2; sys_platform != 'win32'",
    "onnx>=1.16",
    "onnxruntime>=1.18",
    "pytest>=7.4",
    "pytest-xdist>=3.5",
    "ruff>=0.6",
    "scikit-image>=0.22",
    # The got10k toolkit needs it and does not say so.
    "six>=1.16",
    "tensorboardX>=2.6",
    "vot-trax>=4.0",
]

setup(
    name="dsiam",
    version=VERSION["__version__"],
    description="DSiam (ICCV 2017) on a faithful port of MatConvNet's DagNN, in NumPy and CuPy",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    python_requires=">=3.10",
    packages=find_packages(
        include=["dagnet*", "layers*", "dsiam_net*", "matlab_import*"],
    ),
    package_data={
        "dsiam_net": ["pretrained/*"],
        "layers": ["kernels/cuda/*.cu", "kernels/cuda/*.cuh"],
    },
    install_requires=[
        "h5py>=3.10",
        "imageio>=2.31",
        "imageio-ffmpeg>=0.4.9",
        "matplotlib>=3.8",
        "networkx>=3.1",
        "numpy>=2.0",
        "opencv-python-headless>=4.10",
        "scipy>=1.13",
        "threadpoolctl>=3.1",
        "tqdm>=4.66",
    ],
    extras_require={
        "bench": ["psutil>=5.9", "torch>=2.2"],
        "cuda12": ["cupy-cuda12x>=14"],
        "cuda13": ["cupy-cuda13x>=14"],
        "fast": ["numba>=0.61"],
        # The toolkit needs six and does not say so.
        "got10k": ["got10k>=0.1.3", "six>=1.16"],
        "mpi": ["mpi4py>=4.0"],
        "onnx": ["onnx>=1.16", "onnxruntime>=1.18"],
        "photographs": ["scikit-image>=0.22"],
        "pth": ["torch>=2.2"],
        "tensorboard": ["tensorboardX>=2.6"],
        "vot": ["vot-trax>=4.0"],
        "dev": DEV,
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
