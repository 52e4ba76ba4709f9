#!/usr/bin/env python3
"""Writes a package of a chart anew, in order and with one time and owner, so that it is the same to the byte from every clone.

  repack.py FILE.tgz EPOCH IMAGE

Its values name the image IMAGE, as install.yaml does.
"""

import pathlib
import sys
import tarfile

from oci import archive, compress


def main():
    package, when, image = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with tarfile.open(package) as tar:
        files = sorted((entry.name, 0o644, tar.extractfile(entry).read()) for entry in tar if entry.isfile())
    line = b"  repository: taskwatch\n"
    files = [(name, mode, data.replace(line, f"  repository: {image}\n".encode())) for name, mode, data in files]
    # Chart.yaml has to be the first that is found.
    files.sort(key=lambda file: not file[0].endswith("/Chart.yaml"))
    package.write_bytes(compress(archive(files, when)))


if __name__ == "__main__":
    main()
