#!/usr/bin/env python3
"""Prints a bill of materials (CycloneDX 1.5, JSON) of the operator: every crate that is compiled into it, from the lock file.

  sbom.py TIME TARGET…

TIME is in seconds since 1970; TARGET is a Rust target, as `x86_64-unknown-linux-musl`. Crates that only tests, build scripts and
procedural macros use are not in it: they do not reach the program.
"""

import json
import os
import subprocess
import sys
import time
import tomllib

ROOT = "taskwatch"


def metadata(target):
    """What cargo knows of the workspace, for one target."""
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=600).stdout)


def linked(data):
    """The crates that reach the program, each with those of them that it uses."""
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    macros = {id for id, package in packages.items() if any("proc-macro" in target["kind"] for target in package["targets"])}
    root = next(id for id in data["workspace_members"] if packages[id]["name"] == ROOT)
    found, todo = {}, [root]
    while todo:
        id = todo.pop()
        if id in found:
            continue
        normal = [dep["pkg"] for dep in nodes[id]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
        found[id] = sorted(set(normal) - macros)
        todo += found[id]
    return packages, found, root


def purl(package):
    """The name of a crate that scanners know."""
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, checksums):
    """A crate as CycloneDX has it."""
    name, version = package["name"], package["version"]
    entry = {"type": "library", "bom-ref": purl(package), "name": name, "version": version, "purl": purl(package)}
    if package["license"]:
        # Old manifests separate alternatives by a slash.
        entry["licenses"] = [{"expression": " ".join(package["license"].replace("/", " OR ").split())}]
    if checksum := checksums.get((name, version)):
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return entry


def main():
    when, targets = int(sys.argv[1]), sys.argv[2:]
    with open("Cargo.lock", "rb") as lock:
        checksums = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.load(lock)["package"]}
    packages, uses = {}, {}
    for target in targets:
        known, found, root = linked(metadata(target))
        for id, needed in found.items():
            packages[id] = known[id]
            uses[id] = uses.get(id, set()) | set(needed)
    refs = {id: purl(package) for id, package in packages.items()}
    program = component(packages[root], checksums) | {"type": "application"}
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when)),
            "component": program,
            "properties": [{"name": "taskwatch:target", "value": target} for target in targets],
        },
        "components": [component(packages[id], checksums) for id in sorted(packages, key=refs.get) if id != root],
        "dependencies": [{"ref": refs[id], "dependsOn": sorted(refs[used] for used in uses[id])} for id in sorted(uses, key=refs.get)],
    }
    print(json.dumps(bom, indent=1))


if __name__ == "__main__":
    main()
