"""A small stage that tests run through the frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.core.chunk_key_encodings import ChunkKeyEncodingParams

from kd.artefacts.job import Job
from kd.common.options import BaseOptions
from kd.jobs.run import Context, Outcome


class Spec(BaseOptions):
    text: str


def job(root: Path, name: str = "a", code: str = "1", text: str | None = None, **upstream: Job) -> Job:
    ups = {role: up.as_upstream() for role, up in upstream.items()}
    spec = {"text": text or name}
    return Job.make(root, "stage", name, spec=spec, code={"kd.stages.stage": code}, upstream=ups)


def write(context: Context[Spec]) -> Outcome:
    (context.directory / "content.txt").write_text(context.spec.text)
    return Outcome({"length": len(context.spec.text)})


def write_store(context: Context[Spec]) -> Outcome:
    """Chunks that carry a CRC32C, one a file; and an array whose files carry none."""
    group = zarr.create_group(context.directory / "data.zarr")
    rows = np.arange(30, dtype=np.float32).reshape(10, 3)
    for name, compressors in (("rows", [Crc32cCodec()]), ("plain", None)):
        places: ChunkKeyEncodingParams = {"name": "default", "separator": "."}
        group.create_array(name, data=rows, chunks=(4, 3), compressors=compressors, chunk_key_encoding=places)
    return Outcome({})


def refuse(_: Context[Spec]) -> Outcome:
    raise AssertionError("there was nothing to do")
