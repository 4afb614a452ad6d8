"""Names spoken by espeak-ng, as log-mel frames at 25 Hz."""

from __future__ import annotations

import subprocess

import numpy as np
from numpy.typing import NDArray

RATE = 22050  # samples a second, espeak-ng's own
HOP = RATE // 25
WINDOW = 2 * HOP
BANDS = 40
WAV_HEADER = 44  # bytes
VOICES = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5")

Floats = NDArray[np.float32]


def _mel_filters() -> Floats:
    """Triangles of equal width in mel, 2595 log10(1 + f / 700) as in HTK: [WINDOW // 2 + 1, BANDS]."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(WINDOW, 1 / RATE)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return np.clip(np.minimum(rising, falling), 0, None).astype(np.float32)


FILTERS = _mel_filters()


def speak(text: str, language: str, generator: np.random.Generator) -> Floats:
    """The text in a random voice, speed and pitch: samples in -1..1 at 22.05 kHz."""
    voice = f"{language}+{generator.choice(VOICES)}"
    speed, pitch = int(generator.integers(150, 231)), int(generator.integers(25, 76))
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", "--", text]
    said = subprocess.run(command, check=True, capture_output=True).stdout[WAV_HEADER:]
    return np.frombuffer(said[: len(said) // 2 * 2], dtype="<i2").astype(np.float32) / np.float32(32768)


def log_mel(sound: Floats) -> Floats:
    """Log energies in 40 mel bands, a frame each 40 ms from windows of 80 ms: float32 [frames, 40]."""
    padded = np.pad(sound, (0, max(WINDOW - len(sound), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    energies: Floats = np.log(power @ FILTERS + 1e-3).astype(np.float32)
    return energies
