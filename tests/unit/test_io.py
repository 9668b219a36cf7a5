"""References are made and read as Flyte's, and as they were made before."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from orchestrator._codec import decode_values, encode_values
from orchestrator.io import DataFrame, Dir, File


@pytest.mark.parametrize("kind", [File, Dir])
def test_a_path_and_a_uri_are_one(kind: type[File | Dir]) -> None:
    made = kind(path="s3://b/x.csv", format="csv")
    assert made == kind("s3://b/x.csv", "csv") == kind(uri="s3://b/x.csv", format="csv")
    assert (made.path, made.uri, made.name) == ("s3://b/x.csv", "s3://b/x.csv", "x.csv")
    assert replace(made, format="") == kind.from_existing_remote("s3://b/x.csv")
    for wrong in ({}, {"path": "a", "uri": "a"}):
        with pytest.raises(TypeError, match="takes a path"):
            kind(**wrong)


def test_a_file_is_no_folder() -> None:
    assert len({File("s3://b/x"), Dir("s3://b/x")}) == 2
    table = DataFrame.from_existing_remote("bq://p:d.t")
    assert table == DataFrame(uri="bq://p:d.t")


@dataclass
class Report:
    """A class of a user's with a reference in it."""

    file: File


def test_a_file_in_a_class_comes_back() -> None:
    """Also from a row that was written when its path was called uri."""
    types, report = {"r": Report}, Report(File("s3://b/x"))
    encoded = encode_values(types, {"r": report}, what="input")
    assert decode_values(types, encoded.proto) == {"r": report}
    # Of the same length, so that the protobuf around it still holds.
    old = encoded.proto.replace(b'"path":', b'"uri": ')
    assert old != encoded.proto
    assert decode_values(types, old) == {"r": report}
