"""Print a bill of materials with licences (CycloneDX) of the environment whose Python runs this.

Each installed distribution is a component. Its parts are the shared libraries that its wheel bundles, and the entries
of the wheel's own bills of materials (PEP 770). Debian's packages belong to the Python image and are not listed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

Component = dict[str, Any]

_LGPL, _GCC = "LGPL-2.1-or-later", "GPL-3.0-or-later WITH GCC-exception-3.1"
_NATIVE: Mapping[str, str] = {
    "libSvtAv1Enc": "BSD-3-Clause-Clear",
    "libXau": "MIT",
    "libaom": "BSD-2-Clause",
    "libasound": _LGPL,
    "libav(codec|device|filter|format|util)": _LGPL,
    "libavif": "BSD-2-Clause",
    "libbrotli(common|dec|enc)": "MIT",
    "libcrypto": "OpenSSL",
    "libdav1d": "BSD-2-Clause",
    "libdrm": "MIT",
    "libfreetype": "FTL OR GPL-2.0-or-later",
    "libgfortran": _GCC,
    "libgmp": "LGPL-3.0-or-later OR GPL-2.0-or-later",
    "libgnutls": _LGPL,
    "libgomp": _GCC,
    "libharfbuzz": "MIT-Modern-Variant",
    "libhogweed": "LGPL-3.0-or-later OR GPL-2.0-or-later",
    "libhwloc": "BSD-3-Clause",
    "libjpeg": "IJG AND BSD-3-Clause AND Zlib",
    "liblcms2": "MIT",
    "liblzma": "0BSD",
    "libmp3lame": "LGPL-2.0-or-later",
    "libnettle": "LGPL-3.0-or-later OR GPL-2.0-or-later",
    "libopenblas.*": "BSD-3-Clause",
    "libopencore-amr(nb|wb)": "Apache-2.0",
    "libopenjp2": "BSD-2-Clause",
    "libopenvino.*": "Apache-2.0",
    "libopus": "BSD-3-Clause",
    "libpng16": "libpng-2.0",
    "libquadmath": "LGPL-2.0-or-later",
    "libscipy_openblas.*": "BSD-3-Clause",
    "libsharpyuv": "BSD-3-Clause",
    "libssl": "OpenSSL",
    "libstdc\\+\\+": _GCC,
    "libsw(resample|scale)": _LGPL,
    "libtbb.*": "Apache-2.0",
    "libtiff": "libtiff",
    "libunistring": "LGPL-3.0-or-later OR GPL-2.0-or-later",
    "libvmaf": "BSD-2-Clause-Patent",
    "libvpl": "MIT",
    "libvpx": "BSD-3-Clause",
    "libwebp(demux|mux)?": "BSD-3-Clause",
    "libx264": "GPL-2.0-or-later",
    "libx265": "GPL-2.0-or-later",
    "libxcb.*": "MIT",
    "libz": "Zlib",
    "libzstd": "BSD-3-Clause OR GPL-2.0-only",
}
"""SPDX licences of bundled libraries by a pattern of the file name. The wheels do not state them."""
_VERSION_3 = ("av", re.compile("libav|libsw"))
"""PyAV configures FFmpeg with --enable-version3."""
_BUNDLED = re.compile(r"(?P<name>lib.+?)(-r\d+)?(-[0-9a-f]{8}([-.][0-9a-f.]{4,})?)?\.so(\.(?P<version>[\w.]+))?$")


def bill(installed: Iterable[Distribution]) -> Component:
    """Return the CycloneDX document. Raises ValueError for a bundled library whose licence is unknown."""
    first: dict[str, Distribution] = {}  # if two have the same name, Python imports the first
    for found in installed:
        first.setdefault(_name(found), found)
    components = sorted((_distribution(found) for found in first.values()), key=lambda component: component["purl"])
    [ours] = [component for component in components if component["name"] == "posewire"]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": ours | {"type": "application"}},
        "components": [component for component in components if component is not ours],
    }


def _distribution(found: Distribution) -> Component:
    name, version = _name(found), found.version
    purl = f"pkg:pypi/{name}@{quote(version)}"
    parts = {(part["name"], part.get("version", "")): part for part in _parts(found)}
    component: Component = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    component["licenses"] = _licences(found)
    if parts:
        component["components"] = [
            part | {"bom-ref": f"{purl}#{quote(part['name'])}@{quote(part.get('version', ''))}"}
            for _, part in sorted(parts.items())
        ]
    return component


def _name(found: Distribution) -> str:
    return re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()


def _licences(found: Distribution) -> list[Component]:
    if expressions := found.metadata.get_all("License-Expression"):
        return [{"expression": expressions[0]}]
    told = (found.metadata.get_all("License") or [""])[0].strip()
    classifiers = found.metadata.get_all("Classifier") or []
    classified = [line.rpartition("::")[2].strip() for line in classifiers if line.startswith("License ::")]
    names = [told] if told and "\n" not in told and len(told) < 80 else classified or told.splitlines()[:1]
    return [{"license": {"name": name}} for name in names]


def _parts(found: Distribution) -> Iterator[Component]:
    for file in found.files or ():
        path = Path(str(found.locate_file(file)))
        if not path.exists():  # removed from the image
            continue
        if ".dist-info" in file.parts[0] and file.parent.name == "sboms":
            for part in json.loads(path.read_text("utf-8")).get("components", ()):
                if part.get("licenses") and part.get("scope", "required") == "required":
                    yield {key: part[key] for key in ("type", "name", "version", "purl", "licenses") if key in part}
        elif (file.parent.name in ("libs", "lib") or file.parts[0].endswith(".libs")) and ".so" in file.name:
            yield _library(found.metadata["Name"], file, bundled=file.parts[0].endswith(".libs"))


def _library(owner: str, file: PurePath, *, bundled: bool) -> Component:
    found = _BUNDLED.match(file.name)
    name = found["name"] if found else file.name
    licence = next((licence for pattern, licence in _NATIVE.items() if re.fullmatch(pattern, name)), None)
    if owner == _VERSION_3[0] and _VERSION_3[1].match(name):
        licence = "LGPL-3.0-or-later"
    if licence is None and bundled:
        raise ValueError(f"{owner} bundles {file.name}, whose licence docker/sbom.py does not know; add it to _NATIVE")
    component: Component = {"type": "library", "name": name, "version": (found and found["version"]) or ""}
    if licence is not None:
        component["licenses"] = [{"expression": licence}]
    return component


if __name__ == "__main__":
    json.dump(bill(distributions()), sys.stdout, indent=1, ensure_ascii=False)
