#!/usr/bin/env python3
"""Writes an image of one static program for each architecture, as an OCI archive: the same to the byte whenever and wherever it is made.

  oci.py OUT.oci.tar --name docker.io/library/taskwatch:0.1.0 --time EPOCH [--argument run] [--label KEY=VALUE] ARCHITECTURE=PROGRAM…

Nothing is in it but the program, which runs as user 65532. No daemon, no root and no base image are needed. Prints the digest of the
image's index, by which it can be named (`taskwatch@sha256:…`).
"""

import argparse
import gzip
import hashlib
import io
import json
import pathlib
import tarfile
import time

USER = "65532:65532"


def blob(blobs, data):
    """Keeps `data`, and returns its descriptor without a type."""
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    blobs[digest] = data
    return {"digest": digest, "size": len(data)}


def document(blobs, kind, value):
    """Keeps a JSON document, and returns its descriptor."""
    return {"mediaType": kind} | blob(blobs, json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def archive(files, when):
    """A tar of `files` (name, mode, contents), owned by root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, mode, data in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(data), mode, when
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def compress(data):
    """As gzip, without a time."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9, mtime=0) as stream:
        stream.write(data)
    return packed.getvalue()


def image(blobs, architecture, program, options):
    """Keeps the image of one architecture, and returns its descriptor."""
    name = options.name.rsplit("/")[-1].split(":")[0]
    layer = archive([(name, 0o755, pathlib.Path(program).read_bytes())], options.time)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(options.time))
    labels = dict(label.split("=", 1) for label in options.label)
    config = {
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": {"User": USER, "Entrypoint": ["/" + name], "Cmd": options.argument, "WorkingDir": "/", "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        "history": [{"created": created, "created_by": "deploy/release/oci.py"}],
    }
    if architecture == "arm64":
        config["variant"] = "v8"
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": document(blobs, "application/vnd.oci.image.config.v1+json", config),
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"} | blob(blobs, compress(layer))],
        "annotations": labels,
    }
    platform = {key: config[key] for key in ("architecture", "os", "variant") if key in config}
    return document(blobs, manifest["mediaType"], manifest) | {"platform": platform}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("programs", nargs="+", metavar="ARCHITECTURE=PROGRAM")
    parser.add_argument("--name", required=True)
    parser.add_argument("--time", type=int, required=True, help="of everything in it, in seconds since 1970")
    parser.add_argument("--argument", action="append", default=[], help="given to the program unless others are")
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()

    blobs = {}
    programs = sorted(program.split("=", 1) for program in options.programs)
    kind = "application/vnd.oci.image.index.v1+json"
    manifests = [image(blobs, architecture, program, options) for architecture, program in programs]
    index = document(blobs, kind, {"schemaVersion": 2, "mediaType": kind, "manifests": manifests})
    # What podman and skopeo look for, and what containerd and Docker do.
    names = {"org.opencontainers.image.ref.name": options.name.rsplit(":")[-1], "io.containerd.image.name": options.name}
    outer = {"schemaVersion": 2, "mediaType": kind, "manifests": [index | {"annotations": names}]}
    files = [("blobs/sha256/" + digest.split(":")[1], 0o644, data) for digest, data in sorted(blobs.items())]
    files.append(("index.json", 0o644, json.dumps(outer, sort_keys=True).encode()))
    files.append(("oci-layout", 0o644, b'{"imageLayoutVersion":"1.0.0"}'))
    pathlib.Path(options.out).write_bytes(archive(files, options.time))
    print(index["digest"])


if __name__ == "__main__":
    main()
