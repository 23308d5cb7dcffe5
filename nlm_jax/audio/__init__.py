"""Waveforms: decoding and resampling (`wave`), the filter bank (`fbank`), noise, mixing and stretching (`augment`)."""
