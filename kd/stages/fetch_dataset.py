"""Download the archives of a dataset from the public addresses that its source names."""

from __future__ import annotations

from kd.artefacts.files import link_or_copy
from kd.common.options import BaseOptions
from kd.data.sources.base import Archive
from kd.jobs.run import Context, Outcome, stage_main

UNREAD = ("addresses", "bytes")


class Spec(BaseOptions):
    """The files, by name; what is in them is told by their checksums alone."""

    checksums: dict[str, str]
    addresses: dict[str, str]
    bytes: dict[str, int]


def build(context: Context[Spec]) -> Outcome:
    """Get each file, or go on where an earlier attempt stopped; files that had another address are taken over."""
    from kd.data.download import download

    spec = context.spec
    for name, checksum in spec.checksums.items():
        for directory in context.kin[:1]:
            link_or_copy(directory / name, context.directory / name)
        download(Archive(spec.addresses[name], checksum, spec.bytes[name]), context.directory)
    return Outcome({})


if __name__ == "__main__":
    stage_main(Spec, build, UNREAD)
