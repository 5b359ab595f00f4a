"""Speech and music made on the spot: espeak-ng speaks, fluidsynth plays a General MIDI sound font."""

from __future__ import annotations

import struct
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from onnx_clp.errors import LoadError

Samples = NDArray[np.float32]

SOUND_FONT = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")
_VOICES = ("en-gb", "en-us", "de", "fr", "es", "it", "en-gb+f2", "en-us+m3", "de+f3", "fr+f4")
_TICKS = 480


def speech(text: str, number: int, rate: int = 16000) -> Samples:
    """`text` as voice number `number` says it, mono in -1..1."""
    voice, speed, pitch = _VOICES[number % len(_VOICES)], 120 + 13 * (number % 7), 30 + 8 * (number % 6)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "speech.wav"
        _run(["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(out), text])
        return _read(out, rate)


def music(notes: list[tuple[int, int, int]], rate: int) -> Samples:
    """Notes (program, pitch, velocity) one after another, half a second each, mono in -1..1."""
    with tempfile.TemporaryDirectory() as folder:
        score, out = Path(folder) / "score.mid", Path(folder) / "music.wav"
        score.write_bytes(_midi(notes))
        _run(["fluidsynth", "-ni", "-q", "-F", str(out), "-r", "44100", str(SOUND_FONT), str(score)])
        return _read(out, rate)


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        raise LoadError(f"{command[0]} does not run; install it (Debian: {command[0]}, timgm6mb-soundfont)") from error


def _read(path: Path, rate: int) -> Samples:
    with wave.open(str(path)) as file:
        raw = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, file.getnchannels())
        found = file.getframerate()
    divisor = np.gcd(found, rate)
    mono = raw.astype(np.float64).mean(1) / 32768
    return np.asarray(resample_poly(mono, rate // divisor, found // divisor), np.float32)


def _midi(notes: list[tuple[int, int, int]]) -> bytes:
    """A MIDI file of one track at 120 beats a minute."""
    track = b""
    for program, pitch, velocity in notes:
        track += bytes([0, 0xC0, program, 0, 0x90, pitch, velocity])
        track += _variable(_TICKS) + bytes([0x80, pitch, 0])
    track += bytes([0, 0xFF, 0x2F, 0])
    head = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, _TICKS)
    return head + struct.pack(">4sI", b"MTrk", len(track)) + track


def _variable(number: int) -> bytes:
    low = bytes([number & 127])
    return bytes([number >> 7 | 128]) + low if number > 127 else low
