"""What TensorBoard reads in a run's folder."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def events(path: Path) -> Iterator[Event]:
    """Of a file of records: length and its checksum, the record and its checksum."""
    left = path.read_bytes()
    while left:
        (length,) = struct.unpack("<Q", left[:8])
        yield Event.FromString(left[12 : 12 + length])
        left = left[16 + length :]


def curve(folder: Path, name: str) -> dict[int, float]:
    """The values of a name by step, in float32, of all files of a run."""
    found = [event for path in sorted(folder.glob("tensorboard/*")) for event in events(path)]
    return {one.step: value.simple_value for one in found for value in one.summary.value if value.tag == name}
