"""The letters of every shape in this code base. Signatures, docstrings and einsums use these and no others.

B  rows of a batch, or clips if a function takes clips alone
A  audio clips in one row
T  audio samples (waveforms) or frames (filter bank); the name of the array shows which
P  patch tokens of the encoder (8 per 16 frames, time-major)
W  Q-Former windows of one clip
Q  query tokens of one window (1 in the released model)
S  positions of a text sequence
M  answer slots of a row: the positions at which logits are computed
N  attention heads;  K  key/value heads;  G = N // K;  H  size of one head
D  width of a model;  F  width of its feed-forward part;  V  rows of the vocabulary
L  layers;  R  rank of a LoRA adapter;  C  channels
"""

SAMPLE_RATE = 16_000
"""Hz. Everything after decoding is at this rate."""
CLIP_SECONDS = 10.0
"""Length of a clip in the released model and by default."""
