"""The data part of a config. Plain values; `core.config.build(DataConfig, mapping)` checks them."""

import dataclasses
import math

from nlm_jax.core.config import FREE_ON_RESUME
from nlm_jax.core.dims import CLIP_SECONDS, SAMPLE_RATE
from nlm_jax.core.errors import UserError

BALANCES = ("", "taxon", "sqrt")


@dataclasses.dataclass(frozen=True)
class MixtureConfig:
    """Shares of domains, tasks, sources and taxa. If all is empty, each example comes once per epoch, in one shuffle.

    A group is the examples of one source, domain and task; its natural share is its number of examples. Each stage of
    training has its own mixture.
    """

    domain: dict[str, float] = dataclasses.field(default_factory=dict)
    """Share of each domain (normalised). If given, every domain of the corpus must be named; 0 leaves one out."""
    task: dict[str, float] = dataclasses.field(default_factory=dict)
    """Factor on a task's natural share within its domain; * allowed, the first match counts, others have 1."""
    source: dict[str, float] = dataclasses.field(default_factory=dict)
    """Factor on a corpus directory, by its name."""
    taxon: dict[str, float] = dataclasses.field(default_factory=dict)
    """Factor on examples by taxon: a name at any rank (Aves, Corvus corax), a whole lineage, or a label; * allowed."""
    temperature: float = 1.0
    """T: tasks share their domain (the whole mixture if `domain` is empty) by weight^(1/T). 1 = by weight; above 1,
    shares become more equal."""
    balance: str = ""
    """Species inside each group: "" as often as their examples, "taxon" all equally often, "sqrt" as often as the
    square root of their number. If no source has a factor, a group spans all sources."""
    species_cap: int = 0
    """Maximum examples per species over all tasks and sources, chosen by the seed; 0 = all. A label without a lineage
    counts as a species; examples with neither are not capped."""

    def __post_init__(self):
        if not 0 < self.temperature < math.inf:
            raise UserError(
                f"data.mixture.temperature={self.temperature}: must be positive; 1 leaves shares as they are"
            )
        if self.balance not in BALANCES:
            raise UserError(f"data.mixture.balance={self.balance!r}: must be '', 'taxon' or 'sqrt'")
        if self.species_cap < 0:
            raise UserError(f"data.mixture.species_cap={self.species_cap}: must not be negative; 0 keeps all examples")


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Training-time augmentation. Off by default; the reference's stage 2 values are in the comments.

    Each kind has a probability, ranges from which its parameters are drawn uniformly, and `..._except`: tasks (*
    allowed) that it leaves alone because it would change their answer. All are functions of (seed, stream position),
    and switching one on does not change what the others draw. The clips of an example share the parameters, so that a
    question that compares them stays fair; only noise and shifts are drawn per clip.
    """

    noise_prob: float = 0.0  # 0.4
    noise_snr: tuple[float, float] = (-10.0, 25.0)
    """Range of the signal-to-noise ratio in dB."""
    noise_dirs: tuple[str, ...] = ()
    """Prepared directories whose clips are the noise; if empty, noise is Gaussian with a random spectral tilt."""
    noise_except: tuple[str, ...] = ("*-qa", "*icl*", "*caption*", "*animal-instructions*")
    noise_except_paths: tuple[str, ...] = ("*/A/*",)
    """Recordings by their path in the annotations (as if it began with /)."""
    detection: tuple[str, ...] = (
        *("*simple-detection", "*multiple-detection", "*sci-detection-random", "*common-detection-random"),
    )
    """Tasks whose answer lists the sounds of the clip: mix-up and "None" apply to these only."""
    mixup_prob: float = 0.0  # 0.45: other recordings are mixed in; answers and options are merged
    mixup_partners: int = 2
    none_prob: float = 0.0  # 0.1: audio becomes noise, the answer "None"
    time_scale_prob: float = 0.0
    time_scale: float = 1.1
    """Largest stretch or squeeze factor; pitch moves with it."""
    time_scale_except: tuple[str, ...] = ("*pitch*",)
    time_shift_prob: float = 0.0
    time_shift: float = 1.0
    """Largest shift, as a share of the clip. A short recording moves into the silence after it; one that fills the clip
    is rotated, so that nothing the answer is about is lost."""
    time_shift_except: tuple[str, ...] = ("*order*", "*timestamp*")
    band_stop_prob: float = 0.0
    band_stop: tuple[float, float] = (200.0, 6000.0)
    """Range of the centre of the silenced band in Hz, uniform in octaves."""
    band_stop_octaves: tuple[float, float] = (0.1, 0.5)
    """Range of the width of the band."""
    band_stop_except: tuple[str, ...] = ("*pitch*",)
    reverb_prob: float = 0.0
    reverb_seconds: tuple[float, float] = (0.1, 0.8)
    """Range of the reverberation time of the synthetic room: its sound falls by 60 dB in it."""
    reverb_ratio: tuple[float, float] = (0.0, 15.0)
    """Range of the direct sound above the synthetic room's, in dB."""
    reverb_dirs: tuple[str, ...] = ()
    """Prepared directories of impulse responses, instead of synthetic rooms."""
    reverb_except: tuple[str, ...] = ()
    gain_prob: float = 0.0
    gain: tuple[float, float] = (-12.0, 12.0)
    """Range in dB; the last step, limited to full scale."""
    gain_except: tuple[str, ...] = ("*velocity*",)

    def __post_init__(self):
        for name in (field.name for field in dataclasses.fields(self) if field.name.endswith("_prob")):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"data.augment.{name}={getattr(self, name)}: a probability lies between 0 and 1")
        for name in ("noise_snr", "band_stop", "band_stop_octaves", "reverb_seconds", "reverb_ratio", "gain"):
            low, high = getattr(self, name)
            if not -math.inf < low <= high < math.inf:
                raise UserError(f"data.augment.{name}={(low, high)}: {name} is (low, high), both finite")
        for name in ("band_stop", "band_stop_octaves", "reverb_seconds"):
            if not getattr(self, name)[0] > 0:
                raise UserError(f"data.augment.{name}={getattr(self, name)}: both must be positive")
        if not self.time_scale >= 1 or self.mixup_partners < 1:
            raise UserError("data.augment: time_scale and mixup_partners are at least 1")
        if not 0 < self.time_shift <= 1:
            raise UserError(f"data.augment.time_shift={self.time_shift}: a share above 0, at most 1")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Data directories, the shape of a batch, and how batches are built."""

    train: tuple[str, ...] = ()
    """Directories written by `nlm prepare`."""
    valid: tuple[str, ...] = ()
    train_split: str = ""
    """Only examples of this split ("" = all)."""
    valid_split: str = ""
    tasks: tuple[str, ...] = ()
    """Only these tasks (* allowed; empty = all)."""
    domains: tuple[str, ...] = ()
    """Only these domains (* allowed; empty = all)."""
    seconds: float = CLIP_SECONDS
    """Length of every clip: longer ones are cropped, shorter ones zero-padded."""
    rows: int = 8
    """Rows of the global batch."""
    row_tokens: int = 1024
    row_clips: int = 8
    row_answers: int = 256
    skip_long: bool = False
    """Leave out (and count) examples longer than a row, instead of failing with the name of the first."""
    window_rows: int = 256
    """Rows planned together; larger windows fill rows better and take longer to plan."""
    random_crop: bool = True
    """Training crops clips at random, as the reference does; evaluation always takes their start."""
    seed: int = 0
    workers: int = dataclasses.field(default=0, metadata=FREE_ON_RESUME)
    """Processes that build batches; 0 = threads of this process."""
    threads: int = dataclasses.field(default=4, metadata=FREE_ON_RESUME)
    prefetch: int = dataclasses.field(default=4, metadata=FREE_ON_RESUME)
    """Batches built ahead."""
    cache_gb: float = dataclasses.field(default=50.0, metadata=FREE_ON_RESUME)
    """Size of the cache of shards downloaded from buckets, in 10^9 bytes; all runs of a user share it. Shards that do
    not fit are downloaded again in every epoch."""
    mixture: MixtureConfig = dataclasses.field(default_factory=MixtureConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)

    def __post_init__(self):
        for name in ("rows", "row_tokens", "row_clips", "row_answers", "window_rows", "threads"):
            if getattr(self, name) < 1:
                raise UserError(f"data.{name}={getattr(self, name)}: must be at least 1")
        for name in ("seed", "workers", "prefetch"):
            if getattr(self, name) < 0:
                raise UserError(f"data.{name}={getattr(self, name)}: must not be negative")
        if not self.cache_gb > 0:
            raise UserError(f"data.cache_gb={self.cache_gb}: must be positive")
        if not self.seconds > 0:
            raise UserError(f"data.seconds={self.seconds}: must be positive")

    @property
    def samples(self) -> int:
        """T: samples of a clip at 16 kHz."""
        return round(self.seconds * SAMPLE_RATE)
