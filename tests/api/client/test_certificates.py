"""What is said of a certificate that is refused: the reason, and advice that helps."""

import datetime as dt
import ipaddress
import ssl
from typing import Any

import pytest
import trustme
import urllib3.connection
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_provider_mediquo.api.errors import ConnectionSettingsError
from airflow_provider_mediquo.api.patients.endpoints import get

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
ISSUE_AGAIN = (
    "It, or the certificate of its CA, does not follow RFC 5280, which Python 3.13 and newer check; "
    "`verify` does not change that. Have it issued again without this fault, or run this on Python 3.12."
)


@pytest.fixture(autouse=True)
def no_bundle(monkeypatch):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def strict(monkeypatch):
    """Check certificates as Python 3.13 does."""
    usual = urllib3.connection.create_urllib3_context

    def create(*args: Any, **options: Any) -> ssl.SSLContext:
        context = usual(*args, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(urllib3.connection, "create_urllib3_context", create)


KEY_USAGE = {name: name == "key_cert_sign" for name in (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)}  # fmt: skip


def signed(subject: str, key: Any, issuer: str, by: Any, *extensions: tuple[Any, bool]) -> Any:
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in (subject, issuer)]
    builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1])
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, critical=is_critical)
    return builder.sign(by, hashes.SHA256())


@pytest.fixture
def authority(tmp_path):
    """Make an authority as companies have them, with one fault or none, and a server that it vouches for."""

    def make(fault: str) -> tuple[str, ssl.SSLContext]:
        ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        ca_extensions = [
            (x509.BasicConstraints(ca=True, path_length=None), fault != "constraints"),
            (x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), False),
        ]
        if fault != "key usage":
            ca_extensions.append((x509.KeyUsage(**KEY_USAGE), True))
        ca = signed("Clinic CA", ca_key, "Clinic CA", ca_key, *ca_extensions)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        extensions: list[tuple[Any, bool]] = [(x509.SubjectAlternativeName([address]), False)]
        if fault != "identifier":
            named = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
            extensions.append((named, False))
        server = signed("mediquo", key, "Clinic CA", ca_key, *extensions)
        pem = serialization.Encoding.PEM
        (tmp_path / "ca.pem").write_bytes(ca.public_bytes(pem))
        plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (tmp_path / "server.pem").write_bytes(
            key.private_bytes(pem, *plain) + server.public_bytes(pem)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "server.pem")
        return str(tmp_path / "ca.pem"), context

    return make


@pytest.fixture
def refusal(serve, answer, connect, attempt):
    """Send a request; return what is said of the certificate."""

    def refusal(tls, host="127.0.0.1", **settings):
        wire = serve(answer(), tls=tls)
        client = connect(wire.url.replace("127.0.0.1", host), **settings)
        with pytest.raises(ConnectionSettingsError) as caught:
            attempt(client, get("canaryinamine"))
        assert wire.requests == []
        assert "canaryinamine" not in str(caught.value)
        return str(caught.value)

    return refusal


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("identifier", "Missing Authority Key Identifier"),
        ("constraints", "Basic Constraints of CA cert not marked critical"),
        ("key usage", "CA cert does not include key usage extension"),
    ],
)
@pytest.mark.usefixtures("strict")
def test_one_that_only_python_313_refuses_has_to_be_issued_again(authority, refusal, fault, reason):
    file, tls = authority(fault)
    assert refusal(tls, verify=file) == (
        f"The certificate of 127.0.0.1 was refused:\n{reason}. {ISSUE_AGAIN}"
    )


@pytest.mark.usefixtures("strict")
def test_one_without_a_fault_is_accepted(authority, serve, answer, connect, attempt):
    file, tls = authority("none")
    wire = serve(answer(200, {"code": "m-1", "first_name": "Ada"}), tls=tls)
    assert attempt(connect(wire, verify=file), get("m-1")).value["first_name"] == "Ada"


def test_one_that_nothing_vouches_for_needs_the_ca_file(authorities, refusal):
    said = refusal(authorities[0].server)
    assert said.endswith(
        ". If your own CA signed it, set `verify` in the connection to the file of that CA."
    )


def test_where_there_is_a_ca_file_it_is_another_one(authorities, refusal):
    said = refusal(authorities[0].server, verify=authorities[1].file)
    assert "not in the file that `verify` names" in said
    assert "If your own CA signed it" not in said


def test_one_of_another_host_is_no_matter_of_the_ca_file(authorities, refusal):
    said = refusal(authorities[0].server, host="localhost", verify=authorities[0].file)
    assert said == (
        "The certificate of localhost was refused:\nHostname mismatch, certificate is not valid for "
        "'localhost'. It belongs to another host: check the Base URL (Host) of the connection."
    )


def test_one_that_has_expired_has_to_be_renewed(refusal, tmp_path):
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", not_after=NOW - DAY).configure_cert(tls)
    said = refusal(tls, verify=str(tmp_path / "ca.pem"))
    assert said == (
        "The certificate of 127.0.0.1 was refused:\ncertificate has expired. Have it renewed, or "
        "check the clock of this machine."
    )
