"""What a run's config says about data. Plain values; `core.config.build(DataConfig, mapping)` checks them."""

import dataclasses
import math

from nlm_jax.core.config import FREE_ON_RESUME
from nlm_jax.core.errors import UserError

BALANCES = ("", "taxon", "sqrt")


@dataclasses.dataclass(frozen=True)
class MixtureConfig:
    """How much of what. Everything empty: each example once an epoch, in one global shuffle.

    Examples stand in groups of one source, domain and task, and a group's natural share is its number of examples.
    Each stage of a curriculum has a mixture of its own.
    """

    domain: dict[str, float] = dataclasses.field(default_factory=dict)
    """Share of each domain (normalised). If given, it must name every domain of the corpus; 0 leaves one out."""
    task: dict[str, float] = dataclasses.field(default_factory=dict)
    """Factor on a task's natural share within its domain; names may hold *, the first match counts, others keep 1."""
    source: dict[str, float] = dataclasses.field(default_factory=dict)
    """The same per corpus directory, by the directory's name."""
    taxon: dict[str, float] = dataclasses.field(default_factory=dict)
    """Factor on examples by taxon: a name at any rank (Aves, Corvus corax), a whole lineage, or a label; * allowed."""
    temperature: float = 1.0
    """T: tasks share their domain (all of the mixture, where `domain` is empty) by weight^(1/T). 1 = by weight; above 1
    flattens, towards equal shares of all tasks."""
    balance: str = ""
    """Species inside each group: "" as often as their examples, "taxon" all equally often, "sqrt" as often as the
    square root of their number. Where no source has a factor, a group spans all sources."""
    species_cap: int = 0
    """At most so many examples of a species, over all tasks and sources, drawn by the seed; 0 = all of them. A label
    without a lineage counts as a species; examples with neither are not capped."""

    def __post_init__(self):
        if not 0 < self.temperature < math.inf:
            raise UserError(
                f"data.mixture.temperature={self.temperature}: must be positive; 1 leaves shares as they are"
            )
        if self.balance not in BALANCES:
            raise UserError(f"data.mixture.balance={self.balance!r}: is none of '', 'taxon', 'sqrt'")
        if self.species_cap < 0:
            raise UserError(f"data.mixture.species_cap={self.species_cap}: must not be negative; 0 keeps all examples")


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Training-time augmentation. Off by default; the reference's stage 2 values are in the comments.

    Each kind has a probability, ranges from which its values are drawn evenly, and `..._except`: names of tasks (*
    allowed) that it leaves alone because it would change their answer. All are functions of (seed, stream position),
    and switching one on leaves what the others draw as it was. An example's clips share what is drawn, so that a
    question that compares them stays fair; only noise and shifts are their own.
    """

    noise_prob: float = 0.0  # 0.4
    noise_snr: tuple[float, float] = (-10.0, 25.0)
    """dB between which the signal-to-noise ratio is drawn evenly."""
    noise_dirs: tuple[str, ...] = ()
    """Prepared directories whose clips serve as noise; without any, noise is Gaussian with a random spectral tilt."""
    noise_except: tuple[str, ...] = ("*-qa", "*icl*", "*caption*", "*animal-instructions*")
    noise_except_paths: tuple[str, ...] = ("*/A/*",)
    """Recordings by the path that the annotations give (as if it began with /)."""
    detection: tuple[str, ...] = (
        *("*simple-detection", "*multiple-detection", "*sci-detection-random", "*common-detection-random"),
    )
    """Tasks whose answer lists what is heard: the only ones for mix-up and "None"."""
    mixup_prob: float = 0.0  # 0.45: other recordings are heard too; answers and options are merged
    mixup_partners: int = 2
    none_prob: float = 0.0  # 0.1: audio becomes noise, the answer "None"
    time_scale_prob: float = 0.0
    time_scale: float = 1.1
    """Largest stretch or squeeze factor; pitch moves with it."""
    time_scale_except: tuple[str, ...] = ("*pitch*",)
    time_shift_prob: float = 0.0
    time_shift: float = 1.0
    """Largest shift, as a share of the clip. Into the silence behind a short recording; a recording that fills the clip
    comes round again at the front, so that nothing the answer is about is lost."""
    time_shift_except: tuple[str, ...] = ("*order*", "*timestamp*")
    band_stop_prob: float = 0.0
    band_stop: tuple[float, float] = (200.0, 6000.0)
    """Hz between which the centre of the silenced band is drawn, evenly by octaves."""
    band_stop_octaves: tuple[float, float] = (0.1, 0.5)
    """Width of the band."""
    band_stop_except: tuple[str, ...] = ("*pitch*",)
    reverb_prob: float = 0.0
    reverb_seconds: tuple[float, float] = (0.1, 0.8)
    """Time in which the synthetic room's sound falls by 60 dB."""
    reverb_ratio: tuple[float, float] = (0.0, 15.0)
    """dB of the direct sound above the synthetic room's."""
    reverb_dirs: tuple[str, ...] = ()
    """Prepared directories of impulse responses, in place of synthetic rooms."""
    reverb_except: tuple[str, ...] = ()
    gain_prob: float = 0.0
    gain: tuple[float, float] = (-12.0, 12.0)
    """dB; the last step, and never above full scale."""
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
    """Where the data is and what a batch looks like."""

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
    seconds: float = 10.0
    """Length of every clip: longer ones are cropped, shorter ones zero-padded."""
    rows: int = 8
    """Rows of the global batch."""
    row_tokens: int = 1024
    row_clips: int = 8
    row_answers: int = 256
    skip_long: bool = False
    """Leave out (and count) examples longer than a row, instead of stopping with their name."""
    window_rows: int = 256
    """Rows planned together; more gives fuller rows and slower planning."""
    random_crop: bool = True
    """Training crops at random as the reference does; evaluation always takes the start."""
    seed: int = 0
    workers: int = dataclasses.field(default=0, metadata=FREE_ON_RESUME)
    """Processes that build rows; 0 = threads of this process."""
    threads: int = dataclasses.field(default=4, metadata=FREE_ON_RESUME)
    prefetch: int = dataclasses.field(default=4, metadata=FREE_ON_RESUME)
    """Batches made ahead."""
    cache_gb: float = dataclasses.field(default=50.0, metadata=FREE_ON_RESUME)
    """Room for local copies of shards of directories in buckets, in 10^9 bytes; of this user, whatever the run. Every
    epoch fetches again what does not fit."""
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
        return round(self.seconds * 16_000)
