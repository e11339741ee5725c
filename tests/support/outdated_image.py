"""Findings of Trivy in the image `OLD` of `scan_images`, with the sample database."""

from __future__ import annotations

from delivery_chain.core.gate.findings import Severity

HIGH, MEDIUM, LOW = Severity.HIGH, Severity.MEDIUM, Severity.LOW
OLD_FINDINGS = [
    (HIGH, "CVE-2019-10906", "Jinja2", "2.10", "2.10.1"),
    (HIGH, "CVE-2023-4911", "libc6", "2.36-9", "2.36-9+deb12u3"),
    (HIGH, "CVE-2023-6246", "libc6", "2.36-9", "2.36-9+deb12u4"),
    (HIGH, "CVE-2024-2961", "libc6", "2.36-9", "2.36-9+deb12u6"),
    (HIGH, "CVE-2024-33599", "libc6", "2.36-9", "2.36-9+deb12u7"),
    (HIGH, "CVE-2025-4802", "libc6", "2.36-9", "2.36-9+deb12u11"),
    (MEDIUM, "CVE-2020-28493", "Jinja2", "2.10", "2.11.3"),
    (MEDIUM, "CVE-2024-22195", "Jinja2", "2.10", "3.1.3"),
    (MEDIUM, "CVE-2024-34064", "Jinja2", "2.10", "3.1.4"),
    (LOW, "CVE-2011-3374", "apt", "2.6.1", ""),
]
"""Severity, id, package, installed and fixed version; the worst first."""
