"""Service accounts whose tokens the stand-in gives: real keys, made on the spot."""

from __future__ import annotations

import functools
import json

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


@functools.cache
def _key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def service_account(url: str, name: str = "robot") -> str:
    """Return the JSON of a service account's key, as Google gives it to its owner."""
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "shop-project",
            "private_key_id": "1",
            "private_key": _key(),
            "client_email": f"{name}@shop-project.example",
            "token_uri": f"{url}/token",
        }
    )
