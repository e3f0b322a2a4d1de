#!/usr/bin/env python3
"""Prints the licenses of all crates that the program for a target contains, each text once.

Usage: licenses.py TARGET [NAME=FILE…]     FILE is the license of something else that is linked in

The licenses of most crates require that their text goes with the program. The texts come from the crates' own sources,
which cargo has unpacked; a crate whose source has none is listed with its SPDX expression.
"""

import json
import pathlib
import re
import subprocess
import sys

LICENSE_FILE = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)


def linked_packages(target):
    """The packages that are compiled into the program: no tests and no tools of the build."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    found, pending = set(), [root]
    while pending:
        for dependency in nodes[pending.pop()]["deps"]:
            is_linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if is_linked and dependency["pkg"] not in found:
                found.add(dependency["pkg"])
                pending.append(dependency["pkg"])
    return sorted((packages[package] for package in found), key=lambda package: (package["name"], package["version"]))


def license_texts(package):
    directory = pathlib.Path(package["manifest_path"]).parent
    files = {path for path in directory.iterdir() if path.is_file() and LICENSE_FILE.match(path.name)}
    if package["license_file"]:
        files.add(directory / package["license_file"])
    # where one of several licenses may be chosen: the one whose text is the same for most crates
    offered = re.split(r" OR |/", package["license"] or "")
    apache = {path for path in files if re.search(r"apache", path.name, re.IGNORECASE)}
    if len(offered) > 1 and "Apache-2.0" in offered and apache:
        files = apache | {path for path in files if path.name.upper().startswith(("NOTICE", "COPYRIGHT"))}
    return [path.read_text(encoding="utf-8", errors="replace").strip("\r\n") for path in sorted(files)]


def essence(text):
    """What two copies of a license have in common: not their line breaks, nor the appendix of the Apache License."""
    terms = text.split("END OF TERMS AND CONDITIONS")[0]
    return re.sub(r"[\s/.:]+", " ", re.sub(r"https?://", "", terms)).strip().lower()


def main():
    target, others = sys.argv[1], [argument.split("=", 1) for argument in sys.argv[2:]]
    users, texts_by_essence, without = {}, {}, []
    for package in linked_packages(target):
        name = f"{package['name']} {package['version']} ({package['license'] or 'see below'})"
        texts = license_texts(package)
        if not texts:
            without.append(name)
        for text in texts:
            users.setdefault(texts_by_essence.setdefault(essence(text), text), []).append(name)
    for name, path in others:
        text = pathlib.Path(path).read_text(encoding="utf-8").strip("\r\n")
        users.setdefault(texts_by_essence.setdefault(essence(text), text), []).append(name)
    if not users:
        sys.exit(f"licenses.py: cargo lists no crate with a license for {target}")

    print(f"lessor for {target} contains the works listed here, under these licenses.")
    if without:
        print("\nThe sources of these contain no text of their license:\n")
        print("\n".join(f"  {name}" for name in without))
    for text, names in sorted(users.items(), key=lambda entry: entry[1]):
        print("\n" + "=" * 80 + "\n")
        print("\n".join(f"  {name}" for name in dict.fromkeys(names)))
        print("\n" + text)


main()
