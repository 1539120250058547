"""An image on top of another one, as an archive that an engine loads: no build, nothing is run.

The archive has one layer, the configuration, and the manifests that list them.  The layers below
are only named, because the engine has them.  The same files on the same parent give the same bytes
on every host, and so the same image id.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from runner.engine.facts import EngineImage

LAYOUT: Final = b"1"
"""Of this module's archives: part of an image's hash, so that a change here makes images anew."""

_READ_BYTES: Final = 1 << 20
_OCI: Final = "application/vnd.oci.image"
_KEPT: Final = ("User", "Env", "WorkingDir", "Entrypoint", "Cmd")
"""What of the parent's configuration an image on top of it has too, beside the labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """What an image adds to its parent.

    Arguments:
        parent: the image below, which the engine must still have when it loads the archive.
        files: contents, or for large files where they are on disk, by path from the root.
        labels: in addition to the parent's, which they override.
    """

    parent: EngineImage
    files: Mapping[str, bytes | Path]
    labels: Mapping[str, str]

    def write(self, archive: IO[bytes], *, tag: str) -> None:
        """Write the archive of an image with this tag.  Raises OSError."""
        with tarfile.open(fileobj=archive, mode="w") as tar:
            with tempfile.TemporaryFile() as layer:
                _write_tree(layer, self.files)
                added = _add_blob(tar, layer, f"{_OCI}.layer.v1.tar")
            # Engines look for layers by these hashes; of those that they have, they read no more.
            below = [{**added, "digest": each, "size": 0} for each in self.parent.layers]
            diff_ids = [*self.parent.layers, added["digest"]]
            configuration = {
                **self.parent.platform,
                "created": self.parent.created,  # of this moment, no two would be equal
                "config": {
                    **{key: self.parent.config[key] for key in _KEPT if key in self.parent.config},
                    "Labels": {**self.parent.labels, **self.labels},
                },
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
            }
            config = _add_blob(tar, _json(configuration), f"{_OCI}.config.v1+json")
            manifest = {
                "schemaVersion": 2,
                "mediaType": f"{_OCI}.manifest.v1+json",
                "config": config,
                "layers": [*below, added],
            }
            described = _add_blob(tar, _json(manifest), f"{_OCI}.manifest.v1+json")
            names = {
                "io.containerd.image.name": f"docker.io/{tag}",
                "org.opencontainers.image.ref.name": tag,
            }
            index = {"schemaVersion": 2, "manifests": [{**described, "annotations": names}]}
            # What Docker's classic store reads in place of the index.
            listed = {
                "Config": _path(config["digest"]),
                "RepoTags": [tag],
                "Layers": [_path(each) for each in diff_ids],
            }
            add_file(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
            add_file(tar, "index.json", _json(index))
            add_file(tar, "manifest.json", _json([listed]))


def add_file(tar: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    """Add a file whose owner, mode and time say nothing about this host."""
    with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as source:
        _add_stream(tar, name, source)


def _add_stream(tar: tarfile.TarFile, name: str, source: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = source.seek(0, io.SEEK_END)
    source.seek(0)
    tar.addfile(member, source)


def _write_tree(layer: IO[bytes], files: Mapping[str, bytes | Path]) -> None:
    """Write the files and the directories above them: root's, readable by all, without a date."""
    with tarfile.open(fileobj=layer, mode="w") as tar:
        directories = {str(above) for each in files for above in PurePosixPath(each).parents}
        for name in sorted(directories - {"."}):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for name, content in sorted(files.items()):
            add_file(tar, name, content)


def _add_blob(tar: tarfile.TarFile, content: bytes | IO[bytes], media_type: str) -> dict[str, Any]:
    """Add a blob under its hash; return its descriptor."""
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    source.seek(0)
    total = hashlib.sha256()
    while piece := source.read(_READ_BYTES):
        total.update(piece)
    digest = f"sha256:{total.hexdigest()}"
    _add_stream(tar, _path(digest), source)
    return {"mediaType": media_type, "digest": digest, "size": source.tell()}


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
