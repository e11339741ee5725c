"""The report distinguishes what the real Trivy scans from what it silently omits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.gate.coverage import Coverage, Gap, LanguagePackages
from delivery_chain.oci.client import RegistryClient
from delivery_chain.sandbox import shop, vulndb
from support.oci_registry import docker_registry
from support.scan_images import DEBIAN, NO_PACKAGES, UNKNOWN_SYSTEM, dpkg_status, push_layers, python_package
from support.trivy_bench import BUILT, Bench

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.integration

Files = dict[str, str | bytes]
SYSTEM: Files = {"bin/true": Path("/bin/true").read_bytes(), "lib/libc.so.6": b"\x7fELF"}
DPKG: Files = {**dpkg_status(("libc6", "glibc", "2.36-9+deb12u14"))}
APK: Files = {"lib/apk/db/installed": "P:musl\nV:1.2.5-r9\nA:x86_64\n\n"}
STATIC = Path("/bin/busybox")
"""Files of the package busybox-static."""


def release(family: str, version: str = "", **more: str) -> Files:
    number = f'VERSION_ID="{version}"\n' if version else ""
    return {**SYSTEM, "etc/os-release": f"ID={family}\n{number}", **more}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("coverage")
    (folder / "registry").mkdir()
    with docker_registry(folder / "registry") as registry, RegistryClient(registry) as client:
        vulndb.publish_sample_database(client, now=BUILT)
        vulndb.publish_sample_java_database(client, now=BUILT)
        yield Bench(client, folder / "cache")


def seen(bench: Bench, *layers: Mapping[str, str | bytes], packing: str = "gzip") -> Coverage:
    digest = push_layers(bench.client, "demo/image", layers, packing=packing)
    return bench.scan("demo/image", digest).report.coverage


@pytest.mark.parametrize(
    ("files", "family", "gaps"),
    [
        ({**SYSTEM, **DEBIAN, **DPKG}, "debian", ()),
        (
            release("ubuntu", "24.04", **{"etc/lsb-release": "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=24.04\n"})
            | DPKG,
            "ubuntu",
            (),
        ),
        (release("wolfi", "20230201") | APK, "wolfi", ()),
        ({**SYSTEM, **DEBIAN, **{f"{path}.d/libc6": text for path, text in DPKG.items()}}, "debian", ()),
        (
            release("fedora", "40", **{"etc/fedora-release": "Fedora release 40 (Forty)\n"})
            | {"usr/lib/sysimage/rpm/rpmdb.sqlite": b"SQLite format 3\0"},
            "fedora",
            (Gap.UNSUPPORTED_OS,),
        ),
        ({**SYSTEM, **DEBIAN}, "debian", (Gap.NO_PACKAGES,)),
        ({**SYSTEM, **DEBIAN, "var/lib/dpkg/status": ""}, "debian", (Gap.NO_PACKAGES,)),
        ({**SYSTEM, **DEBIAN, **python_package("Jinja2", "3.1.6")}, "debian", (Gap.NO_PACKAGES,)),
        (release("opensuse-tumbleweed", "20260101"), "opensuse-tumbleweed", (Gap.NO_PACKAGES,)),
        ({**SYSTEM, **DPKG, "etc/debian_version": "7.11\n"}, "debian", (Gap.END_OF_LIFE,)),
        (
            release("ubuntu", "23.10", **{"etc/lsb-release": "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=23.10\n"})
            | DPKG,
            "ubuntu",
            (Gap.END_OF_LIFE,),
        ),
        (
            release("alpine", "3.10.1", **{"etc/alpine-release": "3.10.1\n"}) | APK,
            "alpine",
            (Gap.END_OF_LIFE,),
        ),
        ({**SYSTEM, **DPKG, "etc/debian_version": "sid\n"}, "debian", (Gap.UNKNOWN_RELEASE,)),
        ({**SYSTEM, **DPKG, "etc/debian_version": "forky/sid\n"}, "debian", (Gap.UNKNOWN_RELEASE,)),
        (
            release("kali", "2026.3", **{"etc/debian_version": "kali-rolling\n"}) | DPKG,
            "debian",
            (Gap.UNKNOWN_RELEASE,),
        ),
        ({**SYSTEM, **DPKG, "etc/debian_version": "99.1\n"}, "debian", (Gap.UNKNOWN_RELEASE,)),
        (
            release("alpine", "3.99.0_alpha2026", **{"etc/alpine-release": "3.99.0_alpha2026\n"}) | APK,
            "alpine",
            (Gap.UNKNOWN_RELEASE,),
        ),
        (UNKNOWN_SYSTEM, "", (Gap.UNSUPPORTED_OS,)),
        # Packages of another package manager: compared with a list that can't contain them.
        (release("wolfi", "20230201") | APK | UNKNOWN_SYSTEM, "wolfi", (Gap.UNSUPPORTED_OS,)),
        (release("wolfi", "20230201") | UNKNOWN_SYSTEM, "wolfi", (Gap.UNSUPPORTED_OS,)),
        ({**SYSTEM, **DEBIAN, **APK}, "debian", (Gap.UNSUPPORTED_OS,)),
        ({**SYSTEM, **DEBIAN, **DPKG, **APK}, "debian", (Gap.UNSUPPORTED_OS,)),
        (
            release("arch", **{"var/lib/pacman/local/openssl-3-1/desc": "%NAME%\nopenssl\n"}),
            "",
            (Gap.UNSUPPORTED_OS,),
        ),
        ({**SYSTEM, "var/lib/pacman/local/openssl-3-1/desc": "%NAME%\nopenssl\n"}, "", (Gap.UNSUPPORTED_OS,)),
        (release("gentoo", "2.15"), "", (Gap.UNSUPPORTED_OS,)),
        (release("altlinux", "p10"), "", (Gap.UNSUPPORTED_OS,)),
        (SYSTEM, "", (Gap.UNIDENTIFIED,)),
        ({"bin/true": SYSTEM["bin/true"]}, "", (Gap.UNIDENTIFIED,)),
        (NO_PACKAGES, "", ()),
    ],
)
def test_what_trivy_leaves_out_is_recorded(
    bench: Bench, files: Files, family: str, gaps: tuple[Gap, ...]
) -> None:
    """Operating systems and releases of every kind: what was not scanned is a gap, by name."""
    found = seen(bench, files)

    assert (found.os_family, found.gaps) == (family, gaps), found


@pytest.mark.parametrize("packing", ["gzip", "zstd", "none"])
def test_one_static_program_from_scratch_has_no_gap(bench: Bench, packing: str) -> None:
    """Nothing in it has packages, and the report says so, for every compression of layers."""
    found = seen(bench, {"bin/busybox": STATIC.read_bytes(), "etc/passwd": "root"}, packing=packing)

    assert found == Coverage(root="no package database, 1 static program")


def test_a_package_database_that_a_layer_removes_is_a_gap(bench: Bench) -> None:
    """`RUN rm -rf /var/lib/dpkg` is a whiteout in the layer above, but the packages are still in the image."""
    found = seen(bench, {**SYSTEM, **DEBIAN, **DPKG}, {"var/lib/.wh.dpkg": ""})

    assert (found.os_family, found.gaps) == ("debian", (Gap.NO_PACKAGES,))


def test_a_system_that_a_layer_strips_of_its_name_is_a_gap(bench: Bench) -> None:
    """Trivy still recognizes it by the layer below, but finds none of its packages."""
    gone = dict.fromkeys(("etc/.wh.debian_version", "etc/.wh.os-release", "var/lib/.wh.dpkg"), "")

    assert seen(bench, {**SYSTEM, **DEBIAN, **DPKG}, gone).gaps == (Gap.NO_PACKAGES,)


def test_libraries_that_a_layer_removes_are_not_in_the_image(bench: Bench) -> None:
    """Only one static program remains."""
    found = seen(bench, SYSTEM, {"bin/app": STATIC.read_bytes(), "bin/.wh.true": "", ".wh.lib": ""})

    assert found == Coverage(root="no package database, 1 static program")


def test_a_language_is_looked_at_without_an_operating_system(bench: Bench) -> None:
    """The report names the language, and everything else in the image."""
    found = seen(bench, python_package("Jinja2", "2.10"))

    assert found == Coverage(
        languages=(LanguagePackages(type="python-pkg", files=1, packages=1),),
        root="no package database, no program",
    )


def test_the_images_of_the_sandbox_are_looked_at(bench: Bench) -> None:
    """The images that pass in the demo pass without a gap."""
    made = shop.Release("api", "v1.0.0", BUILT, vulnerable=False)
    files = {
        path.removeprefix("rootfs/"): content
        for path, content in shop.files(made, STATIC).items()
        if path != "Dockerfile"
    }

    found = seen(bench, files)

    assert (found.sentence, found.gaps) == ("debian 12.12 with 3 packages; 1 python-pkg with 2 packages", ())


def test_a_windows_image_was_not_looked_at(bench: Bench) -> None:
    """Trivy makes an empty report of it, without a warning."""
    files = {"Files/Windows/System32/ntdll.dll": b"MZ"}
    digest = bench.push("demo/windows", files, platform="windows/amd64")

    assert bench.scan("demo/windows", digest, platform="windows/amd64").report.coverage == Coverage(
        root="files of windows/amd64", gaps=(Gap.UNSUPPORTED_OS,)
    )
