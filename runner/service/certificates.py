"""Certificates for a service that has none: a certificate authority of its own, in a directory.

Clients trust `ca.pem`.  Everything is kept, so that they need to be told only once; the service's
own certificate is renewed when it is about to expire, or other names are wanted.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runner.errors import RequestError

_CA_DAYS: Final = 3650
_DAYS: Final = 397
"""Clients refuse certificates that are valid for longer."""

_RENEWED_DAYS: Final = 30
_ALWAYS: Final = ("localhost", "127.0.0.1", "::1")
_SKEW: Final = timedelta(hours=1)


def self_signed(directory: Path, host: str) -> tuple[Path, Path]:
    """Return the files of a certificate and its key for this host, made if they are missing.

    Raises RequestError if the directory cannot be used.
    """
    names = list(dict.fromkeys([*_ALWAYS, socket.gethostname(), *([host] if host else [])]))
    certificate, key = directory / "cert.pem", directory / "key.pem"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = _authority(directory)
        if not _is_good(certificate, key, authority[0], names):
            _issue(certificate, key, authority, names)
    except (OSError, ValueError, TypeError) as error:
        msg = f"{directory}: cannot be used for certificates: {error}; choose another directory"
        raise RequestError(msg) from error
    return certificate, key


def _authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    file, key_file = directory / "ca.pem", directory / "ca-key.pem"
    if file.exists() and key_file.exists():
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            msg = f"{key_file.name} is not a key of ours"
            raise ValueError(msg)
        return x509.load_pem_x509_certificate(file.read_bytes()), key
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"qrunner on {socket.gethostname()}"[:64])
    basic = x509.BasicConstraints(ca=True, path_length=0)
    certificate = (
        _builder(name, name, key, _CA_DAYS)
        .add_extension(basic, critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_key(key_file, key)
    _write(file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return certificate, key


def _issue(
    file: Path,
    key_file: Path,
    authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey],
    names: Sequence[str],
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer, issuer_key = authority
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    extended = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    certificate = (
        _builder(_name("qrunner serve"), issuer.subject, key, _DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(extended, critical=False)
        .add_extension(x509.SubjectAlternativeName(_general(names)), critical=False)
        .add_extension(identifier, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    _write_key(key_file, key)
    _write(file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _is_good(file: Path, key: Path, issuer: x509.Certificate, names: Sequence[str]) -> bool:
    """Return True if a certificate is there, is ours, has all names, and will do for a while."""
    if not (file.exists() and key.exists()):
        return False
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    try:
        certificate.verify_directly_issued_by(issuer)
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except Exception:  # noqa: BLE001  whatever is wrong with it, a new one is made
        return False
    until = certificate.not_valid_after_utc - timedelta(days=_RENEWED_DAYS)
    return until > datetime.now(UTC) and set(_general(names)) <= set(found.value)


def _general(names: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for each in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(each)))
        except ValueError:
            with contextlib.suppress(ValueError):  # a name that no certificate can hold
                found.append(x509.DNSName(each))
    return found


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(path, text, 0o600)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file, which never has a wider mode than this one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
